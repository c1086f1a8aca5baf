//! Two hundred kills during one batch: each request is answered once, and none
//! whose answer is in the output is ever sent again.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::common::{Files, Upstream, lines, records, run, start, tollhouse_at, until};
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::Response;
use http_body_util::BodyExt;
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::Semaphore;
use tollhouse_sim::{Builder, Sim};

/// Every life reads them all; the last kill still comes before the last one is answered.
const LINES: usize = 450;
const KILLS: u64 = 200;
/// So many requests a life gets answered at most: 401 in all, by the numbers drawn here.
const MOST: u64 = 4;

/// What stands before the simulated provider: it notes who asks, and lets
/// through no more than it was told to.
#[derive(Clone)]
struct Door {
    asked: Arc<Mutex<Vec<String>>>,
    open: Arc<Mutex<Open>>,
}

/// For whom the door is open. What a killed life has left in the sockets comes
/// too late.
struct Open {
    key: String,
    through: Arc<Semaphore>,
}

impl Door {
    fn new() -> Self {
        Self {
            asked: Arc::default(),
            open: Arc::new(Mutex::new(Open::to("", 0))),
        }
    }

    /// Opens it for so many requests with this key, and no others.
    fn admit(&self, key: &str, requests: u64) {
        *self.open.lock().expect("no panic") = Open::to(key, requests);
    }

    fn through(&self, head: &Parts) -> Arc<Semaphore> {
        let open = self.open.lock().expect("no panic");
        let key = format!("Bearer {}", open.key);
        match head.headers[AUTHORIZATION] == key {
            true => open.through.clone(),
            false => Arc::new(Semaphore::new(0)),
        }
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().expect("no panic"))
    }
}

impl Open {
    fn to(key: &str, requests: u64) -> Self {
        Self {
            key: key.to_owned(),
            through: Arc::new(Semaphore::new(requests as usize)),
        }
    }
}

async fn pass(State(door): State<Door>, request: Request, next: Next) -> Response {
    let (head, body) = request.into_parts();
    let through = door.through(&head);
    let body = body.collect().await.expect("a whole body").to_bytes();
    door.asked.lock().expect("no panic").push(id_of(&body));
    // Whoever is not let through waits until it is killed.
    let through = through.acquire_owned().await;
    through.expect("the door is never closed").forget();
    next.run(Request::from_parts(head, body.into())).await
}

/// The id that `common::line` puts at the end of a request's text.
fn id_of(body: &[u8]) -> String {
    let body: Value = serde_json::from_slice(body).expect("JSON");
    let text = body["messages"][0]["content"].as_str().expect("a text");
    text.rsplit(' ').next().expect("an id").to_owned()
}

fn provider() -> Builder {
    Sim::builder()
        .tokens_per_minute(None)
        .requests_per_minute(None)
        .latency(Duration::from_millis(2), Duration::ZERO)
}

async fn behind(door: &Door, sim: &Sim) -> Upstream {
    let door = from_fn_with_state(door.clone(), pass);
    Upstream::start(sim.router().layer(door)).await
}

/// The ids that whole lines of an output answer.
fn answered(path: &Path) -> BTreeSet<String> {
    #[derive(Deserialize)]
    struct Answer {
        custom_id: String,
    }

    let text = fs::read(path).unwrap_or_default();
    let whole = text
        .iter()
        .rposition(|&b| b == b'\n')
        .map_or(0, |at| at + 1);
    let text = std::str::from_utf8(&text[..whole]).expect("text");
    let id = |line| -> String {
        let line: Answer = serde_json::from_str(line).expect("a whole line");
        line.custom_id
    };
    text.lines().map(id).collect()
}

/// What each id was answered.
fn said(path: &Path) -> BTreeMap<String, (Value, Value)> {
    let records = records(path);
    let count = records.len();
    let said: BTreeMap<_, _> = records
        .into_iter()
        .map(|record| {
            let body = &record["response"]["body"];
            let id = record["custom_id"].as_str().expect("an id").to_owned();
            (id, (body["choices"].clone(), body["usage"].clone()))
        })
        .collect();
    assert_eq!(said.len(), count, "an id is answered twice");
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_kills_lose_and_repeat_nothing() {
    let sim = provider().build().expect("allowed settings");
    let door = Door::new();
    let upstream = behind(&door, &sim).await;
    let files = Files::new("kills", lines(LINES, 10));
    let policy = [
        "--max-concurrency",
        "5",
        "--tpm-limit",
        "1000000000",
        "--quiet",
    ];
    let command = |files: &Files, key: &str| {
        let mut command = tollhouse_at(&upstream.url, &files.arguments(&policy));
        command.env("OPENAI_API_KEY", key);
        command
    };

    // Where a life ends is the same in every run of the test.
    let mut random = fastrand::Rng::with_seed(1);
    let mut before = BTreeSet::new();
    for kill in 0..KILLS {
        let goes_through = random.u64(..=MOST);
        let life = format!("life-{kill}");
        door.admit(&life, goes_through);
        let mut child = start(command(&files, &life), &files.stderr);
        if random.u64(..4) == 0 {
            // At any moment, be it while the command starts or reads.
            tokio::time::sleep(Duration::from_micros(random.u64(..40_000))).await;
        } else {
            let enough = before.len() as u64 + random.u64(..=goes_through);
            let written = || crate::common::line_count(&files.output) as u64;
            until("some answers", || written() >= enough).await;
        }
        assert_eq!(
            child.try_wait().expect("a child"),
            None,
            "kill {kill} came too late"
        );
        child.kill().expect("it is running");
        child.wait().expect("it ends");
        for id in door.asked() {
            assert!(
                !before.contains(&id),
                "{id} was sent again after kill {kill}"
            );
        }
        before = answered(&files.output);
    }
    assert!(before.len() < LINES, "the last kills had nothing to hit");

    door.admit("last", u32::MAX.into());
    let ran = run(command(&files, "last"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let again: Vec<_> = door
        .asked()
        .into_iter()
        .filter(|id| before.contains(id))
        .collect();
    assert!(again.is_empty(), "{again:?}");

    let calm = Files::new("calm", lines(LINES, 10));
    let ran = run(command(&calm, "last"));
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    let (killed, calm) = (said(&files.output), said(&calm.output));
    assert_eq!(calm.len(), LINES);
    assert!(
        killed == calm,
        "the answers differ from an undisturbed run's"
    );
}
