//! The ledger: what was reserved, what is in transit, what was charged.
//!
//! It is the rule behind [`TokenBudget`](crate::TokenBudget), and like every
//! rule pure: told the time, it wakes nobody. `docs/architecture.md` has the
//! proof that what it admits stays within the provider's limit.

mod aimd;
mod answers;
mod belief;
mod correction;
mod cross_traffic;
mod meters;
mod refill;
mod snapshot;
mod terms;
mod trust;
mod unsent;

use std::time::Duration;

use super::stats::{Counts, Levels, Note};
use super::{Ahead, Key, Launch, Line, Room, Rule, When};
use crate::answer::Scope;
use crate::error::Refused;
use crate::time::{Moment, Now};
use correction::{Correction, Sent};
use meters::{Requests, Tokens};
use trust::{Allowance, Epoch, Trust};

pub(crate) use aimd::Aimd;
pub use snapshot::Snapshot;
pub use terms::{Accounting, Window};
pub(crate) use terms::{Learns, MOST, RequestTerms, Terms, allowed, is_limit};

/// How long after its launch a request has surely been counted by the
/// provider, where no answer has shown it sooner.
const TRANSIT: Duration = Duration::from_secs(2);

/// See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Ledger {
    terms: Terms,
    tokens: Tokens,
    requests: Option<Requests>,
    /// Every reservation; those that were launched and have not landed stand
    /// in line, in the order of their launch and so of their deadline.
    transit: Line<Entry>,
    /// Reserved and not settled, in tokens.
    outstanding: u64,
    trust: Trust,
    correction: Correction,
    exhausted: Option<(Scope, Moment)>,
    /// Whether the limits are still to be learned from a first answer.
    unlearned: bool,
    /// The latest instant seen: readings from two threads may arrive in the
    /// wrong order.
    seen: Moment,
    /// Nothing lands by itself before.
    landing: Moment,
    tally: Counts,
    /// To be told once the lock is gone.
    notes: Vec<Note>,
}

#[derive(Debug)]
struct Entry {
    cost: u64,
    stage: Stage,
    epoch: Epoch,
    answered: bool,
    sent: Sent,
}

/// How far a request has come.
///
/// A stage only ever goes forward, and only `Reserved` is given back whole: from
/// the launch on, the provider may have counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Everything can be returned.
    ///
    /// - handed to a service that may keep it: to `Handed`
    /// - handed to the transport: to `Sent`
    /// - answered before anybody told of its launch: to `Landed`
    /// - dropped: refunded, and forgotten
    Reserved,
    /// Launched, by way of a service that may keep it: in transit until its
    /// answer, however long that takes.
    ///
    /// - answered: to `Landed`
    /// - dropped: to `Sent`, as an orphan
    Handed,
    /// On the wire: in transit until its answer or the deadline.
    ///
    /// - answered, or the deadline comes: to `Landed`
    /// - dropped: stays here as an orphan, which nobody settles, and is
    ///   forgotten when it lands
    Sent { deadline: Moment, orphan: bool },
    /// Counted by the provider; and the room that there was then for what may
    /// yet be given back.
    ///
    /// - settled or dropped: forgotten
    /// - never sent after all: given back as far as there was room, and
    ///   forgotten
    Landed { at: Moment, rooms: Rooms },
}

/// See [`Bucket::room`](super::Bucket::room).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Rooms {
    tokens: Room,
    requests: Room,
}

impl Ledger {
    pub(crate) fn new(terms: Terms, now: Moment) -> Self {
        Ledger {
            tokens: Tokens::new(
                terms.limit,
                terms.rate,
                terms.capacity,
                terms.windowed(),
                now,
            ),
            requests: terms.requests.map(|requests| {
                Requests::new(requests.limit, requests.rate, terms.windowed(), now)
            }),
            transit: Line::new(),
            outstanding: 0,
            trust: Trust::new(match terms {
                _ if terms.learns.anything() => Some(Allowance::new(0, terms.rate)),
                _ if terms.cautious_start => Some(Allowance::new(terms.capacity / 10, terms.rate)),
                _ => None,
            }),
            unlearned: terms.learns.anything(),
            correction: Correction::default(),
            exhausted: None,
            seen: now,
            landing: Moment::NEVER,
            tally: Counts::default(),
            notes: Vec::new(),
            terms,
        }
    }

    /// Lets everything land whose deadline has passed, each at its own
    /// instant, and returns the present, which never goes back.
    #[inline]
    pub(crate) fn catch_up(&mut self, now: Moment) -> Moment {
        self.seen = self.seen.max(now);
        if self.landing <= self.seen {
            self.land_what_is_due();
        }
        self.seen
    }

    fn land_what_is_due(&mut self) {
        self.landing = Moment::NEVER;
        while let Some(first) = self.transit.first() {
            let Stage::Sent { deadline, orphan } = self.transit.get_mut(first).stage else {
                unreachable!("only what was sent stands in line")
            };
            if deadline > self.seen {
                self.landing = deadline;
                break;
            }
            self.land(first, deadline);
            if orphan {
                self.transit.remove(first);
            }
        }
    }

    /// A launched request stands in line until it lands.
    #[inline]
    fn send(&mut self, key: Key, orphan: bool, now: Moment) {
        let deadline = now + TRANSIT;
        self.transit.get_mut(key).stage = Stage::Sent { deadline, orphan };
        self.transit.stand(key);
        self.landing = self.landing.min(deadline);
    }

    /// The provider has surely counted this one by `at`, launched or handed on
    /// as it was, or at that instant.
    #[inline]
    fn land(&mut self, key: Key, at: Moment) {
        let entry = self.transit.get_mut(key);
        match entry.stage {
            Stage::Landed { .. } => return,
            // Its answer is the first that is heard of its launch.
            Stage::Reserved => self.tally.launched(),
            Stage::Handed | Stage::Sent { .. } => {}
        }
        let cost = entry.cost;
        self.transit.step_aside(key);
        self.tokens.land(cost, at);
        let rooms = Rooms {
            tokens: self.tokens.bucket.room(at),
            requests: match &mut self.requests {
                Some(requests) => requests.land(at),
                None => Room::default(),
            },
        };
        self.transit.get_mut(key).stage = Stage::Landed { at, rooms };
    }

    /// The earliest instant at which something lands by itself.
    #[inline]
    fn next_landing(&mut self) -> Option<Moment> {
        let first = self.transit.first()?;
        match self.transit.get_mut(first).stage {
            Stage::Sent { deadline, .. } => Some(deadline),
            _ => None,
        }
    }

    /// An answer to `key` came, or somebody says that it did.
    #[inline]
    pub(crate) fn answered(&mut self, key: Key, confirms: bool, now: Moment) {
        self.land(key, now);
        let entry = self.transit.get_mut(key);
        if entry.answered {
            return;
        }
        entry.answered = true;
        self.trust.forget(entry.epoch);
        if confirms {
            self.trust.confirm(entry.epoch);
        }
    }

    /// The reservation ends: with its real cost where that is known, else with
    /// what it reserved, or with nothing where it never left.
    #[inline]
    pub(crate) fn close(&mut self, key: Key, actual: Option<u64>, now: Moment) {
        match actual {
            Some(actual) => self.settle(key, actual, now),
            None => self.abandon(key, now),
        }
    }

    fn settle(&mut self, key: Key, actual: u64, now: Moment) {
        let now = self.catch_up(now);
        self.answered(key, true, now);
        let entry = self.transit.remove(key);
        self.outstanding -= entry.cost;
        let actual = self.believed(entry.cost, actual);
        self.tally.settled(actual);
        if actual > entry.cost {
            self.correction.charged(actual - entry.cost);
            self.tokens.owe(actual - entry.cost, now);
        } else if let (Accounting::AsUsed, Stage::Landed { at, rooms }) =
            (self.terms.accounting, entry.stage)
        {
            let unused = self
                .correction
                .settled(entry.cost - actual, self.outstanding);
            self.tokens.give_back(unused, at, rooms.tokens, now);
        }
    }

    #[inline]
    fn abandon(&mut self, key: Key, now: Moment) {
        let now = self.catch_up(now);
        let entry = self.transit.get_mut(key);
        self.outstanding -= entry.cost;
        if !entry.answered {
            self.trust.forget(entry.epoch);
        }
        match entry.stage {
            Stage::Reserved => self.tally.refunded(entry.cost),
            _ => self.tally.settled(entry.cost),
        }
        match &mut entry.stage {
            Stage::Landed { .. } => drop(self.transit.remove(key)),
            Stage::Reserved => self.refund(key, now),
            // It may yet arrive.
            Stage::Sent { orphan, .. } => *orphan = true,
            Stage::Handed => self.send(key, true, now),
        }
    }

    fn refund(&mut self, key: Key, now: Moment) {
        let entry = self.transit.remove(key);
        self.correction.refunded(entry.cost);
        self.tokens.refund(entry.cost, now);
        if let Some(requests) = &mut self.requests {
            requests.refund(entry.sent.reserved, now);
        }
    }

    /// When `cost` more would be admitted behind those who wait.
    pub(crate) fn eta(&mut self, cost: u64, ahead: Ahead, now: Moment) -> Duration {
        let now = self.catch_up(now);
        let held = self
            .trust
            .held_until(now)
            .map_or(Duration::ZERO, |until| until - now);
        let tokens = self.tokens.eta(ahead.cost.saturating_add(cost), now);
        let requests = self.requests.as_mut().map_or(Duration::ZERO, |requests| {
            requests.eta(ahead.waiting as u64 + 1, now)
        });
        held.max(tokens).max(requests)
    }

    /// How it stands, and how many wait.
    pub(crate) fn snapshot(&mut self, waiting: usize, now: Moment) -> Snapshot {
        let now = self.catch_up(now);
        Snapshot {
            limit: self.terms.limit,
            capacity: self.terms.capacity,
            level: self.tokens.bucket.level(now),
            in_transit: self.tokens.bucket.in_transit(),
            outstanding: self.outstanding,
            waiting,
            held_until: self.trust.held_until(now).map(Into::into),
            requests_limit: self.terms.requests.map(|requests| requests.limit),
            windowed: self.tokens.minute.is_some(),
            pace_percent: self.terms.pace.percent(),
        }
    }
}

impl Rule for Ledger {
    const NAME: &'static str = "budget";
    type Held = Key;

    #[inline]
    fn when(&mut self, cost: u64, now: &mut Now) -> When {
        let now = self.catch_up(now.get());
        if self.unlearned {
            return self.trust.when(cost, now);
        }
        let mut when = self.trust.when(cost, now).and(self.tokens.when(cost, now));
        if let Some(requests) = &mut self.requests {
            when = when.and(requests.when(now));
        }
        match when {
            // A landing releases too, and nobody else would notice.
            When::OnRelease => self.next_landing().map_or(when, When::At),
            when => when,
        }
    }

    #[inline]
    fn take(&mut self, cost: u64, _: &mut Now) -> Key {
        // `when` has just caught up.
        let now = self.seen;
        // Before its limits are known a request may ask for any number.
        let cost = cost.min(MOST);
        self.tokens.reserve(cost, now);
        if let Some(requests) = &mut self.requests {
            requests.reserve(now);
        }
        let (epoch, drains) = self.trust.admit(cost, now);
        if drains {
            self.tokens.bucket.lower_to(0, now);
        }
        self.correction.charged(cost);
        self.tally.reserved(cost);
        self.outstanding += cost;
        let others = self.tokens.bucket.in_transit() - cost;
        self.transit.insert(Entry {
            cost,
            stage: Stage::Reserved,
            epoch,
            answered: false,
            sent: self.correction.reserved(others, now),
        })
    }

    #[inline]
    fn launch(&mut self, held: &mut Key, to: Launch, now: &mut Now) {
        let now = self.catch_up(now.get());
        let entry = self.transit.get_mut(*held);
        if entry.stage != Stage::Reserved {
            return;
        }
        entry.sent.launched = Some(now);
        self.tally.launched();
        match to {
            Launch::ToService => entry.stage = Stage::Handed,
            Launch::ToWire => self.send(*held, false, now),
        }
    }

    #[inline]
    fn release(&mut self, held: Key, now: &mut Now) {
        self.close(held, None, now.get());
    }

    fn unsend(&mut self, held: Key, now: &mut Now) {
        self.take_back(held, now.get());
    }

    #[inline]
    fn never(&mut self, cost: u64, now: &mut Now) -> Option<Refused> {
        let limit = self.terms.capacity;
        if cost > limit && !self.unlearned {
            return Some(Refused::TooLarge { cost, limit });
        }
        let (scope, until) = self.exhausted?;
        if until <= now.get() {
            self.exhausted = None;
            return None;
        }
        Some(Refused::Exhausted {
            scope,
            until: until.into(),
        })
    }

    fn expected_wait(&mut self, cost: u64, ahead: Ahead, now: &mut Now) -> Duration {
        self.eta(cost, ahead, now.get())
    }

    #[inline]
    fn counts(&self) -> Counts {
        self.tally
    }

    fn levels(&mut self) -> Levels {
        let now = self.seen;
        Levels::Budget {
            limit: self.terms.limit,
            level: self.tokens.bucket.level(now),
            in_transit: self.tokens.bucket.in_transit(),
            outstanding: self.outstanding,
            held: self.trust.held_until(now).is_some(),
        }
    }

    #[inline]
    fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }
}
