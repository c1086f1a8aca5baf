//! Many clients at once: streams that stand still, and calls that wait.

use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Result;
use super::load::{Client, TOKEN, call};
use super::subject::Subject;
use super::upstream::Kind;
use super::wire::find;

/// What a proxy has in memory while so many streams are open and idle, in bytes.
pub(crate) async fn idle(subject: &Subject, streams: usize) -> Result<u64> {
    let request = call(Kind::Idle, 0);
    let mut open = Vec::new();
    for _ in 0..streams {
        let mut client = Client::connect(&subject.address).await?;
        client.send(&request).await?;
        client.until(b"data: ").await?;
        open.push(client);
    }
    sleep(Duration::from_secs(1)).await;
    subject.memory()
}

/// What became of a crowd that waited.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Waited {
    /// In memory while all waited, in bytes.
    pub(crate) memory: u64,
    /// How many were answered.
    pub(crate) answered: usize,
    /// The most places by which one of a later wave went before one of an earlier.
    pub(crate) displaced: usize,
    /// From the first answer to the last.
    pub(crate) time: Duration,
}

/// So many come at once, and wait until all are there.
const WAVE: usize = 100;

/// So many calls wait before a proxy with a few slots, and are answered then.
pub(crate) async fn waiting(subject: &Subject, upstream: &str, calls: usize) -> Result<Waited> {
    let mut clients = Vec::new();
    let mut status = Client::connect(&subject.address).await?;
    while clients.len() < calls {
        for _ in 0..WAVE.min(calls - clients.len()) {
            let mut client = Client::connect(&subject.address).await?;
            client.send(&call(Kind::Held, clients.len() as u64)).await?;
            clients.push(client);
        }
        // The next wave is behind this one.
        until_there(&mut status, clients.len()).await?;
    }
    sleep(Duration::from_secs(1)).await;
    let memory = subject.memory()?;
    let begun = Instant::now();
    let mut order = Client::connect(upstream).await?;
    order.send(ORDER).await?;
    order.whole().await?;
    let first = numbers(order.whole().await?)?;
    let mut answering = JoinSet::new();
    for mut client in clients {
        answering.spawn(async move { client.whole().await.is_ok() });
    }
    let answered = answering
        .join_all()
        .await
        .into_iter()
        .filter(|is| *is)
        .count();
    let time = begun.elapsed();
    order.send(ORDER).await?;
    let rest = numbers(order.whole().await?)?;
    let order: Vec<_> = first.into_iter().chain(rest).collect();
    Ok(Waited {
        memory,
        answered,
        displaced: displaced(&order),
        time,
    })
}

const ORDER: &[u8] = b"GET /order HTTP/1.1\r\nhost: localhost\r\n\r\n";

async fn until_there(status: &mut Client, calls: usize) -> Result<()> {
    let ask = format!(
        "GET /tollhouse/status HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    );
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        status.send(ask.as_bytes()).await?;
        let told: Value = serde_json::from_slice(body(status.whole().await?))?;
        let account = &told["accounts"][0];
        let count = |name: &str| account[name].as_u64().unwrap_or_default();
        if count("waiting") + count("in_flight") >= calls as u64 {
            return Ok(());
        }
        if Instant::now() > until {
            return Err(format!("{calls} calls were sent, and there are {account}").into());
        }
        sleep(Duration::from_millis(1)).await;
    }
}

fn numbers(answer: &[u8]) -> Result<Vec<usize>> {
    let lines = str::from_utf8(body(answer))?.lines();
    Ok(lines.map(str::parse).collect::<Result<_, _>>()?)
}

fn body(answer: &[u8]) -> &[u8] {
    let head = find(answer, b"\r\n\r\n").map_or(0, |at| at + 4);
    &answer[head..]
}

/// How many of a later wave the unluckiest one saw before it.
fn displaced(order: &[usize]) -> usize {
    let wave = |number: &usize| number / WAVE;
    let mut latest = 0;
    let mut most = 0;
    for (place, number) in order.iter().enumerate() {
        if wave(number) < latest {
            let earlier = order[..place]
                .iter()
                .filter(|other| wave(other) > wave(number));
            most = most.max(earlier.count());
        }
        latest = latest.max(wave(number));
    }
    most
}
