//! Limits that change while somebody waits.

use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, advance, sleep};
use tollhouse::{
    ConcurrencyLayer, Per, Refused, StaggerLayer, TokenBudget, TokenBudgetBuilder, Unit, Window,
};
use tower::{Layer, ServiceExt, service_fn};

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
