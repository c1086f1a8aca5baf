//! What is refused instead of waiting, and how the gates are closed.

use std::cell::Cell;
use std::task::Poll;
use std::time::Duration;

use crate::support::counting::Polled;
use bytes::Bytes;
use futures_util::FutureExt;
use http_body_util::{BodyExt, Full};
use tokio::time::{Instant, advance, sleep, timeout};
use tollhouse::{
    Arrival, Ask, ConcurrencyLayer, Gate, GateLayer, Pass, Refused, StaggerLayer, TokenBudget,
    TpmBudgetLayer, Window,
};
use tower::{Layer, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn failure_06_cost_above_capacity_fails_at_once_and_is_never_sent() {
    let sent = Cell::new(false);
    let budget = TokenBudget::per_minute(30_000)
        .headroom(0.15)
        .build()
        .unwrap();
    let gate = TpmBudgetLayer::new(budget.clone(), |cost: &u64| *cost);
    let client = GateLayer::new(gate).until_response().layer(service_fn(|_| {
        sent.set(true);
        async { Ok::<_, std::io::Error>(()) }
    }));
    // Even with others in line before it.
    let _first = budget.reserve(25_500).await.unwrap();
    let mut waiting = Polled::new(budget.reserve(100));
    assert!(waiting.poll().is_pending());
    let start = Instant::now();
    let error = client.clone().oneshot(45_411).await.unwrap_err();
    let expected = Refused::TooLarge {
        cost: 45_411,
        limit: 25_500,
    };
    assert_eq!(error.refused(), Some(&expected));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(!sent.get());
    assert_eq!(budget.snapshot().waiting, 1);
    assert_eq!(budget.try_reserve(45_411).unwrap_err(), expected);
    let text = error.to_string();
    assert!(text.contains("45411") && text.contains("25500"), "{text}");
}

/// Where it has to wait at an earlier gate, too; and what an earlier gate let in, a later
/// one says at once anyhow.
#[tokio::test(start_paused = true)]
async fn what_a_later_gate_never_lets_in_does_not_wait_at_an_earlier_one() {
    let slots = ConcurrencyLayer::new(1);
    let budget = TokenBudget::per_minute(1_000).build().unwrap();
    let tokens = TpmBudgetLayer::new(budget.clone(), |cost: &u64| *cost);
    let gate = (slots.clone(), ((StaggerLayer::new(SEC), tokens),));
    let expected = Refused::TooLarge {
        cost: 1_001,
        limit: 1_000,
    };
    for is_full in [false, true] {
        let mut first = Gate::<u64, ()>::pass(&slots, &1);
        if is_full {
            first.admitted().await.unwrap();
        }
        let mut pass = Gate::<u64, ()>::pass(&gate, &1_001);
        let refused = pass.admitted().now_or_never().expect("at once");
        assert_eq!(refused, Err(expected), "{is_full}");
        drop(pass);
        let mut fits = Gate::<u64, ()>::pass(&gate, &1_000);
        assert_eq!(fits.admitted().now_or_never().is_none(), is_full);
    }
    // One that could wait is told once it cannot any more.
    let mut first = Gate::<u64, ()>::pass(&slots, &1);
    first.admitted().await.unwrap();
    let mut waits = Gate::<u64, ()>::pass(&gate, &1);
    assert!(waits.admitted().now_or_never().is_none());
    budget.close();
    let refused = waits.admitted().now_or_never();
    assert_eq!(refused, Some(Err(Refused::Closed)));
    assert_eq!(slots.in_flight(), 1);
}

#[tokio::test(start_paused = true)]
async fn failure_27_max_waiting_refuses_at_once_with_the_expected_wait() {
    let budget = TokenBudget::per_minute(60)
        .window(Window::Off)
        .max_waiting(2)
        .build()
        .unwrap();
    budget.reserve(60).await.unwrap().settle(60);
    let mut waiting = [10, 20].map(|cost| Polled::new(budget.reserve(cost)));
    assert!(waiting.iter_mut().all(|one| one.poll().is_pending()));
    let refused = budget.reserve(5).await.unwrap_err();
    let expected = Refused::Overloaded {
        waiting: 2,
        expected_wait: 35 * SEC,
    };
    assert_eq!(refused, expected);
    assert_eq!(budget.snapshot().waiting, 2);
    drop(waiting);
    budget.reserve(5).await.unwrap().settle(5);
}

#[tokio::test(start_paused = true)]
async fn failure_27_max_wait_refuses_who_would_wait_longer() {
    let budget = TokenBudget::per_minute(60)
        .window(Window::Off)
        .max_wait(10 * SEC)
        .build()
        .unwrap();
    budget.reserve(60).await.unwrap().settle(60);
    let start = Instant::now();
    let mut waiting = Polled::new(budget.reserve(6));
    assert!(waiting.poll().is_pending());
    let refused = budget.reserve(5).await.unwrap_err();
    let expected = Refused::Overloaded {
        waiting: 1,
        expected_wait: 11 * SEC,
    };
    assert_eq!(refused, expected);
    assert_eq!(start.elapsed(), Duration::ZERO);
    drop(waiting);
    budget.reserve(10).await.unwrap().settle(10);
    assert_eq!(start.elapsed(), 10 * SEC, "as long as is allowed");
}

/// It stands where it stood, and is no newcomer behind those who came since.
#[tokio::test(start_paused = true)]
async fn a_retry_is_not_turned_away_for_those_whom_it_stands_before() {
    let first = Arrival::now();
    sleep(SEC).await;
    for bounded in [
        TokenBudget::unlimited().max_waiting(2),
        TokenBudget::unlimited().max_wait(15 * SEC),
    ] {
        let budget = bounded.stagger(10 * SEC).build().unwrap();
        budget.reserve(1).await.unwrap().launched();
        let mut waiting = [1, 1].map(|cost| Polled::new(budget.reserve(cost)));
        assert!(waiting[0].poll().is_pending());
        let _ = waiting[1].poll();
        // Whoever comes now would be the third, and be launched after 30 s.
        let refused = budget.reserve(1).now_or_never().expect("at once");
        assert!(matches!(refused, Err(Refused::Overloaded { .. })));
        let again = Ask::of(1).arrived(first);
        assert_eq!(
            (budget.ahead(again.clone()), budget.eta(again.clone())),
            (0, 10 * SEC)
        );
        let start = Instant::now();
        budget.reserve(again).await.unwrap().launched();
        assert_eq!(start.elapsed(), 10 * SEC);
    }
}

#[tokio::test(start_paused = true)]
async fn failure_27_a_bounded_line_for_slots_refuses_at_once() {
    let slots = ConcurrencyLayer::bounded(1, 2);
    let client = slots.clone().until_response().layer(service_fn(|()| async {
        sleep(10 * SEC).await;
        Ok::<_, std::io::Error>(())
    }));
    let mut calls: Vec<_> = (0..3)
        .map(|_| Polled::new(client.clone().oneshot(())))
        .collect();
    assert!(calls.iter_mut().all(|call| call.poll().is_pending()));
    let error = client.clone().oneshot(()).await.unwrap_err();
    assert!(matches!(
        error.refused(),
        Some(Refused::Overloaded { waiting: 2, .. })
    ));
    assert_eq!((slots.in_flight(), slots.waiting()), (1, 2));
}

/// What a promise says when nothing changes is what happens.
#[tokio::test(start_paused = true)]
async fn an_eta_comes_true() {
    for window in [Window::On, Window::Off] {
        let budget = TokenBudget::per_minute(600).window(window).build().unwrap();
        for cost in [600, 17, 333, 600, 1, 599] {
            let start = Instant::now();
            let eta = budget.eta(cost);
            budget.reserve(cost).await.unwrap().settle(cost);
            let waited = start.elapsed();
            // A timer rounds up to the next millisecond.
            assert!(
                waited >= eta && waited < eta + SEC / 1000,
                "{eta:?} {waited:?}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn failure_28_closed_gates_refuse_who_waits_and_who_comes() {
    let slots = ConcurrencyLayer::new(1);
    let budget = TokenBudget::per_minute(60).build().unwrap();
    let turns = StaggerLayer::new(60 * SEC);
    let ok = || service_fn(|()| async { Ok::<_, std::io::Error>(()) });
    let held = slots.clone().until_response().layer(service_fn(|()| async {
        sleep(5 * SEC).await;
        Ok::<_, std::io::Error>(())
    }));
    let spent = TpmBudgetLayer::new(budget.clone(), |_: &()| 60)
        .until_response()
        .layer(ok());
    let spaced = turns.layer(ok());

    let mut in_flight = Box::pin(held.clone().oneshot(()));
    assert!(futures_util::poll!(&mut in_flight).is_pending());
    spent.clone().oneshot(()).await.unwrap();
    spaced.clone().oneshot(()).await.unwrap();
    let mut waiting = [
        Polled::new(held.clone().oneshot(()).boxed()),
        Polled::new(spent.clone().oneshot(()).boxed()),
        Polled::new(spaced.clone().oneshot(()).boxed()),
    ];
    assert!(waiting.iter_mut().all(|call| call.poll().is_pending()));

    slots.close();
    budget.close();
    turns.close();
    for call in &mut waiting {
        assert_eq!(call.woken(), 1);
        let std::task::Poll::Ready(Err(error)) = call.poll() else {
            panic!("it was turned away");
        };
        assert_eq!(error.refused(), Some(&Refused::Closed));
    }
    for error in [
        held.oneshot(()).await.unwrap_err(),
        spent.oneshot(()).await.unwrap_err(),
        spaced.oneshot(()).await.unwrap_err(),
    ] {
        assert_eq!(error.refused(), Some(&Refused::Closed));
    }
    assert_eq!(budget.try_reserve(1).unwrap_err(), Refused::Closed);
    assert_eq!((slots.waiting(), turns.waiting()), (0, 0));
    in_flight.await.expect("calls in flight go on");
}

#[tokio::test(start_paused = true)]
async fn failure_28_idle_comes_with_the_end_of_the_last_body() {
    let slots = ConcurrencyLayer::new(2);
    slots.idle().await;
    let client = slots.layer(service_fn(|seconds: u32| async move {
        sleep(seconds * SEC).await;
        let body = Full::new(Bytes::from_static(b"answer"));
        Ok::<_, std::io::Error>(http::Response::new(body))
    }));
    let start = Instant::now();
    let slow_reader = async {
        let response = client.clone().oneshot(1).await.unwrap();
        sleep(10 * SEC).await;
        response.into_body().collect().await.unwrap();
    };
    let (_, _, _, ()) = tokio::join!(
        slow_reader,
        async { drop(client.clone().oneshot(3).await) },
        async {
            sleep(SEC / 2).await;
            assert!(timeout(5 * SEC, slots.idle()).await.is_err(), "a deadline");
            slots.idle().await;
            assert_eq!(start.elapsed(), 11 * SEC);
        },
        async {
            sleep(SEC / 2).await;
            slots.close();
            slots.idle().await;
            assert_eq!(start.elapsed(), 11 * SEC);
        },
    );
}

/// Nobody leaves who was never let in: he who waits for the last one hears of it all the same.
#[tokio::test(start_paused = true)]
async fn idle_comes_where_the_last_who_waits_is_turned_away() {
    type Change = fn(&TokenBudget);
    let closes: Change = |budget| budget.close();
    let lowers: Change = |budget| {
        let less = TokenBudget::per_minute(10).window(Window::Off);
        budget.set_limits(less).unwrap();
    };
    for change in [closes, lowers] {
        let budget = TokenBudget::per_minute(60).window(Window::Off);
        let budget = budget.build().unwrap();
        let all = budget.reserve(60).await.unwrap();
        all.launched();
        all.settle(60);
        let mut waiting = Polled::new(budget.reserve(60));
        assert!(waiting.poll().is_pending());
        let watching = budget.clone();
        let idle = tokio::spawn(async move { watching.idle().await });
        tokio::task::yield_now().await;
        change(&budget);
        assert!(matches!(waiting.poll(), Poll::Ready(Err(_))));
        timeout(SEC, idle).await.expect("it is idle").unwrap();
    }
}

/// Whoever never comes to its turn lets the gate become idle too.
#[tokio::test(start_paused = true)]
async fn idle_comes_when_the_last_one_gives_up() {
    let slots = ConcurrencyLayer::new(1);
    let client = slots.clone().until_response().layer(service_fn(|()| {
        std::future::pending::<Result<(), std::io::Error>>()
    }));
    let start = Instant::now();
    let call = || timeout(4 * SEC, client.clone().oneshot(()));
    let (first, second, ()) = tokio::join!(call(), call(), async {
        sleep(SEC).await;
        slots.idle().await;
    });
    assert!(first.is_err() && second.is_err());
    assert_eq!(start.elapsed(), 4 * SEC);
}

#[tokio::test(start_paused = true)]
async fn no_request_may_cost_more_than_the_burst() {
    let budget = TokenBudget::per_minute(30_000).burst(5_000);
    let budget = budget.build().unwrap();
    let refused = Refused::TooLarge {
        cost: 5_001,
        limit: 5_000,
    };
    assert_eq!(budget.try_reserve(5_001).unwrap_err(), refused);
    assert!(budget.try_reserve(5_000).is_ok());
}

/// The mean of some eight releases, of which the first took 8 s and the next 16 s.
#[tokio::test(start_paused = true)]
async fn how_long_slots_take_is_told_by_how_they_came_lately() {
    let budget = TokenBudget::unlimited().max_concurrency(1);
    let budget = budget.max_waiting(4).build().unwrap();
    let mut inside = budget.try_reserve(1).unwrap();
    let mut waiting: Vec<_> = (0..4).map(|_| Polled::new(budget.reserve(1))).collect();
    assert!(waiting.iter_mut().all(|call| call.poll().is_pending()));
    for (seconds, expected) in [(3, 0), (8, 8 * 3), (16, 9 * 2)] {
        advance(seconds * SEC).await;
        inside.settle(1);
        let Poll::Ready(Ok(next)) = waiting.remove(0).poll() else {
            panic!("it is let in");
        };
        inside = next;
        assert_eq!(budget.eta(1), expected * SEC, "after {seconds}");
    }
    for _ in 0..3 {
        waiting.push(Polled::new(budget.reserve(1)));
        assert!(waiting.last_mut().unwrap().poll().is_pending());
    }
    let refused = budget.reserve(1).await.unwrap_err();
    let expected_wait = 9 * 5 * SEC;
    let waiting = 4;
    assert_eq!(
        refused,
        Refused::Overloaded {
            waiting,
            expected_wait
        }
    );
    drop(inside);
}

/// Nobody is woken to find that there is something to wait for yet.
#[tokio::test(start_paused = true)]
async fn who_waits_for_idleness_is_woken_by_the_last_to_leave() {
    let budget = TokenBudget::unlimited().max_concurrency(1).build().unwrap();
    let first = budget.try_reserve(1).unwrap();
    let mut waits = Polled::new(budget.reserve(1));
    assert!(waits.poll().is_pending());
    let mut idle = Polled::new(budget.idle());
    assert!(idle.poll().is_pending());
    first.settle(1);
    let Poll::Ready(Ok(second)) = waits.poll() else {
        panic!("it is let in");
    };
    assert_eq!(idle.woken(), 0, "one is inside");
    second.settle(1);
    assert_eq!(idle.woken(), 1);
    assert!(idle.poll().is_ready());
}
