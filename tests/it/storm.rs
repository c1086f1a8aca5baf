//! A time in which the provider refuses every request and tells no delay.

#[allow(dead_code, reason = "other tests use the rest")]
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tollhouse_openai::{Cost, Limit, Policy};
use tollhouse_sim::Sim;
use tower::{Layer, ServiceExt};

use crate::support::{Provider, chat};

const CALLERS: usize = 100;
const STORM: Duration = Duration::from_secs(20);

fn provider() -> Provider {
    let sim = Sim::builder()
        .tokens_per_minute(60_000)
        .requests_per_minute(None)
        .latency(Duration::from_millis(200), Duration::ZERO)
        .storm(Duration::ZERO, STORM);
    Provider::new(sim.build().expect("a valid provider"))
}

fn policy() -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(CALLERS)
        .headroom(0.0)
        .tpm_limit(Limit::per_minute(60_000))
}

/// All callers come at once; says in seconds when each request arrived, and
/// what it cost.
async fn storm() -> (Vec<f64>, f64) {
    let (provider, policy) = (provider(), policy());
    let client = policy.layer().layer(provider.clone());
    let start = Instant::now();
    let calls = (0..CALLERS).map(|_| client.clone().oneshot(chat("Are you there?", 480)));
    for answer in join_all(calls).await {
        assert_eq!(answer.expect("an answer").status(), 200, "all complete");
    }
    let rejected = provider.sim().report().total.rejected;
    assert_eq!(rejected.total(), rejected.storm, "none for want of tokens");
    let cost = policy.charge().cost(&chat("Are you there?", 480));
    (provider.arrivals_since(start), cost as f64)
}

#[tokio::test(start_paused = true)]
async fn a_storm_costs_one_probe_a_hold_and_ends_without_a_herd() {
    // Holds are drawn at random.
    for _ in 0..10 {
        let (arrivals, cost) = storm().await;
        let refused = arrivals.len() - CALLERS;
        // The n-th hold takes 2^n seconds, up to half of it less.
        let gaps: Vec<f64> = arrivals.windows(2).map(|two| two[1] - two[0]).collect();
        for (n, gap) in gaps[..refused].iter().enumerate() {
            let whole = f64::from(1 << n);
            assert!((whole / 2.0..=whole + 0.002).contains(gap), "{arrivals:?}");
        }
        assert!(arrivals[refused - 1] < STORM.as_secs_f64());
        assert!(arrivals[refused] >= STORM.as_secs_f64());
        // Then the pace of a bucket of 1,000 a second; timers tick at 1 ms.
        for gap in &gaps[refused..] {
            assert!((gap - cost / 1_000.0).abs() < 0.003, "{arrivals:?}");
        }
    }
}
