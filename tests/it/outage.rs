//! The provider dies in the middle of a batch and comes back: every line is
//! answered, none fails, nothing is refused, and no time is lost beyond what the
//! limits take.

use std::collections::BTreeSet;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::{Request, Response};
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tollhouse::error::NeverSent;
use tollhouse_batch::{Batch, Event, Failed, Judgement, SentLayer, Summary};
use tollhouse_openai::{Limit, Policy, classify};
use tollhouse_sim::{Report, Sim};
use tower::{Layer, Service, service_fn};

const SEC: Duration = Duration::from_secs(1);
const LINES: usize = 1_500;
const TOKENS: u64 = 1_000;
const LIMIT: u64 = 300_000;

fn sim() -> Sim {
    let builder = Sim::builder()
        .tokens_per_minute(LIMIT)
        .requests_per_minute(None);
    let builder = builder.latency(SEC, SEC / 1_000);
    builder.build().expect("allowed settings")
}

fn lines() -> String {
    let line = |n| {
        format!(
            r#"{{"custom_id":"r{n}","method":"POST","url":"/v1/chat/completions","body":{{"model":"gpt-4o","max_tokens":{},"messages":[{{"role":"user","content":"Hi"}}]}}}}"#,
            TOKENS - 8
        ) + "\n"
    };
    (0..LINES).map(line).collect()
}

/// A provider that is killed, and started anew, with its memory lost. What is
/// under way breaks off; who comes meanwhile finds nobody.
fn killed(
    sims: [Sim; 2],
    from: Instant,
    to: Instant,
) -> impl Service<
    Request<Bytes>,
    Response = Response<axum::body::Body>,
    Error = tollhouse::Error,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let [first, second] = sims.map(|sim| sim.service());
    service_fn(move |request: Request<Bytes>| {
        let now = Instant::now();
        let mut sim = if now < from {
            first.clone()
        } else {
            second.clone()
        };
        async move {
            if (from..to).contains(&now) {
                let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
                return Err(tollhouse::Error::inner(NeverSent::new(refused)));
            }
            tokio::select! {
                answer = sim.call(request) => answer.map_err(tollhouse::Error::inner),
                () = sleep_until(from), if now < from => {
                    let reset = io::Error::from(io::ErrorKind::ConnectionReset);
                    Err(tollhouse::Error::inner(reset))
                }
            }
        }
    })
}

fn judge(failed: &Failed<'_>) -> Judgement {
    let Some(status) = failed.status else {
        return Judgement::Outage;
    };
    match classify(status, failed.headers, failed.body).retry {
        true => Judgement::Unclear,
        false => Judgement::Failed,
    }
}

struct Ran {
    summary: Summary,
    ids: BTreeSet<String>,
    /// When each answer was written, from the start.
    answered: Vec<Duration>,
    reports: [Report; 2],
}

async fn batch_with_an_outage(from: Duration, lasts: Duration) -> Ran {
    let policy = Policy::default()
        .tpm_limit(Limit::per_minute(LIMIT))
        .stagger(Duration::ZERO)
        .max_concurrency(40);
    let (start, sims) = (Instant::now(), [sim(), sim()]);
    let transport = killed(sims.clone(), start + from, start + from + lasts);
    let mut batch = Batch::new(policy.layer().layer(SentLayer.layer(transport)))
        .judge(judge)
        .withdraw_unsent(true);
    let mut events = batch.events();
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let lines = lines();
    let answered = async {
        let mut answered = Vec::new();
        while let Some(event) = events.next().await {
            if let Event::Finished { .. } = event {
                answered.push(start.elapsed());
            }
        }
        answered
    };
    let run = batch.run(lines.as_bytes(), &mut output, &mut errors);
    let (summary, answered) = tokio::join!(run, answered);
    assert!(errors.is_empty(), "{}", String::from_utf8_lossy(&errors));
    let records = output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty());
    let id = |line| {
        let record: Value = serde_json::from_slice(line).expect("a whole line");
        record["custom_id"].as_str().expect("an id").to_owned()
    };
    Ran {
        summary: summary.expect("memory can be read and written"),
        ids: records.map(id).collect(),
        answered,
        reports: sims.map(|sim| sim.report()),
    }
}

#[tokio::test(start_paused = true)]
async fn a_provider_killed_for_20_s_and_for_3_minutes_costs_no_line() {
    const KILLED: Duration = Duration::from_secs(60);
    let undisturbed = batch_with_an_outage(86_400 * SEC, SEC).await.answered;
    for outage in [20 * SEC, 180 * SEC] {
        let ran = batch_with_an_outage(KILLED, outage).await;
        let summary = &ran.summary;
        assert!(summary.is_complete(), "{summary}");
        assert_eq!((summary.ok, summary.failed), (LINES as u64, 0));
        assert_eq!(ran.ids.len(), LINES);
        for report in &ran.reports {
            assert_eq!(report.total.rejected.total(), 0, "{report}");
        }
        assert!(summary.outage >= outage && summary.outage <= outage + 35 * SEC);

        // What the limits take for the rest, as a run without an outage shows.
        let before = ran.answered.iter().filter(|at| **at <= KILLED).count();
        assert!((1..LINES).contains(&before));
        let required = undisturbed[LINES - 1] - undisturbed[before - 1];
        let took = ran.answered[LINES - 1] - KILLED - outage;
        println!("{outage:?}: {took:?} after its end; the limits take {required:?}");
        assert!(
            took <= required + 35 * SEC,
            "{took:?}, of which {required:?}"
        );
    }
}
