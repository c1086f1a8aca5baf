//! Rule 6: a refusal is news for everybody.

use std::time::Duration;

use crate::support::account::{Account, SEC, account, remaining, silence, ten_a_second};
use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep, sleep_until};
use tollhouse::{Denial, Observation, RateLimits, Refused, Scope};

fn denial(scope: Scope, after: Option<Duration>) -> Observation {
    Observation {
        limits: RateLimits::default(),
        denial: Some(Denial { scope, after }),
    }
}

/// A call that is refused at once.
async fn denied(account: &Account, cost: u64, scope: Scope, after: Option<Duration>) {
    let told = denial(scope, after);
    account.call(cost, Duration::ZERO, told).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn failure_08_a_told_delay_is_everybodys() {
    let account = account(ten_a_second());
    denied(&account, 100, Scope::Tokens, Some(20 * SEC)).await;
    assert_eq!(account.level(), 100 - 20 * 10);
    let launched = join_all((0..4).map(|_| account.quick(100))).await;
    assert_eq!(
        launched,
        [20, 30, 40, 50],
        "exactly the delay, then one by one"
    );
}

#[tokio::test(start_paused = true)]
async fn failure_08_those_who_wait_already_are_told_too() {
    let account = account(ten_a_second());
    account.spend_to(150).await;
    let denied = account.call(100, 2 * SEC, denial(Scope::Tokens, Some(20 * SEC)));
    let waiting = account.quick(100);
    let launched = join(denied, waiting).await;
    assert_eq!(launched.1, 22, "without the refusal it had been 5");
}

#[tokio::test(start_paused = true)]
async fn a_smaller_request_fits_sooner_than_the_refused_one() {
    let account = account(ten_a_second());
    denied(&account, 100, Scope::Tokens, Some(20 * SEC)).await;
    assert_eq!(account.quick(50).await, 15);
}

#[tokio::test(start_paused = true)]
async fn a_told_delay_never_lets_anybody_in_sooner() {
    let account = account(ten_a_second());
    account.spend_to(100).await;
    denied(&account, 100, Scope::Tokens, Some(SEC)).await;
    assert_eq!(account.quick(100).await, 10);
}

#[tokio::test(start_paused = true)]
async fn failure_08_refused_for_requests_waits_by_the_request() {
    let account = account(ten_a_second().requests_per_minute(60));
    denied(&account, 1, Scope::Requests, Some(5 * SEC)).await;
    let launched = join_all((0..3).map(|_| account.quick(1))).await;
    assert_eq!(launched, [5, 6, 7]);
}

#[tokio::test(start_paused = true)]
async fn failure_08_what_no_meter_of_ours_counts_holds_all() {
    for scope in [Scope::Requests, Scope::Overload] {
        let account = account(ten_a_second());
        denied(&account, 1, scope, Some(5 * SEC)).await;
        assert_eq!(
            account.budget.snapshot().held_until,
            Some(account.start + 5 * SEC)
        );
        let probe = account.call(20, 3 * SEC, silence());
        let others = join_all((0..3).map(|_| account.quick(20)));
        let (probe, others) = join(probe, others).await;
        assert_eq!(probe.unwrap(), 5);
        // The probe took the burst with it, and three seconds have gone by
        // before its answer lets the next one in.
        assert_eq!(others, [8, 9, 11], "{scope:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn overload_without_a_delay_is_its_own_callers_trouble() {
    let account = account(ten_a_second());
    denied(&account, 1, Scope::Overload, None).await;
    assert_eq!(account.budget.snapshot().held_until, None);
    assert_eq!(account.quick(500).await, 0);
}

#[tokio::test(start_paused = true)]
async fn failure_09_quota_pauses_nobody() {
    for scope in [Scope::Quota, Scope::None] {
        for after in [None, Some(60 * SEC)] {
            let account = account(ten_a_second());
            denied(&account, 1, scope, after).await;
            assert_eq!(account.budget.snapshot().held_until, None);
            assert_eq!(account.quick(500).await, 0, "{scope:?} {after:?}");
        }
    }
}

/// Half of each hold is random, so these go by the budget's own word.
#[tokio::test(start_paused = true)]
async fn a_refusal_without_a_delay_holds_with_one_probe_at_its_end() {
    // Nobody was answered yet, so the refusal says nothing about the pace.
    let account = account(ten_a_second().cautious_start(true));
    let refused = || account.call(0, Duration::ZERO, denial(Scope::Tokens, None));
    let mut longest = SEC;
    for _ in 0..5 {
        let before = Instant::now();
        refused().await.ok();
        let until = account.budget.snapshot().held_until.expect("held");
        assert!(until - before >= longest / 2 && until - before <= longest);
        longest *= 2;
        sleep_until(until).await;
        // A whole second, for the reckoning of the others.
        sleep_until(account.start + Duration::from_secs(account.start.elapsed().as_secs() + 1))
            .await;
    }
    let probe = account.call(10, 30 * SEC, silence());
    let others = join_all((0..3).map(|_| account.quick(200)));
    let (probe, others) = join(probe, others).await;
    let probe = probe.unwrap();
    assert_eq!(others, [probe + 30, probe + 40, probe + 60]);
}

/// Others were answered before: the limit is not what it was taken for.
#[tokio::test(start_paused = true)]
async fn failure_10_a_refusal_that_explains_nothing_slows_the_pace() {
    let account = account(ten_a_second());
    let pace = || account.budget.snapshot().pace_percent;
    for scope in [Scope::Overload, Scope::None, Scope::Quota] {
        account.call(0, SEC, denial(scope, None)).await.ok();
        assert_eq!(pace(), 100, "{scope}");
    }
    account
        .call(0, SEC, denial(Scope::Requests, None))
        .await
        .ok();
    assert_eq!(pace(), 70);
    // It recovers by good answers, and by the time they were launched.
    let slowed = account.start + 4 * SEC;
    sleep_until(slowed + 60 * SEC).await;
    assert_eq!(pace(), 70, "nobody has tried");
    account.call(0, 30 * SEC, silence()).await.unwrap();
    assert_eq!(pace(), 80);
    // 8 a second.
    let capacity = account.budget.snapshot().capacity;
    let spend = async |cost| account.budget.reserve(cost).await.unwrap().settle(cost);
    spend(capacity).await;
    let before = Instant::now();
    spend(80).await;
    let waited = before.elapsed();
    assert!(waited.abs_diff(10 * SEC) <= 2 * SEC / 1_000, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_herd_that_is_refused_together_holds_once() {
    let account = account(ten_a_second());
    let refused = |_| account.call(10, SEC, denial(Scope::Tokens, None));
    join_all((0..20).map(refused)).await;
    let until = account.budget.snapshot().held_until.expect("held");
    assert!(
        until <= account.start + 2 * SEC,
        "the first hold, not the twentieth"
    );
}

/// Requests that cost nothing are requests all the same.
#[tokio::test(start_paused = true)]
async fn a_hold_ends_with_one_probe_even_where_requests_are_free() {
    let account = account(ten_a_second());
    account.budget.hold(account.start + 5 * SEC);
    let probe = account.call(0, 3 * SEC, silence());
    let (probe, others) = join(probe, join_all((0..3).map(|_| account.quick(0)))).await;
    assert_eq!(probe.unwrap(), 5);
    assert_eq!(others, [8, 8, 8]);
}

#[tokio::test(start_paused = true)]
async fn a_used_up_day_refuses_until_it_is_over() {
    for scope in [Scope::TokensPerDay, Scope::RequestsPerDay] {
        let account = account(ten_a_second());
        account.spend_to(150).await;
        let hours = 5 * 3600;
        let denied = account.call(100, SEC, denial(scope, Some(hours * SEC)));
        // In line for tokens that it will not get today.
        let waiting = account.call(100, SEC, silence());
        let (denied, waiting) = join(denied, waiting).await;
        denied.unwrap();
        let until = account.start + (hours + 1) * SEC;
        let expected = Refused::Exhausted { scope, until };
        assert_eq!(waiting.unwrap_err().refused(), Some(&expected));
        assert_eq!(account.start.elapsed(), SEC, "told at once");
        assert_eq!(account.budget.reserve(1).await.unwrap_err(), expected);
        assert_eq!(account.budget.try_reserve(1).unwrap_err(), expected);
        sleep_until(until).await;
        assert_eq!(account.quick(500).await, u64::from(hours) + 1);
    }
}

/// "Try again in 114h18m0s", under the words "tokens per min": a bucket of 30
/// days. Nobody waits in line for that.
#[tokio::test(start_paused = true)]
async fn failure_11_a_delay_that_no_minute_asks_for_refuses_until_it_is_over() {
    let table = [
        (Scope::Tokens, Scope::TokensPerDay),
        (Scope::Requests, Scope::RequestsPerDay),
        (Scope::Overload, Scope::Overload),
    ];
    for (told, scope) in table {
        let account = account(ten_a_second().max_told_delay(300 * SEC));
        let long = account.call(0, SEC, denial(told, Some(301 * SEC)));
        let (long, waiting) = join(long, account.call(0, SEC, silence())).await;
        long.unwrap();
        waiting.unwrap();
        let until = account.start + 302 * SEC;
        let expected = Refused::Exhausted { scope, until };
        assert_eq!(account.budget.reserve(0).await.unwrap_err(), expected);
        sleep_until(until).await;
        account.quick(0).await;
    }
    let account = account(ten_a_second().max_told_delay(300 * SEC));
    let told = denial(Scope::Tokens, Some(300 * SEC));
    account.call(100, Duration::ZERO, told).await.unwrap();
    assert_eq!(account.quick(100).await, 300, "waited for");
}

#[tokio::test(start_paused = true)]
async fn a_hold_never_shortens_another() {
    let account = account(ten_a_second());
    account.budget.hold(account.start + 10 * SEC);
    account.budget.hold(account.start + 5 * SEC);
    assert_eq!(account.quick(1).await, 10);
}

#[tokio::test(start_paused = true)]
async fn an_answer_from_before_a_hold_proves_nothing_about_its_end() {
    let account = account(ten_a_second());
    let old = account.call(10, 20 * SEC, remaining(600, 600));
    let held = async {
        sleep(SEC).await;
        account.budget.hold(account.start + 5 * SEC);
        let probe = account.call(10, 30 * SEC, silence());
        let next = account.quick(10);
        let (probe, next) = join(probe, next).await;
        (probe.unwrap(), next)
    };
    let (_, launched) = join(old, held).await;
    assert_eq!(launched, (5, 35));
}

/// One that tells a delay may be chance; a second one soon after it says that the limits
/// are not those that we know, unless it tells what is left.
#[tokio::test(start_paused = true)]
async fn a_second_told_refusal_slows_the_pace_where_it_explains_nothing() {
    let counts = |tokens, requests| RateLimits {
        remaining_tokens: tokens,
        remaining_requests: requests,
        ..RateLimits::default()
    };
    for (limits, percent) in [
        (counts(None, None), 70),
        (counts(Some(100), None), 100),
        (counts(None, Some(100)), 100),
    ] {
        let account = account(ten_a_second());
        let told = Observation {
            limits,
            ..denial(Scope::Tokens, Some(SEC))
        };
        account.call(10, SEC, told).await.ok();
        assert_eq!(account.budget.snapshot().pace_percent, 100);
        account.call(10, SEC, told).await.ok();
        assert_eq!(
            account.budget.snapshot().pace_percent,
            percent,
            "{limits:?}"
        );
    }
}

/// However short the delay is that is told, a day's limit is nothing to wait in line for;
/// the longest counts.
#[tokio::test(start_paused = true)]
async fn of_two_days_that_are_used_up_the_longer_counts() {
    let account = account(ten_a_second());
    let tokens = account.call(0, SEC, denial(Scope::TokensPerDay, Some(60 * SEC)));
    let requests = account.call(0, SEC, denial(Scope::RequestsPerDay, Some(90 * SEC)));
    let shorter = account.call(0, SEC, denial(Scope::TokensPerDay, Some(30 * SEC)));
    for refused in join_all([tokens, requests, shorter]).await {
        refused.unwrap();
    }
    let (scope, until) = (Scope::RequestsPerDay, account.start + 91 * SEC);
    let expected = Refused::Exhausted { scope, until };
    assert_eq!(account.budget.reserve(1).await.unwrap_err(), expected);
    sleep_until(until).await;
    account.quick(1).await;
}

/// Ten of 600 were asked for, and one request of 600: what of both is there.
#[tokio::test(start_paused = true)]
async fn a_told_delay_is_of_the_meters_that_ran_out() {
    for (scope, levels) in [(Scope::Tokens, [-290, 599]), (Scope::Requests, [590, -299])] {
        let account = account(ten_a_second().requests_per_minute(600));
        let told = denial(scope, Some(30 * SEC));
        account.call(10, Duration::ZERO, told).await.unwrap();
        let meters = account.budget.snapshot().meters;
        assert_eq!([meters[0].level, meters[1].level], levels, "{scope}");
    }
}
