//! Slots that several budgets share: an account's.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::thread;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, advance, sleep, timeout};
use tollhouse::budget::Reserve;
use tollhouse::{
    AccountSlots, Ask, Caller, Refused, Reservation, TokenBudget, TokenBudgetBuilder, Window,
};

use crate::support::counting::Polled;
use crate::support::random::{Random, schedules};

const SEC: Duration = Duration::from_secs(1);

/// A pool that nothing limits but the account's slots.
fn open(slots: &AccountSlots) -> TokenBudget {
    pool(TokenBudget::unlimited(), slots)
}

fn pool(builder: TokenBudgetBuilder, slots: &AccountSlots) -> TokenBudget {
    builder.account_slots(slots).build().expect("valid")
}

fn line(pool: &TokenBudget, who: &Caller) -> Polled<Reserve> {
    let mut call = Polled::new(pool.reserve(Ask::of(1).caller(who.clone())));
    assert!(call.poll().is_pending(), "there is no slot");
    call
}

/// A call that went out, so that its charge stands.
fn over(pass: Reservation) {
    pass.launched();
}

/// Calls that stand in line and go one by one, as slots are given back.
struct Line(Vec<(&'static str, Polled<Reserve>)>);

impl Line {
    /// Who was let in, of those who were called.
    fn admitted(&mut self) -> Vec<(&'static str, Reservation)> {
        let mut admitted = Vec::new();
        let mut waiting = Vec::new();
        for (name, mut call) in self.0.drain(..) {
            match call.poll() {
                Poll::Ready(pass) => admitted.push((name, pass.expect("let in"))),
                Poll::Pending => waiting.push((name, call)),
            }
        }
        self.0 = waiting;
        admitted
    }
}

#[tokio::test(start_paused = true)]
async fn a_pool_out_of_tokens_delays_no_call_of_another() {
    let slots = AccountSlots::new(4);
    let spent = pool(TokenBudget::per_minute(60).window(Window::Off), &slots);
    let other = open(&slots);
    spent.reserve(60).await.unwrap().settle(60);
    let mut waiting: Vec<_> = (0..20).map(|_| Polled::new(spent.reserve(30))).collect();
    assert!(waiting.iter_mut().all(|call| call.poll().is_pending()));
    assert_eq!(slots.snapshot().in_use, 0, "who waits holds nothing");

    let start = Instant::now();
    let calls: Vec<_> = (0..4).map(|_| other.try_reserve(1).unwrap()).collect();
    assert_eq!(slots.snapshot().in_use, 4);
    // The first of the spent pool has its tokens now, and lacks only a slot: no tokens
    // are taken for it.
    advance(30 * SEC).await;
    assert!(waiting[0].poll().is_pending());
    assert_eq!(spent.snapshot().level, 30);
    assert_eq!(slots.snapshot().waiting.len(), 1);
    drop(calls);
    let Poll::Ready(Ok(first)) = waiting[0].poll() else {
        panic!("there is a slot");
    };
    over(first);
    assert_eq!((start.elapsed(), spent.snapshot().level), (30 * SEC, 0));
    // The next one has none again, and the other pool's go at once.
    assert_eq!(slots.snapshot().in_use, 0);
    for _ in 0..100 {
        let call = timeout(Duration::ZERO, other.reserve(1)).await;
        call.expect("no delay at all").unwrap().launched();
    }
}

#[tokio::test(start_paused = true)]
async fn an_interactive_caller_beside_busy_pools_waits_for_one_release() {
    let slots = AccountSlots::new(4);
    let pools = [open(&slots), open(&slots)];
    let batch = Caller::new("batch");
    let web = Caller::new("web").weight(8);
    let mut held: Vec<_> = (0..4)
        .map(|i| pools[i % 2].try_reserve(1).unwrap())
        .collect();
    let mut batches = Line(Vec::new());
    for _ in 0..200 {
        batches.0.push(("batch", line(&pools[0], &batch)));
        batches.0.push(("batch", line(&pools[1], &batch)));
    }
    for round in 0..40 {
        let mut mine = line(&pools[round % 2], &web);
        over(held.remove(0));
        let Poll::Ready(Ok(pass)) = mine.poll() else {
            panic!("round {round}: it goes first");
        };
        held.push(pass);
        // Others go on beside it, always within the account's slots.
        for _ in 0..4 {
            over(held.remove(0));
            let next = batches.admitted();
            assert_eq!(next.len(), 1);
            held.extend(next.into_iter().map(|(_, pass)| pass));
        }
        assert_eq!(slots.snapshot().in_use, 4);
    }
}

#[tokio::test(start_paused = true)]
async fn pools_get_slots_by_their_callers_weights() {
    let slots = AccountSlots::new(4);
    let (light, heavy) = (open(&slots), open(&slots));
    let one = Caller::new("x");
    let three = Caller::new("x").weight(3);
    let mut held: Vec<_> = (0..4).map(|_| light.try_reserve(1).unwrap()).collect();
    let mut calls = Line(Vec::new());
    for _ in 0..400 {
        calls.0.push(("light", line(&light, &one)));
        calls.0.push(("heavy", line(&heavy, &three)));
    }
    let mut heavy_calls = 0;
    for given in 1..=400_i64 {
        over(held.remove(0));
        let next = calls.admitted();
        assert_eq!(next.len(), 1);
        heavy_calls += i64::from(next[0].0 == "heavy");
        held.extend(next.into_iter().map(|(_, pass)| pass));
        let off = (heavy_calls * 4 - given * 3).abs();
        assert!(off <= 16, "{heavy_calls} of {given}");
    }
    assert_eq!(heavy_calls, 300);
}

#[tokio::test(start_paused = true)]
async fn a_pool_whose_callers_nobody_named_takes_turns() {
    let slots = AccountSlots::new(1);
    let (long, short) = (open(&slots), open(&slots));
    let mut held = long.try_reserve(1).unwrap();
    let nobody = Caller::default();
    let mut calls = Line((0..50).map(|_| ("long", line(&long, &nobody))).collect());
    calls
        .0
        .extend((0..3).map(|_| ("short", line(&short, &nobody))));
    let mut order = Vec::new();
    for _ in 0..7 {
        drop(held);
        let mut next = calls.admitted();
        let (who, pass) = next.pop().expect("one goes");
        order.push(who);
        held = pass;
    }
    assert_eq!(
        order,
        ["long", "short", "long", "short", "long", "short", "long"]
    );
}

#[tokio::test(start_paused = true)]
async fn who_leaves_passes_on_what_he_was_granted() {
    let slots = AccountSlots::new(1);
    let (one, other) = (open(&slots), open(&slots));
    let held = one.try_reserve(1).unwrap();
    let first = line(&one, &Caller::default());
    let mut second = line(&other, &Caller::default());
    drop(held);
    assert_eq!((slots.snapshot().in_use, one.snapshot().in_flight), (1, 1));
    // Let in, and never polled again.
    drop(first);
    assert_eq!(second.woken(), 1);
    assert!(second.poll().is_ready());
    assert_eq!(slots.snapshot().in_use, 0);

    // One that leaves while it stands leaves no trace in the line.
    let held = other.try_reserve(1).unwrap();
    let leaves = line(&one, &Caller::default());
    let mut stays = line(&other, &Caller::default());
    drop(leaves);
    assert_eq!(slots.snapshot().waiting.len(), 1);
    drop(held);
    assert!(stays.poll().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_closed_pool_turns_away_who_waits_for_a_slot() {
    let slots = AccountSlots::new(1);
    let (one, other) = (open(&slots), open(&slots));
    let held = other.try_reserve(1).unwrap();
    let mut turned_away = line(&one, &Caller::default());
    let mut goes_on = line(&other, &Caller::default());
    one.close();
    assert!(matches!(
        turned_away.poll(),
        Poll::Ready(Err(Refused::Closed))
    ));
    assert_eq!(slots.snapshot().waiting.len(), 1);
    one.idle().await;
    drop(held);
    assert!(goes_on.poll().is_ready());
}

#[tokio::test(start_paused = true)]
async fn a_pool_that_is_gone_leaves_the_line() {
    let slots = AccountSlots::new(1);
    let (one, other) = (open(&slots), open(&slots));
    let held = other.try_reserve(1).unwrap();
    let gone = line(&one, &Caller::default());
    let mut stays = line(&other, &Caller::default());
    drop((one, gone));
    assert_eq!(slots.snapshot().waiting.len(), 1);
    drop(held);
    assert!(stays.poll().is_ready());
    assert_eq!(slots.snapshot().in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn more_slots_let_in_exactly_those_that_fit_and_fewer_drain() {
    let slots = AccountSlots::new(1);
    let pools = [open(&slots), open(&slots)];
    let mut held = vec![pools[0].try_reserve(1).unwrap()];
    let nobody = Caller::default();
    let mut calls = Line(
        (0..6)
            .map(|i| ("call", line(&pools[i % 2], &nobody)))
            .collect(),
    );
    slots.set_max(4);
    let woken: usize = calls.0.iter().map(|(_, call)| call.woken()).sum();
    assert_eq!((woken, slots.snapshot().in_use), (3, 4));
    held.extend(calls.admitted().into_iter().map(|(_, pass)| pass));

    slots.set_max(2);
    for in_use in [3, 2] {
        drop(held.remove(0));
        assert_eq!(slots.snapshot().in_use, in_use);
        assert!(calls.admitted().is_empty(), "nobody follows yet");
    }
    drop(held.remove(0));
    assert_eq!((calls.admitted().len(), slots.snapshot().max), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_pool_may_come_to_share_slots_and_leave_them_while_it_is_in_use() {
    let slots = AccountSlots::new(2);
    let shares = open(&slots);
    let joins = TokenBudget::unlimited().build().unwrap();
    let held: Vec<_> = (0..3).map(|_| joins.try_reserve(1).unwrap()).collect();
    let mut kept = shares.try_reserve(1).ok();
    joins
        .set_limits(TokenBudget::unlimited().account_slots(&slots))
        .unwrap();
    assert_eq!(slots.snapshot().in_use, 4, "who is inside counts");
    let mut waits = line(&joins, &Caller::default());
    joins.set_limits(TokenBudget::unlimited()).unwrap();
    assert!(waits.poll().is_ready());
    assert_eq!(slots.snapshot().in_use, 1);
    assert!(slots.snapshot().waiting.is_empty());
    drop((held, kept.take()));
    assert_eq!(slots.snapshot().in_use, 0);
}

#[tokio::test(start_paused = true)]
async fn whoever_may_pass_a_head_without_tokens_gets_a_slot() {
    let slots = AccountSlots::new(1);
    let limited = pool(TokenBudget::per_minute(600).window(Window::Off), &slots);
    let other = open(&slots);
    limited.reserve(500).await.unwrap().settle(500);
    let held = other.try_reserve(1).unwrap();
    let ask = Ask::of(600).caller(Caller::new("large"));
    let mut large = Polled::new(limited.reserve(ask));
    assert!(large.poll().is_pending());
    let mut small = line(&limited, &Caller::new("small"));
    drop(held);
    assert!(small.poll().is_ready(), "it lacks nothing but the slot");
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_costs_no_other_pool_its_slot() {
    struct Panics;
    impl std::task::Wake for Panics {
        fn wake(self: Arc<Self>) {
            panic!("a waker's own");
        }
    }
    let slots = AccountSlots::new(2);
    let (bad, good, holder) = (open(&slots), open(&slots), open(&slots));
    let held: Vec<_> = (0..2).map(|_| holder.try_reserve(1).unwrap()).collect();
    let mut panics = Box::pin(bad.reserve(1));
    let waker = std::task::Waker::from(Arc::new(Panics));
    let mut cx = std::task::Context::from_waker(&waker);
    assert!(panics.as_mut().poll(&mut cx).is_pending());
    let mut goes = line(&good, &Caller::default());
    // Calls both pools.
    let more = std::panic::AssertUnwindSafe(|| slots.set_max(4));
    assert!(std::panic::catch_unwind(more).is_err());
    assert_eq!(goes.woken(), 1);
    assert!(goes.poll().is_ready());
    drop(held);
}

/// What may happen to two to four pools and their account.
#[tokio::test(start_paused = true)]
async fn random_schedules_never_exceed_the_slots_and_give_everything_back() {
    for seed in 0..schedules(100) {
        let mut random = Random::seeded(seed);
        let slots = AccountSlots::new(random.within(1..6) as usize);
        let pools: Vec<_> = (0..random.within(2..5))
            .map(|index| match index % 2 {
                0 => open(&slots),
                _ => pool(
                    TokenBudget::per_minute(60)
                        .max_concurrency(3)
                        .window(Window::Off),
                    &slots,
                ),
            })
            .collect();
        let mut waiting: Vec<Polled<Reserve>> = Vec::new();
        let mut held: Vec<Reservation> = Vec::new();
        for step in 0..200 {
            let before = slots.snapshot();
            match random.within(0..10) {
                0..4 => {
                    let pool = &pools[random.within(0..pools.len() as u64) as usize];
                    let weight = random.within(1..9) as u32;
                    let name = ["a", "b", "c"][random.within(0..3) as usize];
                    let who = Caller::new(name).weight(weight);
                    let ask = Ask::of(random.within(1..60)).caller(who);
                    waiting.push(Polled::new(pool.reserve(ask)));
                }
                4..6 if !held.is_empty() => {
                    let over = held.swap_remove(random.within(0..held.len() as u64) as usize);
                    if random.within(0..2) == 0 {
                        over.launched();
                    }
                }
                6 if !waiting.is_empty() => {
                    let leaves = random.within(0..waiting.len() as u64) as usize;
                    drop(waiting.swap_remove(leaves));
                }
                7 => slots.set_max(random.within(1..6) as usize),
                8 => advance(Duration::from_millis(random.within(0..20_000))).await,
                _ => {}
            }
            // Now and then nobody is polled for a while.
            if random.within(0..3) > 0 {
                let mut still = Vec::new();
                for mut call in waiting.drain(..) {
                    match call.poll() {
                        Poll::Ready(pass) => held.push(pass.expect("nothing is refused")),
                        Poll::Pending => still.push(call),
                    }
                }
                waiting = still;
            }
            let now = slots.snapshot();
            let snapshots: Vec<_> = pools.iter().map(TokenBudget::snapshot).collect();
            let in_flight: usize = snapshots.iter().map(|pool| pool.in_flight).sum();
            let at = format!("seed {seed}, step {step}: {now:?}");
            assert_eq!(now.in_use, in_flight, "{at}");
            assert!(now.in_use <= now.max.max(before.in_use), "{at}");
            if now.in_use < now.max {
                assert!(now.waiting.is_empty(), "{at}");
                let open = snapshots.iter().step_by(2);
                assert!(
                    open.map(|pool| pool.waiting)
                        .eq(snapshots.iter().step_by(2).map(|_| 0)),
                    "{at}"
                );
            }
        }
        // Everybody gets his turn.
        slots.set_max(1);
        held.clear();
        let calls = waiting.into_iter().map(|call| async {
            over(call.into_future().await.expect("nothing is refused"));
        });
        let ended = timeout(100_000 * SEC, join_all(calls)).await;
        ended.expect("nobody is forgotten");
        assert_eq!(slots.snapshot().in_use, 0, "seed {seed}");
        for pool in &pools {
            pool.idle().await;
        }
    }
}

#[test]
fn real_threads_never_hold_more_than_there_are() {
    const MAX: usize = 5;
    const CALLS: usize = 3_000;
    let slots = AccountSlots::new(MAX);
    let pools = Arc::new([open(&slots), open(&slots), open(&slots)]);
    let running = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0)));
    let work = |number: usize| {
        let (pools, running) = (Arc::clone(&pools), Arc::clone(&running));
        move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap();
            runtime.block_on(async move {
                let calls = (0..CALLS).map(|call| {
                    let pool = pools[(number + call) % 3].clone();
                    let running = Arc::clone(&running);
                    async move {
                        let who = Caller::new(["a", "b"][call % 2]).weight(1 + call as u32 % 3);
                        let reserve = pool.reserve(Ask::of(1).caller(who));
                        if call % 7 == 0 {
                            // Gives up, sooner or later.
                            let _ = timeout(Duration::from_micros(call as u64 % 50), reserve).await;
                            return;
                        }
                        let pass = reserve.await.unwrap();
                        let at_once = running.0.fetch_add(1, SeqCst) + 1;
                        running.1.fetch_max(at_once, SeqCst);
                        tokio::task::yield_now().await;
                        running.0.fetch_sub(1, SeqCst);
                        drop(pass);
                    }
                });
                let calls: Vec<_> = calls.map(tokio::spawn).collect();
                for call in calls {
                    let ended = timeout(Duration::from_secs(60), call).await;
                    ended.expect("nobody is forgotten").unwrap();
                }
            });
        }
    };
    let threads: Vec<_> = (0..4).map(|number| thread::spawn(work(number))).collect();
    for thread in threads {
        thread.join().unwrap();
    }
    assert_eq!(running.1.load(SeqCst), MAX);
    assert_eq!(slots.snapshot().in_use, 0);
    assert!(slots.snapshot().waiting.is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_snapshot_names_the_pools_that_wait_for_a_slot() {
    let slots = AccountSlots::new(1);
    let chats = pool(TokenBudget::unlimited().name("chats"), &slots);
    let held = open(&slots).try_reserve(1).unwrap();
    let waits = line(&chats, &Caller::default());
    let now = slots.snapshot();
    assert_eq!((now.max, now.in_use), (1, 1));
    assert_eq!(now.waiting, [Some("chats".into())]);
    drop((held, waits));
    sleep(SEC).await;
    assert!(slots.snapshot().waiting.is_empty());
}

/// How fast a pool's calls come to slots says how long they are waited for, where there
/// are none.
#[tokio::test(start_paused = true)]
async fn an_eta_is_told_by_the_pace_as_long_as_there_is_no_slot() {
    let slots = AccountSlots::new(1);
    let pool = open(&slots);
    let mut inside = pool.try_reserve(1).unwrap();
    let mut waiting: Vec<_> = (0..3).map(|_| line(&pool, &Caller::default())).collect();
    for _ in 0..2 {
        advance(10 * SEC).await;
        over(inside);
        let Poll::Ready(Ok(next)) = waiting.remove(0).poll() else {
            panic!("it is let in");
        };
        inside = next;
    }
    assert_eq!(pool.eta(1), 2 * 10 * SEC);
    slots.set_max(3);
    assert!(waiting.remove(0).poll().is_ready());
    assert_eq!(pool.eta(1), Duration::ZERO);
    drop(inside);
}

/// The same limits again, and the same slots in them, cost a pool nothing.
#[tokio::test(start_paused = true)]
async fn limits_that_are_set_again_leave_a_pool_where_it_stands() {
    let slots = AccountSlots::new(1);
    let (first, second) = (open(&slots), open(&slots));
    let held = first.try_reserve(1).unwrap();
    let mut waits = line(&first, &Caller::default());
    let mut comes_later = line(&second, &Caller::default());
    let limits = TokenBudget::unlimited().account_slots(&slots);
    first.set_limits(limits).unwrap();
    assert_eq!(
        (slots.snapshot().in_use, slots.snapshot().waiting.len()),
        (1, 2)
    );
    over(held);
    assert!(comes_later.poll().is_pending());
    assert!(waits.poll().is_ready());
}

/// Another caller of a pool comes first by its weight, and is in the line of pools what it
/// is in its own.
#[tokio::test(start_paused = true)]
async fn a_pool_stands_as_the_caller_whose_turn_it_is() {
    let slots = AccountSlots::new(1);
    let (busy, mixed) = (open(&slots), open(&slots));
    let mut held = busy.try_reserve(1).unwrap();
    let (batch, web) = (Caller::new("batch"), Caller::new("web").weight(100));
    let mut calls = Line(Vec::new());
    for _ in 0..4 {
        calls.0.push(("busy", line(&busy, &batch)));
        calls.0.push(("batch", line(&mixed, &batch)));
    }
    let mut order = Vec::new();
    for turn in 0..10 {
        if turn == 2 {
            for _ in 0..3 {
                calls.0.push(("web", line(&mixed, &web)));
            }
        }
        over(held);
        let (name, next) = calls.admitted().pop().expect("there is a slot");
        order.push(name);
        held = next;
    }
    assert_eq!(&order[2..5], ["web"; 3], "{order:?}");
    let busy = order.iter().filter(|name| **name == "busy").count();
    assert_eq!((busy, order.len()), (4, 10), "{order:?}");
}
