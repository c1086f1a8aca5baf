//! Learning from answers: the limits from a first one, the level from each.

use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, ServiceExt, service_fn};

use super::*;
use crate::answer::{Denial, Observation, Scope};
use crate::charge::{Per, Unit};
use crate::error::Error;

const SEC: Duration = Duration::from_secs(1);

fn learning() -> TokenBudget {
    TokenBudget::per_minute(1_000)
        .headroom(0.1)
        .learn_tokens(true)
        .learn_requests(true)
        .build()
        .expect("a valid budget")
}

fn told(limit: u64, remaining: u64, requests: Option<u64>) -> Observation {
    Observation {
        limits: RateLimits {
            limit_tokens: Some(limit),
            remaining_tokens: Some(remaining),
            limit_requests: requests,
            ..RateLimits::default()
        },
        denial: None,
    }
}

/// Answers after a second with whatever it is asked for, and when it came.
async fn call(budget: &TokenBudget, cost: u64, answer: Observation) -> Result<Instant, Error> {
    let provider = service_fn(move |_: ()| async move {
        let came = Instant::now();
        tokio::time::sleep(SEC).await;
        Ok::<_, Error>((came, answer))
    });
    TpmBudgetLayer::new(budget.clone(), move |(): &()| cost)
        .observe(|(_, answer): &(Instant, Observation)| *answer)
        .until_response()
        .layer(provider)
        .oneshot(())
        .await
        .map(|(came, _)| came)
}

#[tokio::test(start_paused = true)]
async fn the_first_request_goes_alone_and_the_others_wait_for_its_headers() {
    let budget = learning();
    let answer = told(100_000, 99_000, Some(6_000));
    let start = Instant::now();
    // More than the fallback could ever hold, and nobody knows better yet.
    let calls = [5_000, 60_000, 20_000].map(|cost| call(&budget, cost, answer));
    let [first, second, third] = calls;
    let (first, second, third) = tokio::join!(first, second, third);
    assert_eq!(first.unwrap(), start);
    assert_eq!(second.unwrap(), start + SEC);
    assert_eq!(third.unwrap(), start + SEC);
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.limit, snapshot.capacity), (100_000, 90_000));
    assert_eq!(snapshot.requests_limit, Some(6_000));
}

#[tokio::test(start_paused = true)]
async fn what_turns_out_too_large_is_refused_then() {
    let budget = learning();
    let answer = told(2_000, 1_900, None);
    let (first, second) = tokio::join!(call(&budget, 100, answer), call(&budget, 5_000, answer));
    first.unwrap();
    let (cost, limit) = (5_000, 1_800);
    let refused = *second.unwrap_err().refused().expect("a refusal");
    assert_eq!(refused, Refused::TooLarge { cost, limit });
}

#[tokio::test(start_paused = true)]
async fn without_headers_the_fallback_is_used() {
    let budget = learning();
    call(&budget, 100, Observation::default()).await.unwrap();
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.limit, snapshot.level), (1_000, 800));
    assert!(call(&budget, 901, Observation::default()).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn a_refused_first_request_holds_the_others_as_long_as_it_was_told() {
    let budget = learning();
    let mut refusal = told(100_000, 0, None);
    refusal.denial = Some(Denial {
        scope: Scope::Tokens,
        after: Some(30 * SEC),
    });
    let start = Instant::now();
    let (first, second) = tokio::join!(
        call(&budget, 10, refusal),
        call(&budget, 10, told(100_000, 99_990, None))
    );
    first.unwrap();
    assert_eq!(second.unwrap(), start + 31 * SEC);
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_changes_later_is_followed() {
    let budget = learning();
    call(&budget, 10, told(100_000, 99_990, Some(60)))
        .await
        .unwrap();
    call(&budget, 10, told(50_000, 49_990, Some(120)))
        .await
        .unwrap();
    let snapshot = budget.snapshot();
    assert_eq!(
        (snapshot.limit, snapshot.requests_limit),
        (50_000, Some(120))
    );
    assert_eq!(snapshot.level, 45_000, "as much as the headroom leaves");
}

/// The provider may or may not have counted what is on its way. Once the level
/// was set to all that was told to be left, and the others' requests did not
/// fit when they arrived.
#[tokio::test(start_paused = true)]
async fn what_is_in_transit_is_taken_off_what_is_told_to_be_left() {
    let budget = TokenBudget::per_minute(60_000).build().expect("valid");
    let on_its_way = budget.reserve(1_000).await.expect("room");
    on_its_way.launched();
    let left = told(60_000, 10_000, None).limits;
    budget.observe(&left);
    assert_eq!(budget.snapshot().level, 9_000);
    on_its_way.settle(1_000);
    budget.observe(&left);
    assert_eq!(budget.snapshot().level, 10_000);
}

/// A burst that was counted long ago once cost a minute's debt: all of it was in
/// transit when the first of its answers came.
#[tokio::test(start_paused = true)]
async fn a_burst_in_transit_counts_as_two_seconds_of_refill() {
    let budget = TokenBudget::per_minute(60_000).build().expect("valid");
    let burst = budget.reserve(50_000).await.expect("room");
    burst.launched();
    budget.observe(&told(60_000, 10_000, None).limits);
    assert_eq!(budget.snapshot().level, 8_000);
}

/// What is left after a storm was once spent at its end, by everybody at once.
#[tokio::test(start_paused = true)]
async fn after_a_hold_calls_follow_at_the_pace_of_the_refill() {
    let budget = TokenBudget::per_minute(60_000).build().expect("valid");
    let start = Instant::now();
    budget.hold(start + SEC);
    let calls = (0..4).map(|_| call(&budget, 500, told(60_000, 59_000, None)));
    let came = futures_util::future::join_all(calls).await;
    let came: Vec<u128> = came
        .into_iter()
        .map(|came| (came.expect("an answer") - start).as_millis())
        .collect();
    // The answer to the probe comes at 2 s, when 1,000 tokens are there.
    assert_eq!(came, [1_000, 2_000, 2_000, 2_500]);
}

/// Out of a bucket that is nearly empty, a tenth of the burst at once is a
/// dozen refusals.
#[tokio::test(start_paused = true)]
async fn an_unconfirmed_level_is_spent_no_faster_than_it_refills() {
    let budget = TokenBudget::per_minute(60_000).cautious_start(true);
    let budget = budget.build().expect("valid");
    let start = Instant::now();
    let calls = (0..5).map(|_| call(&budget, 400, Observation::default()));
    let came = futures_util::future::join_all(calls).await;
    let came: Vec<u128> = came
        .into_iter()
        .map(|came| (came.expect("an answer") - start).as_millis())
        .collect();
    // The first answer is there after a second.
    assert_eq!(came, [0, 400, 800, 1_000, 1_000]);
}

/// A provider whose bucket is full loses what it gives back, at an instant
/// that only it knows. The refund was once credited in full, and the next
/// request was refused.
#[tokio::test(start_paused = true)]
async fn a_late_refund_counts_only_as_far_as_there_was_room() {
    let budget = TokenBudget::per_minute(600)
        .window(Window::Off)
        .accounting(Accounting::AsUsed);
    let budget = budget.build().expect("valid");
    let long = budget.reserve(300).await.expect("room");
    long.launched();
    tokio::time::sleep(100 * SEC).await;
    let burst = budget.reserve(600).await.expect("a full bucket");
    burst.launched();
    burst.settle(600);
    tokio::time::sleep(2 * SEC).await;
    long.settle(0);
    assert_eq!(
        budget.snapshot().level,
        20,
        "its 300 were full again long ago"
    );

    // While the bucket has not refilled, all of it counts.
    let short = budget.reserve(20).await.expect("room");
    short.launched();
    short.settle(5);
    assert_eq!(budget.snapshot().level, 15);
}

/// A day's limit is known from the start; the minute's is learned while one request has
/// been let go and another is being answered, both larger than it allows.
#[tokio::test(start_paused = true)]
async fn what_a_learned_limit_bounds_is_bounded_in_every_meter_of_its_unit() {
    for window in [Window::On, Window::Off] {
        let limits = TokenBudget::per_minute(1_000)
            .learn_tokens(true)
            .meter(Unit::Tokens, Per::Day, 100_000)
            .window(window);
        let budget = limits.clone().build().unwrap();
        let abandoned = budget.reserve(50_000).await.unwrap();
        abandoned.launched();
        drop(abandoned);
        call(&budget, 50_000, told(2_000, 0, None)).await.unwrap();
        tokio::time::sleep(SEC).await;

        let day = budget.snapshot().meters[0];
        assert_eq!((day.unit, day.per), (Unit::Tokens, Per::Day));
        assert_eq!((day.in_transit, day.outstanding), (0, 0));
        // Twice what is allowed, and of 100,000 a day one is refilled in the second in
        // which not all of it was in transit.
        assert_eq!(day.level, 96_001);
        assert_eq!(budget.snapshot().outstanding, 0);

        // What joins later counts no more, either.
        let more = limits.meter(Unit::Tokens, Per::Second, 10_000);
        budget.set_limits(more).unwrap();
        let joined = budget.snapshot().meters.into_iter();
        let joined = joined.filter(|it| it.per == Per::Second);
        assert_eq!(joined.map(|it| it.level).collect::<Vec<_>>(), [6_000]);

        // The window of a day is not full of what was never taken.
        tokio::time::sleep(61 * SEC).await;
        drop(budget.try_reserve(2_000).unwrap());
    }
}

/// The same where no answer names a limit, and the fallback comes with the usage.
#[tokio::test(start_paused = true)]
async fn usage_above_what_the_fallback_bounds_is_owed_by_every_meter_of_its_unit() {
    let budget = TokenBudget::per_minute(1_000)
        .learn_tokens(true)
        .meter(Unit::Tokens, Per::Day, 100_000)
        .build()
        .unwrap();
    let kept = budget.reserve(50_000).await.unwrap();
    kept.settle(3_000);
    let [day, minute] = budget.snapshot().meters[..] else {
        panic!("a day and the fallback");
    };
    assert_eq!((day.level, minute.level), (97_000, -2_000));
    assert_eq!((day.in_transit, day.outstanding), (0, 0));
}
