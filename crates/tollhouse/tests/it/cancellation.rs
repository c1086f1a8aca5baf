//! Whoever leaves, at any point, leaves no hole: what was not launched comes
//! back exactly once, and the next one is woken.

use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use crate::support::account::one_a_second;
use crate::support::counting::Polled;
use crate::support::random::{Random, schedules};
use futures_util::StreamExt;
use futures_util::future::{Either, join, select};
use futures_util::stream::FuturesUnordered;
use tokio::time::{Instant, advance, sleep, timeout};
use tollhouse::{ConcurrencyLayer, GateLayer, Gated, StaggerLayer, TokenBudget, TpmBudgetLayer};
use tower::{Layer, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);

#[tokio::test(start_paused = true)]
async fn failure_01_dropped_while_queued_wakes_the_next_head() {
    let budget = one_a_second();
    spend(&budget, 60).await;
    let mut head = Polled::new(budget.reserve(50));
    let mut next = Polled::new(budget.reserve(10));
    assert!(head.poll().is_pending());
    assert!(next.poll().is_pending());
    advance(20 * SEC).await;
    assert_eq!(next.woken(), 0);
    drop(head);
    assert_eq!(next.woken(), 1);
    assert!(next.poll().is_ready());
}

#[tokio::test(start_paused = true)]
async fn failure_01_dropped_while_queued_hands_its_timer_on() {
    let budget = one_a_second();
    spend(&budget, 60).await;
    let start = Instant::now();
    let mut head = Box::pin(budget.reserve(50));
    let next = budget.reserve(10);
    assert!(poll_once(&mut head).await.is_none());
    let next = async {
        drop(next.await.unwrap());
        start.elapsed()
    };
    let leave = async {
        sleep(3 * SEC).await;
        drop(head);
    };
    let (elapsed, ()) = join(next, leave).await;
    assert_eq!(elapsed, 10 * SEC);
}

/// The call may live on, but what it held must not.
#[tokio::test(start_paused = true)]
async fn whoever_reads_an_answer_and_panics_leaves_nothing_behind() {
    let budget = TokenBudget::per_minute(60).max_concurrency(1);
    let budget = budget.build().expect("a valid budget");
    let read = |_: &u64| -> Option<u64> { panic!("the reader's own") };
    let client = TpmBudgetLayer::new(budget.clone(), |_: &u64| 1)
        .usage(read)
        .until_response()
        .layer(service_fn(async |n: u64| Ok::<_, Infallible>(n)));
    let mut call = Polled::new(client.oneshot(1));
    let polled = AssertUnwindSafe(|| call.poll().is_ready());
    assert!(catch_unwind(polled).is_err());
    let after = budget.snapshot();
    // Its answer was there, so it had been sent.
    assert_eq!((after.in_flight, after.level), (0, 59));
    drop(call);
}

/// As in embassy-rs/embassy PR 6964: the one who was woken leaves before it
/// looks.
#[tokio::test(start_paused = true)]
async fn failure_01_dropped_after_it_was_woken_wakes_the_next() {
    let budget = one_a_second();
    spend(&budget, 60).await;
    let mut waiting: Vec<_> = (0..5).map(|_| Polled::new(budget.reserve(10))).collect();
    assert!(waiting.iter_mut().all(|one| one.poll().is_pending()));
    advance(10 * SEC).await;
    for _ in 0..4 {
        assert!(waiting[0].woken() > 0);
        drop(waiting.remove(0));
    }
    assert!(waiting[0].poll().is_ready());
    assert_eq!(budget.snapshot().waiting, 0);
}

#[tokio::test(start_paused = true)]
async fn failure_02_dropped_after_grant_gives_back_in_full_and_once() {
    let budget = TokenBudget::per_minute(60)
        .requests_per_minute(60)
        .build()
        .unwrap();
    let before = budget.snapshot();
    let granted = budget.reserve(60).await.unwrap();
    // Admitted by that one's leaving, but dropped before it could see it.
    let mut next = Polled::new(budget.reserve(60));
    assert!(next.poll().is_pending());
    drop(granted);
    assert_eq!(next.woken(), 1);
    assert_eq!(budget.snapshot().outstanding, 60);
    drop(next);
    assert_eq!(budget.snapshot(), before);
    let again = budget.try_reserve(60);
    assert!(again.is_ok(), "all is back, the request too");
}

#[tokio::test(start_paused = true)]
async fn dropped_after_launch_stays_charged() {
    let budget = one_a_second();
    let reservation = budget.reserve(40).await.unwrap();
    reservation.launched();
    drop(reservation);
    assert_eq!(budget.snapshot().level, 20);
    assert_eq!(budget.snapshot().in_transit, 40, "it may yet arrive");
    advance(2 * SEC).await;
    assert_eq!(budget.snapshot().in_transit, 0);
    assert_eq!(budget.snapshot().outstanding, 0);
}

async fn spend(budget: &TokenBudget, cost: u64) {
    budget.reserve(cost).await.unwrap().settle(cost);
}

async fn poll_once<F: Future + Unpin>(future: &mut F) -> Option<F::Output> {
    poll_fn(|cx| {
        Poll::Ready(match std::pin::Pin::new(&mut *future).poll(cx) {
            Poll::Ready(output) => Some(output),
            Poll::Pending => None,
        })
    })
    .await
}

// ===== every await point =====

/// All three gates, fused, around a service that takes its time.
struct Stack {
    slots: ConcurrencyLayer,
    budget: TokenBudget,
    turns: StaggerLayer,
}

impl Stack {
    fn new() -> Self {
        Stack {
            slots: ConcurrencyLayer::new(2),
            budget: TokenBudget::per_minute(600).build().unwrap(),
            turns: StaggerLayer::new(SEC),
        }
    }

    fn call(&self, cost: u64, works: Duration) -> impl Future<Output = ()> + use<> {
        let gates = GateLayer::new((
            self.slots.clone(),
            TpmBudgetLayer::new(self.budget.clone(), |&(cost, _): &(u64, Duration)| cost),
            self.turns.clone(),
        ));
        let service = service_fn(|(_, works): (u64, Duration)| async move {
            sleep(works).await;
            Ok::<_, std::io::Error>(())
        });
        let client: Gated<_, _, _> = gates.until_response().layer(service);
        async move { client.oneshot((cost, works)).await.unwrap() }
    }

    fn assert_empty(&self) {
        assert_eq!(self.slots.in_flight(), 0);
        assert_eq!(self.slots.waiting(), 0);
        assert_eq!(self.turns.waiting(), 0);
        let snapshot = self.budget.snapshot();
        assert_eq!((snapshot.waiting, snapshot.outstanding), (0, 0));
    }
}

/// Polls `future` whenever it is woken, but at most `polls` times, then drops
/// it.
async fn polled_at_most(polls: usize, future: impl Future<Output = ()>) {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(());
        }
        left -= 1;
        future.as_mut().poll(cx)
    })
    .await;
}

fn one_of_many(stack: &Stack, random: &mut Random) -> impl Future<Output = ()> + use<> {
    let cost = random.within(0..200);
    let works = Duration::from_millis(random.within(0..3_000));
    let call = stack.call(cost, works);
    let other = stack.call(cost / 2, works / 2);
    let asks = Duration::from_millis(random.within(0..10_000));
    let patience = Duration::from_millis(random.within(0..20_000));
    let polls = random.within(0..6) as usize;
    let shape = random.within(0..6);
    async move {
        sleep(asks).await;
        match shape {
            0 => call.await,
            1 => polled_at_most(polls, call).await,
            2 => drop(timeout(patience, call).await),
            // Two who wait on one task's waker.
            3 => drop(join(polled_at_most(polls, call), other).await),
            4 => match select(pin!(call), pin!(other)).await {
                Either::Left(_) | Either::Right(_) => {}
            },
            _ => {
                let both: FuturesUnordered<_> = [Either::Left(call), Either::Right(other)]
                    .into_iter()
                    .collect();
                drop(timeout(patience, both.collect::<()>()).await);
            }
        }
    }
}

#[test]
fn no_drop_at_any_point_leaves_a_hole() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    for seed in 0..schedules(1_000) {
        let mut random = Random::seeded(seed);
        let played = runtime.block_on(async {
            let stack = Stack::new();
            let calls: FuturesUnordered<_> =
                (0..12).map(|_| one_of_many(&stack, &mut random)).collect();
            // Twenty-four calls of up to 200 tokens take minutes at most.
            timeout(600 * SEC, calls.collect::<()>()).await?;
            sleep(120 * SEC).await;
            stack.assert_empty();
            assert_eq!(stack.budget.snapshot().level, 600, "seed {seed}");
            assert_eq!(stack.budget.snapshot().in_transit, 0, "seed {seed}");
            // And it still works.
            timeout(SEC, stack.call(600, Duration::ZERO)).await
        });
        assert!(played.is_ok(), "seed {seed}: somebody waits forever");
    }
}

#[tokio::test(start_paused = true)]
async fn gives_everything_back_at_each_gate_before_the_launch() {
    // Held up at the slots, at the budget, and at the spacing, in turn.
    let stack = Stack::new();
    stack.call(100, Duration::ZERO).await;
    let before = stack.budget.snapshot().level;
    let mut at_spacing = Box::pin(stack.call(100, Duration::ZERO));
    assert!(poll_once(&mut at_spacing).await.is_none());
    let mut at_budget = Box::pin(stack.call(600, Duration::ZERO));
    assert!(poll_once(&mut at_budget).await.is_none());
    let mut at_slots = Box::pin(stack.call(100, Duration::ZERO));
    assert!(poll_once(&mut at_slots).await.is_none());
    assert_eq!((stack.slots.in_flight(), stack.slots.waiting()), (2, 1));
    assert_eq!(stack.budget.snapshot().waiting, 1);
    assert_eq!(stack.turns.waiting(), 1);
    drop((at_spacing, at_budget, at_slots));
    stack.assert_empty();
    assert_eq!(stack.budget.snapshot().level, before);
}

#[tokio::test(start_paused = true)]
async fn whoever_is_refused_keeps_nothing() {
    let stack = Stack::new();
    stack.turns.close();
    let mut refused = Box::pin(
        GateLayer::new((stack.slots.clone(), stack.turns.clone()))
            .until_response()
            .layer(service_fn(|()| async { Ok::<_, std::io::Error>(()) }))
            .oneshot(()),
    );
    let error = (&mut refused).await.unwrap_err();
    assert_eq!(error.refused(), Some(&tollhouse::Refused::Closed));
    // The future is still around; its slot must not be.
    stack.assert_empty();
    drop(refused);
}

/// A slot is free only once what ran in it is gone.
#[tokio::test(start_paused = true)]
async fn the_call_is_dropped_before_its_slot_is_free() {
    struct Running(ConcurrencyLayer);
    impl Drop for Running {
        fn drop(&mut self) {
            assert_eq!(self.0.in_flight(), 1, "still in its slot");
        }
    }
    let slots = ConcurrencyLayer::new(1);
    let inner = slots.clone();
    let client = slots.clone().until_response().layer(service_fn(move |()| {
        let running = Running(inner.clone());
        async move {
            sleep(SEC).await;
            drop(running);
            Ok::<_, std::io::Error>(())
        }
    }));
    drop(timeout(SEC / 2, client.oneshot(())).await);
    assert_eq!(slots.in_flight(), 0);
}

/// Whatever was done before the panic may have been a request.
#[tokio::test(start_paused = true)]
async fn a_service_that_panics_once_called_stays_charged() {
    let budget = TokenBudget::per_minute(30_000).build().unwrap();
    let gate = || TpmBudgetLayer::new(budget.clone(), |(): &()| 7_000).until_response();
    async fn panics() -> Result<(), std::convert::Infallible> {
        panic!("after it was sent")
    }
    let in_poll = gate().layer(service_fn(async |()| panics().await));
    tokio::spawn(in_poll.oneshot(())).await.unwrap_err();
    assert_eq!(budget.snapshot().level, 23_000);
    let fused = GateLayer::new(gate()).until_response();
    let in_poll = fused.layer(service_fn(async |()| panics().await));
    tokio::spawn(in_poll.oneshot(())).await.unwrap_err();
    assert_eq!(budget.snapshot().level, 16_000);
    let in_call = fused.layer(service_fn(
        |()| -> std::future::Ready<Result<(), std::convert::Infallible>> {
            panic!("after it was sent")
        },
    ));
    tokio::spawn(in_call.oneshot(())).await.unwrap_err();
    assert_eq!(budget.snapshot().level, 9_000);
}

/// The interval counts from when the service was done sending.
#[tokio::test(start_paused = true)]
async fn a_service_that_blocks_before_it_sends_does_not_shorten_the_spacing() {
    const INTERVAL: Duration = Duration::from_millis(300);
    let spacing = StaggerLayer::new(INTERVAL);
    // As a thread that computes for so long: nobody else runs meanwhile.
    let client = spacing.layer(service_fn(async |blocks: Duration| {
        advance(blocks).await;
        let sent = Instant::now();
        sleep(SEC).await;
        Ok::<_, std::convert::Infallible>(sent)
    }));
    let call = |blocks| client.clone().oneshot(Duration::from_millis(blocks));
    let (first, second) = join(call(250), call(0)).await;
    assert_eq!(second.unwrap() - first.unwrap(), INTERVAL);
}
