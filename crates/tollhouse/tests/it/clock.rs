//! One clock, tokio's, that only goes forward.

use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, advance, sleep};
use tollhouse::{StaggerLayer, TokenBudget, Window};
use tower::{Layer, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);
const HOUR: Duration = Duration::from_secs(3600);

/// The clock is paused here, and an hour of it passes in no time: a budget that
/// looked at the wall would not notice.
#[tokio::test(start_paused = true)]
async fn failure_17_the_paused_clock_alone_moves_a_budget() {
    let budget = TokenBudget::per_minute(60)
        .window(Window::Off)
        .build()
        .unwrap();
    budget.reserve(60).await.unwrap().settle(60);
    for second in 1..=60 {
        advance(SEC).await;
        assert_eq!(budget.snapshot().level, second);
    }
    // And while it stands still, so does the budget.
    budget.reserve(60).await.unwrap().settle(60);
    assert_eq!(budget.eta(1), SEC);
    assert_eq!(budget.eta(1), SEC);
}

/// A wall clock would have to be read by one of these; the lints of the
/// workspace forbid it, and they must go on doing so.
#[test]
fn failure_17_reading_another_clock_does_not_pass_the_lints() {
    let lints = include_str!("../../../clippy.toml");
    for banned in [
        "std::time::Instant::now",
        "std::time::SystemTime::now",
        "std::thread::sleep",
    ] {
        assert!(lints.contains(banned), "{banned}");
    }
}

#[tokio::test(start_paused = true)]
async fn failure_18_waking_from_an_hours_sleep_brings_one_burst_at_most() {
    let budget = TokenBudget::per_minute(600).burst(100).build().unwrap();
    budget.reserve(100).await.unwrap().settle(100);
    let start = Instant::now();
    let calls = join_all((0..30).map(|_| async {
        budget.reserve(50).await.unwrap().settle(50);
        start.elapsed()
    }));
    let suspended = async {
        sleep(SEC).await;
        advance(HOUR).await;
    };
    let (passed, ()) = tokio::join!(calls, suspended);
    let woke = HOUR + SEC;
    let at_once = passed.iter().filter(|at| **at <= woke).count();
    assert_eq!(at_once, 2, "{passed:?}");
    // Then ten a second again, and no more than a minute's worth a minute.
    assert_eq!(passed[2], woke + 5 * SEC);
    for minute in passed.windows(13) {
        assert!(minute[12] - minute[0] >= 60 * SEC, "{minute:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn failure_18_launches_are_spaced_after_an_hours_sleep_too() {
    let turns = StaggerLayer::new(15 * SEC);
    let start = Instant::now();
    let client = turns.layer(service_fn(|()| async move {
        Ok::<_, std::io::Error>(start.elapsed())
    }));
    client.clone().oneshot(()).await.unwrap();
    let calls = join_all((0..4).map(|_| client.clone().oneshot(())));
    let suspended = async {
        sleep(SEC).await;
        advance(HOUR).await;
    };
    let (launched, ()) = tokio::join!(calls, suspended);
    let launched: Vec<_> = launched.into_iter().map(Result::unwrap).collect();
    let woke = HOUR + SEC;
    assert_eq!(launched, [0, 15, 30, 45].map(|after| woke + after * SEC));
}
