//! The metrics of a whole story: what a recorder is told of calls that pass, wait,
//! are refused and are asked again.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusRecorder};
use tokio::time::{sleep, timeout};
use tollhouse_openai::{Limit, Policy};
use tower::{Layer, ServiceExt, service_fn};

/// Costs so many tokens more than the 8 of its text and form.
fn chat(max_tokens: u64) -> Request<Bytes> {
    let body =
        format!(r#"{{"messages":[{{"role":"user","content":"Hi"}}],"max_tokens":{max_tokens}}}"#);
    let request = Request::post("/v1/chat/completions");
    request.body(Bytes::from(body)).expect("a request")
}

/// What a page says of a metric, by its labels.
fn read(page: &str, metric: &str) -> Option<f64> {
    let value = page.lines().find_map(|line| line.strip_prefix(metric));
    value.map(|value| value.trim().parse().expect("a number"))
}

fn in_virtual_time<F: Future>(recorder: &PrometheusRecorder, story: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    metrics::with_local_recorder(recorder, || runtime.block_on(story))
}

#[test]
fn a_story_is_told_in_numbers() {
    let recorder = PrometheusBuilder::new().build_recorder();
    let page = recorder.handle();
    in_virtual_time(&recorder, async {
        let policy = Policy::default()
            .name("story")
            .tpm_limit(Limit::per_minute(60_000))
            .headroom(0.0)
            .stagger(Duration::ZERO)
            .max_concurrency(2)
            .cautious_start(false);
        // The first is refused for a second; all others are answered after one.
        let asked = Arc::new(AtomicUsize::new(0));
        let client = policy.layer().layer(service_fn(move |_: Request<Bytes>| {
            let number = asked.fetch_add(1, Ordering::Relaxed);
            async move {
                sleep(Duration::from_secs(1)).await;
                let (status, body) = match number {
                    0 => (
                        429,
                        r#"{"error":{"code":"rate_limit_exceeded","type":"tokens","message":"Please try again in 1s."}}"#,
                    ),
                    _ => (200, r#"{"usage":{"prompt_tokens":8,"completion_tokens":42,"total_tokens":50}}"#),
                };
                let answer = Response::builder().status(status);
                let answer = answer.header("content-type", "application/json");
                Ok::<_, Infallible>(answer.body(Full::from(body)).expect("an answer"))
            }
        }));
        let calls = (0..3).map(|_| {
            let call = client.clone().oneshot(chat(100));
            tokio::spawn(async {
                let answer = call.await.expect("an answer");
                assert_eq!(answer.status(), 200);
                answer.into_body().collect().await.expect("a body");
            })
        });
        let calls: Vec<_> = calls.collect();
        sleep(Duration::from_millis(500)).await;
        let too_large = timeout(Duration::ZERO, client.oneshot(chat(100_000))).await;
        let too_large = too_large.expect("it does not wait for a slot");
        assert!(too_large.expect_err("it can never fit").refused().is_some());
        let told = page.render();
        for (metric, value) in [
            (r#"tollhouse_in_flight{policy="story"}"#, 2.0),
            (r#"tollhouse_slots{policy="story"}"#, 2.0),
            (
                r#"tollhouse_waiting{policy="story",gate="concurrency"}"#,
                1.0,
            ),
            (r#"tollhouse_budget_limit_tokens{policy="story"}"#, 60_000.0),
            (
                r#"tollhouse_budget_level_tokens{policy="story"}"#,
                60_000.0 - 216.0,
            ),
            (
                r#"tollhouse_budget_in_transit_tokens{policy="story"}"#,
                216.0,
            ),
            (
                r#"tollhouse_budget_outstanding_tokens{policy="story"}"#,
                216.0,
            ),
        ] {
            assert_eq!(read(&told, metric), Some(value), "{metric}\n{told}");
        }

        for call in join_all(calls).await {
            call.expect("no panic");
        }
    });

    let told = page.render();
    for (metric, value) in [
        (r#"tollhouse_launches_total{policy="story"}"#, 4.0),
        (
            r#"tollhouse_reserved_tokens_total{policy="story"}"#,
            4.0 * 108.0,
        ),
        // Three told what they used, and one ended with what it had reserved.
        (
            r#"tollhouse_settled_tokens_total{policy="story"}"#,
            3.0 * 50.0 + 108.0,
        ),
        (
            r#"tollhouse_denials_total{policy="story",scope="tokens"}"#,
            1.0,
        ),
        (
            r#"tollhouse_retries_total{policy="story",scope="tokens"}"#,
            1.0,
        ),
        (
            r#"tollhouse_refusals_total{policy="story",gate="budget",reason="too_large"}"#,
            1.0,
        ),
        (
            r#"tollhouse_wait_seconds_count{policy="story",gate="concurrency"}"#,
            4.0,
        ),
        // The third waited for the first, a second long.
        (
            r#"tollhouse_wait_seconds_sum{policy="story",gate="concurrency"}"#,
            1.0,
        ),
        (r#"tollhouse_in_flight{policy="story"}"#, 0.0),
        (
            r#"tollhouse_waiting{policy="story",gate="concurrency"}"#,
            0.0,
        ),
        (r#"tollhouse_budget_in_transit_tokens{policy="story"}"#, 0.0),
        (
            r#"tollhouse_budget_outstanding_tokens{policy="story"}"#,
            0.0,
        ),
    ] {
        assert_eq!(read(&told, metric), Some(value), "{metric}\n{told}");
    }
}
