//! Whoever waits holds nothing, whatever is scarce; and whoever is let in and comes to
//! it late, or never, takes nothing from the others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::task::Poll;
use std::time::Duration;

use crate::support::account::{SEC, ten_a_second};
use crate::support::counting::Polled;
use crate::support::random::Random;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, advance, timeout};
use tollhouse::budget::Reserve;
use tollhouse::{Caller, Reservation, Snapshot, TokenBudget};

/// In this time one token is refilled; everything happens at multiples of it.
const TENTH: Duration = Duration::from_millis(100);

/// What a pool allows, and what is asked of it.
#[derive(Clone, Copy, Debug)]
struct Scene {
    slots: usize,
    interval: Duration,
    /// The most that a call costs.
    tokens: u64,
    /// The longest that a call takes, in tenths of a second.
    takes: u64,
    /// The longest that a task which was woken does nothing, in tenths of a second.
    late: u64,
}

const FEW_SLOTS: Scene = Scene {
    slots: 2,
    interval: TENTH,
    tokens: 5,
    takes: 50,
    late: 0,
};

const FEW_TOKENS: Scene = Scene {
    slots: 8,
    interval: TENTH,
    tokens: 300,
    takes: 20,
    late: 0,
};

const FEW_LAUNCHES: Scene = Scene {
    slots: 8,
    interval: SEC,
    tokens: 5,
    takes: 30,
    late: 0,
};

const CALLS: usize = 30;

const SEEDS: u64 = 15;

struct Call {
    cost: u64,
    takes: Duration,
    arrives: Instant,
    late: Duration,
    stage: Stage,
}

enum Stage {
    Away,
    Waiting(Waiting),
    Running(Reservation, Instant),
    Over,
}

struct Waiting {
    polled: Polled<Reserve>,
    /// The wake-ups that it has answered.
    seen: usize,
    /// When it runs again, where it was woken.
    runs: Option<Instant>,
}

impl Waiting {
    /// Whether its task runs now, which comes late to its wake-ups.
    fn is_up(&mut self, late: Duration, now: Instant) -> bool {
        if self.runs.is_none() && self.polled.woken() > self.seen {
            self.seen = self.polled.woken();
            self.runs = Some(now + late);
        }
        self.runs.take_if(|runs| *runs <= now).is_some()
    }
}

/// A pool whose calls are run by hand, one at a time, and looked at after each.
struct Hand {
    scene: Scene,
    budget: TokenBudget,
    start: Instant,
    /// In the order of arrival.
    calls: Vec<Call>,
    launches: Vec<(usize, Instant)>,
}

impl Hand {
    fn new(scene: Scene, random: &mut Random) -> Hand {
        let start = Instant::now();
        let mut tenths = |most| TENTH * u32::try_from(random.within(0..most + 1)).unwrap();
        let times: Vec<_> = (0..CALLS)
            .map(|_| (tenths(100), tenths(scene.takes), tenths(scene.late)))
            .collect();
        let mut calls: Vec<_> = times
            .into_iter()
            .map(|(arrives, takes, late)| Call {
                cost: random.within(1..scene.tokens + 1),
                takes,
                arrives: start + arrives,
                late,
                stage: Stage::Away,
            })
            .collect();
        calls.sort_by_key(|call| call.arrives);
        let budget = ten_a_second()
            .max_concurrency(scene.slots)
            .stagger(scene.interval)
            .build()
            .unwrap();
        Hand {
            scene,
            budget,
            start,
            calls,
            launches: Vec::new(),
        }
    }

    /// Goes on with one call, if there is anything to do for it now.
    fn go_on(&mut self, n: usize) -> bool {
        let now = Instant::now();
        let call = &mut self.calls[n];
        match &mut call.stage {
            Stage::Away if call.arrives <= now => {
                call.stage = Stage::Waiting(Waiting {
                    polled: Polled::new(self.budget.reserve(call.cost)),
                    seen: 0,
                    runs: None,
                });
                self.poll(n);
            }
            Stage::Waiting(waiting) => {
                if !waiting.is_up(call.late, now) {
                    return false;
                }
                self.poll(n);
            }
            Stage::Running(_, ends) if *ends <= now => {
                let Stage::Running(reservation, _) =
                    std::mem::replace(&mut call.stage, Stage::Over)
                else {
                    unreachable!("it was running")
                };
                reservation.settle(call.cost);
            }
            _ => return false,
        }
        true
    }

    fn poll(&mut self, n: usize) {
        let call = &mut self.calls[n];
        let Stage::Waiting(waiting) = &mut call.stage else {
            unreachable!("only those who wait are polled")
        };
        if let Poll::Ready(reservation) = waiting.polled.poll() {
            let reservation = reservation.unwrap();
            reservation.launched();
            let now = Instant::now();
            self.launches.push((n, now));
            call.stage = Stage::Running(reservation, now + call.takes);
        }
    }

    fn is_over(&self) -> bool {
        let is_over = |call: &Call| matches!(call.stage, Stage::Over);
        self.calls.iter().all(is_over)
    }

    /// Takes the pool through every instant at which anything happens, and calls
    /// `look` after each thing, then `rest` where nothing is left to do at that
    /// instant.
    async fn play(&mut self, mut look: impl FnMut(&Hand), mut rest: impl FnMut(&Hand)) {
        while !self.is_over() {
            let mut moved = true;
            while std::mem::take(&mut moved) {
                for n in 0..self.calls.len() {
                    if self.go_on(n) {
                        moved = true;
                        look(self);
                    }
                }
            }
            rest(self);
            assert!(self.start.elapsed() < 3_600 * SEC, "somebody waits forever");
            advance(TENTH).await;
        }
        assert_eq!(self.launches.len(), CALLS);
        let after = self.budget.snapshot();
        assert_eq!((after.waiting, after.in_flight), (0, 0));
        assert_eq!((after.outstanding, after.in_transit), (0, 0));
    }

    fn arrived(&self) -> impl DoubleEndedIterator<Item = &Call> {
        let has_come = |call: &&Call| !matches!(call.stage, Stage::Away);
        self.calls.iter().filter(has_come)
    }

    fn running(&self) -> usize {
        let runs = |call: &&Call| matches!(call.stage, Stage::Running(..));
        self.calls.iter().filter(runs).count()
    }

    /// Those who came first and do not wait, by the pool's own count, hold all that
    /// is held: slots, tokens and the time until the next launch.
    fn assert_that_who_waits_holds_nothing(&self, admitted: &mut Admitted) {
        let seen = self.budget.snapshot();
        let of_all = self.arrived().count() - seen.waiting;
        let holding = || {
            self.arrived()
                .take(of_all)
                .filter(|call| !matches!(call.stage, Stage::Over))
        };
        assert_eq!(seen.in_flight, holding().count(), "{seen:?}");
        let reserved: u64 = holding().map(|call| call.cost).sum();
        assert_eq!(seen.outstanding, reserved, "{seen:?}");
        let now = Instant::now();
        let taken: u64 = self.calls[admitted.count..of_all]
            .iter()
            .map(|call| call.cost)
            .sum();
        if admitted.looked == Some(now) {
            let left = admitted.level - taken.cast_signed();
            assert_eq!(seen.level, left, "{seen:?}");
        }
        if of_all > admitted.count {
            admitted.last = Some(now);
        }
        let next = admitted.last.map(|last| last + self.scene.interval);
        assert_eq!(seen.next_launch, next.filter(|next| *next > now));
        (admitted.count, admitted.level) = (of_all, seen.level);
        admitted.looked = Some(now);
    }
}

/// Who had been let in when it was looked last.
#[derive(Default)]
struct Admitted {
    count: usize,
    level: i64,
    last: Option<Instant>,
    looked: Option<Instant>,
}

/// How often somebody waited for each of the three things alone.
#[derive(Debug, Default)]
struct Scarce {
    slots: usize,
    tokens: usize,
    launches: usize,
}

impl Scarce {
    /// Where somebody waits though nothing is left to do, at least one thing is not
    /// there.
    fn note(&mut self, hand: &Hand) {
        let seen = hand.budget.snapshot();
        let waits = |call: &&Call| matches!(call.stage, Stage::Waiting(_));
        let Some(head) = hand.calls.iter().find(waits) else {
            return;
        };
        match lacks(&seen, head.cost) {
            (false, false, false) => panic!("it could be let in: {seen:?}"),
            (true, false, false) => self.slots += 1,
            (false, true, false) => self.tokens += 1,
            (false, false, true) => self.launches += 1,
            _ => {}
        }
    }
}

fn lacks(seen: &Snapshot, cost: u64) -> (bool, bool, bool) {
    let slots = Some(seen.in_flight) == seen.max_concurrency;
    let tokens = seen.level < cost.cast_signed();
    (slots, tokens, seen.next_launch.is_some())
}

async fn plays_in_order(scene: Scene) -> Scarce {
    let mut scarce = Scarce::default();
    for seed in 0..SEEDS {
        let mut hand = Hand::new(scene, &mut Random::seeded(seed));
        let mut admitted = Admitted::default();
        let look = |hand: &Hand| hand.assert_that_who_waits_holds_nothing(&mut admitted);
        hand.play(look, |hand| scarce.note(hand)).await;
        let order = hand.launches.iter().map(|(n, _)| *n);
        assert!(order.eq(0..CALLS), "seed {seed}");
    }
    scarce
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_a_slot_holds_nothing() {
    let scarce = plays_in_order(FEW_SLOTS).await;
    assert!(scarce.slots > 300, "{scarce:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_tokens_holds_nothing() {
    let scarce = plays_in_order(FEW_TOKENS).await;
    assert!(scarce.tokens > 300, "{scarce:?}");
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_its_turn_to_launch_holds_nothing() {
    let scarce = plays_in_order(FEW_LAUNCHES).await;
    assert!(scarce.launches > 300, "{scarce:?}");
}

/// Everybody comes to what he was given up to three seconds late.
#[tokio::test(start_paused = true)]
async fn tasks_that_come_late_get_no_more_than_there_is() {
    for scene in [FEW_SLOTS, FEW_TOKENS, FEW_LAUNCHES] {
        let scene = Scene { late: 30, ..scene };
        for seed in 0..SEEDS {
            let mut hand = Hand::new(scene, &mut Random::seeded(seed));
            let look = |hand: &Hand| {
                let seen = hand.budget.snapshot();
                assert!(hand.running() <= seen.in_flight);
                assert!(seen.in_flight <= scene.slots, "{seen:?}");
                assert!(seen.level >= 0, "{seen:?}");
            };
            hand.play(look, |_| {}).await;
            let apart = |two: &[(usize, Instant)]| two[1].1 - two[0].1 >= scene.interval;
            assert!(hand.launches.windows(2).all(apart), "seed {seed}");
        }
    }
}

/// Three who wait for a launch a second, and two slots.
fn three() -> (TokenBudget, Reservation, [Polled<Reserve>; 3]) {
    let budget = ten_a_second()
        .max_concurrency(2)
        .stagger(SEC)
        .build()
        .unwrap();
    let first = budget.try_reserve(100).unwrap();
    first.launched();
    let mut three = [(); 3].map(|()| Polled::new(budget.reserve(100)));
    assert!(three.iter_mut().all(|one| one.poll().is_pending()));
    (budget, first, three)
}

/// Somebody else moves the line on.
fn move_on(budget: &TokenBudget) {
    budget.set_caller(&Caller::default());
}

/// Its turn has come, and it has not looked yet.
async fn granted(budget: &TokenBudget, one: &Polled<Reserve>) {
    advance(SEC).await;
    move_on(budget);
    assert!(one.woken() > 0);
    assert_eq!(budget.snapshot().waiting, 2);
}

#[tokio::test(start_paused = true)]
async fn who_is_let_in_and_dropped_gives_all_back() {
    let (budget, first, [one, mut other, _third]) = three();
    granted(&budget, &one).await;
    assert_eq!(budget.snapshot().level, 400);
    drop(one);
    // The next has it at the same instant: its slot, its tokens and its turn.
    let seen = budget.snapshot();
    assert_eq!((seen.waiting, seen.in_flight, seen.level), (1, 2, 400));
    let next = other.poll();
    assert!(next.is_ready());
    drop((next, other, _third, first));
    let seen = budget.snapshot();
    assert_eq!((seen.waiting, seen.in_flight, seen.level), (0, 0, 500));
}

#[tokio::test(start_paused = true)]
async fn who_is_let_in_and_never_comes_holds_up_nobody_beyond_what_it_was_given() {
    let (budget, first, [one, mut other, mut third]) = three();
    granted(&budget, &one).await;
    advance(SEC).await;
    assert!(other.poll().is_pending(), "both slots are held");
    first.settle(100);
    let Poll::Ready(Ok(next)) = other.poll() else {
        panic!("a slot, tokens and a turn are there")
    };
    next.launched();
    next.settle(100);
    advance(SEC).await;
    let Poll::Ready(Ok(last)) = third.poll() else {
        panic!("and again")
    };
    last.settle(100);
    assert_eq!(budget.snapshot().in_flight, 1);
    drop(one);
    assert_eq!(budget.snapshot().in_flight, 0);
}

#[tokio::test(start_paused = true)]
async fn who_comes_an_hour_after_it_was_let_in_waits_for_a_turn_again() {
    let (budget, first, [mut one, mut other, third]) = three();
    drop(third);
    first.settle(100);
    advance(SEC).await;
    move_on(&budget);
    assert_eq!(budget.snapshot().waiting, 1);
    // An hour later somebody else has the next turn, and launches at once.
    advance(3_600 * SEC).await;
    let Poll::Ready(Ok(next)) = other.poll() else {
        panic!("its turn is an hour old")
    };
    next.launched();
    let launched = Instant::now();
    assert!(one.poll().is_pending());
    let seen = budget.snapshot();
    // It has given all of it back.
    assert_eq!((seen.in_flight, seen.waiting), (1, 1));
    assert_eq!((seen.outstanding, seen.level), (100, 500));
    assert_eq!(seen.next_launch, Some(launched + SEC));
    let late = one.into_future().await.unwrap();
    assert_eq!(launched.elapsed(), SEC);
    drop((late, next));
    assert_eq!(budget.snapshot().in_flight, 0);
}

/// In a task of its own: comes late to every wake-up, and gives up at some of them.
async fn comes_late(budget: TokenBudget, running: Arc<AtomicUsize>, seed: u64) -> bool {
    let mut random = Random::seeded(seed);
    let mut polls = random.within(1..40);
    let mut reserve = std::pin::pin!(budget.reserve(1));
    let mut is_asleep = false;
    let reservation = std::future::poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= u64::from(seed.is_multiple_of(3));
        // Every other time it does nothing for a while, whatever it was given.
        is_asleep = !is_asleep;
        if is_asleep && random.within(0..2) == 0 {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if seed.is_multiple_of(3) {
            cx.waker().wake_by_ref();
        }
        reserve.as_mut().poll(cx).map(|it| Some(it.unwrap()))
    })
    .await;
    let Some(reservation) = reservation else {
        return false;
    };
    reservation.launched();
    assert!(running.fetch_add(1, SeqCst) < SLOTS);
    yield_now().await;
    running.fetch_sub(1, SeqCst);
    reservation.settle(1);
    true
}

const SLOTS: usize = 3;

/// The same over real threads, with spacing, so that some come to what has lapsed.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_come_late_or_leave_lose_nobody() {
    const TASKS: u64 = 2_000;
    let budget = TokenBudget::per_minute(1_000_000_000)
        .max_concurrency(SLOTS)
        .stagger(Duration::from_micros(20))
        .build()
        .unwrap();
    let running = Arc::new(AtomicUsize::new(0));
    let mut tasks = JoinSet::new();
    for seed in 0..TASKS {
        tasks.spawn(comes_late(budget.clone(), Arc::clone(&running), seed));
    }
    let all = timeout(20 * SEC, tasks.join_all())
        .await
        .expect("nobody waits forever");
    let done = all.iter().filter(|done| **done).count();
    assert!(done as u64 >= TASKS - TASKS / 3, "{done}");
    assert!(done < all.len(), "some have given up");
    let after = budget.snapshot();
    assert_eq!((after.waiting, after.in_flight), (0, 0));
    assert_eq!((after.outstanding, after.in_transit), (0, 0));
}
