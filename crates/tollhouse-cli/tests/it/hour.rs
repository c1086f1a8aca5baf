//! An hour's calls within a minute, through the proxy, before a provider that fails at
//! random: what the clients, the proxy and the provider count agrees to the call and to
//! the token.
//!
//! The hour is Azure's conversation trace of 2023 (CC-BY; Patel et al., "Splitwise", ISCA
//! 2024) where the file lies beside the repository, and else a synthetic one with its
//! statistics. A test run plays its busiest minutes; `TOLLHOUSE_SCHEDULES=60` plays all.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};
use tollhouse_sim::{Faults, Limits, Sim};

use crate::common::{Provider, ended, interrupt};
use crate::proxy::Running;

/// The provider lives so many times as fast as its clients.
const SPEED: u64 = 60;
/// Tokens of a minute of the provider's: its busiest one of the trace needs most of it.
const LIMIT: u64 = 1_000_000;
/// Minutes of the trace that a test run plays, the busiest among them.
const MINUTES_PLAYED: u64 = 1;
const BUSIEST: u64 = 28;
/// Calls at once. A machine that is too slow for the trace plays it slower: beyond 1,024
/// connections that wait to be accepted the system resets some, which nobody counts.
const AT_ONCE: usize = 500;

/// One call of the trace.
#[derive(Clone, Copy)]
struct Traced {
    /// In milliseconds from the trace's beginning.
    at: u64,
    context: u64,
    answer: u64,
}

/// What one client saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Seen {
    /// To the last byte, with what was asked for.
    is_whole: bool,
    attempts: u64,
    /// What each attempt was charged, in tokens.
    charge: u64,
    /// What a whole answer says was used, in tokens.
    used: u64,
}

/// Thousands of tokens of each minute of the trace.
const MINUTES: [u64; 58] = [
    216, 328, 417, 494, 440, 411, 417, 363, 480, 468, 467, 461, 506, 472, 373, 389, 373, 384, 457,
    479, 506, 492, 623, 626, 607, 633, 699, 757, 731, 696, 684, 801, 682, 490, 470, 400, 429, 345,
    391, 344, 354, 356, 466, 502, 504, 514, 465, 358, 293, 329, 327, 341, 300, 313, 299, 309, 293,
    288,
];

/// The sizes of its calls: context and answer of so many hundredths of them.
const SIZES: [(u64, u64, u64); 8] = [
    (10, 256, 100),
    (15, 400, 80),
    (25, 900, 160),
    (20, 1_250, 200),
    (15, 1_300, 300),
    (10, 1_900, 400),
    (4, 3_800, 250),
    (1, 8_000, 500),
];

fn synthetic() -> Vec<Traced> {
    let mut numbers = Numbers(1);
    let mut calls = Vec::new();
    for (minute, thousands) in (0..).zip(MINUTES) {
        let mut left = thousands * 1_000;
        while left > 0 {
            let mut share = numbers.below(100);
            let of_share = |(percent, ..): &&(u64, u64, u64)| {
                let is_here = share < *percent;
                share = share.saturating_sub(*percent);
                is_here
            };
            let (_, context, answer) = SIZES.iter().find(of_share).expect("a hundred in all");
            let at = minute * 60_000 + numbers.below(60_000);
            left = left.saturating_sub(context + answer);
            calls.push(Traced {
                at,
                context: *context,
                answer: *answer,
            });
        }
    }
    calls.sort_by_key(|call| call.at);
    calls
}

/// Numbers that look random and are the same at every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) % bound
    }
}

/// `None` where the file is not there.
fn real() -> Option<Vec<Traced>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let file = root.join("../shared/traces/azure-2023-conversation.csv");
    let text = std::fs::read_to_string(file).ok()?;
    // `2023-11-16 18:15:46.6805900`, all of one day.
    let millis = |stamp: &str| {
        let parts = stamp[11..].split(':');
        let parts = parts.map(|part| part.parse::<f64>().expect(stamp));
        (parts.fold(0.0, |sum, part| sum * 60.0 + part) * 1_000.0) as u64
    };
    let rows = text.lines().skip(1).filter(|row| !row.is_empty());
    let mut calls: Vec<_> = rows
        .map(|row| {
            let columns: Vec<_> = row.trim().split(',').collect();
            let tokens = |n: usize| columns[n].parse::<u64>().expect(row);
            Traced {
                at: millis(columns[0]),
                context: tokens(1),
                answer: tokens(2).max(1),
            }
        })
        .collect();
    let first = calls[0].at;
    calls.iter_mut().for_each(|call| call.at -= first);
    Some(calls)
}

/// What of the trace is played, from its own beginning.
fn played(calls: Vec<Traced>) -> Vec<Traced> {
    let times = std::env::var("TOLLHOUSE_SCHEDULES").unwrap_or_else(|_| "1".to_owned());
    let times: u64 = times.parse().expect("TOLLHOUSE_SCHEDULES is a number");
    let minutes = (MINUTES_PLAYED * times).min(60);
    let from = BUSIEST.min(60 - minutes) * 60_000;
    let of_it = from..from + minutes * 60_000;
    let calls = calls.into_iter().filter(|call| of_it.contains(&call.at));
    calls
        .map(|call| Traced {
            at: call.at - from,
            ..call
        })
        .collect()
}

/// Four bytes are a token.
fn request(number: usize, call: Traced) -> String {
    let stream = match number % 2 {
        0 => r#","stream":true,"stream_options":{"include_usage":true}"#,
        _ => "",
    };
    let words = format!("{number:08}").repeat(call.context.div_ceil(2) as usize);
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":{}{stream},"messages":[{{"role":"user","content":"{words}"}}]}}"#,
        call.answer
    );
    format!(
        "POST /v1/chat/completions HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
         content-type: application/json\r\nauthorization: Bearer t-PLANTED-TOKEN\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

async fn ask(address: String, request: String) -> Seen {
    let mut socket = TcpStream::connect(&address).await.expect("it listens");
    socket
        .write_all(request.as_bytes())
        .await
        .expect("it reads");
    let mut answer = Vec::new();
    // A stream that broke off ends so here, too.
    let ended = socket.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let head_and_body = answer.split_once("\r\n\r\n");
    let (head, body) = head_and_body.unwrap_or_else(|| panic!("no head: {ended:?} {answer:?}"));
    let number = |name: &str| {
        let mut lines = head.lines();
        let told = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
        told.map_or(0, |told| told.parse().expect("a number"))
    };
    let (body, ends) = match head.contains("\r\ntransfer-encoding: chunked") {
        true => dechunked(body),
        false => (body.to_owned(), true),
    };
    let events: Vec<Value> = body
        .lines()
        .filter_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok())
        .collect();
    let is_stream = head.contains("text/event-stream");
    let whole = serde_json::from_str(&body).ok().filter(|_| !is_stream);
    let last = whole.as_ref().or(events.last());
    let used = last.and_then(|last| last["usage"]["total_tokens"].as_u64());
    Seen {
        is_whole: head.starts_with("HTTP/1.1 200") && ends && used.is_some(),
        attempts: number("x-tollhouse-attempts"),
        charge: number("x-tollhouse-charge"),
        used: used.unwrap_or_default(),
    }
}

/// What the chunks hold, and whether the last one has come.
fn dechunked(mut chunks: &str) -> (String, bool) {
    let mut body = String::new();
    while let Some((size, rest)) = chunks.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        if size == 0 {
            return (body, true);
        }
        body.push_str(rest.get(..size).unwrap_or(rest));
        chunks = rest.get(size + 2..).unwrap_or_default();
    }
    (body, false)
}

/// What the proxy's counters say, by name, all labels together.
fn counters(page: &str) -> BTreeMap<&str, u64> {
    let mut counters = BTreeMap::new();
    for line in page.lines().filter(|line| line.starts_with("tollhouse_")) {
        let (name, value) = line.rsplit_once(' ').expect("a value");
        let name = name.split('{').next().unwrap_or_default();
        let value: f64 = value.parse().expect("a number");
        *counters.entry(name).or_default() += value as u64;
    }
    counters
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_proxy_and_provider_count_the_same() {
    // Fewer than the fifth that retries may add to the requests of the proxy.
    let faults = Faults {
        server_error: 0.002,
        unavailable: 0.002,
        reset: 0.08,
        // What a stream used that was cut, its client cannot know.
        cut: 0.0,
        charged: true,
    };
    let limits = Limits {
        tokens_per_minute: Some(LIMIT),
        requests_per_minute: None,
    };
    let sim = Sim::builder()
        .model("gpt-4o", limits)
        .speed(SPEED as f64)
        .faults(faults);
    let provider = Provider::start(sim).await;
    let limit = (LIMIT * SPEED).to_string();
    let gates = [
        &["--tpm-limit", limit.as_str(), "--max-concurrency", "400"][..],
        // So many that of all these calls none fails by chance at each of them.
        &[
            "--backoff-base-seconds",
            "0.01",
            "--retry-max-attempts",
            "10",
        ],
    ];
    let running = Running::start("hour", &provider, &gates.concat()).await;
    let calls = played(real().unwrap_or_else(synthetic));
    let start = Instant::now();
    let (mut asking, free) = (JoinSet::new(), Arc::new(Semaphore::new(AT_ONCE)));
    for (number, call) in calls.iter().enumerate() {
        sleep_until(start + Duration::from_millis(call.at / SPEED)).await;
        let turn = Arc::clone(&free).acquire_owned().await;
        let asked = ask(running.address.clone(), request(number, *call));
        asking.spawn(async move {
            let seen = asked.await;
            drop(turn);
            seen
        });
    }
    let seen = asking.join_all().await;
    println!("{} calls in {:.1?}", seen.len(), start.elapsed());
    let page = running.ask("GET /metrics", "t-PLANTED-TOKEN", "").await;
    let counted = counters(&page);
    let status = running
        .ask("GET /tollhouse/status", "t-PLANTED-TOKEN", "")
        .await;
    let (_, status) = status.split_once("\r\n\r\n").expect("a body");
    let status: Value = serde_json::from_str(status).expect("JSON");
    let report = provider.sim.report();
    println!("{report}");

    let sum = |of: fn(&Seen) -> u64| seen.iter().map(of).sum::<u64>();
    let (calls, attempts) = (calls.len() as u64, sum(|seen| seen.attempts));
    let total = &report.total;
    // The call.
    assert!(seen.iter().all(|seen| seen.is_whole), "{report}");
    assert_eq!(status["calls"], calls, "{status}");
    assert_eq!(total.completed, calls, "{report}");
    assert_eq!(report.arrived, attempts, "{report}");
    assert_eq!(counted["tollhouse_launches_total"], attempts);
    assert_eq!(total.rejected.total(), 0, "{report}");
    let faults = total.faults;
    let faults = faults.server_error + faults.unavailable + faults.reset;
    assert_eq!(faults, attempts - calls, "{report}");
    assert_eq!(counted["tollhouse_retries_total"], faults);
    assert!(faults > 0, "it is no test without: {report}");
    // The token.
    let used = sum(|seen| seen.used);
    assert_eq!(total.tokens_used, used, "{report}");
    let reserved = sum(|seen| seen.attempts * seen.charge);
    assert_eq!(counted["tollhouse_reserved_tokens_total"], reserved);
    // What failed has told nothing, and ends with what was reserved for it.
    let failed = sum(|seen| (seen.attempts - 1) * seen.charge);
    assert_eq!(counted["tollhouse_settled_tokens_total"], used + failed);
    // Nothing is left.
    assert_eq!(status["calls_in_flight"], 0, "{status}");
    assert_eq!(status["held_bytes"], 0, "{status}");
    for what in ["in_flight", "waiting"] {
        assert_eq!(status["accounts"][0][what], 0, "{status}");
    }
    interrupt(&running.child);
    assert_eq!(ended(running.child).await, Some(0));
}
