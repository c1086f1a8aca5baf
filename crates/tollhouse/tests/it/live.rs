//! Limits that change while somebody waits.

use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, advance, sleep, sleep_until};
use tollhouse::{
    Accounting, ConcurrencyLayer, Denial, Per, Refused, Scope, StaggerLayer, TokenBudget,
    TokenBudgetBuilder, Unit, Window,
};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::account::{account, remaining, silence};
use crate::support::counting::Polled;

const SEC: Duration = Duration::from_secs(1);

fn tokens(limit: u64) -> TokenBudgetBuilder {
    TokenBudget::per_minute(limit).window(Window::Off)
}

/// Takes all there is, as if it had been used.
async fn spend(budget: &TokenBudget, cost: u64) {
    let all = budget.reserve(cost).await.expect("room");
    all.launched();
    all.settle(cost);
}

#[tokio::test(start_paused = true)]
async fn failure_26_more_slots_wake_exactly_those_that_fit_and_fewer_drain() {
    let slots = ConcurrencyLayer::new(1);
    let client = slots.clone().until_response().layer(service_fn(|()| async {
        sleep(10 * SEC).await;
        Ok::<_, std::io::Error>(Instant::now())
    }));
    let start = Instant::now();
    let mut calls: Vec<_> = (0..5)
        .map(|_| Polled::new(client.clone().oneshot(())))
        .collect();
    assert!(calls.iter_mut().all(|call| call.poll().is_pending()));
    advance(SEC).await;
    slots.set_max(3);
    let woken: Vec<_> = calls.iter().map(Polled::woken).collect();
    assert_eq!(woken, [0, 1, 1, 0, 0]);
    assert_eq!((slots.in_flight(), slots.waiting()), (3, 2));

    slots.set_max(1);
    assert_eq!(
        (slots.in_flight(), slots.waiting()),
        (3, 2),
        "nobody is cancelled"
    );
    let ended = join_all(calls.into_iter().map(Polled::into_future)).await;
    let ended = ended.into_iter().map(|at| (at.unwrap() - start).as_secs());
    // Three go on to their ends; the others follow one by one.
    assert_eq!(ended.collect::<Vec<_>>(), [10, 11, 11, 21, 31]);
}

#[tokio::test(start_paused = true)]
async fn a_new_interval_counts_from_the_last_launch() {
    // Set at 4 s; launched at 0, and again at.
    for (interval, at) in [(10, 10), (30, 30), (4, 4), (3, 4), (0, 4)] {
        let spacing = StaggerLayer::new(15 * SEC);
        let client = spacing.layer(service_fn(|()| async {
            Ok::<_, std::io::Error>(Instant::now())
        }));
        let start = Instant::now();
        client.clone().oneshot(()).await.unwrap();
        let second = tokio::spawn(client.oneshot(()));
        sleep(4 * SEC).await;
        spacing.set_interval(interval * SEC);
        let second = second.await.unwrap().unwrap();
        assert_eq!((second - start).as_secs(), at, "{interval}");
    }
}

#[tokio::test(start_paused = true)]
async fn spacing_that_is_switched_on_minds_what_was_launched_before() {
    let spacing = StaggerLayer::new(Duration::ZERO);
    let client = spacing.layer(service_fn(|()| async { Ok::<_, std::io::Error>(()) }));
    let start = Instant::now();
    client.clone().oneshot(()).await.unwrap();
    sleep(4 * SEC).await;
    spacing.set_interval(15 * SEC);
    client.oneshot(()).await.unwrap();
    assert_eq!(start.elapsed(), 15 * SEC);
}

/// 600 tokens a minute are all spent at 0 s, and 100 more are waited for, of which 50
/// are there at 5 s.
#[tokio::test(start_paused = true)]
async fn failure_26_a_changed_rate_counts_from_the_change_on() {
    let table = [
        (tokens(600), 10_000),
        // 50 more, at 50 a second.
        (tokens(3_000), 6_000),
        // At 5 in three seconds.
        (tokens(100), 35_000),
        // The half of 20 a second.
        (tokens(1_200).headroom(0.5), 10_000),
    ];
    for (limits, millis) in table {
        let budget = tokens(600).build().unwrap();
        let start = Instant::now();
        spend(&budget, 600).await;
        let waiting = tokio::spawn(budget.reserve(100));
        sleep(5 * SEC).await;
        budget.set_limits(limits).unwrap();
        assert_eq!(budget.snapshot().level, 50, "no level is added");
        drop(waiting.await.unwrap().unwrap());
        let waited = start.elapsed();
        let rounded = Duration::from_millis(millis + 1);
        assert!(
            waited >= Duration::from_millis(millis) && waited <= rounded,
            "{waited:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn failure_26_a_lowered_limit_caps_the_level_and_refuses_a_head_that_never_fits() {
    let budget = tokens(600).build().unwrap();
    let held = budget.reserve(500).await.unwrap();
    held.launched();
    let mut large = Polled::new(budget.reserve(300));
    let mut small = Polled::new(budget.reserve(20));
    assert!(large.poll().is_pending() && small.poll().is_pending());
    budget.set_limits(tokens(200)).unwrap();
    // The next one is the head, and has a timer to set: for the landing.
    assert_eq!((large.woken(), small.woken()), (1, 1));
    assert!(small.poll().is_pending());
    let refused = Refused::TooLarge {
        cost: 300,
        limit: 200,
    };
    assert_eq!(large.poll().map(Result::unwrap_err), Poll::Ready(refused));
    let now = budget.snapshot();
    // What is in transit stays so, and the ceiling falls with it.
    assert_eq!((now.in_transit, now.level), (500, -300));
    drop(held);
}

#[tokio::test(start_paused = true)]
async fn wrong_limits_change_nothing() {
    let budget = tokens(600).build().unwrap();
    let before = budget.snapshot();
    let wrong = tokens(0).headroom(2.0).max_concurrency(0);
    let told = budget.set_limits(wrong.clone()).unwrap_err();
    assert_eq!(told, wrong.build().unwrap_err(), "checked alike");
    assert_eq!(budget.snapshot(), before);
}

/// It never has more than it would have, had it been there all the time.
#[tokio::test(start_paused = true)]
async fn a_new_meter_counts_what_was_taken_before_it() {
    let budget = TokenBudget::unlimited().build().unwrap();
    spend(&budget, 300).await;
    let on_its_way = budget.reserve(100).await.unwrap();
    on_its_way.launched();
    budget.set_limits(tokens(600)).unwrap();
    let now = budget.snapshot();
    assert_eq!(
        (now.level, now.in_transit, now.outstanding),
        (200, 100, 100)
    );
    on_its_way.settle(100);
    assert_eq!(budget.snapshot().in_transit, 0);

    // A window counts it, too.
    let day = TokenBudget::unlimited().meter(Unit::Requests, Per::Day, 3);
    budget.set_limits(day).unwrap();
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.meters.len(), snapshot.level), (1, 1));
    drop(budget.try_reserve(1).unwrap());
    budget.set_limits(TokenBudget::unlimited()).unwrap();
    assert!(budget.snapshot().meters.is_empty(), "dropped");
}

/// A window's limit is a level: raised from 60 to 600 requests, 540 more would have
/// gone out at once.
#[tokio::test(start_paused = true)]
async fn a_raised_limit_of_requests_adds_rate_and_no_level() {
    let requests = |limit| TokenBudget::unlimited().requests_per_minute(limit);
    let budget = requests(60).build().unwrap();
    let mut held = Vec::new();
    for _ in 0..60 {
        held.push(budget.reserve(1).await.unwrap());
    }
    // All arrive together, after a minute, so that the provider has none left.
    sleep(2 * SEC).await;
    held.iter().for_each(tollhouse::Reservation::launched);
    held.into_iter().for_each(|it| it.settle(1));
    budget.set_limits(requests(600)).unwrap();
    assert!(budget.try_reserve(1).is_err());
    let start = Instant::now();
    for _ in 0..10 {
        budget.reserve(1).await.unwrap().settle(1);
    }
    assert_eq!(start.elapsed(), SEC, "ten a second");
}

/// Slots count who was let in before there were any.
#[tokio::test(start_paused = true)]
async fn slots_and_spacing_may_come_while_requests_are_in_flight() {
    let budget = tokens(6_000).build().unwrap();
    let held = budget.reserve(1).await.unwrap();
    held.launched();
    budget.set_limits(tokens(6_000).max_concurrency(1)).unwrap();
    let mut next = Polled::new(budget.reserve(1));
    assert!(next.poll().is_pending());
    held.settle(1);
    assert_eq!(next.woken(), 1);
    let Poll::Ready(Ok(next)) = next.poll() else {
        panic!("it was let in");
    };
    next.launched();
    let start = Instant::now();
    budget.set_limits(tokens(6_000).stagger(5 * SEC)).unwrap();
    budget.reserve(1).await.unwrap().settle(1);
    assert_eq!(start.elapsed(), 5 * SEC);
    next.settle(1);
}

#[tokio::test(start_paused = true)]
async fn bounds_turn_away_whoever_comes_and_nobody_who_waits() {
    let budget = tokens(600).build().unwrap();
    spend(&budget, 600).await;
    let mut waiting = [10, 10].map(|cost| Polled::new(budget.reserve(cost)));
    assert!(waiting.iter_mut().all(|it| it.poll().is_pending()));
    budget.set_limits(tokens(600).max_waiting(1)).unwrap();
    let refused = budget.reserve(1).await.unwrap_err();
    assert!(matches!(refused, Refused::Overloaded { waiting: 2, .. }));
    assert_eq!(waiting.iter().map(Polled::woken).sum::<usize>(), 0);
    assert_eq!(budget.snapshot().waiting, 2);
}

#[tokio::test(start_paused = true)]
async fn learned_limits_go_on_as_long_as_they_are_learned() {
    let learning = || tokens(1_000).learn_tokens(true);
    let account = account(learning());
    account
        .call(100, SEC, remaining(2_000, 1_900))
        .await
        .unwrap();
    let limits = || {
        let now = account.budget.snapshot();
        (now.limit, now.capacity, now.level)
    };
    assert_eq!(limits(), (2_000, 2_000, 1_900));
    account.budget.set_limits(learning().headroom(0.5)).unwrap();
    assert_eq!(limits(), (2_000, 1_000, 1_000));
    // Nothing is waited for again.
    assert_eq!(account.quick(1_000).await, 1);
    account.budget.set_limits(tokens(1_000)).unwrap();
    assert_eq!(limits(), (1_000, 1_000, 0), "told, not learned");
    account.budget.set_limits(learning()).unwrap();
    assert_eq!(limits(), (2_000, 2_000, 0), "nor forgotten");
}

#[tokio::test(start_paused = true)]
async fn a_hold_ends_when_it_was_to_end() {
    let account = account(tokens(600));
    let mut told = silence();
    let (scope, after) = (Scope::Overload, Some(30 * SEC));
    told.denial = Some(Denial { scope, after });
    account.call(10, SEC, told).await.unwrap();
    let held = account.budget.snapshot().held_until;
    assert_eq!(held, Some(account.start + 31 * SEC));
    sleep(SEC).await;
    account.budget.set_limits(tokens(6_000)).unwrap();
    assert_eq!(account.budget.snapshot().held_until, held);
    assert_eq!(account.quick(10).await, 31);
}

/// 1,000 were used of 600; at 5 s 350 are still owed.
#[tokio::test(start_paused = true)]
async fn debt_is_waited_off_at_the_rate_of_the_day() {
    // At 10, 20 and 5 a second, until 100 are there.
    for (limit, seconds) in [(600, 50), (1_200, 5 + 23), (300, 5 + 90)] {
        let account = account(tokens(600));
        let first = account.budget.reserve(600).await.unwrap();
        first.launched();
        first.settle(1_000);
        sleep(5 * SEC).await;
        account.budget.set_limits(tokens(limit)).unwrap();
        assert_eq!(account.level(), -350, "{limit}");
        drop(account.budget.reserve(100).await.unwrap());
        let waited = account.start.elapsed().as_millis();
        assert!(
            (seconds * 1000 - 500..=seconds * 1000 + 1).contains(&waited),
            "{waited}"
        );
    }
}

/// 300 of 600 are on their way from 0 s on and have landed by 2 s, and 300 were spent.
#[tokio::test(start_paused = true)]
async fn a_window_that_goes_or_comes_counts_what_is_in_flight_once() {
    let (on, off) = (Window::On, Window::Off);
    let table: [(Window, &[Window], u64); 5] = [
        (on, &[], 60),
        // The bucket of ten a second was there all the time.
        (on, &[off], 10),
        (off, &[], 10),
        // What had landed may have landed just now, at one second.
        (off, &[on], 61),
        (on, &[off, on], 61),
    ];
    for (first, then, seconds) in table {
        let limits = |window| TokenBudget::per_minute(600).window(window);
        let account = account(limits(first));
        account.spend_to(300).await;
        let flying = account.budget.reserve(300).await.unwrap();
        flying.launched();
        sleep(SEC).await;
        for window in then {
            account.budget.set_limits(limits(*window)).unwrap();
        }
        let now = account.budget.snapshot().meters[0];
        assert_eq!((now.in_transit, now.outstanding), (300, 300));
        assert_eq!(account.quick(100).await, seconds, "{first:?}, {then:?}");
        flying.settle(300);
        let now = account.budget.snapshot().meters[0];
        assert_eq!((now.in_transit, now.outstanding), (0, 0));
    }
}

/// Who is in flight at the change gets nothing back, because what the provider told may
/// have had that in it; whoever comes later is settled as the accounting says by then.
#[tokio::test(start_paused = true)]
async fn an_accounting_that_changes_gives_nothing_back_twice() {
    let (requested, used) = (Accounting::AsRequested, Accounting::AsUsed);
    let table: [(Accounting, &[Accounting], [i64; 2]); 5] = [
        (requested, &[], [300, 200]),
        (used, &[], [500, 500]),
        (requested, &[used], [300, 300]),
        (used, &[requested], [300, 200]),
        (used, &[requested, used], [300, 300]),
    ];
    for (first, then, levels) in table {
        let limits = |accounting| tokens(600).accounting(accounting);
        let account = account(limits(first));
        let flying = account.budget.reserve(300).await.unwrap();
        flying.launched();
        sleep(SEC).await;
        for accounting in then {
            account.budget.set_limits(limits(*accounting)).unwrap();
        }
        assert_eq!(account.level(), 300);
        flying.settle(100);
        let settled = account.level();
        let next = account.budget.reserve(100).await.unwrap();
        next.launched();
        next.settle(0);
        assert_eq!([settled, account.level()], levels, "{first:?}, {then:?}");
        let now = account.budget.snapshot();
        assert_eq!((now.in_transit, now.outstanding), (0, 0));
    }
}

/// The provider gives 50 back while it holds no more than 60, so that 40 of them are
/// lost; that its limit is raised again brings them back to nobody.
#[tokio::test(start_paused = true)]
async fn what_was_lost_to_a_lowered_limit_is_not_given_back_after_it() {
    let limits = |limit| tokens(limit).accounting(Accounting::AsUsed);
    let budget = limits(100).build().unwrap();
    let flying = budget.reserve(50).await.unwrap();
    flying.launched();
    sleep(2 * SEC).await;
    budget.set_limits(limits(60)).unwrap();
    budget.set_limits(limits(100)).unwrap();
    flying.settle(0);
    assert_eq!(budget.snapshot().level, 60);
}

/// A broken number is believed no more by a meter that comes later than by those that
/// were there.
#[tokio::test(start_paused = true)]
async fn absurd_usage_closes_no_meter_that_comes_later() {
    let budget = tokens(600).build().unwrap();
    let absurd = budget.reserve(100).await.unwrap();
    absurd.launched();
    absurd.settle(u64::MAX);
    let day = tokens(600).meter(Unit::Tokens, Per::Day, 1_000_000);
    budget.set_limits(day).unwrap();
    // A minute's limit and the longest answer, as debt of the minute's.
    assert_eq!(budget.snapshot().meters[1].level, 1_000_000 - 128_600);
}

/// What was dropped on its way is in transit, and nobody settles it.
#[tokio::test(start_paused = true)]
async fn a_meter_that_comes_later_awaits_no_usage_of_what_was_dropped() {
    let dropped = async |budget: &TokenBudget, cost| {
        budget.reserve(cost).await.unwrap().launched();
    };
    let budget = TokenBudget::unlimited().build().unwrap();
    dropped(&budget, 100).await;
    let kept = budget.reserve(50).await.unwrap();
    kept.launched();
    budget.set_limits(tokens(600)).unwrap();
    let now = budget.snapshot().meters[0];
    assert_eq!((now.in_transit, now.outstanding), (150, 50));
    kept.settle(50);
    assert_eq!(budget.snapshot().meters[0].outstanding, 0);

    // Learned from the answer to a next one, which may itself be bounded by it.
    for cost in [50, 5_000] {
        let learning = tokens(1_000).learn_tokens(true);
        let account = account(learning.meter(Unit::Tokens, Per::Day, 1_000_000));
        dropped(&account.budget, 5_000).await;
        let told = remaining(2_000, 0);
        account.call(cost, Duration::ZERO, told).await.unwrap();
        let now = account.budget.snapshot();
        assert_eq!((now.in_transit, now.outstanding), (2_000, 0), "{cost}");
        for meter in now.meters {
            assert_eq!(
                (meter.in_transit, meter.outstanding),
                (2_000, 0),
                "{meter:?}"
            );
        }
    }
}

/// What happened at 0 s, and from when on nothing is known of it that a new budget would
/// not know.
#[tokio::test(start_paused = true)]
async fn a_budget_rests_once_nothing_is_left_of_what_happened() {
    type Happens = fn(&TokenBudget);
    let tokens = || TokenBudget::per_minute(600).window(Window::Off);
    let spent: Happens = |budget| budget.try_reserve(100).unwrap().settle(100);
    let dropped: Happens = |budget| budget.try_reserve(100).unwrap().launched();
    let held: Happens = |budget| budget.hold(Instant::now() + 30 * SEC);
    let table: [(TokenBudgetBuilder, Happens, u32); 6] = [
        (tokens(), |_| {}, 0),
        (tokens(), spent, 10),
        // Its ceiling is lowered until it lands.
        (tokens(), dropped, 12),
        // A minute after its end.
        (tokens(), held, 90),
        (TokenBudget::per_minute(600), spent, 60),
        (TokenBudget::unlimited().stagger(15 * SEC), dropped, 15),
    ];
    for (limits, happens, rests_after) in table {
        let budget = limits.build().unwrap();
        let start = Instant::now();
        happens(&budget);
        let rests = start + rests_after * SEC;
        if rests_after > 0 {
            sleep_until(rests - Duration::from_millis(1)).await;
            assert!(!budget.is_at_rest(), "{rests_after}");
        }
        sleep_until(rests).await;
        assert!(budget.is_at_rest(), "{rests_after}");
        let inside = budget.try_reserve(0).unwrap();
        assert!(!budget.is_at_rest(), "somebody is inside");
        drop(inside);
    }
    // A slowed pace is known of until it has recovered.
    let account = account(tokens());
    let mut told = silence();
    let (scope, after) = (Scope::Tokens, None);
    told.denial = Some(Denial { scope, after });
    account.quick(1).await;
    account.call(1, SEC, told).await.unwrap();
    assert_eq!(account.budget.snapshot().pace_percent, 70);
    sleep(600 * SEC).await;
    assert!(!account.budget.is_at_rest());
    account.quick(1).await;
    assert_eq!(account.budget.snapshot().pace_percent, 100);
    // The first after a hold took the burst along.
    sleep(60 * SEC).await;
    assert!(account.budget.is_at_rest());
}
