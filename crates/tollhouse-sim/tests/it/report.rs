//! What the provider saw.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep;
use tollhouse_sim::{Report, Sim};

use crate::client::{chat, chat_request, head, hello, streamed};

fn sim() -> Sim {
    Sim::builder().tokens_per_minute(1_000).build().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_provider_that_saw_nothing_reports_nothing() {
    assert_eq!(sim().report(), Report::default());
}

#[tokio::test(start_paused = true)]
async fn utilisation_is_charged_of_burst_and_refill() {
    let sim = sim();
    chat(&sim, &hello(996)).await;
    assert_eq!(sim.report().total.utilisation, Some(1.0));
    sleep(Duration::from_secs(30)).await;
    chat(&sim, &hello(246)).await;
    // 1,000 at first, 500 in half a minute; 1,000 and 250 are charged.
    let report = sim.report();
    assert_eq!(report.total.tokens_allowed, Some(1_500));
    assert_eq!(report.total.tokens_charged, 1_250);
    assert_eq!(report.total.utilisation, Some(1_250.0 / 1_500.0));
    assert_eq!(
        (report.elapsed_seconds, report.elapsed_minutes),
        (30.0, 0.5)
    );
    assert_eq!(report.models["gpt-4o"], report.total);
}

#[tokio::test(start_paused = true)]
async fn peaks_of_the_clock_and_of_any_minute_differ() {
    let sim = sim();
    // Charged 400 at 0, 50 and 70 s: 800 in the first minute of the clock,
    // 400 in the second, 800 in the minute before 70 s.
    chat(&sim, &hello(396)).await;
    sleep(Duration::from_secs(50)).await;
    chat(&sim, &hello(396)).await;
    sleep(Duration::from_secs(9)).await;
    chat(&sim, &hello(96)).await;
    sleep(Duration::from_secs(11)).await;
    chat(&sim, &hello(396)).await;
    let total = sim.report().total;
    assert_eq!(total.admitted, 4);
    assert_eq!(
        (total.peak_tokens_clock_minute, total.peak_tokens_any_minute),
        (900, 900)
    );
    sleep(Duration::from_secs(5)).await;
    chat(&sim, &hello(96)).await;
    let total = sim.report().total;
    assert_eq!(
        (total.peak_tokens_clock_minute, total.peak_tokens_any_minute),
        (900, 1_000)
    );
}

#[tokio::test(start_paused = true)]
async fn gaps_and_concurrency_are_counted_from_arrival() {
    let sim = sim();
    let request = || chat_request(&streamed(hello(10)));
    let first = head(&sim, request()).await.unwrap();
    sleep(Duration::from_millis(1_500)).await;
    let second = head(&sim, request()).await.unwrap();
    sleep(Duration::from_millis(700)).await;
    drop(first);
    let third = head(&sim, request()).await.unwrap();
    let report = sim.report();
    assert_eq!(report.least_gap(), Some(Duration::from_millis(700)));
    assert_eq!((report.in_flight, report.peak_in_flight), (2, 2));
    drop((second, third));
    assert_eq!(sim.report().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn repeated_requests_are_told_from_different_ones() {
    let sim = sim();
    chat(&sim, &hello(10)).await;
    chat(&sim, &hello(11)).await;
    chat(&sim, &streamed(hello(10))).await;
    // Not answered, so that it is no repetition.
    assert_eq!(chat(&sim, &hello(5_000)).await.status, 429);
    let report = sim.report();
    assert_eq!((report.distinct, report.repeated), (2, 1));
}

#[tokio::test(start_paused = true)]
async fn models_are_counted_each_and_together() {
    let sim = sim();
    let mut other = hello(96);
    other["model"] = json!("gpt-4o-mini");
    chat(&sim, &hello(96)).await;
    chat(&sim, &other).await;
    chat(&sim, &other).await;
    assert_eq!(chat(&sim, &json!({"model": "gpt-4o"})).await.status, 400);
    let report = sim.report();
    assert_eq!((report.arrived, report.invalid), (4, 1));
    assert_eq!(report.models["gpt-4o"].tokens_charged, 100);
    assert_eq!(report.models["gpt-4o-mini"].tokens_charged, 200);
    assert_eq!(report.total.tokens_charged, 300);
    assert_eq!(report.total.tokens_allowed, Some(2_000));
}

#[tokio::test(start_paused = true)]
async fn report_is_readable_by_people_and_by_machines() {
    let sim = Sim::builder()
        .tokens_per_minute(1_000)
        .speed(60.0)
        .build()
        .unwrap();
    chat(&sim, &hello(996)).await;
    sleep(Duration::from_millis(250)).await;
    chat(&sim, &hello(996)).await;
    let report = sim.report();
    let used = report.total.tokens_used;
    let expected = format!(
        "\
arrived      2 in 0.250 s (0.25 provider's minutes)
admitted     1: 1 answered in full, 0 abandoned
rejected     1: 1 tokens, 0 requests, 0 too large, 0 storm
faults       0: 0 status 500, 0 status 503, 0 resets, 0 cut streams
invalid      0
in flight    0 now, 1 at most
least gap    0.250000 s
repeated     0 of 1 different requests
tokens       1000 charged of 1250 allowed (80.0 %), {used} used
peak tokens  1000 in a minute of the clock, 1000 in any minute
"
    );
    assert_eq!(report.to_string(), expected);
    let text = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&text).unwrap(), report);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn totals_hold_on_real_threads() {
    let sim = Sim::builder()
        .tokens_per_minute(60_000)
        .requests_per_minute(None)
        .build()
        .unwrap();
    let callers: Vec<_> = (0..8)
        .map(|_| {
            let sim = sim.clone();
            tokio::spawn(async move {
                let mut admitted = 0;
                for _ in 0..100 {
                    admitted += u64::from(chat(&sim, &hello(96)).await.status == 200);
                }
                admitted
            })
        })
        .collect();
    let mut admitted = 0;
    for caller in callers {
        admitted += caller.await.unwrap();
    }
    let report = sim.report();
    assert_eq!((report.arrived, report.in_flight), (800, 0));
    assert!(report.peak_in_flight <= 8);
    let total = &report.total;
    assert_eq!((total.admitted, total.completed), (admitted, admitted));
    assert_eq!(total.rejected.tokens, 800 - admitted);
    assert_eq!(total.tokens_charged, 100 * admitted);
    assert!(admitted >= 600 && total.tokens_charged <= total.tokens_allowed.unwrap());
}
