//! What a process asks of its account's ledger, and what it gives back.

use std::time::Duration;

use super::launches::in_a_second;
use super::{Leases, Limited, SECOND, Term};
use crate::charge::{Amounts, Charge, Unit};
use crate::time::Moment;

/// How often slots are offered to other processes.
pub(super) const YIELDS: Duration = Duration::from_secs(2);

/// A pool that nobody used for so long keeps nothing for the next one.
const FORGOTTEN: Duration = Duration::from_secs(60);

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

impl Leases {
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
