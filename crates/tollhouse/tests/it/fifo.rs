//! First come, first served; and nobody is woken in vain.

use std::time::Duration;

use crate::support::account::one_a_second;
use crate::support::counting::Polled;
use futures_util::future::join_all;
use tokio::time::{Instant, advance, sleep, sleep_until};
use tollhouse::{ConcurrencyLayer, GateLayer, Refused, StaggerLayer, TokenBudget};
use tower::{Layer, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);

/// Takes `cost` and says when it was there, in whole seconds since `start`.
async fn taken(budget: &TokenBudget, cost: u64, start: Instant) -> u64 {
    let reservation = budget.reserve(cost).await.unwrap();
    reservation.launched();
    reservation.settle(cost);
    assert_eq!(start.elapsed().subsec_nanos(), 0);
    start.elapsed().as_secs()
}

#[tokio::test(start_paused = true)]
async fn failure_07_a_large_head_is_not_starved_by_small_ones() {
    let budget = one_a_second();
    let start = Instant::now();
    taken(&budget, 60, start).await;
    let large = taken(&budget, 50, start);
    let small = join_all((0..10).map(|_| taken(&budget, 1, start)));
    let (large, small) = tokio::join!(large, small);
    assert_eq!(large, 50);
    assert!(small.iter().copied().eq(51..=60));
}

#[tokio::test(start_paused = true)]
async fn newcomers_stand_behind_those_who_wait() {
    let budget = one_a_second();
    let start = Instant::now();
    taken(&budget, 30, start).await;
    let late = async {
        // Thirty tokens are there, but they are spoken for.
        let refused = budget.try_reserve(1).unwrap_err();
        assert!(matches!(refused, Refused::Overloaded { waiting: 1, .. }));
        taken(&budget, 1, start).await
    };
    let both = tokio::join!(taken(&budget, 40, start), late);
    assert_eq!(both, (10, 11));
}

#[tokio::test(start_paused = true)]
async fn slots_and_turns_go_in_the_order_of_asking() {
    let gates = GateLayer::new((ConcurrencyLayer::new(2), StaggerLayer::new(SEC)));
    let started = std::cell::RefCell::new(Vec::new());
    let client = gates.until_response().layer(service_fn(|n: usize| {
        started.borrow_mut().push(n);
        async move {
            sleep(SEC * (n as u32 % 5)).await;
            Ok::<_, std::io::Error>(())
        }
    }));
    join_all((0..50).map(|n| client.clone().oneshot(n))).await;
    assert!(started.take().into_iter().eq(0..50));
}

#[tokio::test(start_paused = true)]
async fn only_the_head_keeps_a_timer() {
    let budget = one_a_second();
    let start = Instant::now();
    taken(&budget, 60, start).await;
    let mut waiting: Vec<_> = (0..100).map(|_| Polled::new(budget.reserve(1))).collect();
    assert!(waiting.iter_mut().all(|one| one.poll().is_pending()));
    advance(30 * SEC).await;
    assert_eq!(waiting[0].woken(), 1);
    assert!(waiting[1..].iter().all(|one| one.woken() == 0));

    // Whoever moves first lets in all that fit by now, and wakes exactly
    // those, and the new head, which has a timer to set.
    let first = waiting[0].poll();
    assert!(first.is_ready());
    let woken: Vec<usize> = waiting.iter().map(Polled::woken).collect();
    assert!(woken[..31].iter().all(|woken| *woken == 1), "{woken:?}");
    assert!(woken[31..].iter().all(|woken| *woken == 0), "{woken:?}");
}

/// With N in line, wake-ups grow with N and not with its square.
#[tokio::test(start_paused = true)]
async fn there_are_a_few_wake_ups_for_each_who_waits() {
    let budget = one_a_second();
    let start = Instant::now();
    taken(&budget, 60, start).await;
    let mut waiting: Vec<_> = (0..300).map(|_| Polled::new(budget.reserve(1))).collect();
    let mut seen = vec![0; waiting.len()];
    assert!(waiting.iter_mut().all(|one| one.poll().is_pending()));
    let mut held = Vec::new();
    for second in 1..=300 {
        sleep_until(start + second * SEC).await;
        for (one, seen) in waiting.iter_mut().zip(&mut seen) {
            while one.woken() > *seen {
                *seen += 1;
                if let std::task::Poll::Ready(reservation) = one.poll() {
                    let reservation = reservation.unwrap();
                    reservation.launched();
                    held.push(reservation);
                }
            }
        }
        assert!(held.len() <= second as usize);
    }
    let wake_ups: usize = seen.iter().sum();
    assert!(held.len() >= 290, "{}", held.len());
    assert!(wake_ups <= 3 * waiting.len(), "{wake_ups}");
}

#[tokio::test(start_paused = true)]
async fn failure_12_a_hold_ends_with_one_probe_and_then_the_buckets_pace() {
    let budget = one_a_second();
    let start = Instant::now();
    budget.hold(start + 100 * SEC);
    let mut waiting: Vec<_> = (0..20).map(|_| Polled::new(budget.reserve(1))).collect();
    assert!(waiting.iter_mut().all(|one| one.poll().is_pending()));
    sleep_until(start + 100 * SEC).await;
    let wake_ups = |waiting: &[Polled<_>]| waiting.iter().map(Polled::woken).sum::<usize>();
    assert_eq!(wake_ups(&waiting), 1, "no herd at the end of the hold");

    let std::task::Poll::Ready(Ok(probe)) = waiting.remove(0).poll() else {
        panic!("the probe goes first");
    };
    assert!(waiting[0].poll().is_pending());
    sleep(5 * SEC).await;
    assert!(
        waiting[0].poll().is_pending(),
        "nobody follows an unanswered probe"
    );
    probe.launched();
    probe.settle(1);
    // The burst was gone with the probe; five seconds have refilled five.
    let polled: Vec<_> = waiting.iter_mut().map(Polled::poll).collect();
    assert_eq!(polled.iter().filter(|poll| poll.is_ready()).count(), 5);
    assert!(polled[..5].iter().all(|poll| poll.is_ready()));
    assert!(wake_ups(&waiting) <= 2 * waiting.len());
}

/// Nothing is admitted twice or lost when hold after hold is set meanwhile.
#[tokio::test(start_paused = true)]
async fn holds_delay_everybody_and_lose_nobody() {
    let budget = one_a_second();
    let start = Instant::now();
    let holds = async {
        for n in 0..20 {
            sleep(3 * SEC).await;
            budget.hold(Instant::now() + (n % 3) * SEC);
        }
    };
    let calls = join_all((0..100).map(|_| taken(&budget, 1, start)));
    let (_, taken) = tokio::join!(holds, calls);
    assert!(taken.is_sorted());
    assert_eq!(taken.len(), 100);
}
