//! A model of the ledger, checked to the last state over small numbers.
//!
//! The real ledger, and a provider that shares no code with it, are taken
//! through every order of everything that can happen to one or two requests
//! within half a minute: reserved, launched at once or never, told of their
//! launch late, arrived, refused, answered with counts or without, dropped,
//! settled up and down, never sent after all; with the account held in between.
//! In every state that can be reached so, to the last fraction of a token,
//!
//! * our level and what is reserved and has not arrived are together at most the
//!   provider's level, but for usage that it charged and has not told yet;
//! * nothing that arrives is refused, unless for such usage;
//! * with a window, no 60 seconds see more than the limit arrive;
//! * what is shut at a glance is shut until something comes back, and a reservation that
//!   is passed on leaves all as if it had come back and been made anew;
//! * once all are over, nothing is left of them.
//!
//! `ledger_proof` plays long random schedules instead.

use std::collections::{HashSet, VecDeque};
use std::hash::{BuildHasher, Hash, Hasher};
use std::time::Duration;

use super::{Accounting, Aimd, Learns, Ledger, Limit, Named, Terms, Window};
use crate::answer::{Denial, Observation, RateLimits, Scope};
use crate::charge::{Charge, Per, Unit};
use crate::rules::{Key, Launch, Rule, When};
use crate::time::{Moment, Now};

/// In seconds: long enough for a token of a limit of two to refill.
const LONG: u64 = 30;

/// What is checked, and how far.
#[derive(Clone, Copy, Debug)]
struct Scene {
    limits: &'static [(Unit, u64)],
    accounting: Accounting,
    window: Window,
    /// What a request may be charged of the first unit; of others always one.
    charges: &'static [u64],
    /// By how much usage may exceed what was reserved.
    debt: u64,
    /// Whether answers tell what is left.
    told: bool,
    /// Whether launches are told late, or go by way of a service that may keep a
    /// request, and some never arrive.
    odd: bool,
    /// Whether who comes reads no clock if he need not, and nobody else does between.
    glances: bool,
    requests: usize,
    holds: u8,
    /// So many steps of a second, and of [`LONG`].
    seconds: u8,
    longs: u8,
}

const TOKENS: &[(Unit, u64)] = &[(Unit::Tokens, 2)];
const TWO: &[(Unit, u64)] = &[(Unit::Tokens, 2), (Unit::Output, 2)];
const PACED: &[(Unit, u64)] = &[(Unit::Tokens, 2), (Unit::Requests, 2)];

const PLAIN: Scene = Scene {
    limits: TOKENS,
    accounting: Accounting::AsRequested,
    window: Window::Off,
    charges: &[1],
    debt: 0,
    told: false,
    odd: false,
    glances: false,
    requests: 2,
    holds: 0,
    seconds: 1,
    longs: 1,
};

impl Scene {
    fn terms(&self) -> Terms {
        let limit = |&(unit, amount)| Limit {
            unit,
            per: Per::Minute,
            amount,
        };
        Terms {
            limits: self.limits.iter().map(limit).collect(),
            headroom: 0.0,
            burst: None,
            learns: Learns::default(),
            accounting: self.accounting,
            window: self.window,
            cautious_start: false,
            max_told_delay: Duration::from_secs(120),
            pace: Aimd::default(),
            named: Named::default(),
            share: super::Share::default(),
        }
    }

    fn charge(&self, amount: u64) -> Charge {
        let (first, _) = self.limits[0];
        let others = self.limits[1..].iter();
        others
            .filter(|(unit, _)| *unit != Unit::Requests)
            .fold(Charge::of(first, amount), |charge, (unit, _)| {
                charge.and(*unit, 1)
            })
    }
}

/// The provider's count of one limit. In sixtieths of a unit, of which a limit of
/// one refills one a second.
#[derive(Clone, Debug, Hash)]
struct Count {
    unit: Unit,
    limit: i64,
    level: i64,
    /// Charged at the end of an answer, and not told yet.
    untold: i64,
    /// What arrived, and when, in seconds.
    log: Vec<(u64, u64)>,
}

impl Count {
    fn refill(&mut self, seconds: u64) {
        let full = self.limit * 60;
        self.level = (self.level + self.limit * seconds.cast_signed()).min(full);
    }

    fn give(&mut self, units: i64) {
        self.level = (self.level + 60 * units).min(60 * self.limit);
    }

    fn busiest_minute(&self) -> u64 {
        let from = self.log.iter().map(|(at, _)| *at);
        let sum = |from| {
            let within = self
                .log
                .iter()
                .filter(|(at, _)| (from..from + 60).contains(at));
            within.map(|(_, amount)| amount).sum()
        };
        from.map(sum).max().unwrap_or(0)
    }
}

/// Where a request is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum There {
    Here,
    /// Arrives by this second, or never; by none where a service may keep it.
    Sent(Option<u64>),
    Counted {
        left: u64,
        refused: bool,
    },
    /// Answered to the end, this being the difference to what was reserved.
    Done {
        left: u64,
        extra: i64,
    },
    Never,
}

/// What the ledger was told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Told {
    Reserved,
    Launched,
    Answered,
    Over,
}

#[derive(Clone, Copy, Debug, Hash)]
struct Request {
    key: Key,
    charge: Charge,
    there: There,
    told: Told,
}

impl Request {
    fn is_under_way(&self) -> bool {
        match self.there {
            There::Here => self.told == Told::Reserved,
            There::Sent(_) => true,
            There::Counted { .. } | There::Done { .. } | There::Never => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Reserve(u64),
    /// Leaves, and nobody was told of it yet.
    Leave(usize),
    Launch(usize, Launch),
    Arrive(usize),
    Lose(usize),
    Finish(usize, i64),
    Head(usize),
    Settle(usize),
    Unsend(usize),
    Drop(usize),
    Hold,
    Second,
    Long,
}

#[derive(Clone)]
struct World {
    scene: Scene,
    ledger: Ledger,
    counts: Vec<Count>,
    requests: Vec<Request>,
    /// In seconds.
    clock: u64,
    holds: u8,
    seconds: u8,
    longs: u8,
    path: Vec<Step>,
}

impl World {
    fn new(scene: Scene) -> World {
        let count = |&(unit, limit): &(Unit, u64)| Count {
            unit,
            limit: limit.cast_signed(),
            level: limit.cast_signed() * 60,
            untold: 0,
            log: Vec::new(),
        };
        World {
            scene,
            ledger: Ledger::new(scene.terms(), Moment::default()),
            counts: scene.limits.iter().map(count).collect(),
            requests: Vec::new(),
            clock: 0,
            holds: scene.holds,
            seconds: scene.seconds,
            longs: scene.longs,
            path: Vec::new(),
        }
    }

    fn now(&self) -> Moment {
        Moment::default() + Duration::from_secs(self.clock)
    }

    /// All that decides what can happen from here on. Not by the standard hasher, which
    /// takes half of the time where nothing is optimized.
    fn fingerprint(&mut self) -> u64 {
        let mut state = foldhash::quality::FixedState::default().build_hasher();
        let ledger = &mut self.ledger;
        ledger.meters.hash(&mut state);
        for entry in ledger.transit.entries_mut() {
            entry.hash(&mut state);
        }
        (ledger.outstanding, &ledger.trust, ledger.exhausted).hash(&mut state);
        (ledger.seen, ledger.landing, ledger.terms.pace.percent()).hash(&mut state);
        (&ledger.undated, ledger.told).hash(&mut state);
        for count in &self.counts {
            (count.level, count.untold).hash(&mut state);
            // Only a window promises anything of it.
            let log = Some(&count.log).filter(|_| self.scene.window == Window::On);
            log.hash(&mut state);
        }
        for request in &self.requests {
            let is_over = request.told == Told::Over && !request.is_under_way();
            (
                is_over,
                request.there,
                request.charge.get(self.counts[0].unit),
            )
                .hash(&mut state);
            (request.told, Some(request.key).filter(|_| !is_over)).hash(&mut state);
        }
        self.clock.hash(&mut state);
        (self.holds, self.seconds, self.longs).hash(&mut state);
        state.finish()
    }

    /// Whatever can happen next.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        if self.requests.len() < self.scene.requests {
            steps.extend(
                self.scene
                    .charges
                    .iter()
                    .map(|amount| Step::Reserve(*amount)),
            );
        }
        for (n, request) in self.requests.iter().enumerate() {
            steps.extend(self.steps_of(n, request));
        }
        if self.holds > 0 {
            steps.push(Step::Hold);
        }
        let arrives_by = |request: &Request| match request.there {
            There::Sent(by) => by,
            _ => None,
        };
        let by = self.requests.iter().filter_map(arrives_by).min();
        let by = by.unwrap_or(u64::MAX);
        if self.seconds > 0 && self.clock < by {
            steps.push(Step::Second);
        }
        if self.longs > 0 && self.clock + LONG <= by {
            steps.push(Step::Long);
        }
        steps
    }

    fn steps_of(&self, n: usize, request: &Request) -> Vec<Step> {
        let mut steps = Vec::new();
        match request.there {
            There::Here if request.told == Told::Reserved => {
                steps.push(Step::Launch(n, Launch::ToWire));
                if self.scene.odd {
                    let to_service = Step::Launch(n, Launch::ToService);
                    steps.extend([Step::Leave(n), to_service, Step::Unsend(n)]);
                }
            }
            There::Sent(_) => {
                steps.push(Step::Arrive(n));
                if self.scene.odd {
                    steps.push(Step::Lose(n));
                }
            }
            There::Counted { refused: false, .. } => {
                let reserved = request.charge.get(self.counts[0].unit).cast_signed();
                let as_used = self.scene.accounting == Accounting::AsUsed;
                if as_used {
                    steps.push(Step::Finish(n, -reserved));
                }
                if self.scene.debt > 0 {
                    steps.push(Step::Finish(n, self.scene.debt.cast_signed()));
                }
            }
            _ => {}
        }
        let is_counted = matches!(request.there, There::Counted { .. } | There::Done { .. });
        match request.told {
            Told::Reserved if request.there == There::Here => steps.push(Step::Drop(n)),
            // Told as soon as it left, whatever became of it meanwhile.
            Told::Reserved => steps.push(Step::Launch(n, Launch::ToWire)),
            Told::Launched => {
                if is_counted {
                    steps.push(Step::Head(n));
                }
                if request.there == There::Never {
                    steps.push(Step::Unsend(n));
                }
                steps.push(Step::Drop(n));
            }
            Told::Answered => steps.push(Step::Drop(n)),
            Told::Over => {}
        }
        let may_settle = matches!(request.told, Told::Launched | Told::Answered);
        // Where it used what it reserved, nothing happens at the end of its answer.
        let is_let_in = matches!(
            request.there,
            There::Counted { refused: false, .. } | There::Done { .. }
        );
        if may_settle && is_let_in {
            steps.push(Step::Settle(n));
        }
        steps
    }

    /// Takes a step, unless the ledger does not allow it.
    fn take(&mut self, step: Step) -> bool {
        self.path.push(step);
        match step {
            Step::Reserve(amount) => return self.reserve(amount),
            Step::Leave(n) => self.requests[n].there = There::Sent(Some(self.clock + 2)),
            Step::Launch(n, to) => self.launch(n, to),
            Step::Arrive(n) => self.arrive(n),
            Step::Lose(n) => self.requests[n].there = There::Never,
            Step::Finish(n, extra) => self.finish(n, extra),
            Step::Head(n) => self.head(n),
            Step::Settle(n) => self.settle(n),
            Step::Unsend(n) => {
                let key = self.end(n);
                self.ledger.unsend(key, &mut Now::at(self.now()));
            }
            Step::Drop(n) => {
                let key = self.end(n);
                let there = &mut self.requests[n].there;
                // What a service kept leaves now, if it leaves at all.
                if *there == There::Sent(None) {
                    *there = There::Sent(Some(self.clock + 2));
                }
                self.ledger.release(key, &mut Now::at(self.now()));
            }
            Step::Hold => {
                self.holds -= 1;
                let until = self.now() + Duration::from_secs(1);
                self.ledger.hold(until, self.now());
            }
            Step::Second => {
                self.seconds -= 1;
                self.wait(1);
            }
            Step::Long => {
                self.longs -= 1;
                self.wait(LONG);
            }
        }
        true
    }

    fn reserve(&mut self, amount: u64) -> bool {
        let charge = self.scene.charge(amount);
        let now = &mut match self.scene.glances && !self.ledger.minds_arrival() {
            true => Now::unread(),
            false => Now::at(self.now()),
        };
        if !self.ledger.is_open(&charge, now) {
            *now = Now::at(self.now());
            if self.ledger.when(&charge, now) != When::Now {
                return false;
            }
        }
        let key = self.ledger.take(&charge, now);
        self.requests.push(Request {
            key,
            charge,
            there: There::Here,
            told: Told::Reserved,
        });
        true
    }

    fn launch(&mut self, n: usize, to: Launch) {
        let now = &mut Now::at(self.now());
        let request = &mut self.requests[n];
        self.ledger.launch(&request.key, to, now);
        request.told = Told::Launched;
        if request.there == There::Here {
            let by = (to == Launch::ToWire).then_some(self.clock + 2);
            request.there = There::Sent(by);
        }
    }

    fn arrive(&mut self, n: usize) {
        let request = &mut self.requests[n];
        let fits = |count: &Count| count.level >= 60 * request.charge.get(count.unit).cast_signed();
        let refused = !self.counts.iter().all(fits);
        let owes = self.ledger_owes();
        let request = &mut self.requests[n];
        assert!(!refused || owes, "{:?}: refused", self.path);
        for count in &mut self.counts {
            if !refused {
                let amount = request.charge.get(count.unit);
                count.give(-amount.cast_signed());
                count.log.push((self.clock, amount));
            }
        }
        let left = self.counts[0].level.max(0).div_euclid(60).cast_unsigned();
        request.there = There::Counted { left, refused };
        if self.scene.window == Window::On && self.scene.debt == 0 {
            for count in &self.counts {
                let most = count.limit.cast_unsigned();
                assert!(count.busiest_minute() <= most, "{:?}: {count:?}", self.path);
            }
        }
    }

    /// Whether usage above what was reserved has been charged, told or not.
    fn ledger_owes(&self) -> bool {
        self.requests
            .iter()
            .any(|request| matches!(request.there, There::Done { extra: 1.., .. }))
    }

    fn finish(&mut self, n: usize, extra: i64) {
        let There::Counted { left, .. } = self.requests[n].there else {
            unreachable!("only what was counted is answered")
        };
        self.requests[n].there = There::Done { left, extra };
        let first = &mut self.counts[0];
        first.give(-extra);
        first.untold += extra.max(0);
        if extra < 0 {
            let back = extra.unsigned_abs();
            if let Some((_, amount)) = first.log.iter_mut().rev().find(|(_, it)| *it >= back) {
                *amount -= back;
            }
        }
    }

    fn head(&mut self, n: usize) {
        let request = &mut self.requests[n];
        request.told = Told::Answered;
        let (There::Counted { left, refused }, key) = (
            match request.there {
                There::Done { left, .. } => There::Counted {
                    left,
                    refused: false,
                },
                there => there,
            },
            request.key,
        ) else {
            unreachable!("only what was counted is answered")
        };
        let told = Observation {
            limits: match self.scene.told {
                true => RateLimits {
                    limit_tokens: Some(self.counts[0].limit.cast_unsigned()),
                    remaining_tokens: Some(left),
                    ..RateLimits::default()
                },
                false => RateLimits::default(),
            },
            denial: refused.then_some(Denial {
                scope: Scope::Tokens,
                after: Some(Duration::from_secs(LONG)),
            }),
        };
        self.ledger.observe_answer(key, told.news(), self.now());
    }

    fn settle(&mut self, n: usize) {
        let Request { charge, there, .. } = self.requests[n];
        let extra = match there {
            There::Done { extra, .. } => extra,
            _ => 0,
        };
        let key = self.end(n);
        let unit = self.counts[0].unit;
        let used = charge.get(unit).saturating_add_signed(extra);
        self.counts[0].untold -= extra.max(0);
        self.ledger
            .close(key, Some(&Charge::of(unit, used)), self.now());
    }

    /// Nobody on our side asks for it any more.
    fn end(&mut self, n: usize) -> Key {
        self.requests[n].told = Told::Over;
        self.requests[n].key
    }

    fn wait(&mut self, seconds: u64) {
        self.clock += seconds;
        for count in &mut self.counts {
            count.refill(seconds);
            count.log.retain(|(at, _)| at + 60 > self.clock);
        }
    }

    fn check(&mut self) {
        let now = self.now();
        let now = self.ledger.catch_up(now);
        for (metered, count) in self.ledger.meters.iter_mut().zip(&self.counts) {
            let on_their_way = self.requests.iter().filter(|it| it.is_under_way());
            let amounts = on_their_way.map(|request| request.charge.get(count.unit));
            let on_their_way = i128::from(amounts.sum::<u64>()) * SIXTIETH * 60;
            let Some(level) = metered.meter.level() else {
                continue;
            };
            let ours = level.exact(now) + on_their_way;
            let theirs = i128::from(count.level + 60 * count.untold) * SIXTIETH;
            assert!(
                ours <= theirs,
                "{:?}: {} {ours} > {theirs}",
                self.path,
                count.unit.name()
            );
        }
        if self
            .requests
            .iter()
            .all(|request| request.told == Told::Over)
        {
            self.check_empty();
        }
    }

    /// What one glance says is what a long look says.
    fn check_shut(&self) {
        let now = &mut Now::at(self.now());
        for charge in self.scene.charges.iter().map(|it| self.scene.charge(*it)) {
            let mut ledger = self.ledger.clone();
            if ledger.is_shut(&charge) {
                let when = ledger.when(&charge, now);
                assert_eq!(when, When::OnRelease, "{:?}: {charge:?}", self.path);
            }
        }
    }

    /// Says how many can be passed on.
    fn check_passed_on(&self) -> usize {
        let now = &mut Now::at(self.now());
        let reserved = self.requests.iter().filter(|it| it.told == Told::Reserved);
        let mut count = 0;
        for request in reserved {
            let mut passed = self.ledger.clone();
            if !passed.pass_on(&request.key, &request.charge, now) {
                continue;
            }
            let mut anew = self.ledger.clone();
            anew.release(request.key, now);
            assert_eq!(
                anew.when(&request.charge, now),
                When::Now,
                "{:?}",
                self.path
            );
            anew.take(&request.charge, now);
            for later in [0, 1, LONG, 180] {
                let at = self.now() + Duration::from_secs(later);
                let [passed, anew] = [&mut passed, &mut anew].map(|ledger| stands(ledger, at));
                assert_eq!(passed, anew, "{:?}: {later} s later", self.path);
            }
            count += 1;
        }
        count
    }

    /// All are over: a while later there is no trace of them.
    fn check_empty(&self) {
        let mut ledger = self.ledger.clone();
        let later = self.now() + Duration::from_secs(180);
        let snapshot = ledger.snapshot(0, later);
        assert_eq!(snapshot.outstanding, 0, "{:?}", self.path);
        for meter in snapshot.meters {
            assert_eq!(
                (meter.in_transit, meter.outstanding),
                (0, 0),
                "{:?}",
                self.path
            );
            assert_eq!(meter.level, meter.capacity.cast_signed(), "{:?}", self.path);
        }
        assert_eq!(ledger.transit.entries_mut().count(), 0, "{:?}", self.path);
    }
}

/// A sixtieth of a unit in the fractions of a bucket by the minute.
const SIXTIETH: i128 = 1_000_000_000;

/// All of a ledger, brought up to date.
fn stands(ledger: &mut Ledger, at: Moment) -> String {
    ledger.snapshot(0, at);
    let entries = format!("{:?}", ledger.transit.entries_mut().collect::<Vec<_>>());
    format!("{ledger:?} {entries}")
}

/// Visits every state; says how many there are.
fn explore(scene: Scene) -> usize {
    let mut start = World::new(scene);
    let mut seen = HashSet::from([start.fingerprint()]);
    let mut frontier = VecDeque::from([start]);
    let mut passed_on = 0;
    while let Some(mut world) = frontier.pop_front() {
        match scene.glances {
            // It reads the clock.
            true => world.clone().check(),
            false => world.check(),
        }
        world.check_shut();
        passed_on += world.check_passed_on();
        assert!(seen.len() < 100_000, "too many states of {scene:?}");
        for step in world.steps() {
            let mut next = world.clone();
            if next.take(step) && seen.insert(next.fingerprint()) {
                frontier.push_back(next);
            }
        }
    }
    let is_paced = scene.limits.iter().any(|(unit, _)| *unit == Unit::Requests);
    assert_eq!(passed_on == 0, is_paced, "{passed_on} were passed on");
    println!("{:>7} states of {scene:?}", seen.len());
    seen.len()
}

/// Every accounting with every kind of window, with counts told and not.
fn explore_all(limits: &'static [(Unit, u64)], scene: Scene) {
    explore_told(&[false, true], limits, scene);
}

/// The same, with counts that are told, as here, or not.
fn explore_told(told: &[bool], limits: &'static [(Unit, u64)], scene: Scene) {
    for accounting in [Accounting::AsRequested, Accounting::AsUsed] {
        for window in [Window::Off, Window::On] {
            for &told in told {
                let states = explore(Scene {
                    limits,
                    accounting,
                    window,
                    told,
                    ..scene
                });
                assert!(states > 500, "{states} states are no exploration");
            }
        }
    }
}

#[test]
fn one_meter_never_runs_ahead_of_the_provider() {
    explore_all(TOKENS, PLAIN);
}

/// Nobody tells how many output tokens are left.
#[test]
fn two_meters_never_run_ahead_of_the_provider() {
    explore_told(&[false], TWO, PLAIN);
    explore_all(PACED, PLAIN);
}

/// Who comes knows only how it stood when the clock was last read.
#[test]
fn who_is_let_in_at_a_glance_never_runs_ahead_of_the_provider() {
    let scene = Scene {
        glances: true,
        ..PLAIN
    };
    explore_all(TOKENS, scene);
    explore_told(&[false], PACED, scene);
}

/// One is reserved while the account is held, or while another one turns out to have used
/// more than it reserved.
#[test]
fn what_is_passed_on_is_as_if_it_had_come_back_first() {
    let owing = Scene { debt: 1, ..PLAIN };
    explore_told(&[false], TOKENS, owing);
    let held = Scene {
        holds: 1,
        longs: 0,
        ..PLAIN
    };
    explore_told(&[false], TOKENS, held);
}

#[test]
fn whatever_becomes_of_one_request_the_next_finds_what_was_left() {
    let scene = Scene {
        debt: 1,
        odd: true,
        holds: 1,
        requests: 1,
        charges: &[2],
        seconds: 2,
        ..PLAIN
    };
    explore_all(TOKENS, scene);
}
