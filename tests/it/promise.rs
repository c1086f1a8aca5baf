//! Whoever calls, batch or direct, passes the same gates.
//!
//! These are the tests that the system before Tollhouse could not pass: its
//! gates stood in the batch runner, direct calls walked past them, and tests
//! that waited for a limit timed out. Here they take milliseconds.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::Instant;
use tollhouse_batch::{Batch, Summary};
use tollhouse_openai::policy::Limited;
use tollhouse_openai::{Limit, Policy, Window};
use tollhouse_sim::Sim;
use tower::{Layer, ServiceExt};

use crate::support::{Provider, chat, line};

fn provider() -> Provider {
    let latency = (Duration::from_millis(800), Duration::from_millis(20));
    let sim = Sim::builder()
        .tokens_per_minute(30_000)
        .latency(latency.0, latency.1);
    Provider::new(sim.build().expect("a valid simulation"))
}

/// Calls and reads the answer to its last byte; says when it was there.
async fn direct(client: Limited<Provider>, question: &str, max_tokens: u64) -> Instant {
    let answer = client.oneshot(chat(question, max_tokens)).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 200);
    answer.into_body().collect().await.expect("a whole body");
    Instant::now()
}

async fn batch(client: Limited<Provider>, lines: usize, max_tokens: u64) -> Summary {
    let input: String = (0..lines)
        .map(|n| line(&format!("line-{n}"), "Name a river.", max_tokens))
        .collect();
    let (mut output, mut errors) = (Vec::new(), Vec::new());
    let run = Batch::new(client).run(input.as_bytes(), &mut output, &mut errors);
    let summary = run.await.expect("memory never fails");
    assert!(errors.is_empty(), "{}", String::from_utf8_lossy(&errors));
    summary
}

#[tokio::test(start_paused = true)]
async fn a_direct_call_is_limited() {
    let provider = provider();
    let client = Policy::default().layer().layer(provider.clone());
    let start = Instant::now();
    let calls = (0..4).map(|_| direct(client.clone(), "How deep is the sea?", 100));
    all(calls).await;
    assert_eq!(provider.arrivals_since(start), [0.0, 15.0, 30.0, 45.0]);
}

#[tokio::test(start_paused = true)]
async fn a_batch_is_limited() {
    let provider = provider();
    let client = Policy::default().layer().layer(provider.clone());
    let start = Instant::now();
    let summary = batch(client, 5, 100).await;
    assert_eq!((summary.ok, summary.failed), (5, 0));
    let arrivals = provider.arrivals_since(start);
    assert_eq!(arrivals, [0.0, 15.0, 30.0, 45.0, 60.0]);
}

/// Five direct calls and a batch at once, through clones of one stack, under
/// each of the limits in turn.
#[tokio::test(start_paused = true)]
async fn comprehensive() {
    let policies = [
        // The spacing binds.
        Policy::default(),
        // The slots bind.
        Policy::default().stagger(Duration::ZERO),
        // The tokens bind.
        Policy::default()
            .stagger(Duration::from_millis(100))
            .max_concurrency(50),
        // The requests bind.
        Policy::default()
            .stagger(Duration::ZERO)
            .max_concurrency(50)
            .rpm_limit(Limit::per_minute(12)),
    ];
    for policy in policies {
        let provider = provider();
        let client = policy.layer().layer(provider.clone());
        let answer_tokens = 1_500;
        let directs = (0..5).map(|_| direct(client.clone(), "Why is it wet?", answer_tokens));
        let (summary, _) = tokio::join!(batch(client.clone(), 40, answer_tokens), all(directs));
        assert_eq!((summary.ok, summary.failed), (40, 0));

        let report = provider.sim().report();
        assert_eq!(report.total.rejected.total(), 0, "{policy:?}\n{report}");
        assert_eq!(report.total.completed, 45);
        assert!(report.peak_in_flight <= policy.config().max_concurrency as u64);
        assert!(report.least_gap() >= Some(policy.config().stagger));
        assert_eq!(policy.budget().snapshot().outstanding, 0);
        assert_eq!(policy.budget().snapshot().in_flight, 0);
    }
}

/// Under a sliding minute, no minute sees more than the limit.
#[tokio::test(start_paused = true)]
async fn no_minute_is_above_the_limit() {
    let provider = provider();
    let policy = Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(50)
        .window(Window::On);
    let client = policy.layer().layer(provider.clone());
    let directs = (0..20).map(|_| direct(client.clone(), "Why is it wet?", 1_000));
    tokio::join!(batch(client.clone(), 100, 1_000), all(directs));
    let report = provider.sim().report();
    assert_eq!(report.total.completed, 120);
    let peak = report.total.peak_tokens_any_minute;
    assert!((27_000..=30_000).contains(&peak), "{report}");
}

/// A policy that its provider's tokens bind spends nearly all that the
/// headroom leaves.
#[tokio::test(start_paused = true)]
async fn nearly_all_of_the_allowed_quota_is_used() {
    let provider = provider();
    let policy = Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(100)
        .headroom(0.0);
    let client = policy.layer().layer(provider.clone());
    let start = Instant::now();
    let summary = batch(client, 400, 500).await;
    assert_eq!(summary.ok, 400);
    let report = provider.sim().report();
    assert_eq!(report.total.rejected.total(), 0, "{report}");
    // What the bucket held at first, and what refilled since.
    let charged = report.total.tokens_charged as f64;
    let last = provider.arrivals_since(start).pop().expect("arrivals");
    let used = charged / (30_000.0 + last * 500.0);
    assert!(used > 0.97, "{used}\n{report}");
}

/// Two services of one policy share its state, wherever they were made.
#[tokio::test(start_paused = true)]
async fn one_policy_is_one_state() {
    let (one, two) = (provider(), provider());
    let policy = Policy::default();
    let start = Instant::now();
    tokio::join!(
        direct(policy.layer().layer(one.clone()), "One?", 10),
        direct(policy.clone().layer().layer(two.clone()), "Two?", 10),
    );
    assert_eq!(one.arrivals_since(start), [0.0]);
    assert_eq!(two.arrivals_since(start), [15.0]);
}

async fn all(calls: impl Iterator<Item = impl Future<Output = Instant>>) -> Vec<Instant> {
    futures_util::future::join_all(calls).await
}
