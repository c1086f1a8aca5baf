//! Leases: what this process may spend by itself of a ledger that others spend from, too.
//!
//! They stand beside a pool's own rules and say *now* when the whole charge is there, a slot
//! is, and a booked launch's instant has come. What is taken from them goes back to them if it
//! never left. They are filled by grants and emptied by reports, for which somebody else
//! cares (`shared/`); here is only what is there.

use std::collections::VecDeque;
use std::time::Duration;

use super::ledger::too_large;
use super::{Ahead, Key, When};
use crate::charge::{Amounts, Charge, Per, Unit};
use crate::time::Moment;

/// A second, over which it is reckoned what is needed.
const SECOND: Duration = Duration::from_secs(1);

/// How long it takes from one draw to the next.
const DRAW: Duration = Duration::from_millis(250);

/// Who was let in so lately may well be again.
pub(crate) const LATELY: Duration = Duration::from_secs(2);

/// How often slots are offered to other processes.
const YIELDS: Duration = Duration::from_secs(2);

/// A pool that nobody used for so long keeps nothing for the next one.
const FORGOTTEN: Duration = Duration::from_secs(60);

/// By what right anything may be spent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Term {
    /// By none: there is no lease yet, or none any more.
    Nothing,
    /// By none, ever again.
    Closed,
    /// Until this instant.
    Leased(Moment),
    /// The shared ledger is away, and the pool's own rules are all there is.
    Away,
}

/// See the [module's documentation](self).
#[derive(Debug)]
pub(crate) struct Leases {
    term: Term,
    /// Which lease without a gap this is. Who was let in on an earlier one, and has not
    /// launched, stands in line again.
    number: u32,
    idle: Amounts,
    /// All that was ever given back.
    returned: Amounts,
    /// Those that calls hold included; fewer than that after a lease was lost.
    slots: u64,
    /// When some of those that calls will leave were last given up for others.
    yielded: Moment,
    launches: Launches,
    /// Everything that the line does not take is to go back.
    recalled: bool,
    agreed: Agreed,
    recent: Recent,
    /// By the slots of the ledger's entries, as it has them of meters.
    parts: Vec<Part>,
    /// Whether something was lacking since the last report.
    lacks: bool,
    /// Whether that is still to be told.
    calls: bool,
    /// When it was last told what there is and what is wanted.
    asked: Moment,
    /// Until then nothing is granted, because the ledger does not know what was spent.
    learning: Moment,
}

/// A limit of all processes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    pub(crate) unit: Unit,
    pub(crate) per: Per,
    /// What of it is used in a period.
    pub(crate) rate: u64,
    /// The most that may be drawn at once.
    pub(crate) capacity: u64,
    /// What nobody had drawn yet, when the last grant was given.
    pub(crate) level: i64,
}

/// What all processes keep to.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) meters: Vec<Common>,
    /// How many calls may be in flight.
    pub(crate) max_slots: Option<u64>,
    /// Whether some of those are nobody's.
    pub(crate) has_free_slots: bool,
    /// How many processes there are.
    pub(crate) processes: u32,
}

impl Common {
    /// How long so much takes to refill for one of so many processes, if that has an even share, or
    /// as much in a second as it had lately.
    fn time_for(&self, amount: u64, processes: u32, lately: u64) -> Duration {
        let all = u128::from(amount) * u128::from(self.per.nanos());
        let even = all * u128::from(processes) / u128::from(self.rate.max(1));
        let lately = u128::from(amount) * SECOND.as_nanos() / u128::from(lately.max(1));
        u64::try_from(even.min(lately)).map_or(Duration::MAX, Duration::from_nanos)
    }
}

impl Default for Agreed {
    /// As long as nothing is known.
    fn default() -> Self {
        Agreed {
            meters: Vec::new(),
            max_slots: None,
            has_free_slots: true,
            processes: 1,
        }
    }
}

/// What a grant gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    pub(crate) drawn: Amounts,
    pub(crate) slots: u64,
    pub(crate) launches: Vec<Moment>,
    pub(crate) recalled: bool,
    pub(crate) agreed: Agreed,
}

/// Who waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Demand {
    /// The first in line, in the order in which they would be let in.
    pub(crate) line: Vec<Charge>,
    /// All others together.
    pub(crate) rest: Amounts,
    /// How many they are in all.
    pub(crate) waiting: usize,
    /// The weights of those who wait or were let in lately.
    pub(crate) weight: u64,
}

/// How calls are limited beside what they are charged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limited {
    /// How many are in flight.
    pub(crate) taken: u64,
    pub(crate) max_slots: Option<u64>,
    /// Zero: launches are not spaced.
    pub(crate) interval: Duration,
}

/// What there is, and what more could be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Wish {
    pub(crate) idle: Amounts,
    pub(crate) returned: Amounts,
    pub(crate) line: Vec<Amounts>,
    pub(crate) wanted: Amounts,
    pub(crate) slots_idle: u64,
    pub(crate) slots_wanted: u64,
    pub(crate) launches_idle: u64,
    pub(crate) launches_returned: u64,
    pub(crate) launches_wanted: u64,
}

impl Wish {
    /// Of one that is charged nothing: slots and launches alone.
    pub(crate) fn of_calls(self) -> Self {
        Wish {
            wanted: Amounts::NOTHING,
            ..self
        }
    }
}

/// On what one was let in.
#[derive(Clone, Copy, Debug)]
struct Part {
    number: u32,
    /// On no lease: it is owed once it leaves.
    away: bool,
    charge: Amounts,
    booked: Option<Moment>,
}

const NO_PART: Part = Part {
    number: 0,
    away: false,
    charge: Amounts::NOTHING,
    booked: None,
};

impl Leases {
    pub(crate) fn new(now: Moment) -> Self {
        Leases {
            term: Term::Nothing,
            number: 0,
            idle: Amounts::NOTHING,
            returned: Amounts::NOTHING,
            slots: 0,
            yielded: now,
            launches: Launches::default(),
            recalled: false,
            agreed: Agreed::default(),
            recent: Recent::new(now),
            parts: Vec::new(),
            lacks: false,
            calls: false,
            asked: now,
            learning: now,
        }
    }

    /// Whether a request may pass, as far as leases go.
    pub(crate) fn when(&mut self, charge: &Charge, limited: &Limited, now: Moment) -> When {
        match self.term {
            Term::Away => return When::Now,
            Term::Leased(until) if until > now => {}
            Term::Leased(_) | Term::Nothing | Term::Closed => return self.lacking(),
        }
        for &Common { unit, capacity, .. } in &self.agreed.meters {
            let amount = charge.get(unit);
            if amount > capacity {
                return When::Never(too_large(unit, amount, capacity));
            }
        }
        match Amounts::from(*charge).fits_into(&self.idle) {
            true => self.when_launched(limited, now),
            false => self.lacking(),
        }
    }

    /// Whether one may be in flight more, and be launched.
    pub(crate) fn when_launched(&mut self, limited: &Limited, now: Moment) -> When {
        match self.term {
            Term::Away => return When::Now,
            Term::Leased(until) if until > now => {}
            Term::Leased(_) | Term::Nothing | Term::Closed => return self.lacking(),
        }
        if self.limits_slots(limited) && limited.taken >= self.slots {
            return self.lacking();
        }
        if limited.interval.is_zero() {
            return When::Now;
        }
        match self.launches.next(limited.interval, now) {
            Some(at) if at > now => When::At(at),
            Some(_) => When::Now,
            None => self.lacking(),
        }
    }

    fn limits_slots(&self, limited: &Limited) -> bool {
        limited.max_slots.is_some() || self.agreed.max_slots.is_some()
    }

    /// Nothing but another grant helps.
    fn lacking(&mut self) -> When {
        self.calls |= !std::mem::replace(&mut self.lacks, true);
        When::OnRelease
    }

    /// How long one would wait behind those ahead, as far as can be told: for the next draw where
    /// anything is lacking, and for what of that nobody has yet, at the pace at which this process
    /// was granted something lately, or at an even share of the refill, whichever is faster.
    pub(crate) fn expected_wait(&self, charge: &Charge, ahead: &Ahead, now: Moment) -> Duration {
        let is_leased = match self.term {
            Term::Away | Term::Closed => return Duration::ZERO,
            Term::Leased(until) => until > now,
            Term::Nothing => false,
        };
        let all = Amounts::from(ahead.charge.as_charge()).plus(&Amounts::from(*charge));
        let missing = match is_leased {
            true => all.minus(&self.idle),
            false => all,
        };
        if is_leased && missing.is_nothing() {
            return Duration::ZERO;
        }
        let lately = self.recent.usual;
        let meters = self.agreed.meters.iter().map(|common| {
            let beyond = missing
                .get(common.unit)
                .saturating_sub(common.level.max(0).unsigned_abs());
            common.time_for(beyond, self.agreed.processes, lately.get(common.unit))
        });
        let next = (self.asked + DRAW) - now;
        let granted = (self.learning - now).max(next);
        meters.fold(granted, Duration::max)
    }

    /// Whether somebody is to be told that something is lacking.
    #[inline]
    pub(crate) fn calls(&self) -> bool {
        self.calls
    }

    /// The same, once.
    pub(crate) fn take_call(&mut self) -> bool {
        std::mem::take(&mut self.calls)
    }

    /// Lets one pass that was told *now*.
    pub(crate) fn take(&mut self, key: Key, charge: &Charge, limited: &Limited, now: Moment) {
        let charge = Amounts::from(*charge);
        let away = self.term == Term::Away;
        let booked = self.take_launch(limited, now);
        self.recent.take(&charge, now);
        if !away {
            self.idle = self.idle.minus(&charge);
            self.recent.fell_to(&self.idle, now);
        }
        if key.index() >= self.parts.len() {
            self.parts.resize(key.index() + 1, NO_PART);
        }
        self.parts[key.index()] = Part {
            number: self.number,
            away,
            charge,
            booked,
        };
    }

    /// Lets one pass of which nothing is known but that it takes a slot; says on which
    /// lease, and by which booked launch.
    pub(crate) fn take_slot(&mut self, limited: &Limited, now: Moment) -> (u32, Option<Moment>) {
        self.recent.take(&Amounts::of(Unit::Requests, 1), now);
        (self.number, self.take_launch(limited, now))
    }

    /// Whether what was let in on this lease, and not launched, may be no more.
    pub(crate) fn is_over(&self, lease: u32, now: Moment) -> bool {
        let is_over = matches!(self.term, Term::Leased(until) if until <= now);
        is_over || lease != self.number
    }

    /// Takes the next booked launch, where they are booked.
    fn take_launch(&mut self, limited: &Limited, now: Moment) -> Option<Moment> {
        let is_booked = self.term != Term::Away && !limited.interval.is_zero();
        is_booked
            .then(|| self.launches.take(limited.interval, now))
            .flatten()
    }

    /// A launch that was booked on this lease was not used.
    pub(crate) fn give_launch_back(&mut self, booked: Moment, lease: u32) {
        match self.is_leased() && lease == self.number {
            true => self.launches.give_back(booked),
            false => self.launches.lose(1),
        }
    }

    /// What one that leaves, for the first time, has on no lease, or on none any more, and
    /// so owes.
    pub(crate) fn owes(&mut self, key: Key, now: Moment) -> Option<Amounts> {
        let Part {
            number,
            away,
            charge,
            ..
        } = *self.part(key);
        (away || self.is_over(number, now)).then_some(charge)
    }

    /// What one took never left.
    pub(crate) fn refund(&mut self, key: Key) {
        let Part {
            number,
            away,
            charge,
            booked,
        } = std::mem::replace(self.part(key), NO_PART);
        if let Some(booked) = booked {
            self.give_launch_back(booked, number);
        }
        match away {
            true => {}
            false if number == self.number && self.is_leased() => {
                self.idle = self.idle.plus(&charge)
            }
            false => self.returned = self.returned.plus(&charge),
        }
    }

    /// Whether one that has not been launched may be no more.
    pub(crate) fn has_lapsed(&mut self, key: Key, now: Moment) -> bool {
        let number = self.part(key).number;
        self.is_over(number, now)
    }

    fn part(&mut self, key: Key) -> &mut Part {
        if key.index() >= self.parts.len() {
            // It was let in before anything was shared.
            self.parts.resize(key.index() + 1, NO_PART);
        }
        &mut self.parts[key.index()]
    }

    fn is_leased(&self) -> bool {
        matches!(self.term, Term::Leased(_))
    }

    /// Everything may be spent until then.
    pub(crate) fn renew(&mut self, until: Moment) {
        match self.term {
            Term::Leased(before) => self.term = Term::Leased(until.max(before)),
            Term::Closed => {}
            Term::Nothing | Term::Away => {
                self.number = self.number.wrapping_add(1);
                self.term = Term::Leased(until);
            }
        }
    }

    /// Nothing is granted before.
    pub(crate) fn wait_until(&mut self, learning: Moment) {
        self.learning = learning;
    }

    /// More is there from now on.
    pub(crate) fn grant(&mut self, granted: Granted) {
        self.idle = self.idle.plus(&granted.drawn);
        self.slots = self.slots.saturating_add(granted.slots);
        self.launches.book(granted.launches);
        self.recalled = granted.recalled;
        self.agreed = granted.agreed;
    }

    /// The lease is over and was not renewed: nothing of it may be spent any more. Without
    /// it, either the pool's own rules are all there is, or nobody passes.
    pub(crate) fn lose(&mut self, is_open: bool) {
        self.give_all_back();
        self.number = self.number.wrapping_add(1);
        self.term = match is_open {
            true => Term::Away,
            false => Term::Nothing,
        };
    }

    /// Nobody is let in any more. Who was let in already goes on.
    pub(crate) fn close(&mut self) {
        self.give_all_back();
        self.term = Term::Closed;
    }

    /// Everything that no request has goes back.
    fn give_all_back(&mut self) {
        self.give_back(self.idle);
        self.slots = 0;
        self.launches.lose_all();
    }

    fn give_back(&mut self, amounts: Amounts) {
        self.idle = self.idle.minus(&amounts);
        self.returned = self.returned.plus(&amounts);
    }

    /// Whether there is nothing that anybody could miss.
    pub(crate) fn is_nothing(&self) -> bool {
        self.idle.is_nothing() && self.launches.booked.is_empty()
    }

    /// Whether one was let in so lately.
    pub(crate) fn was_used_within(&self, time: Duration, now: Moment) -> bool {
        self.recent.was_used_within(time, now)
    }

    /// Says what there is and what more could be used, and gives back what is not.
    pub(crate) fn ask(&mut self, demand: &Demand, limited: &Limited, now: Moment) -> Wish {
        self.lacks = false;
        self.calls = false;
        self.asked = now;
        if matches!(self.term, Term::Leased(until) if until <= now) {
            // The ledger may have taken it all for landed, and refilled what it was.
            self.lose(false);
        }
        self.recent.pass(&self.idle, now);
        let expected = self.recent.a_second(now);
        let reach = self.reach(demand, limited, &expected);
        let mut left = self.idle;
        let mut line = Vec::new();
        for charge in demand.line.iter().take(reach) {
            let charge = Amounts::from(*charge);
            let missing = charge.minus(&left);
            left = left.minus(&charge);
            if !missing.is_nothing() {
                line.push(missing);
            }
        }
        let rest = demand.rest_within(reach);
        let missing = rest.minus(&left);
        left = left.minus(&rest);
        let kept = self.kept(&expected, now);
        let spare = match self.recalled {
            true => left,
            false => self.recent.unused().min(&left).minus(&kept),
        };
        self.give_back(spare);
        left = left.minus(&spare);
        let wanted = match self.recalled {
            true => missing,
            false => missing.plus(&kept.minus(&left)),
        };
        let slots_wanted = self.want_slots(demand, limited, now);
        let launches_wanted = self.want_launches(demand, limited, now);
        Wish {
            idle: self.idle,
            returned: self.returned,
            line,
            wanted,
            slots_idle: self.slots.saturating_sub(limited.taken),
            slots_wanted,
            launches_idle: self.launches.booked.len() as u64,
            launches_returned: self.launches.returned,
            launches_wanted,
        }
    }

    /// How many of those who wait could launch before the next grant but one, were they
    /// charged nothing: for who lacks something else, too, nothing is drawn yet.
    fn reach(&self, demand: &Demand, limited: &Limited, expected: &Amounts) -> usize {
        let mut reach = demand.waiting as u64;
        if self.limits_slots(limited) && !self.agreed.has_free_slots {
            let idle = self.slots.saturating_sub(limited.taken);
            let released = expected.get(Unit::Requests);
            reach = reach.min(idle.saturating_add(released).saturating_add(1));
        }
        if !limited.interval.is_zero() {
            reach = reach.min(in_a_second(limited.interval));
        }
        usize::try_from(reach).unwrap_or(usize::MAX)
    }

    /// A second's worth of what is needed, or one request's, so that who comes now and then
    /// need not wait for a grant.
    fn kept(&self, expected: &Amounts, now: Moment) -> Amounts {
        match self.term != Term::Closed && self.recent.was_used_within(FORGOTTEN, now) {
            true => expected.max(&self.recent.typical),
            false => Amounts::NOTHING,
        }
    }

    /// How many slots more than there are could be used; those that nobody uses go back,
    /// unless there are some that nobody has, anyway.
    fn want_slots(&mut self, demand: &Demand, limited: &Limited, now: Moment) -> u64 {
        let is_leased = matches!(self.term, Term::Leased(until) if until > now);
        if !is_leased || !self.limits_slots(limited) {
            self.slots = limited.taken;
        }
        if !self.limits_slots(limited) {
            return 0;
        }
        let waiting = demand.waiting as u64;
        let is_busy = is_leased && self.recent.was_used_within(SECOND, now);
        let idle = self.slots.saturating_sub(limited.taken);
        if !(is_busy && self.agreed.has_free_slots) {
            self.slots -= idle.saturating_sub(waiting);
        }
        self.yield_slots(limited, now);
        let ahead = waiting.saturating_add(u64::from(is_busy && self.agreed.has_free_slots));
        ahead.saturating_sub(idle)
    }

    /// Where all slots are taken, and there are more here than an even share, some of them are
    /// not used again but offered to all, now and then: whether anybody else wants them,
    /// only the ledger knows, and if not, they come back with the next grant.
    fn yield_slots(&mut self, limited: &Limited, now: Moment) {
        let all = limited
            .max_slots
            .into_iter()
            .chain(self.agreed.max_slots)
            .min();
        let Some(all) = all.filter(|_| !self.agreed.has_free_slots) else {
            return;
        };
        let excess = self
            .slots
            .saturating_sub(all / u64::from(self.agreed.processes.max(1)));
        if excess > 0 && self.yielded + YIELDS <= now {
            self.yielded = now;
            self.slots -= excess.div_ceil(8);
        }
    }

    /// How many launches more could be used within a second, or the next one; where nobody
    /// waits, none.
    fn want_launches(&mut self, demand: &Demand, limited: &Limited, now: Moment) -> u64 {
        if limited.interval.is_zero() || demand.waiting == 0 {
            self.launches.lose_all();
            return 0;
        }
        self.launches.next(limited.interval, now);
        let wanted = (demand.waiting as u64).min(in_a_second(limited.interval));
        wanted.saturating_sub(self.launches.booked.len() as u64)
    }
}

/// How many launches begin within a second, the first one now.
fn in_a_second(interval: Duration) -> u64 {
    let others = SECOND.as_nanos() / interval.as_nanos().max(1);
    u64::try_from(others).unwrap_or(u64::MAX).saturating_add(1)
}

impl Demand {
    /// What those beyond the line are charged that are among the first so many.
    fn rest_within(&self, reach: usize) -> Amounts {
        let beyond = self.waiting.saturating_sub(self.line.len());
        let within = reach.saturating_sub(self.line.len()).min(beyond);
        match beyond {
            0 => Amounts::NOTHING,
            _ => self.rest.part(within as u64, beyond as u64),
        }
    }
}

/// Instants at which one may be launched each.
#[derive(Debug, Default)]
struct Launches {
    /// In their order.
    booked: VecDeque<Moment>,
    /// All that were ever given back.
    returned: u64,
}

impl Launches {
    /// The next one that may be used. One that is older than the interval is the turn
    /// of somebody else by now.
    fn next(&mut self, interval: Duration, now: Moment) -> Option<Moment> {
        while let Some(at) = self.booked.front()
            && *at + interval <= now
        {
            self.booked.pop_front();
        }
        self.booked.front().copied()
    }

    fn take(&mut self, interval: Duration, now: Moment) -> Option<Moment> {
        self.next(interval, now).filter(|at| *at <= now)?;
        self.booked.pop_front()
    }

    fn book(&mut self, launches: Vec<Moment>) {
        self.booked.extend(launches);
        self.booked.make_contiguous().sort_unstable();
    }

    fn give_back(&mut self, booked: Moment) {
        self.book(vec![booked]);
    }

    fn lose(&mut self, many: u64) {
        self.returned = self.returned.saturating_add(many);
    }

    fn lose_all(&mut self) {
        self.lose(self.booked.len() as u64);
        self.booked.clear();
    }
}

/// What was used lately, by the second.
#[derive(Debug)]
struct Recent {
    /// When the present second began.
    since: Moment,
    /// What was taken in the one before, and in this one.
    taken: [Amounts; 2],
    /// The least that was idle in the two before, and in this one.
    idle: [Amounts; 3],
    /// What one request takes, about.
    typical: Amounts,
    /// What is taken in a second, about, over the last ones.
    usual: Amounts,
    last: Option<Moment>,
}

impl Recent {
    fn new(now: Moment) -> Self {
        Recent {
            since: now,
            taken: [Amounts::NOTHING; 2],
            idle: [Amounts::NOTHING; 3],
            typical: Amounts::NOTHING,
            usual: Amounts::NOTHING,
            last: None,
        }
    }

    /// Begins another second where it is time.
    fn pass(&mut self, idle: &Amounts, now: Moment) {
        for _ in 0..self.idle.len() {
            if self.since + SECOND > now {
                return;
            }
            self.since = self.since + SECOND;
            self.usual = self.usual.mean(&self.taken[1]);
            self.taken = [self.taken[1], Amounts::NOTHING];
            self.idle = [self.idle[1], self.idle[2], *idle];
        }
        if self.since + SECOND <= now {
            self.since = now;
        }
    }

    fn take(&mut self, charge: &Amounts, now: Moment) {
        // What is idle is told apart, as it falls.
        let idle = self.idle[2];
        self.pass(&idle, now);
        self.taken[1] = self.taken[1].plus(charge);
        self.typical = match self.last {
            Some(_) => self.typical.mean(charge),
            None => *charge,
        };
        self.last = Some(now);
    }

    fn fell_to(&mut self, idle: &Amounts, now: Moment) {
        self.pass(idle, now);
        self.idle[2] = self.idle[2].min(idle);
    }

    /// What is needed in a second, by the last one to two.
    fn a_second(&self, now: Moment) -> Amounts {
        let [before, present] = &self.taken;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let time = SECOND + (now - self.since);
        before.plus(present).part(millis(SECOND), millis(time))
    }

    /// What nobody used for two seconds.
    fn unused(&self) -> Amounts {
        self.idle[0].min(&self.idle[1]).min(&self.idle[2])
    }

    fn was_used_within(&self, time: Duration, now: Moment) -> bool {
        self.last.is_some_and(|last| last + time > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Line;

    const ALONE: Limited = Limited {
        taken: 0,
        max_slots: None,
        interval: Duration::ZERO,
    };

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    fn tokens(amount: u64, requests: u64) -> Amounts {
        Amounts::of(Unit::Tokens, amount).and(Unit::Requests, requests)
    }

    /// With so much idle until the second second.
    fn leased(idle: Amounts) -> Leases {
        let mut leases = Leases::new(at(0));
        leases.renew(at(2_000));
        leases.grant(Granted {
            drawn: idle,
            ..Granted::default()
        });
        leases
    }

    fn tokens_a_minute(amount: u64) -> Common {
        Common {
            unit: Unit::Tokens,
            per: Per::Minute,
            rate: amount,
            capacity: amount,
            level: 0,
        }
    }

    fn key(line: &mut Line<()>) -> Key {
        line.insert(())
    }

    fn waiting(charges: &[u64]) -> Demand {
        Demand {
            line: charges.iter().map(|it| Charge::tokens(*it)).collect(),
            rest: Amounts::NOTHING,
            waiting: charges.len(),
            weight: 1,
        }
    }

    #[test]
    fn one_passes_when_its_whole_charge_is_there_and_the_lease_lasts() {
        let mut leases = leased(tokens(500, 2));
        let when =
            |leases: &mut Leases, amount, now| leases.when(&Charge::tokens(amount), &ALONE, now);
        assert_eq!(when(&mut leases, 500, at(0)), When::Now);
        assert_eq!(when(&mut leases, 501, at(0)), When::OnRelease);
        assert!(leases.calls() && leases.take_call());
        assert!(!leases.calls());
        assert_eq!(when(&mut leases, 501, at(0)), When::OnRelease);
        assert!(!leases.take_call(), "it was told");
        leases.ask(&waiting(&[501]), &ALONE, at(0));
        assert_eq!(when(&mut leases, 501, at(0)), When::OnRelease);
        assert!(leases.take_call(), "a report is through");
        assert_eq!(when(&mut leases, 500, at(1_999)), When::Now);
        assert_eq!(when(&mut leases, 500, at(2_000)), When::OnRelease);
    }

    #[test]
    fn what_no_process_could_ever_draw_is_refused() {
        let mut leases = leased(tokens(500, 2));
        leases.grant(Granted {
            agreed: Agreed {
                meters: vec![tokens_a_minute(1_000)],
                ..Agreed::default()
            },
            ..Granted::default()
        });
        let when = leases.when(&Charge::tokens(1_001), &ALONE, at(0));
        assert!(matches!(when, When::Never(_)), "{when:?}");
    }

    #[test]
    fn the_next_draw_is_waited_for_and_then_the_refill() {
        let mut leases = leased(tokens(500, 20));
        let wait = |leases: &Leases, amount, now| {
            let charge = Charge::tokens(amount);
            leases.expected_wait(&charge, &Ahead::default(), at(now))
        };
        let millis = Duration::from_millis;
        leases.grant(Granted {
            agreed: Agreed {
                // 100 a second, for four.
                meters: vec![Common {
                    level: 300,
                    ..tokens_a_minute(6_000)
                }],
                processes: 4,
                ..Agreed::default()
            },
            ..Granted::default()
        });
        assert_eq!(wait(&leases, 500, 0), Duration::ZERO, "it is there");
        assert_eq!(wait(&leases, 800, 0), millis(250), "so is the level");
        assert_eq!(wait(&leases, 800, 100), millis(150));
        leases.ask(&waiting(&[800]), &ALONE, at(100));
        assert_eq!(wait(&leases, 800, 100), millis(250));
        assert_eq!(wait(&leases, 850, 100), millis(2_000), "50 at 25 a second");
        // It has had more lately.
        leases.recent.usual = tokens(200, 1);
        assert_eq!(wait(&leases, 900, 100), millis(500), "100 at 200 a second");
        leases.wait_until(at(5_000));
        assert_eq!(wait(&leases, 900, 1_000), millis(4_000));
        leases.lose(true);
        let alone = wait(&leases, 900, 1_000);
        assert_eq!(alone, Duration::ZERO, "the pool's own rules tell");
    }

    #[test]
    fn what_never_left_is_idle_again_or_given_back() {
        let mut line = Line::new();
        let mut leases = leased(tokens(500, 2));
        let (kept, lost) = (key(&mut line), key(&mut line));
        leases.take(kept, &Charge::tokens(200), &ALONE, at(0));
        leases.take(lost, &Charge::tokens(100), &ALONE, at(0));
        assert_eq!(leases.idle, tokens(200, 0));
        leases.refund(kept);
        assert_eq!(leases.idle, tokens(400, 1));
        assert!(!leases.has_lapsed(lost, at(1_999)));
        assert!(leases.has_lapsed(lost, at(2_000)));

        leases.lose(true);
        assert_eq!(
            (leases.idle, leases.returned),
            (Amounts::NOTHING, tokens(400, 1))
        );
        assert_eq!(
            leases.owes(lost, at(2_000)),
            Some(tokens(100, 1)),
            "would it leave now"
        );
        leases.refund(lost);
        assert_eq!(leases.returned, tokens(500, 2));
    }

    #[test]
    fn what_leaves_without_a_lease_is_owed() {
        let mut line = Line::new();
        let mut leases = leased(tokens(500, 2));
        leases.lose(true);
        let (leaves, stays) = (key(&mut line), key(&mut line));
        for key in [leaves, stays] {
            leases.take(key, &Charge::tokens(300), &ALONE, at(2_000));
        }
        assert_eq!(leases.owes(leaves, at(2_000)), Some(tokens(300, 1)));
        leases.renew(at(5_000));
        assert!(
            leases.has_lapsed(stays, at(3_000)),
            "it was let in by another right"
        );
        leases.refund(stays);
        assert_eq!(leases.returned, tokens(500, 2), "nothing was drawn for it");
    }

    #[test]
    fn launches_are_booked_and_not_kept() {
        let mut line = Line::new();
        let mut leases = leased(tokens(500, 5));
        let spaced = Limited {
            interval: Duration::from_millis(300),
            ..ALONE
        };
        let charge = Charge::tokens(10);
        assert_eq!(leases.when(&charge, &spaced, at(0)), When::OnRelease);
        leases.grant(Granted {
            launches: vec![at(100), at(400)],
            ..Granted::default()
        });
        assert_eq!(leases.when(&charge, &spaced, at(0)), When::At(at(100)));
        assert_eq!(leases.when(&charge, &spaced, at(100)), When::Now);
        let first = key(&mut line);
        leases.take(first, &charge, &spaced, at(100));
        assert_eq!(leases.when(&charge, &spaced, at(100)), When::At(at(400)));
        leases.refund(first);
        assert_eq!(leases.when(&charge, &spaced, at(399)), When::Now);
        // By now it is the turn of whoever has the next one.
        assert_eq!(leases.when(&charge, &spaced, at(700)), When::OnRelease);
        let wish = leases.ask(&waiting(&[10; 9]), &spaced, at(700));
        assert_eq!((wish.launches_idle, wish.launches_wanted), (0, 4));
    }

    #[test]
    fn a_slot_is_a_number_that_moves() {
        let mut leases = leased(tokens(500, 5));
        let taken = |taken| Limited {
            taken,
            max_slots: Some(10),
            ..ALONE
        };
        let wish = leases.ask(&waiting(&[10; 3]), &taken(0), at(0));
        assert_eq!((wish.slots_idle, wish.slots_wanted), (0, 3));
        leases.grant(Granted {
            slots: 2,
            ..Granted::default()
        });
        let charge = Charge::tokens(10);
        assert_eq!(leases.when(&charge, &taken(1), at(0)), When::Now);
        assert_eq!(leases.when(&charge, &taken(2), at(0)), When::OnRelease);
        // One is over, and nobody waits.
        let wish = leases.ask(&waiting(&[]), &taken(1), at(0));
        assert_eq!((wish.slots_idle, wish.slots_wanted), (0, 0));
        assert_eq!(leases.when(&charge, &taken(1), at(0)), When::OnRelease);
    }

    #[test]
    fn what_is_missing_of_each_in_line_is_wanted() {
        let mut leases = leased(tokens(500, 2));
        let wish = leases.ask(&waiting(&[300, 300, 700]), &ALONE, at(0));
        assert_eq!(wish.line, [tokens(100, 0), tokens(700, 1)]);
        assert_eq!(wish.wanted, Amounts::NOTHING);
        let many = Demand {
            rest: tokens(9_000, 9),
            waiting: 12,
            ..waiting(&[300, 300, 700])
        };
        assert_eq!(leases.ask(&many, &ALONE, at(0)).wanted, tokens(9_000, 9));
        // Three slots are all there are: the others could not launch yet.
        leases.grant(Granted {
            agreed: Agreed {
                max_slots: Some(3),
                has_free_slots: false,
                ..Agreed::default()
            },
            ..Granted::default()
        });
        let wish = leases.ask(&many, &ALONE, at(0));
        assert_eq!((wish.line, wish.wanted), (vec![], Amounts::NOTHING));
    }

    #[test]
    fn what_nobody_used_for_two_seconds_goes_back_but_for_one_request() {
        let mut line = Line::new();
        let mut leases = leased(tokens(5_000, 50));
        leases.take(key(&mut line), &Charge::tokens(200), &ALONE, at(0));
        let mut idle = Vec::new();
        for second in 0..5 {
            leases.renew(at(second * 1_000 + 2_000));
            let wish = leases.ask(&waiting(&[]), &ALONE, at(second * 1_000));
            idle.push(wish.idle);
        }
        let all = tokens(4_800, 49);
        assert_eq!(idle, [all, all, all, tokens(200, 1), tokens(200, 1)]);
        assert_eq!(leases.returned, tokens(4_600, 48));
        let wish = leases.ask(&waiting(&[]), &ALONE, at(61_000));
        assert_eq!(wish.idle, Amounts::NOTHING, "nobody comes any more");
    }

    #[test]
    fn what_is_called_back_goes_but_for_those_who_wait() {
        let mut leases = leased(tokens(5_000, 50));
        leases.grant(Granted {
            recalled: true,
            ..Granted::default()
        });
        let wish = leases.ask(&waiting(&[300]), &ALONE, at(0));
        assert_eq!(
            (wish.idle, wish.returned),
            (tokens(300, 1), tokens(4_700, 49))
        );
    }

    #[test]
    fn a_second_ahead_is_wanted_of_what_is_used() {
        let mut line = Line::new();
        let mut leases = leased(tokens(5_000, 50));
        for tenth in 0..20 {
            leases.renew(at(4_000));
            leases.take(
                key(&mut line),
                &Charge::tokens(100),
                &ALONE,
                at(tenth * 100),
            );
        }
        let wish = leases.ask(&waiting(&[]), &ALONE, at(1_999));
        assert_eq!(wish.idle, tokens(3_000, 30));
        assert_eq!(wish.wanted, Amounts::NOTHING);
        for _ in 0..25 {
            leases.take(key(&mut line), &Charge::tokens(100), &ALONE, at(1_999));
        }
        // 45 in two seconds.
        let wish = leases.ask(&waiting(&[]), &ALONE, at(1_999));
        assert_eq!(wish.wanted, tokens(2_252 - 500, 23 - 5));
    }

    /// Those that are booked, and all that ever went back.
    fn launches(leases: &Leases) -> (usize, u64) {
        (leases.launches.booked.len(), leases.launches.returned)
    }

    #[test]
    fn a_lease_that_is_over_lets_nobody_launch_and_refuses_nobody() {
        let mut leases = leased(tokens(500, 2));
        leases.grant(Granted {
            agreed: Agreed {
                meters: vec![tokens_a_minute(1_000)],
                ..Agreed::default()
            },
            ..Granted::default()
        });
        let mut when = |amount, now| leases.when(&Charge::tokens(amount), &ALONE, at(now));
        assert_eq!(when(1_000, 0), When::OnRelease, "all of it may be drawn");
        assert!(matches!(when(1_001, 0), When::Never(_)));
        assert_eq!(when(1_001, 2_000), When::OnRelease, "nobody knows by then");
        assert_eq!(leases.when_launched(&ALONE, at(1_999)), When::Now);
        assert_eq!(leases.when_launched(&ALONE, at(2_000)), When::OnRelease);
        let wait = |now| leases.expected_wait(&Charge::tokens(500), &Ahead::default(), at(now));
        assert_eq!(wait(1_999), Duration::ZERO);
        assert!(wait(2_000) > Duration::ZERO);
    }

    #[test]
    fn booked_launches_are_of_their_lease() {
        let spaced = Limited {
            interval: SECOND,
            ..ALONE
        };
        let mut leases = leased(Amounts::NOTHING);
        leases.grant(Granted {
            launches: vec![at(1_000), at(0)],
            ..Granted::default()
        });
        assert_eq!(leases.take_slot(&ALONE, at(0)), (1, None), "none is needed");
        assert_eq!(leases.take_slot(&spaced, at(0)), (1, Some(at(0))));
        assert_eq!(leases.take_slot(&spaced, at(0)), (1, None), "not yet");
        assert_eq!(launches(&leases), (1, 0));
        leases.give_launch_back(at(0), 1);
        assert_eq!(launches(&leases), (2, 0));
        leases.give_launch_back(at(0), 7);
        assert_eq!(launches(&leases), (2, 1), "of another lease");
        assert!(!leases.is_nothing());

        leases.lose(true);
        assert_eq!(launches(&leases), (0, 3));
        assert!(leases.is_nothing());
        assert_eq!(leases.take_slot(&spaced, at(0)), (2, None), "on no lease");
        leases.renew(at(4_000));
        leases.grant(Granted {
            launches: vec![at(2_000)],
            ..Granted::default()
        });
        assert_eq!(leases.take_slot(&spaced, at(2_000)), (3, Some(at(2_000))));
        leases.close();
        leases.give_launch_back(at(2_000), 3);
        assert_eq!(launches(&leases), (0, 4), "nobody is let in any more");
        assert!(!leased(tokens(1, 0)).is_nothing());
    }

    #[test]
    fn what_was_had_on_another_lease_goes_back() {
        let mut line = Line::new();
        let mut leases = leased(tokens(500, 5));
        let [first, second, third] = [0; 3].map(|_| key(&mut line));
        leases.take(first, &Charge::tokens(100), &ALONE, at(0));
        leases.take(second, &Charge::tokens(200), &ALONE, at(0));
        leases.lose(false);
        leases.renew(at(4_000));
        leases.refund(first);
        assert_eq!(leases.idle, Amounts::NOTHING);
        assert_eq!(leases.returned, tokens(300, 4));
        leases.close();
        leases.refund(second);
        assert_eq!(
            (leases.idle, leases.returned),
            (Amounts::NOTHING, tokens(500, 5))
        );
        // Let in before anything was shared.
        assert!(leases.has_lapsed(third, at(0)));
        assert_eq!(leases.owes(third, at(0)), Some(Amounts::NOTHING));
    }

    #[test]
    fn no_more_is_wanted_than_can_be_launched() {
        let limited = |taken, interval| Limited {
            taken,
            max_slots: Some(8),
            interval,
        };
        // Slots that nobody has, the interval, and for how many something is wanted.
        for (has_free_slots, interval, reach) in [
            (true, Duration::ZERO, 6),
            (false, Duration::ZERO, 2),
            (true, SECOND / 2, 3),
        ] {
            let mut leases = leased(Amounts::NOTHING);
            leases.grant(Granted {
                slots: 3,
                agreed: Agreed {
                    has_free_slots,
                    ..Agreed::default()
                },
                ..Granted::default()
            });
            let wish = leases.ask(&waiting(&[100; 6]), &limited(2, interval), at(0));
            assert_eq!(wish.line.len(), reach);
            assert_eq!(
                (wish.slots_idle, leases.slots),
                (1, 3),
                "they are waited for"
            );
            let wanted = tokens(5, 1);
            let calls = Wish { wanted, ..wish }.of_calls();
            assert_eq!(calls.wanted, Amounts::NOTHING);
        }
    }

    #[test]
    fn booked_launches_go_back_where_nobody_waits() {
        let spaced = Limited {
            interval: SECOND,
            ..ALONE
        };
        let mut leases = leased(Amounts::NOTHING);
        let granted = || Granted {
            launches: vec![at(0), at(1_000)],
            ..Granted::default()
        };
        leases.grant(granted());
        let wish = leases.ask(&waiting(&[100]), &spaced, at(0));
        assert_eq!((wish.launches_idle, wish.launches_returned), (2, 0));
        let wish = leases.ask(&waiting(&[]), &spaced, at(0));
        assert_eq!((wish.launches_idle, wish.launches_returned), (0, 2));
        leases.grant(granted());
        let wish = leases.ask(&waiting(&[100]), &ALONE, at(0));
        assert_eq!((wish.launches_idle, wish.launches_returned), (0, 4));
    }

    #[test]
    fn slots_that_calls_hold_are_counted_without_a_lease() {
        let limited = Limited {
            taken: 2,
            max_slots: Some(8),
            interval: Duration::ZERO,
        };
        let mut leases = leased(Amounts::NOTHING);
        leases.lose(true);
        leases.ask(&waiting(&[100]), &limited, at(0));
        assert_eq!(leases.slots, 2);
    }

    /// Of eight that two processes share, four are an even share.
    #[test]
    fn slots_above_an_even_share_are_offered_now_and_then() {
        let limited = |max_slots| Limited {
            taken: 8,
            max_slots,
            interval: Duration::ZERO,
        };
        let full = |slots| {
            let mut leases = Leases::new(at(0));
            leases.renew(at(0) + 10 * YIELDS);
            leases.grant(Granted {
                slots,
                agreed: Agreed {
                    max_slots: Some(8),
                    has_free_slots: false,
                    processes: 2,
                    ..Agreed::default()
                },
                ..Granted::default()
            });
            leases
        };
        let nanosecond = Duration::from_nanos(1);
        let mut leases = full(8);
        let mut slots = |now, max_slots| {
            leases.ask(&waiting(&[100; 20]), &limited(max_slots), now);
            leases.slots
        };
        assert_eq!(slots(at(0) + YIELDS - nanosecond, None), 8);
        assert_eq!(slots(at(0) + YIELDS, None), 7);
        assert_eq!(slots(at(0) + 2 * YIELDS - nanosecond, None), 7);
        assert_eq!(slots(at(0) + 2 * YIELDS, None), 6);
        // Of two that are allowed here, one.
        assert_eq!(slots(at(0) + 3 * YIELDS, Some(2)), 5);
        // An eighth of what is too much.
        let mut leases = full(24);
        leases.ask(&waiting(&[100; 20]), &limited(None), at(0) + YIELDS);
        assert_eq!(leases.slots, 21);
        // As long as there is nothing to offer, the time does not begin anew.
        let mut leases = full(4);
        leases.ask(&waiting(&[100; 20]), &limited(None), at(0) + YIELDS);
        leases.slots = 8;
        leases.ask(&waiting(&[100; 20]), &limited(None), at(0) + YIELDS);
        assert_eq!(leases.slots, 7);
    }

    #[test]
    fn what_is_used_for_a_moment_is_not_unused() {
        let mut line = Line::new();
        let mut leases = Leases::new(at(0));
        leases.renew(at(60_000));
        leases.grant(Granted {
            drawn: tokens(100, 10),
            ..Granted::default()
        });
        let used = key(&mut line);
        leases.take(used, &Charge::tokens(60), &ALONE, at(0));
        leases.refund(used);
        for second in 1..=2 {
            let wish = leases.ask(&waiting(&[]), &ALONE, at(second * 1_000));
            assert_eq!(wish.returned, Amounts::NOTHING, "{second}");
        }
        let again = key(&mut line);
        leases.take(again, &Charge::tokens(60), &ALONE, at(2_500));
        leases.refund(again);
        for second in 3..=4 {
            let wish = leases.ask(&waiting(&[]), &ALONE, at(second * 1_000));
            assert_eq!(wish.returned.get(Unit::Tokens), 0, "{second}");
        }
        let wish = leases.ask(&waiting(&[]), &ALONE, at(6_000));
        assert_eq!(wish.returned.get(Unit::Tokens), 40, "but for one request");
    }

    #[test]
    fn a_long_silence_ends_with_a_new_second() {
        let mut recent = Recent::new(at(0));
        recent.take(&tokens(10, 1), at(100));
        assert_eq!(recent.since, at(0));
        recent.take(&tokens(10, 1), at(1_000));
        assert_eq!(recent.since, at(1_000));
        recent.take(&tokens(10, 1), at(4_500));
        assert_eq!(recent.since, at(4_000));
        recent.take(&tokens(10, 1), at(9_500));
        assert_eq!(recent.since, at(9_500));
        assert!(recent.was_used_within(SECOND, at(10_499)));
        assert!(!recent.was_used_within(SECOND, at(10_500)));
    }
}
