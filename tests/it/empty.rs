//! An account that is used up at the start: how many refusals it takes to know.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::Instant;
use tollhouse_openai::{Cost, Limit, Policy};
use tollhouse_sim::{Enforcement, Sim};
use tower::{Layer, ServiceExt};

use crate::support::{Provider, chat};

const TOKENS: u64 = 60_000;

/// Calls of which each costs `asks` and a little, on an account of which nothing
/// is left; how many were refused, and how long it took.
async fn play(policy: Policy, requests: u64, asks: u64, told: bool) -> (u64, Duration) {
    let sim = Sim::builder()
        .tokens_per_minute(TOKENS)
        .requests_per_minute(requests)
        .enforcement(Enforcement::Continuous)
        .start_level(0.0)
        .retry_after(told)
        .latency(Duration::from_millis(200), Duration::ZERO);
    let provider = Provider::new(sim.build().expect("a valid provider"));
    let policy = policy
        .stagger(Duration::ZERO)
        .headroom(0.0)
        .max_concurrency(8);
    let client = policy.layer().layer(provider.clone());
    let start = Instant::now();
    let calls = (0..20).map(|_| {
        let answer = client.clone().oneshot(chat("Is any left?", asks));
        // Its slot is free again as soon as nobody reads it.
        async { answer.await.expect("an answer").status() }
    });
    let all = tokio::time::timeout(Duration::from_secs(3_600), join_all(calls));
    for status in all.await.expect("within the hour") {
        assert_eq!(status, 200);
    }
    let refused = provider.sim().report().total.rejected.total();
    let cost = policy.charge().cost(&chat("Is any left?", asks));
    println!(
        "{requests} requests, {cost} tokens: {refused} refused, {:?}",
        start.elapsed()
    );
    (refused, start.elapsed())
}

/// Whichever meter refuses first, its answer tells of the other, too.
#[tokio::test(start_paused = true)]
async fn two_empty_meters_cost_one_refusal() {
    for (requests, asks) in [(30, 480), (600, 9_000), (30, 3_000), (6, 480), (60, 1_000)] {
        for told in [true, false] {
            let limits = Policy::default()
                .tpm_limit(Limit::per_minute(TOKENS))
                .rpm_limit(Limit::per_minute(requests));
            let learned = Policy::default()
                .tpm_limit(Limit::Auto)
                .rpm_limit(Limit::Auto);
            for (policy, name) in [(limits, "configured"), (learned, "auto")] {
                for cautious in [true, false] {
                    let policy = policy.clone().cautious_start(cautious);
                    let (refused, took) = play(policy, requests, asks, told).await;
                    let what = (requests, asks, told, name, cautious);
                    assert!(refused <= 1, "{what:?}: {refused}");
                    let by_tokens = 20 * (asks + 20) / (TOKENS / 60);
                    let by_requests = 20 * 60 / requests;
                    let needed = Duration::from_secs(by_tokens.max(by_requests));
                    assert!(
                        took <= needed * 2 + Duration::from_secs(75),
                        "{what:?}: {took:?}"
                    );
                }
            }
        }
    }
}
