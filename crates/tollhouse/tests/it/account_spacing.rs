//! The time between launches that several budgets share: an account's.

use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::task::{JoinHandle, yield_now};
use tokio::time::{Instant, advance, sleep, timeout};
use tollhouse::budget::{BudgetPass, Reserve};
use tollhouse::gate::{Launch, Now};
use tollhouse::{
    AccountSlots, Ask, Caller, Deadline, End, Pass, Refused, TokenBudget, Unobserved, Window,
};

use crate::support::counting::Polled;
use crate::support::random::{Random, schedules};

const SEC: Duration = Duration::from_secs(1);

fn slots(max: usize, interval: Duration) -> AccountSlots {
    let slots = AccountSlots::new(max);
    slots.set_interval(interval);
    slots
}

/// A pool that nothing limits but what the account's share.
fn open(slots: &AccountSlots) -> TokenBudget {
    let builder = TokenBudget::unlimited().account_slots(slots);
    builder.build().expect("valid")
}

fn metered(slots: &AccountSlots, tokens: u64) -> TokenBudget {
    let builder = TokenBudget::per_minute(tokens).window(Window::Off);
    builder.account_slots(slots).build().expect("valid")
}

/// A call that launches as soon as it may, and tells when that was.
fn launches(pool: &TokenBudget, ask: impl Into<Ask>) -> JoinHandle<Instant> {
    let reserve = pool.reserve(ask);
    tokio::spawn(async move {
        reserve.await.expect("let in").launched();
        Instant::now()
    })
}

fn line(pool: &TokenBudget) -> Polled<Reserve> {
    let mut call = Polled::new(pool.reserve(1));
    assert!(call.poll().is_pending(), "the time has not come");
    call
}

/// P1: neither a slot nor tokens.
#[tokio::test(start_paused = true)]
async fn who_waits_for_the_time_between_launches_holds_nothing() {
    let slots = slots(4, 10 * SEC);
    let (chats, embeddings) = (metered(&slots, 600), metered(&slots, 6_000));
    let start = Instant::now();
    let launched = launches(&chats, 100).await.unwrap();
    assert_eq!(launched, start);
    let waiting = [
        launches(&chats, 200),
        launches(&embeddings, 300),
        launches(&chats, 200),
        launches(&embeddings, 300),
    ];
    yield_now().await;
    for (pool, tokens) in [(&chats, 500), (&embeddings, 6_000)] {
        let now = pool.snapshot();
        assert_eq!((now.waiting, now.in_flight, now.level), (2, 0, tokens));
    }
    let now = slots.snapshot();
    assert_eq!((now.in_use, now.waiting.len()), (0, 2));
    assert_eq!(now.next_launch, Some(start + 10 * SEC));
    // In turns, and never more than one in the interval.
    let launched = join_all(waiting).await.into_iter().map(Result::unwrap);
    let after: Vec<_> = launched.map(|at| (at - start).as_secs()).collect();
    assert_eq!(after, [10, 20, 30, 40]);
}

/// The time comes for the pool that stands first, whose task is slow to wake.
#[tokio::test(start_paused = true)]
async fn a_pool_that_is_slow_to_wake_holds_up_no_other_for_longer_than_its_turn() {
    let slots = slots(4, 10 * SEC);
    let (slow, other) = (open(&slots), open(&slots));
    slow.try_reserve(1).unwrap().launched();
    let mut sleeps = line(&slow);
    let mut waits = line(&other);
    advance(10 * SEC).await;
    assert_eq!(sleeps.woken(), 1, "its timer");
    // Whoever looks sees whose turn it is, and that one is let in.
    assert!(waits.poll().is_pending());
    assert_eq!(sleeps.woken(), 2);
    assert_eq!((slow.snapshot().in_flight, slots.snapshot().in_use), (1, 1));
    // It is polled no more, and the other waits no longer than for its turn.
    let start = Instant::now();
    waits.into_future().await.unwrap().launched();
    assert_eq!(start.elapsed(), 10 * SEC);
    // What it was given has lapsed: it stands in line again.
    assert!(sleeps.poll().is_pending());
    assert_eq!(slots.snapshot().in_use, 0);
    sleeps.into_future().await.unwrap().launched();
    assert_eq!(start.elapsed(), 20 * SEC);
}

/// The pool that keeps the timer leaves, and another takes it over.
#[tokio::test(start_paused = true)]
async fn who_leaves_takes_nobodys_timer_along() {
    let slots = slots(4, 10 * SEC);
    let (leaves, stays) = (open(&slots), open(&slots));
    let start = Instant::now();
    leaves.try_reserve(1).unwrap().launched();
    let leaver = launches(&leaves, 1);
    yield_now().await;
    let stayer = launches(&stays, 1);
    sleep(5 * SEC).await;
    leaver.abort();
    drop(leaves);
    assert_eq!(stayer.await.unwrap() - start, 10 * SEC);
}

/// Somebody of greater weight comes in another pool and goes first; the one that kept
/// the timer until then comes next all the same.
#[tokio::test(start_paused = true)]
async fn launches_go_to_the_pools_by_their_callers_weights() {
    let slots = slots(4, SEC);
    let (light, heavy) = (open(&slots), open(&slots));
    let start = Instant::now();
    light.try_reserve(1).unwrap().launched();
    let of = |name, weight| Ask::of(1).caller(Caller::new(name).weight(weight));
    let lights: Vec<_> = (0..100).map(|_| launches(&light, of("batch", 1))).collect();
    yield_now().await;
    let heavies: Vec<_> = (0..300).map(|_| launches(&heavy, of("web", 3))).collect();
    let at = async |calls: Vec<JoinHandle<Instant>>| {
        let ended = join_all(calls).await.into_iter();
        let mut at: Vec<_> = ended.map(|at| (at.unwrap() - start).as_secs()).collect();
        at.sort_unstable();
        at
    };
    let (lights, heavies) = (at(lights).await, at(heavies).await);
    for (index, at) in lights.iter().enumerate() {
        assert!(
            at.abs_diff(4 * (index as u64 + 1)) <= 4,
            "light {index}: {at}"
        );
    }
    let mut all: Vec<_> = lights.into_iter().chain(heavies).collect();
    all.sort_unstable();
    assert!(all.into_iter().eq(1..=400), "one a second, all the time");
}

#[tokio::test(start_paused = true)]
async fn what_never_left_leaves_no_gap_and_what_was_refused_does() {
    let slots = slots(4, 10 * SEC);
    let (one, other) = (open(&slots), open(&slots));
    // Given up before the launch.
    drop(one.try_reserve(1).unwrap());
    // Launched, and never sent.
    let usage = |_: &u64| None::<u64>;
    let pass = || BudgetPass::<_, _, Option<u64>>::new(&one, 1, usage, Unobserved);
    let mut unsent = pass();
    unsent.admitted().await.unwrap();
    unsent.launched(Launch::ToWire, &mut Now::unread());
    assert!(other.try_reserve(1).is_err());
    unsent.ended(End::NeverSent, &mut Now::unread());

    let mut cut_off = pass();
    let start = Instant::now();
    cut_off.admitted().await.unwrap();
    assert_eq!(start.elapsed(), Duration::ZERO, "that turn was nobody's");
    cut_off.launched(Launch::ToWire, &mut Now::unread());
    cut_off.ended(End::Cut, &mut Now::unread());
    assert_eq!(other.eta(1), 10 * SEC);
    // The interval counts anew from the launch.
    sleep(10 * SEC).await;
    let late = other.try_reserve(1).unwrap();
    sleep(4 * SEC).await;
    late.launched();
    drop(late);
    assert_eq!(one.eta(1), 10 * SEC);
}

#[tokio::test(start_paused = true)]
async fn another_interval_counts_from_the_last_launch_at_once() {
    let slots = slots(4, 60 * SEC);
    let (one, other) = (open(&slots), open(&slots));
    let start = Instant::now();
    one.try_reserve(1).unwrap().launched();
    let waits = [launches(&one, 1), launches(&other, 1), launches(&one, 1)];
    sleep(5 * SEC).await;
    slots.set_interval(20 * SEC);
    sleep(20 * SEC).await;
    slots.set_interval(30 * SEC);
    sleep(26 * SEC).await;
    slots.set_interval(Duration::ZERO);
    let at = join_all(waits).await.into_iter();
    let at: Vec<_> = at.map(|at| (at.unwrap() - start).as_secs()).collect();
    assert_eq!(at, [20, 50, 51]);
}

/// Slots that all are taken: the time goes by, and whoever gives one back lets in the
/// next; then the timer is set anew.
#[tokio::test(start_paused = true)]
async fn slots_and_time_are_waited_for_together() {
    let slots = slots(1, 10 * SEC);
    let (one, other) = (open(&slots), open(&slots));
    let start = Instant::now();
    let held = one.try_reserve(1).unwrap();
    held.launched();
    let waits = [launches(&one, 1), launches(&other, 1), launches(&one, 1)];
    sleep(25 * SEC).await;
    assert_eq!(slots.snapshot().waiting.len(), 2);
    drop(held);
    let at = join_all(waits).await.into_iter();
    let at: Vec<_> = at.map(|at| (at.unwrap() - start).as_secs()).collect();
    assert_eq!(at, [25, 35, 45]);
}

/// The time comes and there is no slot, then there is one and the time has not come: a
/// timer that has gone off is not taken for one that is set.
#[tokio::test(start_paused = true)]
async fn a_timer_that_went_off_in_vain_is_set_anew() {
    let slots = slots(2, 10 * SEC);
    let (one, other) = (open(&slots), open(&slots));
    let start = Instant::now();
    let dawdles = one.try_reserve(1).unwrap();
    let waits = launches(&other, 1);
    sleep(5 * SEC).await;
    slots.set_max(1);
    sleep(7 * SEC).await;
    dawdles.launched();
    sleep(3 * SEC).await;
    slots.set_max(2);
    let launched = timeout(60 * SEC, waits).await.expect("nobody is forgotten");
    assert_eq!(launched.unwrap() - start, 22 * SEC);
    drop(dawdles);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_launched_before_its_deadline_is_too_late_at_once() {
    let slots = slots(4, 10 * SEC);
    let pool = open(&slots);
    pool.try_reserve(1).unwrap().launched();
    let until = |seconds| Ask::of(1).deadline(Deadline::within(seconds * SEC));
    let start = Instant::now();
    let expected_wait = 10 * SEC;
    let late = pool.reserve(until(9)).await.unwrap_err();
    assert_eq!(late, Refused::TooLate { expected_wait });
    assert_eq!(start.elapsed(), Duration::ZERO);
    pool.reserve(until(10)).await.unwrap().launched();
    assert_eq!(start.elapsed(), 10 * SEC);
}

/// A pool that leaves its account's slots while calls are on their way takes no turn of
/// theirs along, and gives none back that is not theirs.
#[tokio::test(start_paused = true)]
async fn a_turn_of_other_slots_is_nobodys() {
    let (old, new) = (slots(4, 10 * SEC), slots(4, 10 * SEC));
    let moves = open(&old);
    let stays = open(&new);
    let held = moves.try_reserve(1).unwrap();
    let limits = TokenBudget::unlimited().account_slots(&new);
    moves.set_limits(limits).unwrap();
    stays.try_reserve(1).unwrap().launched();
    // Not launched: its turn was of the old ones.
    drop(held);
    assert_eq!(moves.eta(1), 10 * SEC);
    assert_eq!((old.snapshot().in_use, new.snapshot().in_use), (0, 0));
}

/// Whoever leaves or lapses or comes at any moment, with slots that come and go: never
/// two launches within the interval, never a moment lost while somebody could go, and
/// nobody is forgotten.
#[tokio::test(start_paused = true)]
async fn random_schedules_keep_the_interval_and_forget_nobody() {
    for seed in 0..schedules(150) {
        let mut random = Random::seeded(seed);
        let interval = Duration::from_millis(random.within(1..2_000));
        let slots = slots(random.within(1..5) as usize, interval);
        let pools: Vec<_> = (0..random.within(2..6))
            .map(|index| match index % 3 {
                2 => metered(&slots, 6_000),
                _ => open(&slots),
            })
            .collect();
        let launched = Arc::new(Mutex::new(Vec::new()));
        let mut calls = Vec::new();
        for _ in 0..60 {
            let pool = &pools[random.within(0..pools.len() as u64) as usize];
            let name = ["a", "b", "c"][random.within(0..3) as usize];
            let who = Caller::new(name).weight(random.within(1..9) as u32);
            let reserve = pool.reserve(Ask::of(random.within(1..200)).caller(who));
            let patience = match random.within(0..4) {
                0 => Duration::from_millis(random.within(0..20_000)),
                _ => Duration::from_secs(100_000),
            };
            let (idles, takes) = (random.within(0..5) == 0, random.within(0..3_000));
            let launched = Arc::clone(&launched);
            calls.push(tokio::spawn(async move {
                let Ok(pass) = timeout(patience, reserve).await else {
                    return;
                };
                let pass = pass.expect("nothing is refused");
                if idles {
                    // Let in, and then nothing comes of it.
                    return sleep(Duration::from_millis(takes)).await;
                }
                pass.launched();
                launched.lock().unwrap().push(Instant::now());
                sleep(Duration::from_millis(takes)).await;
            }));
            match random.within(0..6) {
                0 => slots.set_max(random.within(1..5) as usize),
                1 => sleep(Duration::from_millis(random.within(0..2_000))).await,
                _ => yield_now().await,
            }
        }
        let ended = timeout(100_000 * SEC, join_all(calls)).await;
        assert!(
            ended
                .expect("nobody is forgotten")
                .iter()
                .all(Result::is_ok)
        );
        let launched = launched.lock().unwrap();
        let gaps = launched.windows(2).map(|pair| pair[1] - pair[0]);
        let least = gaps.min().expect("many launches");
        assert!(least >= interval, "seed {seed}: {least:?} of {interval:?}");
        assert_eq!(slots.snapshot().in_use, 0, "seed {seed}");
        assert!(slots.snapshot().waiting.is_empty(), "seed {seed}");
    }
}

/// P4: at no instant could somebody go and does not, whoever gives up meanwhile.
#[tokio::test(start_paused = true)]
async fn no_time_is_lost_while_anybody_waits() {
    for seed in 0..schedules(50) {
        let mut random = Random::seeded(seed);
        let interval = Duration::from_millis(random.within(1..2_000));
        let slots = slots(3, interval);
        let pools: Vec<_> = (0..4).map(|_| open(&slots)).collect();
        let start = Instant::now();
        let launched = Arc::new(Mutex::new(Vec::new()));
        let mut calls: Vec<_> = (0..80)
            .map(|_| {
                let pool = &pools[random.within(0..4) as usize];
                let name = ["a", "b"][random.within(0..2) as usize];
                let weight = random.within(1..9) as u32;
                let reserve = pool.reserve(Ask::of(1).caller(Caller::new(name).weight(weight)));
                let launched = Arc::clone(&launched);
                tokio::spawn(async move {
                    reserve.await.expect("let in").launched();
                    launched.lock().unwrap().push(start.elapsed());
                })
            })
            .collect();
        for _ in 0..40 {
            sleep(interval / 3).await;
            let leaves = random.within(0..calls.len() as u64) as usize;
            calls.swap_remove(leaves).abort();
        }
        join_all(calls).await;
        let launched = launched.lock().unwrap();
        assert!(launched.len() >= 40);
        let each = (0..).map(|turn| interval * turn);
        let on_time = launched.iter().copied().eq(each.take(launched.len()));
        assert!(on_time, "seed {seed}: {launched:?} of {interval:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_slot_that_is_free_and_timely_goes_to_who_asks_only_where_nobody_stands() {
    let slots = slots(4, 10 * SEC);
    let (one, other) = (open(&slots), open(&slots));
    one.try_reserve(1).unwrap().launched();
    let mut stands = line(&one);
    advance(10 * SEC).await;
    assert_eq!(stands.woken(), 1, "its timer");
    assert!(other.try_reserve(1).is_err(), "somebody stands");
    assert_eq!(stands.woken(), 2);
    let Poll::Ready(Ok(pass)) = stands.poll() else {
        panic!("it is its turn");
    };
    pass.launched();
}

/// A newcomer goes behind all of its own pool that wait, and one of each other pool.
#[tokio::test(start_paused = true)]
async fn an_eta_counts_one_of_each_other_pool() {
    let slots = slots(4, 10 * SEC);
    let (one, other) = (open(&slots), open(&slots));
    one.try_reserve(1).unwrap().launched();
    assert_eq!((one.eta(1), other.eta(1)), (10 * SEC, 10 * SEC));
    let mut ones = [line(&one), line(&one)];
    assert_eq!((one.eta(1), other.eta(1)), (30 * SEC, 20 * SEC));
    let others = [line(&other), line(&other), line(&other)];
    assert_eq!((one.eta(1), other.eta(1)), (40 * SEC, 50 * SEC));
    drop(others);
    assert_eq!(one.eta(1), 30 * SEC);
    // A head that looks again is where it was.
    assert!(ones[0].poll().is_pending());
    assert_eq!((one.eta(1), slots.snapshot().waiting.len()), (30 * SEC, 1));
}

/// Two pools handed the one slot to each other for ever, where each call came later than the
/// time between launches lasts, the account's or the pools' own.
#[tokio::test(start_paused = true)]
async fn calls_that_all_come_late_are_launched() {
    let spaced = slots(1, SEC);
    let plain = slots(1, Duration::ZERO);
    let own = || {
        let builder = TokenBudget::unlimited().max_concurrency(1).stagger(SEC);
        builder.account_slots(&plain).build().expect("valid")
    };
    for pools in [[open(&spaced), open(&spaced)], [own(), own()]] {
        let first = pools[0].reserve(1).await.expect("a slot");
        first.launched();
        let mut calls = pools.each_ref().map(|pool| Some(line(pool)));
        advance(10 * SEC).await;
        first.settle(1);
        // One of the two was called, and comes late.
        for turn in 0..4 {
            advance(2 * SEC).await;
            let place = &mut calls[turn % 2];
            if let Some(Poll::Ready(let_in)) = place.as_mut().map(Polled::poll) {
                *place = None;
                let let_in = let_in.expect("let in");
                let_in.launched();
                let_in.settle(1);
            }
        }
        assert!(calls.iter().all(Option::is_none), "the time has come");
    }
}
