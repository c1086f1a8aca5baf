//! When answers come, and how long a call is in flight.

use std::time::Duration;

use http_body_util::BodyExt;
use tokio::time::{Instant, timeout};
use tollhouse_sim::{Latency, Sim};

use crate::client::{chat, chat_request, head, hello, streamed};

const FIRST: Duration = Duration::from_millis(300);
const EACH: Duration = Duration::from_millis(20);

fn slow() -> Sim {
    Sim::builder().latency(FIRST, EACH).build().unwrap()
}

/// How long an answer of so many tokens takes.
fn takes(tokens: u64) -> Duration {
    FIRST + EACH * u32::try_from(tokens - 1).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_whole_answer_comes_when_its_last_token_is_made() {
    let start = Instant::now();
    let answer = chat(&slow(), &hello(100)).await;
    let tokens = answer.json()["usage"]["completion_tokens"]
        .as_u64()
        .unwrap();
    assert_eq!(start.elapsed(), takes(tokens));
    let millis = takes(tokens).as_millis().to_string();
    assert_eq!(answer.header("openai-processing-ms"), millis);
}

#[tokio::test(start_paused = true)]
async fn a_stream_comes_token_by_token() {
    let start = Instant::now();
    let response = head(&slow(), chat_request(&streamed(hello(100))))
        .await
        .unwrap();
    assert_eq!(start.elapsed(), FIRST);
    let mut body = response.into_body();
    let mut at = vec![];
    while let Some(frame) = body.frame().await {
        frame.unwrap();
        at.push(start.elapsed());
    }
    // Role, tokens, finish, [DONE]; the first token comes with the role, and
    // the end with the last token.
    let tokens = at.len() as u64 - 3;
    assert_eq!(at[0], FIRST);
    for token in 1..=tokens {
        assert_eq!(at[token as usize], takes(token));
    }
    assert_eq!(*at.last().unwrap(), takes(tokens));
}

#[tokio::test(start_paused = true)]
async fn latency_shrinks_with_speed() {
    let sim = Sim::builder()
        .latency(FIRST, EACH)
        .speed(10.0)
        .build()
        .unwrap();
    let start = Instant::now();
    let answer = chat(&sim, &hello(100)).await;
    let tokens = answer.json()["usage"]["completion_tokens"]
        .as_u64()
        .unwrap();
    assert_eq!(start.elapsed(), takes(tokens) / 10);
}

#[tokio::test(start_paused = true)]
async fn latency_is_spread_around_its_mean_the_same_every_time() {
    let run = async || {
        let sim = Sim::builder()
            .latency(Duration::from_secs(1), Duration::ZERO)
            .latency_spread(0.5)
            .tokens_per_minute(None)
            .requests_per_minute(None)
            .build()
            .unwrap();
        let mut times = vec![];
        for _ in 0..200 {
            let start = Instant::now();
            chat(&sim, &hello(1)).await;
            times.push(start.elapsed());
        }
        times
    };
    let times = run().await;
    // Timers tick in milliseconds.
    let least = Duration::from_millis(500);
    assert!(
        times
            .iter()
            .all(|time| (least..=least * 3 + EACH).contains(time))
    );
    let mean = times.iter().sum::<Duration>() / 200;
    assert!(
        mean.abs_diff(Duration::from_secs(1)) < Duration::from_millis(60),
        "{mean:?}"
    );
    assert_eq!(times, run().await);
}

#[tokio::test(start_paused = true)]
async fn a_stream_is_in_flight_until_its_last_frame_and_no_longer() {
    let sim = slow();
    let response = head(&sim, chat_request(&streamed(hello(50))))
        .await
        .unwrap();
    let mut body = response.into_body();
    let mut last = None;
    while sim.report().in_flight == 1 {
        last = body.frame().await;
    }
    let last = last.unwrap().unwrap().into_data().unwrap();
    assert_eq!(last, "data: [DONE]\n\n");
    assert_eq!(sim.report().total.completed, 1);
    assert!(http_body::Body::is_end_stream(&body));
    assert!(body.frame().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_dropped_stream_frees_its_place_and_keeps_its_charge() {
    let sim = Sim::builder()
        .latency(FIRST, EACH)
        .true_up(true)
        .build()
        .unwrap();
    let response = head(&sim, chat_request(&streamed(hello(100))))
        .await
        .unwrap();
    let mut body = response.into_body();
    // The role and three tokens.
    for _ in 0..4 {
        body.frame().await.unwrap().unwrap();
    }
    assert_eq!(sim.report().in_flight, 1);
    drop(body);
    let report = sim.report();
    assert_eq!((report.in_flight, report.peak_in_flight), (0, 1));
    assert_eq!((report.total.abandoned, report.total.completed), (1, 0));
    assert_eq!(
        (report.total.tokens_charged, report.total.tokens_used),
        (104, 9 + 3)
    );
}

#[tokio::test(start_paused = true)]
async fn a_caller_who_gives_up_before_the_head_frees_its_place() {
    let sim = slow();
    let body = hello(100);
    let call = chat(&sim, &body);
    assert!(timeout(Duration::from_millis(100), call).await.is_err());
    let report = sim.report();
    assert_eq!((report.in_flight, report.total.abandoned), (0, 1));
    assert_eq!(
        (report.total.tokens_charged, report.total.tokens_used),
        (104, 9)
    );
}

#[tokio::test(start_paused = true)]
async fn no_latency_takes_no_time() {
    let sim = Sim::builder().build().unwrap();
    assert_eq!(sim.config().latency, Latency::default());
    let start = Instant::now();
    chat(&sim, &streamed(hello(500))).await;
    chat(&sim, &hello(500)).await;
    assert_eq!(start.elapsed(), Duration::ZERO);
}
