//! Numbers from outside that nothing bounds: no answer and no caller stops
//! everybody for long, and no sum overflows.

use std::time::Duration;

use crate::support::account::{SEC, account, silence, ten_a_second};
use crate::support::watch::{Watcher, in_time};
use futures_util::FutureExt;
use futures_util::future::{join, join_all};
use tokio::time::{Instant, sleep, sleep_until};
use tollhouse::{Denial, Observation, RateLimits, Refused, Scope, TokenBudget, Window};

const DAY: Duration = Duration::from_secs(24 * 3_600);

fn denial(scope: Scope, after: Duration) -> Observation {
    let after = Some(after);
    Observation {
        limits: RateLimits::default(),
        denial: Some(Denial { scope, after }),
    }
}

/// A broken number was once a debt of centuries.
#[tokio::test(start_paused = true)]
async fn absurd_usage_is_believed_up_to_what_a_request_can_cost() {
    for told in [1_000_000_000_000_000, u64::MAX] {
        let budget = TokenBudget::per_minute(30_000)
            .window(Window::Off)
            .build()
            .unwrap();
        let first = budget.reserve(1_000).await.unwrap();
        first.launched();
        first.settle(told);
        // A minute's limit and the longest answer there is.
        assert_eq!(budget.snapshot().level, 30_000 - 30_000 - 128_000);
        let start = Instant::now();
        drop(budget.reserve(1_000).await.unwrap());
        assert_eq!(start.elapsed(), 258 * SEC);

        // Or the estimate was wrong by a factor of sixteen.
        let budget = TokenBudget::per_minute(30_000).build().unwrap();
        let large = budget.reserve(20_000).await.unwrap();
        large.launched();
        large.settle(told);
        assert_eq!(budget.snapshot().level, 30_000 - 320_000);
    }
}

/// It is told after the lock is gone: who is told may look at the budget.
#[test]
fn absurd_usage_is_warned_of() {
    in_time(20 * SEC, || {
        let budget = TokenBudget::per_minute(30_000).build().unwrap();
        let look = budget.clone();
        let watcher = Watcher::new(move || drop(look.snapshot()));
        let _guard = tracing::subscriber::set_default(watcher.clone());
        let call = async |used| {
            let reservation = budget.try_reserve(1_000).unwrap();
            reservation.launched();
            reservation.settle(used);
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        let warned = || {
            let told = watcher.told();
            told.iter().any(|event| event.contains("more usage"))
        };
        runtime.block_on(call(20_000));
        assert!(!warned(), "{:?}", watcher.told());
        runtime.block_on(call(u64::MAX));
        assert!(warned(), "{:?}", watcher.told());
    });
}

#[tokio::test(start_paused = true)]
async fn usage_above_the_estimate_is_debt_all_the_same() {
    let budget = TokenBudget::per_minute(30_000).build().unwrap();
    let thinking = budget.reserve(1_000).await.unwrap();
    thinking.launched();
    thinking.settle(128_000);
    assert_eq!(budget.snapshot().level, -98_000);
}

#[tokio::test(start_paused = true)]
async fn sums_of_absurd_costs_saturate() {
    for window in [Window::On, Window::Off] {
        let budget = TokenBudget::per_minute(600)
            .requests_per_minute(60)
            .window(window)
            .learn_tokens(true);
        let budget = budget.build().unwrap();
        let first = budget.reserve(u64::MAX).await.unwrap();
        first.launched();
        let mut waiting: Vec<_> = (0..2).map(|_| budget.reserve(u64::MAX)).collect();
        for one in &mut waiting {
            assert!(one.now_or_never().is_none());
        }
        assert_eq!(budget.snapshot().waiting, 2);
        assert!(budget.eta(u64::MAX) > DAY);
        assert!(budget.eta(1) > DAY);
        drop(waiting);
        first.settle(u64::MAX);
        assert!(budget.snapshot().level < 0);
    }
    let budget = ten_a_second().max_wait(SEC).build().unwrap();
    budget.reserve(600).await.unwrap().launched();
    let _waiting = budget.reserve(5).now_or_never();
    assert!(budget.eta(u64::MAX) > DAY);
}

/// `max_tokens: 2000000` before anybody knew the limit, and no limits told: it
/// once closed the account for an hour and a quarter, 4,294,967,295 for 117
/// days.
#[tokio::test(start_paused = true)]
async fn a_first_request_owes_no_more_than_the_capacity_that_is_adopted() {
    for cost in [2_000_000, 4_294_967_295, u64::MAX] {
        for takes in [Duration::ZERO, 30 * SEC] {
            let account = account(
                TokenBudget::per_minute(600)
                    .learn_tokens(true)
                    .window(Window::Off),
            );
            // One that nobody waited for.
            let left = account.call(cost, 10 * SEC, silence()).now_or_never();
            assert!(left.is_none());
            account.call(cost, takes, silence()).await.unwrap();
            assert!(account.level() >= -600, "{cost}: {}", account.level());
            let answered = account.start.elapsed();
            let next = account.quick(600).await;
            assert!(next <= answered.as_secs() + 120, "{cost}: {next}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn no_answer_closes_an_account_for_longer_than_a_day_without_a_probe() {
    let absurd = Duration::from_secs(99_999_999_999);
    for scope in [
        Scope::Tokens,
        Scope::Requests,
        Scope::TokensPerDay,
        Scope::RequestsPerDay,
        Scope::Overload,
    ] {
        for longest in [120 * SEC, Duration::MAX] {
            let account = account(
                ten_a_second()
                    .requests_per_minute(60)
                    .max_told_delay(longest),
            );
            let told = denial(scope, absurd);
            account.call(10, Duration::ZERO, told).await.unwrap();
            assert!(account.budget.try_reserve(10).is_err(), "{scope}");
            sleep_until(account.start + DAY).await;
            let probe = account.call(10, 10 * SEC, silence());
            let next = account.quick(10);
            let (probe, next) = join(probe, next).await;
            assert_eq!(probe.unwrap(), DAY.as_secs(), "{scope}");
            if longest < DAY {
                assert_eq!(next, DAY.as_secs() + 10, "{scope}: the probe goes alone");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_shorter_day_does_not_end_a_longer_one() {
    let account = account(ten_a_second());
    let hours = |hours: u32| denial(Scope::TokensPerDay, hours * 3_600 * SEC);
    let both = [
        account.call(1, SEC, hours(5)),
        account.call(1, 2 * SEC, hours(1)),
    ];
    for denied in join_all(both).await {
        denied.unwrap();
    }
    let until = account.start + SEC + 5 * 3_600 * SEC;
    let scope = Scope::TokensPerDay;
    let refused = account.budget.try_reserve(1).unwrap_err();
    assert_eq!(refused, Refused::Exhausted { scope, until });
}

/// A 503 with `Retry-After: 180` was once called the day's limit of requests.
#[tokio::test(start_paused = true)]
async fn an_overload_is_never_called_a_limit_by_the_day() {
    let account = account(ten_a_second());
    let told = denial(Scope::Overload, 180 * SEC);
    account.call(1, Duration::ZERO, told).await.unwrap();
    let refused = account.budget.try_reserve(1).unwrap_err();
    let (scope, until) = (Scope::Overload, account.start + 180 * SEC);
    assert_eq!(refused, Refused::Exhausted { scope, until });
    let words = refused.to_string();
    assert!(words.contains("overload"), "{words}");
    assert!(
        !words.contains("day") && !words.contains("used up"),
        "{words}"
    );
    sleep(180 * SEC).await;
    let probe = account.call(1, 5 * SEC, silence());
    let (probe, next) = join(probe, account.quick(1)).await;
    assert_eq!((probe.unwrap(), next), (180, 185), "one goes first");
}
