//! Fair between callers, first come first served within one.

use std::cell::RefCell;
use std::convert::Infallible;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::support::account::{SEC, one_a_second};
use crate::support::counting::Polled;
use crate::support::random::Random;
use futures_util::FutureExt;
use futures_util::future::join_all;
use tokio::task::{JoinSet, LocalSet, spawn_local, yield_now};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tollhouse::budget::Reserve;
use tollhouse::gate::{Launch, Now};
use tollhouse::{
    Accounting, Arrival, Ask, Caller, ConcurrencyLayer, Gate, Pass, Refused, Reservation,
    StaggerLayer, TokenBudget, Window,
};
use tower::{Layer, ServiceExt, service_fn};

fn web() -> Caller {
    Caller::new("web").weight(8)
}

fn batch() -> Caller {
    Caller::new("batch")
}

fn budget(tokens_per_minute: u64) -> TokenBudget {
    let builder = TokenBudget::per_minute(tokens_per_minute).window(Window::Off);
    builder.build().unwrap()
}

/// Takes what is asked for, launches it and is answered at once; says how long it
/// waited.
async fn spend(budget: &TokenBudget, ask: Ask) -> Duration {
    let start = Instant::now();
    let reservation = budget.reserve(ask).await.unwrap();
    let cost = reservation.cost();
    reservation.launched();
    reservation.settle(cost);
    start.elapsed()
}

/// Spends all that there is.
async fn drain(budget: &TokenBudget) {
    let all = budget.snapshot().level.unsigned_abs();
    spend(budget, Ask::of(all)).await;
}

/// The value below which are so many thousandths.
fn percentile(mut values: Vec<Duration>, permille: usize) -> Duration {
    values.sort_unstable();
    values[(values.len() - 1) * permille / 1_000]
}

#[tokio::test(start_paused = true)]
async fn a_person_is_served_before_ten_thousand_of_a_batch() {
    let budget = budget(30_000);
    drain(&budget).await;
    LocalSet::new()
        .run_until(async {
            for _ in 0..10_000 {
                let budget = budget.clone();
                spawn_local(async move { spend(&budget, Ask::of(500).caller(batch())).await });
            }
            while budget.snapshot().waiting < 10_000 {
                yield_now().await;
            }
            for _ in 0..150 {
                let waited = spend(&budget, Ask::of(500).caller(web())).await;
                assert!(waited <= 2 * SEC, "{waited:?}");
                sleep(2 * SEC).await;
            }
            let [nobody, batch, ..] = &budget.snapshot().callers[..] else {
                panic!("the batch waits")
            };
            assert_eq!((nobody.waiting, batch.name.as_deref()), (0, Some("batch")));
            assert!(batch.waiting > 9_000);
        })
        .await;
}

/// A batch of ever more half-limit requests, which refill in half a minute each, and at
/// half load somebody's of a thousand tokens each.
#[derive(Clone)]
struct HalfLimit {
    tokens_per_minute: u64,
    large: Caller,
    small: Caller,
    /// How long after the start the first small one comes.
    phase: Duration,
    small_calls: u32,
}

/// What came of it.
#[derive(Default)]
struct Outcome {
    waits: Vec<Duration>,
    launches: Vec<Duration>,
    tokens: u64,
}

impl HalfLimit {
    fn of(tokens_per_minute: u64) -> Self {
        HalfLimit {
            tokens_per_minute,
            large: batch(),
            small: web(),
            phase: Duration::ZERO,
            small_calls: 900,
        }
    }

    /// The time in which twice a small one's tokens refill.
    fn gap(&self) -> Duration {
        SEC * 120_000 / self.tokens_per_minute as u32
    }

    async fn play(self) -> Outcome {
        let budget = budget(self.tokens_per_minute);
        let start = Instant::now();
        let outcome = Rc::new(RefCell::new(Outcome::default()));
        let half = self.tokens_per_minute / 2;
        drain(&budget).await;
        LocalSet::new()
            .run_until(async {
                for _ in 0..5 {
                    let (budget, large) = (budget.clone(), self.large.clone());
                    let outcome = Rc::clone(&outcome);
                    spawn_local(async move {
                        loop {
                            spend(&budget, Ask::of(half).caller(large.clone())).await;
                            let outcome = &mut *outcome.borrow_mut();
                            outcome.launches.push(start.elapsed());
                            outcome.tokens += half;
                        }
                    });
                }
                for n in 0..self.small_calls {
                    sleep_until(start + self.phase + n * self.gap()).await;
                    let (budget, small) = (budget.clone(), self.small.clone());
                    let outcome = Rc::clone(&outcome);
                    spawn_local(async move {
                        let waited = spend(&budget, Ask::of(1_000).caller(small)).await;
                        let outcome = &mut *outcome.borrow_mut();
                        outcome.waits.push(waited);
                        outcome.tokens += 1_000;
                    });
                }
                sleep(self.gap()).await;
            })
            .await;
        outcome.take()
    }
}

impl Outcome {
    /// No large one waits for longer than five times its own refill.
    fn assert_none_is_starved(&self) {
        let gaps = self.launches.windows(2).map(|two| two[1] - two[0]);
        let longest = gaps.max().expect("several");
        assert!(longest <= 5 * 30 * SEC, "{longest:?}");
    }
}

/// A thousand tokens every two seconds, which refill in one.
#[tokio::test(start_paused = true)]
async fn a_large_head_is_passed_and_not_starved() {
    let half_limit = HalfLimit::of(60_000);
    let fair = half_limit.clone().play().await;
    fair.assert_none_is_starved();
    assert_eq!(fair.waits.len(), 900);
    let longest = fair.waits.iter().max().unwrap();
    assert!(*longest <= SEC, "{longest:?}");

    let (large, small) = Default::default();
    let plain = HalfLimit {
        large,
        small,
        ..half_limit
    }
    .play()
    .await;
    assert!(percentile(plain.waits, 500) > 20 * SEC);
    let difference = fair.tokens.abs_diff(plain.tokens);
    assert!(difference <= plain.tokens / 200 + 30_000, "{difference}");
}

/// A large one leaves nothing behind unless it waits for longer than it need: so the next
/// small one waits for no more than its own refill, which is two seconds at 30,000 tokens a
/// minute. The level is at its highest just before a small one comes, so each large one is
/// launched within the two seconds before one, evenly: one in fifteen waits, half of these
/// for more than a second.
#[tokio::test(start_paused = true)]
async fn beside_large_ones_a_call_waits_for_no_more_than_its_own_refill() {
    let mut waits = Vec::new();
    // The calls come every four seconds: at all of their quarters.
    for phase in (0..4_000).step_by(250).map(Duration::from_millis) {
        let small_calls = 150;
        let half_limit = HalfLimit::of(30_000);
        let outcome = HalfLimit {
            phase,
            small_calls,
            ..half_limit
        }
        .play()
        .await;
        outcome.assert_none_is_starved();
        waits.extend(outcome.waits);
    }
    let all = waits.len();
    assert!(all >= 16 * 149, "{all}");
    assert!(waits.iter().all(|waited| *waited <= 2 * SEC));
    let long = waits.iter().filter(|waited| **waited > SEC).count();
    assert!(long.abs_diff(all / 30) <= 16, "{long} of {all}");
    let [p96, p99] = [960, 990].map(|permille| percentile(waits.clone(), permille).as_secs_f64());
    assert!(p96 <= 1.0 && (p99 - 1.7).abs() < 0.1, "{p96} {p99}");
}

/// Three callers of weights 1, 2 and 5 who always have something waiting: at every
/// instant, of any two, what was reserved over weight differs by no more than the
/// largest request of each over its weight. In whole numbers.
async fn shares(tokens_per_minute: u64) -> [u64; 3] {
    const WEIGHTS: [u64; 3] = [1, 2, 5];
    const LARGEST: u64 = 4_999;
    let budget = budget(tokens_per_minute);
    drain(&budget).await;
    let reserved = Rc::new(RefCell::new([0_u64; 3]));
    LocalSet::new()
        .run_until(async {
            for n in 0..3 * 40 {
                let (budget, reserved) = (budget.clone(), Rc::clone(&reserved));
                let mut random = Random::seeded(n as u64 + 1);
                spawn_local(async move {
                    let mine = n % 3;
                    let weight = WEIGHTS[mine] as u32;
                    let caller = Caller::new(format!("{mine}")).weight(weight);
                    loop {
                        let cost = random.within(50..LARGEST + 1);
                        let ask = Ask::of(cost).caller(caller.clone());
                        spend(&budget, ask).await;
                        let all = &mut *reserved.borrow_mut();
                        all[mine] += cost;
                        for (other, theirs) in all.iter().enumerate() {
                            let (w, v) = (WEIGHTS[mine], WEIGHTS[other]);
                            let apart = (all[mine] * v).abs_diff(theirs * w);
                            assert!(apart <= LARGEST * (w + v), "{mine} {other}: {all:?}");
                        }
                    }
                });
            }
            sleep(600 * SEC).await;
        })
        .await;
    reserved.take()
}

#[tokio::test(start_paused = true)]
async fn weights_are_shares_at_every_instant() {
    for limit in [25_500, 225_000, 1_000_000] {
        let reserved = shares(limit).await;
        let all: u64 = reserved.iter().sum();
        assert!(all >= limit * 99 / 10, "{limit}: {reserved:?}");
        if limit < 225_000 {
            continue;
        }
        for (reserved, weight) in reserved.into_iter().zip([1, 2, 5]) {
            let due = all * weight / 8;
            assert!(reserved.abs_diff(due) <= due / 50, "{reserved} of {all}");
        }
    }
}

/// What two callers have used in ten minutes: one reserves 4,000 and uses 400, the
/// other reserves and uses 1,000.
async fn used(accounting: Accounting, in_flight: usize) -> [u64; 2] {
    let budget = TokenBudget::per_minute(600_000)
        .window(Window::Off)
        .accounting(accounting)
        .max_concurrency(in_flight)
        .build()
        .unwrap();
    let used = Rc::new(RefCell::new([0_u64; 2]));
    LocalSet::new()
        .run_until(async {
            for n in 0..4 * in_flight + 8 {
                let (budget, used) = (budget.clone(), Rc::clone(&used));
                let mut random = Random::seeded(n as u64 + 1);
                spawn_local(async move {
                    let mine = n % 2;
                    let (reserves, uses) = [(4_000, 400), (1_000, 1_000)][mine];
                    let caller = Caller::new(["vague", "exact"][mine]);
                    loop {
                        let ask = Ask::of(reserves).caller(caller.clone());
                        let reservation = budget.reserve(ask).await.unwrap();
                        reservation.launched();
                        sleep(Duration::from_millis(random.within(1..2_000))).await;
                        reservation.settle(uses);
                        used.borrow_mut()[mine] += match accounting {
                            Accounting::AsRequested => reserves,
                            _ => uses,
                        };
                    }
                });
            }
            sleep(600 * SEC).await;
        })
        .await;
    used.take()
}

#[tokio::test(start_paused = true)]
async fn shares_follow_what_was_really_used() {
    for in_flight in [1, 3, 20, 100] {
        let [vague, exact] = used(Accounting::AsUsed, in_flight).await;
        let mean = (vague + exact) / 2;
        assert!(
            vague.abs_diff(mean) <= mean / 20,
            "{in_flight}: {vague} {exact}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_not_given_back_is_not_had_twice() {
    for in_flight in [3, 100] {
        let [vague, exact] = used(Accounting::AsRequested, in_flight).await;
        let mean = (vague + exact) / 2;
        assert!(vague <= mean + mean / 20, "{in_flight}: {vague} {exact}");
    }
}

/// Two of the first come again behind ten thousand of their own caller, of whom one is
/// served each second.
#[tokio::test(start_paused = true)]
async fn a_retry_is_served_where_it_would_have_been() {
    const OTHERS: usize = 10_000;
    let budget = one_a_second();
    drain(&budget).await;
    let start = Instant::now();
    let first = Arrival::now();
    let served = Rc::new(RefCell::new(Vec::new()));
    let take = |n: usize, ask: Ask| {
        let (budget, served) = (budget.clone(), Rc::clone(&served));
        spawn_local(async move {
            spend(&budget, ask.caller(batch())).await;
            served.borrow_mut().push((start.elapsed(), n));
        })
    };
    LocalSet::new()
        .run_until(async {
            sleep(SEC / 4).await;
            let second = Arrival::now();
            sleep(SEC / 4).await;
            let mut all: Vec<_> = (1..=OTHERS).map(|n| take(n, Ask::of(1))).collect();
            sleep(5 * SEC).await;
            all.push(take(OTHERS + 2, Ask::of(1).arrived(second)));
            all.push(take(OTHERS + 1, Ask::of(1).arrived(first)));
            join_all(all).await;
        })
        .await;
    let order = (1..=5).chain([OTHERS + 1, OTHERS + 2]).chain(6..=OTHERS);
    let seconds = (1..).map(|n| n * SEC);
    assert!(served.take().into_iter().eq(seconds.zip(order)));
}

/// How long a request of half a minute waits that somebody's small ones may pass, while one
/// of this caller, who came before, joins and leaves again and again.
async fn waits_beside_one_who_comes_and_goes(comes: Caller, tokens: u64) -> Duration {
    let budget = one_a_second();
    let first = Arrival::now();
    sleep(SEC).await;
    drain(&budget).await;
    let comes_and_goes = async {
        loop {
            sleep(SEC / 2).await;
            let ask = Ask::of(tokens).caller(comes.clone()).arrived(first);
            assert!(timeout(SEC, budget.reserve(ask)).await.is_err());
            sleep(SEC / 2).await;
        }
    };
    let small = async {
        sleep(SEC / 4).await;
        loop {
            spend(&budget, Ask::of(1).caller(web())).await;
        }
    };
    let large = spend(&budget, Ask::of(30).caller(batch()));
    tokio::select! {
        waited = timeout(1_000 * SEC, large) => waited.expect("it is starved"),
        never = async { tokio::join!(comes_and_goes, small) } => match never.0 {},
    }
}

/// Four times its own cost passes a head, and then nothing, whoever else stands before it
/// meanwhile.
#[tokio::test(start_paused = true)]
async fn what_passes_a_head_is_bounded_whoever_comes_and_goes() {
    let bound = 4 * 30 * SEC + 30 * SEC;
    for tokens in [30, 31, 59] {
        let own = waits_beside_one_who_comes_and_goes(batch(), tokens).await;
        let others = waits_beside_one_who_comes_and_goes(Caller::new("other"), tokens).await;
        assert_eq!((own, others), (bound, bound), "{tokens}");
    }
}

/// Who may pass those who wait need not wait, however few may; but no more passes a head
/// for that.
#[tokio::test(start_paused = true)]
async fn who_need_not_wait_is_none_too_many() {
    let bounded = || {
        TokenBudget::per_minute(60)
            .window(Window::Off)
            .max_waiting(1)
    };
    for tries in [false, true] {
        let budget = bounded().build().unwrap();
        drain(&budget).await;
        let start = Instant::now();
        let mut large = Polled::new(budget.reserve(Ask::of(30).caller(batch())));
        assert!(large.poll().is_pending());
        let small = |tokens: u64| {
            let ask = Ask::of(tokens).caller(web());
            match tries {
                true => budget.try_reserve(ask),
                false => budget.reserve(ask).now_or_never().expect("at once"),
            }
        };
        assert!(small(1).is_err(), "there is nothing yet");
        for _ in 0..120 {
            sleep(SEC).await;
            assert!(small(2).is_err(), "there is but one");
            small(1).unwrap().settle(1);
        }
        for _ in 0..29 {
            sleep(SEC).await;
            let refused = small(1).unwrap_err();
            assert!(matches!(refused, Refused::Overloaded { waiting: 1, .. }));
        }
        large.into_future().await.unwrap().settle(30);
        assert_eq!(start.elapsed(), 150 * SEC, "{tries}");
    }
}

/// What it would have to wait, were all served in turn, is no matter then.
#[tokio::test(start_paused = true)]
async fn who_need_not_wait_does_not_wait_too_long() {
    let bounded = TokenBudget::per_minute(60).window(Window::Off);
    let budget = bounded.max_wait(10 * SEC).build().unwrap();
    drain(&budget).await;
    sleep(20 * SEC).await;
    let mut large = Polled::new(budget.reserve(Ask::of(30).caller(batch())));
    assert!(large.poll().is_pending());
    let ask = || Ask::of(20).caller(Caller::new("one as heavy"));
    assert_eq!(budget.eta(ask()), 20 * SEC);
    let passes = budget.reserve(ask()).now_or_never().expect("at once");
    drop(passes.unwrap());
    drop(budget.try_reserve(ask()).unwrap());
    assert!(budget.try_reserve(Ask::of(20).caller(batch())).is_err());
    assert!(budget.try_reserve(Ask::of(21).caller(web())).is_err());
}

/// Requests of ten tokens each, of which one refills a second.
struct Line {
    budget: TokenBudget,
    start: Instant,
    waiting: Vec<(char, Polled<Reserve>)>,
    held: Vec<Reservation>,
}

impl Line {
    /// So many of each of two callers, who come in turn.
    async fn of(each: usize) -> Line {
        let builder = TokenBudget::per_minute(600).window(Window::Off);
        let budget = builder.accounting(Accounting::AsUsed).build().unwrap();
        drain(&budget).await;
        let mut waiting = Vec::new();
        for name in std::iter::repeat_n(['a', 'b'], each).flatten() {
            let ask = Ask::of(10).caller(Caller::new(name.to_string()));
            let mut reserve = Polled::new(budget.reserve(ask));
            assert!(reserve.poll().is_pending());
            waiting.push((name, reserve));
            sleep(Duration::from_millis(1)).await;
        }
        Line {
            budget,
            start: Instant::now(),
            waiting,
            held: Vec::new(),
        }
    }

    /// Whose were let in over so many seconds; of those of one second, who came first.
    async fn serve(&mut self, seconds: u32) -> String {
        let mut names = String::new();
        for _ in 0..seconds {
            sleep(SEC).await;
            names += &self.let_in();
        }
        names
    }

    fn let_in(&mut self) -> String {
        let mut names = String::new();
        for (name, mut reserve) in std::mem::take(&mut self.waiting) {
            let Poll::Ready(held) = reserve.poll() else {
                self.waiting.push((name, reserve));
                continue;
            };
            let held = held.unwrap();
            held.launched();
            self.held.push(held);
            names.push(name);
        }
        names
    }

    /// Six are in flight as `a` comes to weigh a thousand times as much, and sixteen as
    /// it weighs again what it did.
    async fn with_sixteen_in_flight() -> Line {
        let mut line = Line::of(60).await;
        assert_eq!(line.serve(6).await, "ababab");
        line.weigh("a", 1_000);
        assert_eq!(line.serve(10).await, "abaaaaaaaa");
        line.weigh("a", 1);
        line
    }

    fn weigh(&self, name: &str, weight: u32) {
        self.budget.set_caller(&Caller::new(name).weight(weight));
    }

    /// All in flight are over, and have used so much.
    fn settle(&mut self, used: u64) {
        self.held.drain(..).for_each(|held| held.settle(used));
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_had_under_another_weight_is_not_paid_for_again() {
    let mut line = Line::with_sixteen_in_flight().await;
    line.settle(10);
    assert_eq!(line.serve(30).await, "ab".repeat(15));
}

#[tokio::test(start_paused = true)]
async fn what_is_given_back_under_another_weight_is_what_was_taken() {
    let mut line = Line::with_sixteen_in_flight().await;
    line.settle(0);
    let served = line.serve(30).await;
    let of = |name| served.matches(name).count();
    // Nothing of what either has had before counts any more.
    assert_eq!((of('a'), of('b')), (23, 23), "{served}");
}

/// Nobody is served while it weighs more, though each one comes back then, who left under
/// another weight: it is as if nothing had been.
#[tokio::test(start_paused = true)]
async fn a_weight_that_changes_for_a_moment_leaves_the_order_as_it_was() {
    let mut orders = Vec::new();
    for heavy in [3, 1_000] {
        let mut line = Line::of(60).await;
        line.weigh("a", 3);
        let mut order = Vec::new();
        while order.len() < 60 {
            sleep(SEC / 10).await;
            let name = line.let_in();
            if !name.is_empty() {
                order.push((name, Instant::now() - line.start));
            }
            line.weigh("a", heavy);
            line.settle(7);
            line.weigh("a", 3);
        }
        let of_a = order.iter().filter(|(name, _)| name == "a").count();
        assert_eq!(of_a, 45, "{order:?}");
        orders.push(order);
    }
    assert_eq!(orders[0], orders[1]);
}

#[tokio::test(start_paused = true)]
async fn callers_of_one_call_each_are_forgotten() {
    let budget = budget(15_000_000);
    LocalSet::new()
        .run_until(async {
            for n in 0..25_000 {
                let budget = budget.clone();
                let caller = Caller::new(format!("caller {n}"));
                spawn_local(async move { spend(&budget, Ask::of(1_000).caller(caller)).await });
            }
            sleep(20 * SEC).await;
            let snapshot = budget.snapshot();
            assert!(snapshot.waiting > 0);
            assert!(snapshot.callers.len() <= 1 + 1_024 + 64);
            sleep(100 * SEC).await;
        })
        .await;
    let callers = budget.snapshot().callers;
    assert_eq!(callers.len(), 1, "the one that nobody named");
    assert_eq!((callers[0].waiting, callers[0].in_flight), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn ever_new_names_leave_a_steady_caller_its_share() {
    let budget = budget(60_000);
    drain(&budget).await;
    let mine = Rc::new(RefCell::new(0_u64));
    LocalSet::new()
        .run_until(async {
            for _ in 0..3 {
                let (budget, mine) = (budget.clone(), Rc::clone(&mine));
                spawn_local(async move {
                    loop {
                        spend(&budget, Ask::of(10).caller(Caller::new("steady"))).await;
                        *mine.borrow_mut() += 10;
                    }
                });
            }
            yield_now().await;
            for n in 0..2_000 {
                let budget = budget.clone();
                spawn_local(async move {
                    for m in 0.. {
                        let caller = Caller::new(format!("{n} {m}"));
                        spend(&budget, Ask::of(10).caller(caller)).await;
                    }
                });
            }
            sleep(150 * SEC).await;
            assert!(budget.snapshot().callers.len() <= 1 + 1_024 + 64);
        })
        .await;
    let all = 150_000;
    let mine = *mine.borrow();
    assert!(mine + 20 >= all / 1_025, "{mine} of {all}");
}

#[tokio::test(start_paused = true)]
async fn slots_and_turns_are_shared_by_weight() {
    let slots = ConcurrencyLayer::new(2)
        .until_response()
        .by(|who: &&'static str| Caller::new(*who).weight(if *who == "web" { 3 } else { 1 }));
    let turns = StaggerLayer::new(SEC)
        .by(|who: &&'static str| Caller::new(*who).weight(if *who == "web" { 3 } else { 1 }));
    let served = Rc::new(RefCell::new(Vec::new()));
    let answer = {
        let served = Rc::clone(&served);
        service_fn(move |who: &'static str| {
            served.borrow_mut().push(who);
            async {
                sleep(SEC).await;
                Ok::<_, Infallible>(())
            }
        })
    };
    LocalSet::new()
        .run_until(async {
            let by_slots = slots.layer(answer.clone());
            let by_turns = turns.layer(answer);
            for _ in 0..100 {
                spawn_local(by_slots.clone().oneshot("batch"));
                spawn_local(by_slots.clone().oneshot("web"));
            }
            sleep(42 * SEC).await;
            let web = served.take().iter().filter(|who| **who == "web").count();
            assert!((60..=66).contains(&web), "{web} of 84 slots");
            sleep(200 * SEC).await;
            for _ in 0..100 {
                spawn_local(by_turns.clone().oneshot("batch"));
                spawn_local(by_turns.clone().oneshot("web"));
            }
            yield_now().await;
            served.take();
            sleep(80 * SEC).await;
        })
        .await;
    let web = served.take().iter().filter(|who| **who == "web").count();
    assert!((59..=61).contains(&web), "{web} of 80 turns");
}

type Turn = <StaggerLayer as Gate<(), ()>>::Pass;

/// One that comes to the gate, and whether it is let in at once.
fn enter(gate: &StaggerLayer) -> (Turn, bool) {
    let mut turn = Gate::<(), ()>::pass(gate, &());
    let admitted = is_in(&mut turn);
    (turn, admitted)
}

fn is_in(turn: &mut Turn) -> bool {
    let mut cx = Context::from_waker(Waker::noop());
    turn.poll_admitted(&mut cx, &mut Now::unread()).is_ready()
}

fn launched(turn: &mut Turn) {
    turn.launched(Launch::ToWire, &mut Now::unread());
}

/// A grant that its owner slept through goes back, and he stands first again: not behind
/// those who came after him. Of his own lane at least, where there are several.
#[tokio::test(start_paused = true)]
async fn who_slept_through_his_turn_stands_first_again() {
    let gate = StaggerLayer::new(SEC);
    let (mut first, admitted) = enter(&gate);
    assert!(admitted);
    launched(&mut first);
    let [(mut sleeper, _), (mut awake, _), (mut after, _)] = [(); 3].map(|()| enter(&gate));
    // Each newcomer moves the line on: the sleeper is granted the second second, and
    // sleeps; the one behind him is granted the third, and goes.
    sleep(SEC).await;
    let (mut fourth, _) = enter(&gate);
    sleep(SEC).await;
    let (mut last, _) = enter(&gate);
    assert!(is_in(&mut awake));
    launched(&mut awake);
    assert!(!is_in(&mut sleeper), "his grant has lapsed");

    for next in [&mut sleeper, &mut after, &mut fourth, &mut last] {
        sleep(SEC).await;
        assert!(is_in(next), "in the order of arrival");
        launched(next);
    }
}

/// Each of several is slow to wake, and one of them twice.
#[tokio::test(start_paused = true)]
async fn those_whose_grants_have_lapsed_go_in_the_order_of_arrival() {
    let gate = StaggerLayer::new(SEC);
    let (mut first, admitted) = enter(&gate);
    assert!(admitted);
    launched(&mut first);
    let [(mut one, _), (mut two, _), (mut three, _)] = [(); 3].map(|()| enter(&gate));
    // Each newcomer moves the line on, and so has the next one granted a second.
    let mut newcomers = Vec::new();
    for _ in 0..3 {
        sleep(SEC).await;
        newcomers.push(enter(&gate).0);
    }
    assert!(!is_in(&mut one) && !is_in(&mut two), "the third's it is");
    assert!(is_in(&mut three));
    launched(&mut three);
    sleep(SEC).await;
    newcomers.push(enter(&gate).0);
    sleep(SEC).await;
    // It was granted the second before this one.
    assert!(is_in(&mut one), "before whoever came after it");
    launched(&mut one);
    for next in [&mut two].into_iter().chain(&mut newcomers) {
        sleep(SEC).await;
        assert!(is_in(next), "in the order of arrival");
        launched(next);
    }
}

/// The first of each, whatever stands behind it.
#[tokio::test(start_paused = true)]
async fn a_callers_next_is_told_its_place_and_when_it_goes() {
    let budget = budget(60_000);
    drain(&budget).await;
    let start = Instant::now();
    let mut all = JoinSet::new();
    let mut join = async |name: &'static str, cost: u64| {
        all.spawn(budget.reserve(Ask::of(cost).caller(Caller::new(name))));
        sleep(Duration::from_millis(1)).await;
    };
    // 1,000 tokens a second.
    let next = |name: &'static str| {
        let next = budget.next_in_line(&Caller::new(name))?;
        Some((next.place, start.elapsed() + next.expected_wait))
    };
    join("batch", 2_000).await;
    join("batch", 3_000).await;
    assert_eq!((next("batch"), next("web")), (Some((1, 2 * SEC)), None));
    join("web", 4_000).await;
    // Both begin at the same tag, and the batch came first. How much of its lane goes
    // before is reckoned.
    assert_eq!(next("batch"), Some((1, 2 * SEC)));
    let (place, goes) = next("web").expect("it waits");
    assert_eq!(place, 2);
    assert!((4 * SEC..=9 * SEC).contains(&goes), "{goes:?}");
    assert_eq!(budget.next_in_line(&Caller::default()), None);

    // The batch's first has gone, and its lane has moved on.
    sleep_until(start + 2 * SEC).await;
    yield_now().await;
    assert_eq!(next("web"), Some((1, 6 * SEC)));
    let (place, goes) = next("batch").expect("one more");
    assert_eq!(place, 2);
    assert!((5 * SEC..=9 * SEC).contains(&goes), "{goes:?}");
    all.shutdown().await;
    assert_eq!((next("web"), next("batch")), (None, None));
}

/// Of what others have in line that counts which would go before: in launches, too.
#[tokio::test(start_paused = true)]
async fn an_eta_counts_who_goes_before() {
    let tokens = TokenBudget::per_minute(60).window(Window::Off);
    let launches = TokenBudget::unlimited().stagger(10 * SEC);
    // Three of a batch, of ten tokens each, at one a second; each takes ten seconds, then.
    // Of those that began where a later caller does, launches count the first; how many of
    // its tokens go before is reckoned by the tags, which are the same.
    for (limits, late_goes) in [(tokens, 9), (launches, 19)] {
        let budget = limits.build().unwrap();
        spend(&budget, Ask::of(60)).await;
        let ask = |caller| Ask::of(10).caller(caller);
        let mut line: Vec<_> = (0..3)
            .map(|_| Polled::new(budget.reserve(ask(batch()))))
            .collect();
        assert!(line.iter_mut().all(|call| call.poll().is_pending()));
        assert_eq!(budget.eta(ask(batch())), 40 * SEC);
        assert_eq!(budget.eta(ask(Caller::new("new"))), 20 * SEC);
        sleep(SEC).await;
        let mut late = Polled::new(budget.reserve(ask(Caller::new("late"))));
        assert!(late.poll().is_pending());
        let next = |caller: &Caller| {
            let next = budget.next_in_line(caller)?;
            Some((next.place, next.expected_wait.as_secs()))
        };
        assert_eq!(next(&batch()), Some((1, 9)));
        assert_eq!(next(&Caller::new("late")), Some((2, late_goes)));
    }
}
