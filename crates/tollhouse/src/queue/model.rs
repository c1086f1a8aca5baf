//! The queue under a model checker, which chooses who runs next at every lock.
//!
//! The real queue and tickets, over real rules, are taken through thousands of
//! schedules of a few threads that enter, wait, leave, release, lapse, close it and
//! change it. In each of them
//!
//! * whoever waits is let in or turned away in the end: no wake-up is lost;
//! * never more are inside than there are slots: nothing is granted twice;
//! * launches keep their distance, however late a thread comes to its turn;
//! * at the end nothing is held and nobody waits;
//! * on leases, whoever fetches more is called whenever somebody lacks it, and what was spent, came
//!   back or is there was given, or is owed.
//!
//! Built with `--cfg tollhouse_model` alone, since the checker's locks work nowhere
//! but in its own threads:
//!
//! ```text
//! RUSTFLAGS="--cfg tollhouse_model" cargo test -p tollhouse --lib queue::model
//! ```
//!
//! The clock is tokio's, paused, and moved by a thread of the model, so that timers
//! fire in the middle of anything.

use std::future::poll_fn;
use std::slice;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use shuttle::future::block_on;
use shuttle::rand::{Rng, thread_rng};
use shuttle::sync::{Condvar, Mutex as Gate};
use shuttle::thread::{self, JoinHandle};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, advance};

use super::{AccountSlots, Bell, Bounds, Queue, Ticket};
use crate::ask::{Arrival, Ask, Caller, Deadline};
use crate::charge::{Amounts, Per, Unit};
use crate::error::Refused;
use crate::rules::ledger::{Accounting, Aimd, Learns, Ledger, Limit, Named, Share, Terms, Window};
use crate::rules::{
    Agreed, Common, Granted, Launch, Limits, Need, Pool, Random, Rule, Slots, Spacing, Wish,
};
use crate::time::{Moment, Now};

const SEC: Duration = Duration::from_secs(1);

/// Of each kind.
const SCHEDULES: usize = 2_000;

/// How often a thread is preempted in a schedule of the second kind.
const PREEMPTIONS: usize = 3;

/// Plays a scene under schedules at random, and under such of few preemptions, which
/// find what needs a thread to stand still for long (Burckhardt and others, "A
/// randomized scheduler with probabilistic guarantees of finding bugs", 2010).
fn check(scene: impl Fn(&Arc<Runtime>) + Clone + Send + Sync + 'static) {
    let clock = Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build();
    let clock = Arc::new(clock.expect("a runtime"));
    // The model's threads share one thread of the system.
    let _context = clock.enter();
    let play = {
        let clock = Arc::clone(&clock);
        move || scene(&clock)
    };
    shuttle::check_random(play.clone(), SCHEDULES);
    shuttle::check_pct(play, SCHEDULES, PREEMPTIONS);
}

/// A queue, and what its threads saw.
struct Seen<R: Rule> {
    queue: Arc<Queue<R>>,
    most: usize,
    /// Shared with other queues of an account.
    inside: Arc<AtomicUsize>,
    launches: Arc<Mutex<Vec<Instant>>>,
    /// What those who launched are charged, in tokens.
    spent: AtomicU64,
    /// How many are being polled: a poll happens at one instant, so that the clock
    /// stands still meanwhile.
    polled: AtomicUsize,
    over: AtomicUsize,
}

impl<R> Seen<R>
where
    R: Rule<Held: Send> + Send + 'static,
{
    fn new(rule: R, most: usize) -> Arc<Self> {
        Arc::new(Seen {
            queue: Queue::new(rule, Bounds::NONE),
            most,
            inside: Arc::default(),
            launches: Arc::default(),
            spent: AtomicU64::new(0),
            polled: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
        })
    }

    /// Another one of the same account.
    fn beside(&self, rule: R) -> Arc<Self> {
        Arc::new(Seen {
            queue: Queue::new(rule, Bounds::NONE),
            most: self.most,
            inside: Arc::clone(&self.inside),
            launches: Arc::clone(&self.launches),
            spent: AtomicU64::new(0),
            polled: AtomicUsize::new(0),
            over: AtomicUsize::new(0),
        })
    }

    fn are_apart(&self) {
        let launches = self.launches.lock().expect("no panic");
        let apart = launches.windows(2).map(|two| two[1] - two[0]);
        assert!(apart.clone().all(|apart| apart >= SEC), "{launches:?}");
    }

    fn ticket(&self, ask: Ask) -> Ticket<R> {
        Ticket::new(Arc::clone(&self.queue), ask)
    }

    /// A thread that asks once, and does what it pleases with what it gets.
    fn caller(self: &Arc<Self>, ask: Ask) -> JoinHandle<()> {
        let seen = Arc::clone(self);
        thread::spawn(move || {
            match thread_rng().gen_range(0..4) {
                0 => seen.leaves(ask),
                1 => seen.moves(ask),
                2 => seen.tries(ask),
                _ => seen.stays(seen.ticket(ask)),
            }
            seen.over.fetch_add(1, SeqCst);
        })
    }

    fn poll(&self, ticket: &mut Ticket<R>, cx: &mut Context<'_>) -> Poll<Result<(), Refused>> {
        ticket.poll_admitted(cx, &mut Now::unread())
    }

    /// Is polled once, and dropped whatever became of it meanwhile.
    fn leaves(&self, ask: Ask) {
        let mut ticket = self.ticket(ask);
        let _ = self.poll(&mut ticket, &mut Context::from_waker(Waker::noop()));
        thread::yield_now();
    }

    /// Is polled by one task, and from then on by another; and once more than it is
    /// woken.
    fn moves(&self, ask: Ask) {
        let mut ticket = self.ticket(ask);
        for _ in 0..2 {
            match self.poll(&mut ticket, &mut Context::from_waker(Waker::noop())) {
                Poll::Pending => thread::yield_now(),
                Poll::Ready(Ok(())) => return self.runs(ticket),
                Poll::Ready(Err(refused)) => return is_told(&refused),
            }
        }
        self.stays(ticket);
    }

    fn tries(&self, ask: Ask) {
        if let Ok(ticket) = self.queue.try_enter(ask, &mut Now::unread()) {
            self.runs(ticket);
        }
    }

    fn stays(&self, mut ticket: Ticket<R>) {
        match block_on(poll_fn(|cx| self.poll(&mut ticket, cx))) {
            Ok(()) => self.runs(ticket),
            Err(refused) => is_told(&refused),
        }
    }

    /// Comes late to what it was given, and launches if it still is, in one poll.
    fn runs(&self, mut ticket: Ticket<R>) {
        thread::yield_now();
        let launched = block_on(poll_fn(|cx| {
            self.polled.fetch_add(1, SeqCst);
            let admitted = self.poll(&mut ticket, cx);
            if let Poll::Ready(Ok(())) = admitted {
                self.launches.lock().expect("no panic").push(Instant::now());
                self.spent
                    .fetch_add(ticket.charge().get(Unit::Tokens), SeqCst);
                ticket.launch(Launch::ToWire, &mut Now::unread());
            }
            self.polled.fetch_sub(1, SeqCst);
            admitted
        }));
        if let Err(refused) = launched {
            return is_told(&refused);
        }
        let inside = self.inside.fetch_add(1, SeqCst);
        assert!(inside < self.most, "{inside} were inside already");
        thread::yield_now();
        self.inside.fetch_sub(1, SeqCst);
    }

    fn join(&self, threads: Vec<JoinHandle<()>>) {
        for thread in threads {
            thread.join().expect("no panic");
        }
        block_on(self.queue.idle());
        self.queue.read(|_, ahead| {
            assert_eq!((ahead.waiting, ahead.in_flight), (0, 0));
        });
    }
}

/// For one of the two reasons that a scene has.
fn is_told(refused: &Refused) {
    assert!(matches!(refused, Refused::Closed | Refused::TooLate { .. }));
}

/// Two of one caller and one of another.
fn asks() -> [Ask; 3] {
    ["one", "one", "other"].map(|name| Ask::of(1).caller(Caller::new(name)))
}

#[test]
fn one_slot_goes_from_thread_to_thread() {
    check(|_| {
        let seen = Seen::new(Slots::new(1), 1);
        let threads = asks().map(|ask| seen.caller(ask));
        seen.join(threads.into());
        seen.queue.read(|slots, _| assert_eq!(slots.taken(), 0));
    });
}

#[test]
fn slots_and_weights_that_change_lose_nobody() {
    check(|_| {
        let seen = Seen::new(Slots::new(1), 2);
        let mut threads: Vec<_> = asks().map(|ask| seen.caller(ask)).into();
        let changed = Arc::clone(&seen);
        threads.push(thread::spawn(move || {
            let now = &mut Now::unread();
            let queue = &changed.queue;
            queue.update(now, |slots, _| slots.set_max(Some(2)));
            queue.weigh(&Caller::new("other").weight(9), now);
            queue.reconfigure(Bounds::NONE, now, |slots, _| slots.set_max(Some(1)));
        }));
        seen.join(threads);
    });
}

#[test]
fn whoever_waits_is_told_that_it_is_closed() {
    check(|_| {
        let seen = Seen::new(Slots::new(1), 1);
        let mut threads: Vec<_> = asks().map(|ask| seen.caller(ask)).into();
        let closed = Arc::clone(&seen);
        threads.push(thread::spawn(move || closed.queue.close()));
        seen.join(threads);
    });
}

/// All that there is at once is what one asks for, so whoever leaves without it hands it on.
#[test]
fn one_reservation_goes_from_thread_to_thread() {
    check(|clock| {
        let mut terms = limits(1).terms;
        (terms.limits[0].amount, terms.burst) = (120, Some(2));
        let seen = Seen::new(pool(Slots::unlimited(), &terms), 3);
        let mut threads: Vec<_> = (0..3).map(|_| seen.caller(Ask::of(2))).collect();
        threads.push(moves_on(clock, slice::from_ref(&seen), threads.len()));
        seen.join(threads);
        seen.are_apart();
        let look = |pool: &mut Pool, ahead| pool.snapshot(ahead, &mut Now::unread());
        assert_eq!(seen.queue.read(look).outstanding, 0);
    });
}

/// Moves the clock in the midst of it all, and on as long as anybody is there: ever more
/// slowly, so that whoever comes too late to what lapses, by mere chance, comes in time
/// in the end. Who still waits then was not woken.
fn moves_on<R>(clock: &Arc<Runtime>, all: &[Arc<Seen<R>>], callers: usize) -> JoinHandle<()>
where
    R: Rule<Held: Send> + Send + 'static,
{
    let (clock, all) = (Arc::clone(clock), all.to_vec());
    thread::spawn(move || {
        let sum = |of: fn(&Seen<R>) -> &AtomicUsize| -> usize {
            all.iter().map(|seen| of(seen).load(SeqCst)).sum()
        };
        let is_over = || sum(|seen| &seen.over) == callers;
        let mut moves = (0..500).take_while(|_| !is_over());
        moves.by_ref().for_each(|moved| {
            if sum(|seen| &seen.polled) == 0 {
                clock.block_on(advance(SEC / 2));
            }
            (0..=moved / 25).for_each(|_| thread::yield_now());
        });
        assert!(is_over(), "somebody waits forever");
    })
}

/// Some come so late that their turn is over, and stand in line again.
#[test]
fn turns_lapse_and_are_given_back() {
    check(|clock| {
        let spacing = Spacing::new(SEC, 0.0, Random::seeded(1));
        let seen = Seen::new((Slots::new(2), spacing), 2);
        let mut threads: Vec<_> = asks().map(|ask| seen.caller(ask)).into();
        threads.push(moves_on(clock, slice::from_ref(&seen), threads.len()));
        seen.join(threads);
        seen.are_apart();
    });
}

/// One that came for the first time before all others goes before them, and they set
/// their timers again.
#[test]
fn a_retry_goes_first_and_nobody_sleeps_on() {
    check(|clock| {
        let spacing = Spacing::new(SEC, 0.0, Random::seeded(1));
        let seen = Seen::new(spacing, 3);
        let first = Arrival::now();
        let [one, other, retry] = asks().map(|ask| ask.caller(Caller::default()));
        let asks = [one, other, retry.arrived(first)];
        let mut threads: Vec<_> = asks.map(|ask| seen.caller(ask)).into();
        threads.push(moves_on(clock, slice::from_ref(&seen), threads.len()));
        seen.join(threads);
    });
}

#[test]
fn deadlines_end_the_wait_of_some() {
    check(|clock| {
        let spacing = Spacing::new(SEC, 0.0, Random::seeded(1));
        let seen = Seen::new((Slots::new(1), spacing), 1);
        let within = |(n, ask): (u32, Ask)| ask.deadline(Deadline::within(n * SEC));
        let asks = (0..).zip(asks()).map(within);
        let mut threads: Vec<_> = asks.map(|ask| seen.caller(ask)).collect();
        threads.push(moves_on(clock, slice::from_ref(&seen), threads.len()));
        seen.join(threads);
    });
}

/// Two pools with an account's slot between them, which goes round while some leave, one
/// pool is closed or goes away, and the account's launches are spaced or not.
fn pools_share(spaced: bool, ends: bool) -> impl Fn(&Arc<Runtime>) + Clone + Send + Sync {
    move |clock| {
        let slots = AccountSlots::new(1);
        if spaced {
            slots.set_interval(SEC);
        }
        let rule = |slots| {
            let off = Spacing::new(Duration::ZERO, 0.0, Random::seeded(1));
            (Slots::new(slots), off)
        };
        // Who is under no account any more has its own two beside the account's one.
        let one = Seen::new(rule(2), if ends { 2 } else { 3 });
        let pools = [Arc::clone(&one), one.beside(rule(1))];
        for pool in &pools {
            pool.queue.share(Some(&slots), &mut Now::unread());
        }
        let [one, other] = &pools;
        let [first, second, third] = asks();
        let mut threads = vec![one.caller(first), other.caller(second), other.caller(third)];
        let (queue, account) = (Arc::clone(&one.queue), slots.clone());
        threads.push(thread::spawn(move || {
            account.set_max(2);
            match ends {
                true => queue.close(),
                false => queue.share(None, &mut Now::unread()),
            }
            account.set_max(1);
        }));
        threads.push(moves_on(clock, &pools, 3));
        one.join(threads);
        other.join(Vec::new());
        if spaced && ends {
            one.are_apart();
        }
        let left = slots.snapshot();
        assert_eq!((left.in_use, left.waiting.len()), (0, 0));
    }
}

#[test]
fn an_accounts_slot_goes_from_pool_to_pool() {
    for ends in [false, true] {
        check(pools_share(false, ends));
    }
}

#[test]
fn an_accounts_turn_goes_from_pool_to_pool() {
    for ends in [false, true] {
        check(pools_share(true, ends));
    }
}

/// Schedules of two threads one after the other, as many as there is time for.
#[test]
fn two_threads_in_one_order_after_another() {
    let both = [Seen::leaves, |seen: &Seen<Slots>, ask: Ask| {
        seen.stays(seen.ticket(ask));
    }];
    for first in both {
        let play = move || {
            let seen = Seen::new(Slots::new(1), 1);
            let threads = [first, both[1]].map(|runs| {
                let seen = Arc::clone(&seen);
                thread::spawn(move || runs(&seen, Ask::of(1)))
            });
            seen.join(threads.into());
        };
        shuttle::check_dfs(play, Some(4 * SCHEDULES));
    }
}

// ===== leases =====

/// What leases last: six steps of the clock.
const LEASE: Duration = Duration::from_secs(3);

/// Whoever fetches leases for a pool: called by a bell, it asks and grants.
#[derive(Default)]
struct Agent {
    state: Gate<AgentState>,
    changed: Condvar,
}

#[derive(Default)]
struct AgentState {
    is_called: bool,
    is_over: bool,
}

impl Bell for Agent {
    fn ring(&self, _: Need) {
        self.change(|state| state.is_called = true);
    }
}

impl Agent {
    fn change(&self, change: impl FnOnce(&mut AgentState)) {
        change(&mut self.state.lock().expect("no panic"));
        self.changed.notify_all();
    }

    /// Waits until it is called; `false` where it is over, and nobody can call any more.
    fn is_called(&self) -> bool {
        let state = self.state.lock().expect("no panic");
        let wait = |state: &mut AgentState| !state.is_called && !state.is_over;
        let mut state = self.changed.wait_while(state, wait).expect("no panic");
        std::mem::take(&mut state.is_called)
    }
}

/// A pool on leases, of a provider that limits nothing and a ledger that has enough.
struct Leased {
    seen: Arc<Seen<Pool>>,
    agent: Arc<Agent>,
    /// All that was ever granted, in tokens.
    given: AtomicU64,
}

impl Leased {
    /// Of so many slots, which are leased, too.
    fn new(slots: usize) -> Arc<Self> {
        let limits = limits(slots);
        let mut pool = pool(Slots::new(slots), &limits.terms);
        pool.share(limits, &mut Now::unread());
        let leased = Leased {
            seen: Seen::new(pool, slots),
            agent: Arc::default(),
            given: AtomicU64::new(0),
        };
        let bell: Arc<Agent> = Arc::clone(&leased.agent);
        leased.seen.queue.call(bell);
        Arc::new(leased)
    }

    fn wish(&self) -> Wish {
        self.seen
            .queue
            .ask(4, &mut Now::unread(), |pool, demand, now| {
                let limited = pool.limited();
                let leases = pool.leases().expect("it is shared");
                let wish = leases.ask(demand, &limited, now.get());
                Wish {
                    // What is granted is what all together do not have.
                    slots_wanted: wish
                        .slots_wanted
                        .min(limited.max_slots.unwrap_or(0) - (limited.taken + wish.slots_idle)),
                    ..wish
                }
            })
    }

    /// Asks for what is wanted, and brings it. Meanwhile anything may happen.
    fn draw(&self) {
        let until = Now::unread().get() + LEASE;
        let wish = self.wish();
        thread::yield_now();
        let line = wish.line.iter().fold(wish.wanted, |sum, it| sum.plus(it));
        self.given.fetch_add(line.get(Unit::Tokens), SeqCst);
        let granted = Granted {
            drawn: line,
            slots: wish.slots_wanted,
            agreed: Agreed {
                meters: vec![Common {
                    unit: Unit::Tokens,
                    per: Per::Minute,
                    rate: PLENTY,
                    capacity: PLENTY,
                    level: 0,
                }],
                has_free_slots: false,
                ..Agreed::default()
            },
            ..Granted::default()
        };
        self.seen.queue.update(&mut Now::unread(), |pool, now| {
            pool.renew(until, now);
            pool.leases().expect("it is shared").grant(granted);
        });
    }

    /// A thread that brings what is wanted whenever it is called, and never else.
    fn serves(self: &Arc<Self>) -> JoinHandle<()> {
        let leased = Arc::clone(self);
        thread::spawn(move || {
            while leased.agent.is_called() {
                leased.draw();
            }
        })
    }

    /// Waits until all have been there; says how much more was given, or is owed, than was spent
    /// or is left.
    fn is_over(&self, threads: Vec<JoinHandle<()>>, agent: JoinHandle<()>) -> i64 {
        self.seen.join(threads);
        self.agent.change(|state| state.is_over = true);
        agent.join().expect("no panic");
        let wish = self.wish();
        let owed = self.seen.queue.read(|pool, _| {
            let collected = pool.ledger().collect(Now::unread().get());
            collected.owed
        });
        let tokens = |amounts: &Amounts| amounts.get(Unit::Tokens);
        let had = self.given.load(SeqCst) + tokens(&owed);
        let left = tokens(&wish.idle) + tokens(&wish.returned);
        had.cast_signed() - (self.seen.spent.load(SeqCst) + left).cast_signed()
    }
}

fn pool(slots: Slots, terms: &Terms) -> Pool {
    let ledger = Ledger::new(terms.clone(), Moment::default());
    let off = Spacing::new(Duration::ZERO, 0.0, Random::seeded(1));
    Pool::new(slots, ledger, off)
}

/// More than anybody takes.
const PLENTY: u64 = 1_000_000;

fn limits(slots: usize) -> Limits {
    Limits {
        slots: Some(slots),
        terms: Terms {
            limits: vec![Limit {
                unit: Unit::Tokens,
                per: Per::Minute,
                amount: PLENTY,
            }],
            headroom: 0.0,
            burst: None,
            learns: Learns::default(),
            accounting: Accounting::default(),
            window: Window::Off,
            cautious_start: false,
            max_told_delay: Duration::MAX,
            pace: Aimd::default(),
            named: Named::default(),
            share: Share::default(),
        },
        interval: Duration::ZERO,
        jitter: 0.0,
    }
}

/// Two of one caller and one of another, of different sizes.
fn sizes() -> [Ask; 3] {
    [("one", 3), ("one", 5), ("other", 2)].map(|(name, n)| Ask::of(n).caller(Caller::new(name)))
}

/// Grants come while some wait, leave, launch and end.
#[test]
fn grants_come_for_who_leaves_and_who_stays() {
    check(|_| {
        let leased = Leased::new(1);
        let agent = leased.serves();
        let threads = sizes().map(|ask| leased.seen.caller(ask));
        assert_eq!(leased.is_over(threads.into(), agent), 0);
    });
}

/// Leases run out while one is let in on them, and while others wait for more.
#[test]
fn leases_run_out_under_who_was_let_in() {
    check(|clock| {
        let leased = Leased::new(2);
        let agent = leased.serves();
        let mut threads: Vec<_> = sizes().map(|ask| leased.seen.caller(ask)).into();
        threads.push(moves_on(
            clock,
            slice::from_ref(&leased.seen),
            threads.len(),
        ));
        assert_eq!(leased.is_over(threads, agent), 0);
    });
}

/// Two threads alone, of which one finds the lease of the other, or none any more.
#[test]
fn two_threads_share_a_lease() {
    check(|clock| {
        let leased = Leased::new(1);
        let agent = leased.serves();
        let [one, other, _] = sizes();
        let mut threads = vec![leased.seen.caller(one), leased.seen.caller(other)];
        threads.push(moves_on(
            clock,
            slice::from_ref(&leased.seen),
            threads.len(),
        ));
        assert_eq!(leased.is_over(threads, agent), 0);
    });
}

/// The ledger is away for a while: all go on with a share, which is too small for one of
/// them, or with nothing, and then on leases again.
#[test]
fn the_ledger_is_away_and_comes_back() {
    // All of it, next to nothing of it, or nothing.
    let shares = [
        Some(Share::Drawn),
        Some(Share::Part(4.0 / PLENTY as f64)),
        None,
    ];
    check(move |clock| {
        let share = shares[thread_rng().gen_range(0..shares.len())];
        let leased = Leased::new(2);
        let agent = leased.serves();
        let mut threads: Vec<_> = sizes().map(|ask| leased.seen.caller(ask)).into();
        let away = Arc::clone(&leased);
        threads.push(moves_on(clock, slice::from_ref(&leased.seen), 3));
        threads.push(thread::spawn(move || {
            let go_alone = |pool: &mut Pool, now: &mut Now| pool.go_alone(share, now);
            away.seen.queue.update(&mut Now::unread(), go_alone);
            thread::yield_now();
            // Whoever brings leases asks again by itself while it is away.
            away.agent.ring(Need::More);
        }));
        // Who finds that it may launch, and does when its lease was taken away in between,
        // is charged twice: the ledger may have taken the lease for spent already.
        assert!(leased.is_over(threads, agent) >= 0);
    });
}
