//! Rule 5, the provider's word: what its answers tell of the account corrects
//! the budget that all share.

use std::convert::Infallible;
use std::time::Duration;

use crate::support::account::{Account, SEC, account, remaining, silence, ten_a_second};
use futures_util::future::{join, join_all, join3};
use tokio::time::sleep;
use tollhouse::{
    Accounting, Denial, GateLayer, Observation, RateLimits, Scope, StaggerLayer, TokenBudget,
    TpmBudgetLayer, Window,
};
use tower::{Layer, ServiceExt, service_fn};

#[tokio::test(start_paused = true)]
async fn a_lower_count_lowers_the_level_at_once() {
    let account = account(ten_a_second());
    let told = remaining(600, 100);
    account.call(10, Duration::ZERO, told).await.unwrap();
    assert_eq!(account.level(), 100);
    account.budget.observe(&remaining(600, 7).limits);
    assert_eq!(account.level(), 7);
    account.budget.observe(&remaining(600, 0).limits);
    assert_eq!(account.quick(30).await, 3, "and others wait for it");
}

#[tokio::test(start_paused = true)]
async fn a_higher_count_raises_only_to_what_is_surely_left() {
    let account = account(
        TokenBudget::per_minute(1_000)
            .headroom(0.1)
            .window(Window::Off),
    );
    account.spend_to(100).await;
    let answered = async {
        account.call(20, SEC, remaining(1_000, 700)).await.unwrap();
        // Less the headroom, and less what was launched since.
        assert_eq!(account.level(), 700 - 100 - 30);
    };
    let other = async {
        sleep(SEC / 2).await;
        let reservation = account.budget.reserve(30).await.unwrap();
        reservation.launched();
        sleep(3 * SEC).await;
    };
    join(answered, other).await;
}

#[tokio::test(start_paused = true)]
async fn what_was_in_transit_at_the_launch_is_not_counted_on() {
    let account = account(ten_a_second());
    account.spend_to(100).await;
    let reserved = account.budget.reserve(40).await.unwrap();
    let told = remaining(600, 600);
    account.call(10, Duration::ZERO, told).await.unwrap();
    assert_eq!(account.level(), 560, "the other may not have arrived yet");
    drop(reserved);
    assert_eq!(account.level(), 600);
}

#[tokio::test(start_paused = true)]
async fn what_was_counted_before_a_launch_was_told_is_not_counted_on() {
    let account = account(ten_a_second());
    account.spend_to(200).await;
    let budget = account.budget.clone();
    // As on another thread: while the first is handed on, it is counted, and
    // three others are reserved, sent and answered before its launch is told.
    let provider = service_fn(move |_: ()| {
        for _ in 0..3 {
            let other = budget.try_reserve(50).expect("the level allows it");
            other.launched();
            other.settle(50);
        }
        async {
            sleep(SEC).await;
            Ok::<_, Infallible>(remaining(600, 190))
        }
    });
    let gate = TpmBudgetLayer::new(account.budget.clone(), |(): &()| 10)
        .observe(|told: &Observation| *told)
        .until_response();
    gate.layer(provider).oneshot(()).await.unwrap();
    assert_eq!(
        account.level(),
        200 - 10 - 150 + 10,
        "a second's refill more"
    );
}

#[tokio::test(start_paused = true)]
async fn a_larger_accounts_remainder_is_not_ours() {
    let account = account(ten_a_second());
    account.spend_to(100).await;
    let told = remaining(30_000, 29_000);
    account.call(10, Duration::ZERO, told).await.unwrap();
    assert_eq!(account.level(), 90);
    // Nor one that does not say whose it is.
    let mut unnamed = remaining(0, 29_000);
    unnamed.limits.limit_tokens = None;
    account.call(10, Duration::ZERO, unnamed).await.unwrap();
    assert_eq!(account.level(), 80);
}

#[tokio::test(start_paused = true)]
async fn a_stale_answer_never_raises_what_a_newer_one_lowered() {
    let account = account(ten_a_second());
    let older = account.call(10, 10 * SEC, remaining(600, 590));
    let newer = async {
        sleep(SEC).await;
        account.call(10, SEC, remaining(600, 50)).await.unwrap();
        assert_eq!(account.level(), 50);
    };
    join(older, newer).await.0.unwrap();
    assert_eq!(account.level(), 50 + 8 * 10);
    // A newer one may.
    let newest = remaining(600, 590);
    account.call(10, Duration::ZERO, newest).await.unwrap();
    assert_eq!(account.level(), 590);
}

/// What is read from an answer was true when the request arrived there, and has
/// been refilled since.
#[tokio::test(start_paused = true)]
async fn a_slow_answers_count_is_not_taken_for_the_present() {
    let account = account(ten_a_second());
    account.call(10, 42 * SEC, remaining(600, 0)).await.unwrap();
    assert_eq!(account.level(), 400, "two of 42 seconds may be transit");
}

#[tokio::test(start_paused = true)]
async fn remaining_requests_lower_the_pace() {
    let account = account(ten_a_second().requests_per_minute(600));
    let none_left = RateLimits {
        remaining_requests: Some(0),
        ..RateLimits::default()
    };
    account.budget.observe(&none_left);
    assert_eq!(account.budget.eta(1), SEC / 10);
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_says_nothing_changes_nothing() {
    let account = account(ten_a_second());
    account.spend_to(300).await;
    account.budget.observe(&RateLimits::default());
    account.quick(0).await;
    assert_eq!(account.level(), 300);
}

#[tokio::test(start_paused = true)]
async fn a_cautious_start_spends_a_tenth_as_it_refills_until_an_answer_confirms() {
    let account = account(ten_a_second().cautious_start(true));
    let first = account.call(40, 8 * SEC, silence());
    let within = account.call(20, 5 * SEC, silence());
    let beyond = account.call(10, Duration::ZERO, silence());
    let launched = join3(first, within, beyond).await;
    assert_eq!(launched.0.unwrap(), 0);
    assert_eq!(launched.1.unwrap(), 4, "once the first has been refilled");
    assert_eq!(launched.2.unwrap(), 8, "not before the first answer");
}

#[tokio::test(start_paused = true)]
async fn a_cautious_start_survives_a_first_call_that_is_given_up() {
    let account = account(ten_a_second().cautious_start(true));
    let given_up = tokio::time::timeout(3 * SEC, account.call(500, 60 * SEC, silence()));
    let (given_up, next) = join(given_up, account.quick(80)).await;
    assert!(given_up.is_err());
    assert_eq!(next, 3, "somebody else must find out");
}

/// A reset as a bucket has it that refills all the time.
fn continuous(used: u64) -> RateLimits {
    RateLimits {
        reset_tokens: Some(Duration::from_millis(used * 100)),
        ..remaining(600, 600 - used).limits
    }
}

#[tokio::test(start_paused = true)]
async fn an_automatic_window_goes_when_the_refill_is_proven_continuous() {
    let account = account(TokenBudget::per_minute(600).window(Window::Auto));
    for used in [60, 120] {
        account.budget.observe(&continuous(used));
        assert!(account.budget.snapshot().windowed);
    }
    account.budget.observe(&continuous(200));
    assert!(!account.budget.snapshot().windowed);
    account.spend_to(0).await;
    assert_eq!(account.quick(100).await, 10, "at the bucket's pace");
}

#[tokio::test(start_paused = true)]
async fn an_automatic_window_stays_where_minutes_are_fixed() {
    let account = account(TokenBudget::per_minute(600).window(Window::Auto));
    for second in 1..120 {
        account.budget.observe(&RateLimits {
            reset_tokens: Some((60 - second % 60) * SEC),
            ..remaining(600, 600 - u64::from(second % 60) * 9).limits
        });
        assert!(account.budget.snapshot().windowed, "{second}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_window_that_was_asked_for_stays() {
    let account = account(TokenBudget::per_minute(600).window(Window::On));
    for used in 60..120 {
        account.budget.observe(&continuous(used));
    }
    assert!(account.budget.snapshot().windowed);
}

/// The provider trues a call up before its last byte has been read, and tells
/// the answer to another what is left with that refund in it. When the usage is
/// settled at last, it is not given back again.
#[tokio::test(start_paused = true)]
async fn a_refund_that_was_told_is_not_given_twice() {
    let budget = TokenBudget::per_minute(60_000)
        .accounting(Accounting::AsUsed)
        .window(Window::Off)
        .build()
        .expect("a valid budget");
    let call = budget.reserve(40_000).await.expect("room");
    call.launched();
    sleep(3 * SEC).await;
    // 20,000 and a second's refill, since it landed after two.
    assert_eq!(budget.snapshot().level, 21_000);

    // 10,000 of the 40,000 were used; of the 30,000 given back the provider
    // tells here, with three seconds of refill.
    budget.observe(&remaining(60_000, 53_000).limits);
    assert_eq!(budget.snapshot().level, 53_000);
    call.settle(10_000);
    assert_eq!(budget.snapshot().level, 53_000);
}

/// A call that is reserved at once and launched so much later; its answer comes
/// after another while.
async fn late(account: &Account, cost: u64, wait: Duration, takes: Duration, told: Observation) {
    let stagger = StaggerLayer::new(wait);
    stagger
        .clone()
        .layer(service_fn(|()| async { Ok::<_, Infallible>(()) }))
        .oneshot(())
        .await
        .unwrap();
    let budget = TpmBudgetLayer::new(account.budget.clone(), |cost: &u64| *cost)
        .observe(|told: &Observation| *told);
    let provider = service_fn(move |_: u64| async move {
        sleep(takes).await;
        Ok::<_, Infallible>(told)
    });
    let client = GateLayer::new((budget, stagger)).until_response();
    client.layer(provider).oneshot(cost).await.unwrap();
}

/// A call from the fifth second to the thirteenth, whose answer tells of a lot left.
async fn from_5_to_13(account: &Account) {
    sleep(5 * SEC).await;
    let told = remaining(600, 590);
    account.call(10, 8 * SEC, told).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_age_of_a_count_is_reckoned_from_its_launch() {
    let account = account(ten_a_second());
    late(&account, 10, 30 * SEC, 3 * SEC, remaining(600, 0)).await;
    assert_eq!(account.level(), 10, "two of three seconds may be transit");
}

#[tokio::test(start_paused = true)]
async fn what_may_have_left_before_a_lower_count_came_does_not_raise() {
    let account = account(ten_a_second());
    let older = late(&account, 10, 10 * SEC, SEC, remaining(600, 590));
    let lower = async {
        sleep(5 * SEC).await;
        account.budget.observe(&remaining(600, 50).limits);
    };
    join(older, lower).await;
    // Less the one that was in transit then.
    assert_eq!(account.level(), 50 - 10 + 6 * 10);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_left_before_one_that_was_counted_lower_does_not_raise() {
    let account = account(ten_a_second());
    let lower = late(&account, 10, 10 * SEC, 2 * SEC, remaining(600, 50));
    join(lower, from_5_to_13(&account)).await;
    assert_eq!(account.level(), 50 + 10);
}

#[tokio::test(start_paused = true)]
async fn what_may_have_left_before_one_that_was_refused_does_not_raise() {
    let account = account(ten_a_second());
    account.spend_to(100).await;
    let refused = Observation {
        denial: Some(Denial {
            scope: Scope::Overload,
            after: None,
        }),
        ..Observation::default()
    };
    let refused = late(&account, 10, 10 * SEC, 2 * SEC, refused);
    join(refused, from_5_to_13(&account)).await;
    assert_eq!(account.level(), 100 - 20 + 13 * 10);
}

/// A minute apart they are no proof, however soon they were reserved: a fixed
/// minute told so would look the same.
#[tokio::test(start_paused = true)]
async fn an_automatic_window_stays_where_launches_are_a_minute_apart() {
    let budget = TokenBudget::per_minute(1_000).window(Window::Auto);
    let budget = budget.build().unwrap();
    let gates = GateLayer::new((
        TpmBudgetLayer::new(budget.clone(), |(): &()| 1).observe(|told: &Observation| *told),
        StaggerLayer::new(60 * SEC),
    ));
    let client = gates.until_response().layer(service_fn(|()| async {
        let mut told = remaining(1_000, 10);
        told.limits.reset_tokens = Some(Duration::from_millis(59_400));
        Ok::<_, Infallible>(told)
    }));
    let calls = [0, 5, 12, 65].map(|second| {
        let client = client.clone();
        async move {
            sleep(second * SEC).await;
            client.oneshot(()).await.unwrap();
        }
    });
    join_all(calls).await;
    assert!(budget.snapshot().windowed);
}

/// What a request turned out to cost beyond its estimate has been charged since,
/// and so much of it only.
#[tokio::test(start_paused = true)]
async fn debt_since_a_count_is_taken_off_it_once() {
    let account = account(TokenBudget::per_minute(60_000).window(Window::Off));
    let told = account.call(1_000, SEC, remaining(60_000, 59_500));
    let other = async {
        let reservation = account.budget.reserve(1_000).await.unwrap();
        reservation.launched();
        reservation.settle(3_000);
        account.budget.reserve(1_500).await.unwrap().settle(1_500);
        assert_eq!(account.level(), 60_000 - 1_000 - 3_000 - 1_500);
    };
    let (told, ()) = join(told, other).await;
    told.unwrap();
    // 1,000 came back in the second that the answer took, up to the told count
    // less the 4,500 that were charged since.
    assert_eq!(account.level(), 59_500 - 3_000 - 1_500 + 500);
}

/// "0 left", and the next is admitted, and it says "0 left" again.
#[tokio::test(start_paused = true)]
async fn a_count_that_answers_contradict_again_and_again_is_not_believed() {
    let account = account(ten_a_second().requests_per_minute(60_000));
    let mut nothing = remaining(600, 0);
    nothing.limits.remaining_requests = Some(0);
    let mut launched = Vec::new();
    for _ in 0..6 {
        launched.push(account.call(10, Duration::ZERO, nothing).await.unwrap());
    }
    // As one who believes it: with what comes back, and less and less of that.
    assert!(
        launched.windows(2).all(|two| two[1] > two[0]),
        "{launched:?}"
    );
    assert_eq!(account.level(), 0);
    // From then on by our own reckoning, which no answer lowers.
    sleep(60 * SEC).await;
    assert_eq!(account.level(), 600);
    account.call(10, Duration::ZERO, nothing).await.unwrap();
    assert_eq!(account.level(), 590);

    // A refusal says that it may be true after all.
    let mut refused = nothing;
    refused.denial = Some(Denial {
        scope: Scope::Tokens,
        after: Some(SEC),
    });
    account.call(10, Duration::ZERO, refused).await.unwrap();
    assert_eq!(account.level(), 0);
    account.call(10, Duration::ZERO, nothing).await.unwrap();
    assert_eq!(account.level(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_count_that_counts_again_is_believed_again() {
    let account = account(ten_a_second());
    for _ in 0..6 {
        let told = remaining(600, 0);
        account.call(10, Duration::ZERO, told).await.unwrap();
    }
    sleep(60 * SEC).await;
    let told = remaining(600, 200);
    account.call(10, Duration::ZERO, told).await.unwrap();
    assert_eq!(account.level(), 200);
}
