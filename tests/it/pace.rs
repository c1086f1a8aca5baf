//! Limits that are not what they were configured to be, and no headers that
//! would say so: refusals alone tell, with a delay or without one.

use std::time::Duration;

use axum::body::{Body, to_bytes};
use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use tollhouse_openai::{Cost, Limit, Policy};
use tollhouse_sim::{Builder, Headers, Sim};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::{Provider, chat, has_time};

/// Tokens a minute that are configured.
const CONFIGURED: u64 = 120_000;
const MINUTES: u64 = 15;
const CALLERS: usize = 40;

/// What came of a quarter of an hour.
#[derive(Debug)]
struct Outcome {
    calls: u64,
    refused: u64,
    /// The share of what the account really had, in percent.
    used: u64,
}

/// A provider without headers.
fn silent(tokens_per_minute: u64) -> Builder {
    Sim::builder()
        .tokens_per_minute(tokens_per_minute)
        .requests_per_minute(None)
        .latency(Duration::from_millis(300), Duration::ZERO)
        .headers(Headers {
            missing: 1.0,
            ..Headers::default()
        })
}

/// The provider's answer, without the delay that a refusal tells in its words.
async fn untold(answer: Response<Body>) -> Response<Body> {
    if answer.status() != 429 {
        return answer;
    }
    let (head, body) = answer.into_parts();
    let body = to_bytes(body, usize::MAX).await.expect("a whole body");
    let text = std::str::from_utf8(&body).expect("JSON is text");
    let from = text.find(" Please try again in").expect("a delay is told");
    let until = from + text[from..].find("s. ").expect("its end") + 2;
    let text = format!("{}{}", &text[..from], &text[until..]);
    let mut head = head;
    head.headers.remove(http::header::CONTENT_LENGTH);
    Response::from_parts(head, Body::from(text))
}

/// As many calls as pass, from many callers, for a quarter of an hour.
async fn play(sim: Builder, available: u64, asks: u64, told: bool) -> Outcome {
    let provider = Provider::new(sim.build().expect("a valid provider"));
    let policy = Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(CALLERS)
        .headroom(0.0)
        .max_attempts(50)
        .without_retry_budget()
        .tpm_limit(Limit::per_minute(CONFIGURED));
    let service = provider.clone();
    let client = policy
        .layer()
        .layer(service_fn(move |request: Request<Bytes>| {
            let answer = service.clone().oneshot(request);
            async move {
                match told {
                    true => answer.await,
                    false => Ok(untold(answer.await?).await),
                }
            }
        }));
    let start = Instant::now();
    let callers: Vec<_> = (0..CALLERS)
        .map(|_| {
            let client = client.clone();
            tokio::spawn(async move {
                while start.elapsed() < Duration::from_secs(60 * MINUTES) {
                    let answer = client.clone().oneshot(chat("Is it so?", asks)).await;
                    drop(answer.expect("an answer"));
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await.expect("no panic");
    }
    let refused = provider.sim().report().total.rejected.total();
    let calls = provider.arrivals_since(start).len() as u64;
    let cost = policy.charge().cost(&chat("Is it so?", asks));
    Outcome {
        calls,
        refused,
        used: (calls - refused) * cost * 100 / (available * (MINUTES + 1)),
    }
}

async fn is_told_or_not(sim: impl Fn() -> Builder, available: u64) {
    // Two a second where the limit is right, and twenty where there is time for them.
    let sizes: &[u64] = if has_time() { &[800, 80] } else { &[800] };
    for &asks in sizes {
        for told in [true, false] {
            let outcome = play(sim(), available, asks, told).await;
            println!("asks {asks}, told {told}: {outcome:?}");
            let Outcome {
                calls,
                refused,
                used,
            } = outcome;
            assert!(refused * 100 <= calls, "told {told}: {outcome:?}");
            assert!(used >= 90, "told {told}: {outcome:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn half_of_the_configured_limit_refuses_one_call_in_a_hundred_at_most() {
    is_told_or_not(|| silent(CONFIGURED / 2), CONFIGURED / 2).await;
}

#[tokio::test(start_paused = true)]
async fn others_who_take_a_third_cost_one_refusal_in_a_hundred_at_most() {
    is_told_or_not(|| silent(CONFIGURED).others(0.3), CONFIGURED * 7 / 10).await;
}
