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
mod dealings;
mod limits;
mod metered;
#[cfg(test)]
mod model;
mod prices;
mod refill;
mod snapshot;
mod terms;
#[cfg(test)]
mod tests;
mod trust;
mod unsent;

use std::time::Duration;

use super::meter::Meter;
use super::stats::{BudgetLevels, Counts, Note, Stats};
use super::{Ahead, Charged, Cost, Key, Launch, Line, Rule, When};
use crate::answer::{RateLimits, Scope};
use crate::charge::{Charge, Per, Total, Unit};
use crate::error::Refused;
use crate::time::{Moment, Now};
use metered::Metered;
use trust::{Allowance, Epoch, Trust};

pub(crate) use aimd::Aimd;
pub(crate) use dealings::{Collected, Dealings, Heard, Unused};
pub(crate) use prices::Prices;
pub use snapshot::{CallerSnapshot, MeterSnapshot, NextInLine, Snapshot};
pub use terms::{Accounting, Window};
pub(crate) use terms::{Learns, Limit, MOST, Named, REQUESTS, Share, TOKENS, Terms, is_limit};

/// How long after its launch a request has surely been counted by the
/// provider, where no answer has shown it sooner.
const TRANSIT: Duration = Duration::from_secs(2);

/// See the [module's documentation](self).
#[derive(Debug)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Ledger {
    terms: Terms,
    /// In the order of the terms' limits. None is no limit.
    meters: Vec<Metered>,
    /// Every reservation; those that were launched and have not landed stand
    /// in line, in the order of their launch and so of their deadline.
    transit: Line<Entry>,
    /// Reserved and not settled, in tokens.
    outstanding: u64,
    /// All that was ever taken and not given back before it left.
    taken: Total,
    trust: Trust,
    exhausted: Option<(Scope, Moment)>,
    /// Whether the limits are still to be learned from a first answer.
    unlearned: bool,
    /// The latest instant seen: readings from two threads may arrive in the
    /// wrong order.
    seen: Moment,
    /// Nothing lands by itself before.
    landing: Moment,
    /// What was reserved since `seen`, at an instant that nobody read and a pace counts from.
    undated: Vec<Key>,
    /// Whether anything was told since somebody last read the clock on his way in.
    told: bool,
    tally: Counts,
    /// How often its limits were set.
    resized: u32,
    /// To be told once the lock is gone.
    notes: Vec<Note>,
    /// Where other processes spend from the same account and are told.
    dealings: Option<Box<Dealings>>,
}

#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
struct Entry {
    charge: Charge,
    /// Whether that is less than was asked for.
    bounded: bool,
    stage: Stage,
    /// When it lands or has landed; of no meaning before it was sent. Apart from its
    /// stage, so that no part of an entry is ever left open, which costs more to copy.
    at: Moment,
    /// From when on its pace counts.
    dated: Moment,
    epoch: Epoch,
    answered: bool,
    /// Its answer was a refusal: the provider did not charge it.
    refused: bool,
    sent: Sent,
}

impl Entry {
    /// Charges no more than `most` of a unit; says by how much that is less.
    fn bound(&mut self, unit: Unit, most: u64) -> u64 {
        let before = self.charge.get(unit);
        self.charge = self.charge.bounded(unit, most);
        let excess = before - self.charge.get(unit);
        self.bounded |= excess > 0;
        excess
    }

    /// Dropped on its way: nobody settles it, and it was told of then.
    fn is_orphan(&self) -> bool {
        self.stage == Stage::Orphan
    }
}

/// When a request left, as far as that is known.
///
/// Its launch is told once it has been handed on. On another thread it may have
/// been counted by then, even answered, and others after it: so what the count in
/// its answer has in it for sure is reckoned from its reservation.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
struct Sent {
    /// It left no sooner.
    reserved: Moment,
    /// It left no later, where that was told.
    launched: Option<Moment>,
}

impl Sent {
    fn by(&self, now: Moment) -> Moment {
        self.launched.unwrap_or(now)
    }
}

/// What an answer tells of one meter.
#[derive(Clone, Copy, Debug, Default)]
struct Told {
    limit: Option<u64>,
    remaining: Option<u64>,
    reset: Option<Duration>,
}

/// How far a request has come.
///
/// A stage only ever goes forward, and only `Reserved` is given back whole: from
/// the launch on, the provider may have counted it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
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
    /// - dropped: to `Orphan`, on the wire from now on
    Handed,
    /// On the wire: in transit until its answer or the deadline.
    ///
    /// - answered, or the deadline comes: to `Landed`
    /// - dropped: to `Orphan`
    Sent,
    /// The same, and nobody settles it.
    ///
    /// - the deadline comes: forgotten as it lands
    Orphan,
    /// Counted by the provider.
    ///
    /// - settled or dropped: forgotten
    /// - never sent after all: given back as far as there was room, and
    ///   forgotten
    Landed,
}

impl Ledger {
    pub(crate) fn new(terms: Terms, now: Moment) -> Self {
        let mut ledger = Ledger {
            meters: Vec::new(),
            transit: Line::new(),
            outstanding: 0,
            taken: Total::default(),
            trust: Trust::new(None),
            unlearned: terms.learns.anything(),
            exhausted: None,
            seen: now,
            landing: Moment::NEVER,
            undated: Vec::new(),
            told: false,
            tally: Counts::default(),
            resized: 0,
            notes: Vec::new(),
            dealings: None,
            terms,
        };
        ledger.resize(now);
        ledger.trust = Trust::new(match &ledger.terms {
            terms if terms.learns.anything() => Some(Allowance::NONE),
            terms if terms.cautious_start => Some(Allowance::new(ledger.caution())),
            _ => None,
        });
        ledger
    }

    /// A tenth of what may be spent at once, of whichever meter has least.
    fn caution(&self) -> Duration {
        let meters = self.meters.iter().map(|it| &it.meter);
        let tenths = meters.map(|meter| meter.time_for(meter.allowed().capacity / 10));
        tenths.min().unwrap_or(Duration::MAX)
    }

    /// Lets everything land whose deadline has passed, each at its own
    /// instant, and returns the present, which never goes back.
    #[inline]
    pub(crate) fn catch_up(&mut self, now: Moment) -> Moment {
        self.seen = self.seen.max(now);
        if !self.undated.is_empty() {
            self.date();
        }
        if self.landing <= self.seen {
            self.land_what_is_due();
        }
        self.seen
    }

    /// Whatever was reserved since the clock was last read was reserved by now.
    fn date(&mut self) {
        while let Some(key) = self.undated.pop() {
            self.transit.get_mut(key).dated = self.seen;
        }
        for metered in &mut self.meters {
            metered.meter.date(self.seen);
        }
    }

    /// Whether it will matter when exactly the next request came. What answers tell is
    /// weighed by which requests came after the last of them; the search for a continuous
    /// refill and for a pace measures from one to the other.
    #[inline]
    fn minds_arrival(&self) -> bool {
        self.told || self.terms.window == Window::Auto || !self.terms.pace.is_full()
    }

    fn land_what_is_due(&mut self) {
        self.landing = Moment::NEVER;
        while let Some(first) = self.transit.first() {
            let entry = self.transit.get(first);
            let (deadline, orphan) = (entry.at, entry.is_orphan());
            if deadline > self.seen {
                self.landing = deadline;
                break;
            }
            self.land(first, deadline);
            if orphan {
                self.transit.forget(first);
            }
        }
    }

    /// A launched request stands in line until it lands.
    #[inline]
    fn send(&mut self, key: Key, orphan: bool, now: Moment) {
        let deadline = now + TRANSIT;
        let entry = self.transit.get_mut(key);
        entry.at = deadline;
        entry.stage = match orphan {
            true => Stage::Orphan,
            false => Stage::Sent,
        };
        self.transit.stand(key);
        self.landing = self.landing.min(deadline);
    }

    /// The provider has surely counted this one by `at`, launched or handed on
    /// as it was, or at that instant.
    #[inline(always)]
    fn land(&mut self, key: Key, at: Moment) {
        let entry = self.transit.get_mut(key);
        match entry.stage {
            Stage::Landed => return,
            // Its answer is the first that is heard of its launch.
            Stage::Reserved => self.tally.launched(),
            Stage::Handed | Stage::Sent | Stage::Orphan => {}
        }
        (entry.stage, entry.at) = (Stage::Landed, at);
        let charge = entry.charge;
        self.transit.step_aside(key);
        for metered in &mut self.meters {
            let amount = charge.get(metered.meter.unit());
            if amount > 0 {
                metered.land(key, amount, at);
            }
        }
    }

    /// The earliest instant at which something lands by itself.
    #[inline]
    fn next_landing(&self) -> Option<Moment> {
        let first = self.transit.first()?;
        Some(self.transit.get(first).at)
    }

    /// An answer to `key` came, or somebody says that it did.
    #[inline]
    pub(crate) fn answered(&mut self, key: Key, confirms: bool, now: Moment) {
        if !self.transit.get(key).answered {
            self.first_answered(key, confirms, now);
        }
    }

    fn first_answered(&mut self, key: Key, confirms: bool, now: Moment) {
        self.land(key, now);
        let entry = self.transit.get_mut(key);
        entry.answered = true;
        self.trust.forget(entry.epoch);
        if confirms {
            self.trust.confirm(entry.epoch);
        }
    }

    /// The reservation ends: with its real cost where that is known, else with
    /// what it reserved, or with nothing where it never left. Says what its caller
    /// has had: of a refusal, nothing.
    #[inline(always)]
    pub(crate) fn close(&mut self, key: Key, used: Option<&Charge>, now: Moment) -> Charged {
        let was_refused = self.transit.get_mut(key).refused;
        let charged = match used {
            Some(used) => self.settle(key, used, now),
            None => self.abandon(key, now),
        };
        match was_refused {
            true => Charged::Nothing,
            false => charged,
        }
    }

    fn settle(&mut self, key: Key, used: &Charge, now: Moment) -> Charged {
        let now = self.catch_up(now);
        self.answered(key, true, now);
        if std::mem::take(&mut self.unlearned) {
            // It was answered well, and nobody said with what limits.
            self.fall_back(&RateLimits::default(), now);
        }
        let entry = self.transit.get(key);
        debug_assert_eq!(entry.stage, Stage::Landed, "who was answered has landed");
        let mut is_whole = !entry.bounded;
        let mut tokens = entry.charge.get(Unit::Tokens);
        self.outstanding -= tokens;
        tokens = used.named(Unit::Tokens).unwrap_or(tokens);
        if is_whole && self.keeps_all(used, &entry.charge) {
            for metered in &mut self.meters {
                metered.stand(entry.charge.get(metered.meter.unit()));
            }
            self.tally.settled(tokens);
            self.transit.forget(key);
            return Charged::Whole;
        }
        // Made where an answer tells more than is believed.
        let mut capped: Option<Charge> = None;
        for metered in &mut self.meters {
            let unit = metered.meter.unit();
            let reserved = entry.charge.get(unit);
            match used.named(unit) {
                Some(told) if unit.is_settled() => {
                    let believed = told.min(metered.believable(reserved)).min(MOST);
                    if believed < told {
                        self.notes.push(Note::UsageCapped {
                            reserved,
                            told,
                            believed,
                        });
                        capped = Some(capped.unwrap_or(*used).bounded(unit, believed));
                    }
                    if unit == Unit::Tokens {
                        tokens = tokens.min(believed);
                    }
                    metered.settle(key, (reserved, believed), entry.at, &self.terms, now);
                    is_whole &= self.terms.charged(reserved, believed) == reserved;
                }
                _ => metered.stand(reserved),
            }
        }
        let used = capped.as_ref().unwrap_or(used);
        self.taken.add_excess(used, &entry.charge);
        if let Some(dealings) = &mut self.dealings {
            let as_used = self.terms.accounting == Accounting::AsUsed;
            dealings.settled(key, (&entry.charge, used), entry.at, as_used);
        }
        self.tally.settled(tokens);
        let charged = match is_whole {
            true => Charged::Whole,
            false => Charged::Used(self.stands(entry.charge, used)),
        };
        self.transit.forget(key);
        charged
    }

    /// Whether what was used changes nothing: nothing is owed, nothing comes back, and
    /// nobody is told of it.
    #[inline]
    fn keeps_all(&self, used: &Charge, reserved: &Charge) -> bool {
        self.terms.accounting == Accounting::AsRequested
            && self.dealings.is_none()
            && used.is_within(reserved)
    }

    /// What the provider charges in the end where that is not what was reserved.
    fn stands(&self, reserved: Charge, used: &Charge) -> Charge {
        let units = self.meters.iter().map(|it| it.meter.unit());
        let settled = units.filter(|unit| unit.is_settled());
        settled.fold(reserved, |stands, unit| match used.named(unit) {
            Some(used) => stands.and(unit, self.terms.charged(reserved.get(unit), used)),
            None => stands,
        })
    }

    #[inline]
    fn abandon(&mut self, key: Key, now: Moment) -> Charged {
        let now = self.catch_up(now);
        let entry = self.transit.get_mut(key);
        let charge = entry.charge;
        let tokens = charge.get(Unit::Tokens);
        self.outstanding -= tokens;
        if !entry.answered {
            self.trust.forget(entry.epoch);
        }
        if entry.stage == Stage::Reserved {
            self.tally.refunded(tokens);
            self.refund(key, now);
            return Charged::Nothing;
        }
        self.tally.settled(tokens);
        match entry.stage {
            Stage::Landed | Stage::Reserved => self.transit.forget(key),
            // It may yet arrive.
            Stage::Sent | Stage::Orphan => entry.stage = Stage::Orphan,
            Stage::Handed => self.send(key, true, now),
        }
        for metered in &mut self.meters {
            metered.stand(charge.get(metered.meter.unit()));
        }
        Charged::Whole
    }

    fn refund(&mut self, key: Key, now: Moment) {
        let Entry { charge, dated, .. } = self.transit.remove(key);
        self.taken.subtract(&charge);
        if let Some(dealings) = &mut self.dealings {
            dealings.refunded();
        }
        for metered in &mut self.meters {
            let amount = charge.get(metered.meter.unit());
            if amount > 0 {
                metered.refund(amount, dated, now);
            }
        }
    }

    /// The refusal of everybody, while a limit is used up for longer than anybody
    /// waits.
    #[inline]
    fn exhausted(&mut self, now: Moment) -> Option<Refused> {
        let (scope, until) = self.exhausted?;
        if until <= now {
            self.exhausted = None;
            return None;
        }
        Some(Refused::Exhausted {
            scope,
            until: until.into(),
        })
    }

    /// Whether `charge` is refused by nothing that is known, and waits for no change.
    #[inline]
    pub(crate) fn fits(&self, charge: &Charge) -> bool {
        let mut meters = self.meters.iter().map(|it| it.meter.allowed());
        self.exhausted.is_none() && meters.all(|it| charge.get(it.unit) <= it.capacity)
    }

    /// When `charge` more would be admitted behind those who wait. What none of them takes
    /// anything of keeps none of them waiting.
    pub(crate) fn eta(&mut self, charge: &Charge, ahead: Ahead, now: Moment) -> Duration {
        let now = self.catch_up(now);
        let held = self.trust.held_until(now).map(|until| until - now);
        let meters = self.meters.iter_mut().filter_map(|metered| {
            let unit = metered.meter.unit();
            let (amount, ahead) = (charge.get(unit), ahead.charge.get(unit));
            (amount > 0 || ahead > 0).then(|| metered.meter.eta(amount, ahead, now))
        });
        let known = meters.chain(held).max().unwrap_or_default();
        known.max(self.unlearned_eta(charge, ahead))
    }

    /// As long as a limit is not known, it is reckoned with the one that is gone on
    /// with if nobody ever names it.
    fn unlearned_eta(&self, charge: &Charge, ahead: Ahead) -> Duration {
        let Some(fallback) = self.terms.learns.tokens.filter(|_| self.unlearned) else {
            return Duration::ZERO;
        };
        let (unit, per) = TOKENS;
        let amount = fallback;
        let allowed = self.terms.allowed(&Limit { unit, per, amount });
        let total = ahead.charge.get(unit).saturating_add(charge.get(unit));
        allowed.time_for(total.saturating_sub(allowed.capacity))
    }

    /// Whether answers named limits that are to be learned, and by which it goes now.
    pub(crate) fn has_learned(&self) -> bool {
        self.terms.has_learned()
    }

    /// Whether nothing is known here that a new ledger would not know, but for what it [has
    /// learned](Self::has_learned): nothing is in transit or counted, no hold was in force
    /// within a minute, no refusal slows it.
    pub(crate) fn is_at_rest(&mut self, now: Moment) -> bool {
        let now = self.catch_up(now);
        let trusted = self
            .trust
            .held_within(Per::Minute.duration(), now)
            .is_none();
        let open = trusted && self.exhausted(now).is_none() && self.terms.pace.percent() == 100;
        // An orphan in transit keeps a level or a window from being full.
        let mut meters = self.meters.iter_mut().map(|it| &mut it.meter);
        open && self.outstanding == 0 && meters.all(|meter| meter.is_full(now))
    }

    /// The most of a unit that one request may take, if anything bounds it.
    pub(crate) fn most(&mut self, unit: Unit, now: Moment) -> Option<u64> {
        self.catch_up(now);
        let meters = self.meters.iter().map(|it| it.meter.allowed());
        let of_unit = meters.filter(|allowed| allowed.unit == unit);
        of_unit.map(|allowed| self.terms.room(allowed)).min()
    }

    /// How it stands, and how many wait.
    pub(crate) fn snapshot(&mut self, waiting: usize, now: Moment) -> Snapshot {
        let now = self.catch_up(now);
        let of_all = |it: &mut Metered| {
            let mut meter = it.snapshot(now);
            meter.capacity = self.terms.room(it.meter.allowed());
            meter
        };
        let meters: Vec<_> = self.meters.iter_mut().map(of_all).collect();
        let tokens = meters.iter().find(|it| (it.unit, it.per) == TOKENS);
        let first = tokens.or(meters.first());
        Snapshot {
            limit: first.map_or(0, |meter| meter.limit),
            capacity: first.map_or(0, |meter| meter.capacity),
            level: first.map_or(0, |meter| meter.level),
            in_transit: first.map_or(0, |meter| meter.in_transit),
            outstanding: self.outstanding,
            waiting,
            in_flight: 0,
            max_concurrency: None,
            next_launch: None,
            held_until: self.trust.held_until(now).map(Into::into),
            requests_limit: self.terms.limit(REQUESTS),
            windowed: first.is_some_and(|meter| meter.windowed),
            pace_percent: self.terms.pace.percent(),
            meters,
            callers: Vec::new(),
        }
    }
}

impl Rule for Ledger {
    const NAME: &'static str = "budget";
    type Held = Key;

    fn when(&mut self, charge: &Charge, now: &mut Now) -> When {
        let now = self.catch_up(now.get());
        self.told = false;
        if let Some(refused) = self.exhausted(now) {
            return When::Never(refused);
        }
        let mut when = self.trust.when(|| time_for(charge, &self.meters), now);
        let mut too_much = None;
        for metered in &mut self.meters {
            let allowed = metered.meter.allowed();
            let amount = charge.get(allowed.unit);
            if amount > allowed.capacity {
                if self.terms.has_room_later(allowed, amount) {
                    when = when.and(When::OnChange);
                    continue;
                }
                too_much = Some((allowed.unit, amount));
                break;
            }
            if amount > 0 {
                when = when.and(metered.meter.when(amount, now));
            }
        }
        if let Some((unit, amount)) = too_much {
            let most = self.most(unit, now).unwrap_or_default();
            return When::Never(too_large(unit, amount, most));
        }
        match when {
            // A landing releases too, and nobody else would notice.
            When::OnRelease => self.next_landing().map_or(when, When::At),
            when => when,
        }
    }

    /// The clock is read where that matters. Else what was there when it was last read is
    /// there for sure, and the launch, which has to read it, brings all up to date.
    #[inline]
    fn is_open(&mut self, charge: &Charge, now: &mut Now) -> bool {
        if now.is_read() || self.minds_arrival() {
            self.catch_up(now.get());
            self.told = false;
        }
        let mut meters = self.meters.iter().map(|it| &it.meter);
        self.exhausted.is_none()
            && self.trust.is_open()
            && meters.all(|meter| meter.has(charge.get(meter.unit())))
    }

    /// A landing that is due, or comes by itself, might open it.
    #[inline]
    fn is_shut(&self, charge: &Charge) -> bool {
        let mut is_shut = false;
        for Metered { meter, .. } in &self.meters {
            let amount = charge.get(meter.unit());
            if amount > meter.allowed().capacity {
                return false;
            }
            is_shut |= meter.is_shut(amount);
        }
        is_shut && self.exhausted.is_none() && self.next_landing().is_none()
    }

    #[inline]
    fn take(&mut self, charge: &Charge, now: &mut Now) -> Key {
        let dated = now.is_read().then(|| self.catch_up(now.get()));
        // It leaves no sooner, whenever it comes.
        let now = self.seen;
        let (epoch, drains) = self.trust.admit(|| time_for(charge, &self.meters), now);
        // A request may ask for any number where there is no limit, or none that is
        // known yet.
        let bounded = !charge.is_at_most(MOST);
        let most;
        let charge = match bounded {
            true => {
                most = charge.at_most(MOST);
                &most
            }
            false => charge,
        };
        let key = self.transit.insert_with(|| Entry {
            charge: *charge,
            bounded,
            stage: Stage::Reserved,
            at: now,
            dated: now,
            epoch,
            answered: false,
            refused: false,
            sent: Sent {
                reserved: now,
                launched: None,
            },
        });
        let mut is_paced = false;
        for metered in &mut self.meters {
            let amount = charge.get(metered.meter.unit());
            if amount > 0 {
                metered.reserve(key, amount, dated);
            }
            if drains {
                metered.meter.drain(now);
            }
            is_paced |= metered.meter.is_paced();
        }
        if is_paced && dated.is_none() {
            self.undated.push(key);
        }
        let tokens = charge.get(Unit::Tokens);
        self.tally.reserved(tokens);
        self.taken.add(charge);
        self.outstanding += tokens;
        key
    }

    #[inline]
    fn launch(&mut self, held: &Key, to: Launch, now: &mut Now) {
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
    fn is_unused(&self, held: &Key) -> bool {
        self.transit.get(*held).stage == Stage::Reserved
    }

    /// What all meters have taken stays taken, and is dated anew. A pace counts from the
    /// taking, so that is another one.
    fn pass_on(&mut self, held: &Key, charge: &Charge, now: &mut Now) -> bool {
        let now = self.catch_up(now.get());
        let entry = self.transit.get_mut(*held);
        let is_his = entry.charge == *charge && self.trust.is_of_now(entry.epoch);
        let is_open = self.exhausted.is_none() && self.trust.is_open();
        let mut meters = self.meters.iter().map(|it| &it.meter);
        let passes = is_his
            && is_open
            && self.dealings.is_none()
            && meters.all(|meter| meter.has(0) && !meter.is_paced());
        if !passes {
            return false;
        }
        (entry.at, entry.dated, entry.sent.reserved) = (now, now, now);
        for metered in &mut self.meters {
            let amount = charge.get(metered.meter.unit());
            if amount > 0 {
                metered.pass_on(*held, amount);
            }
        }
        self.told = false;
        let tokens = charge.get(Unit::Tokens);
        self.tally.refunded(tokens);
        self.tally.reserved(tokens);
        true
    }

    #[inline]
    fn release(&mut self, held: Key, now: &mut Now) -> Charged {
        self.close(held, None, now.get())
    }

    /// Nothing does; but who comes back to what he holds did not hand it on at once, and
    /// it counts from now on at the latest.
    #[inline]
    fn has_lapsed(&mut self, _: &Key, now: &mut Now) -> bool {
        if !self.undated.is_empty() {
            self.catch_up(now.get());
        }
        false
    }

    fn unsend(&mut self, held: Key, now: &mut Now) -> Charged {
        self.take_back(held, now.get())
    }

    fn cost(&self, charge: &Charge) -> Cost {
        let meters = self.meters.iter().map(|it| it.meter.allowed());
        let costs = meters.map(|it| Cost::of(charge.get(it.unit), it.per, it.limit));
        costs.fold(Cost::LEAST, Cost::max)
    }

    #[inline]
    fn prices(&self) -> u32 {
        self.resized
    }

    fn expected_wait(&mut self, charge: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
        self.eta(charge, ahead, now.get())
    }

    #[inline]
    fn show(&mut self, stats: &mut Stats) {
        stats.counts.add(&self.tally);
        let now = self.seen;
        stats.held = Some(self.trust.held_until(now).is_some());
        let mut meters = self.meters.iter_mut().map(|it| &mut it.meter);
        let of = |meter: &Meter| (meter.allowed().unit, meter.allowed().per);
        if let Some(tokens) = meters.find(|meter| of(meter) == TOKENS) {
            stats.budget = Some(BudgetLevels {
                limit: tokens.allowed().limit,
                level: tokens.left(now),
                in_transit: tokens.in_transit(),
                outstanding: self.outstanding,
            });
        }
    }

    #[inline]
    fn has_notes(&self) -> bool {
        !self.notes.is_empty()
    }

    fn take_notes(&mut self) -> Vec<Note> {
        std::mem::take(&mut self.notes)
    }
}

/// How long this takes to refill, on the meter on which it takes longest.
fn time_for(charge: &Charge, meters: &[Metered]) -> Duration {
    let meters = meters.iter().map(|it| &it.meter);
    let times = meters.map(|meter| meter.time_for(charge.get(meter.unit())));
    times.max().unwrap_or_default()
}

pub(crate) fn too_large(unit: Unit, amount: u64, limit: u64) -> Refused {
    match unit {
        Unit::Requests | Unit::Images => Refused::TooMany {
            unit,
            amount,
            limit,
        },
        Unit::Tokens | Unit::Input | Unit::Output => Refused::TooLarge {
            cost: amount,
            limit,
        },
    }
}
