//! Other kinds of limits than a bucket of tokens.

use tollhouse::shared::Fallback;
use tollhouse::{Accounting, Window};

use super::{MILLI, Play, SEC};

/// No minute that a provider may count holds more than the limit, of all processes together.
#[tokio::test(start_paused = true)]
async fn no_minute_of_all_processes_holds_more_than_the_limit() {
    let play = Play::of_sliding_minutes(300_000);
    for _ in 0..4 {
        let budget = play.budget().window(Window::On);
        let process = play.process_with(Fallback::default(), budget);
        process.saturate(20, 100..4_000);
    }
    // All goes at once, a minute and some two seconds after it went before.
    play.until(320).await;
    assert_eq!(play.refused(), 0);
    let used = play.used(0, 320);
    assert!(used >= 0.93, "{used}");
}

/// What was not used comes back to all, and no sooner than the provider has it.
#[tokio::test(start_paused = true)]
async fn what_is_given_back_is_there_for_all() {
    let play = Play::new(300_000, 0.0);
    for _ in 0..4 {
        let budget = play.budget().accounting(Accounting::AsUsed);
        let process = play.process_with(Fallback::default(), budget);
        process.saturate_and_use_half(20, 100..4_000);
    }
    play.until(130).await;
    assert_eq!(play.refused(), 0);
    // Twice as much was reserved as refills, at best.
    let used = play.used(10, 130);
    assert!(used >= 1.8, "{used}");
}

/// Requests are spread over the seconds, of all processes together, and none of the pace is lost.
#[tokio::test(start_paused = true)]
async fn requests_are_spread_over_the_seconds() {
    let play = Play::new(3_000_000, 0.0);
    for _ in 0..4 {
        let budget = play.budget().requests_per_minute(600);
        let process = play.process_with(Fallback::default(), budget);
        process.saturate(20, 100..400);
    }
    play.until(130).await;
    let log = play.provider.log();
    let within = |from, to| {
        let calls = log.iter().filter(|call| call.at >= from && call.at < to);
        calls.count()
    };
    let calls = within(play.at(10), play.at(130));
    assert!((1_164..=1_210).contains(&calls), "{calls}");
    // Half a second's worth and one at once, another second's refill, and what was on its way for
    // longer.
    let tenths = (0..1_250).map(|tenth| play.start + tenth * 100 * MILLI);
    let most = tenths.map(|from| within(from, from + SEC)).max().unwrap();
    assert!(most <= 6 + 10 + 2, "{most}");
}
