//! Leases: what this process may spend by itself of a ledger that others spend from, too.
//!
//! They stand beside a pool's own rules and say *now* when the whole charge is there, a slot
//! is, and a booked launch's instant has come. What is taken from them goes back to them if it
//! never left. They are filled by grants and emptied by reports, for which somebody else
//! cares (`shared/`); here is only what is there.

mod agreed;
mod launches;
mod recent;
#[cfg(test)]
mod tests;
mod wish;

use std::time::Duration;

use super::ledger::too_large;
use super::{Ahead, Beside, Key, When};
use crate::charge::{Amounts, Charge, Unit};
use crate::time::Moment;
use launches::Launches;
use recent::Recent;

pub(crate) use agreed::{Agreed, Common, Granted, Limited};
pub(crate) use wish::{Demand, Wish};

/// A second, over which it is reckoned what is needed.
const SECOND: Duration = Duration::from_secs(1);

/// How long it takes from one draw to the next.
const DRAW: Duration = Duration::from_millis(250);

/// Who was let in so lately may well be again.
pub(crate) const LATELY: Duration = Duration::from_secs(2);

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
    /// Of each of the ledger's entries, as it has them of meters.
    parts: Beside<Part>,
    /// Whether something was lacking since the last report.
    lacks: bool,
    /// Whether that is still to be told.
    calls: bool,
    /// When it was last told what there is and what is wanted.
    asked: Moment,
    /// Until then nothing is granted, because the ledger does not know what was spent.
    learning: Moment,
}

/// On what one was let in; by default, before anything was shared.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    number: u32,
    /// On no lease: it is owed once it leaves.
    away: bool,
    charge: Amounts,
    booked: Option<Moment>,
}

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
            parts: Beside::new(),
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

    /// Lets one pass that was told *now*; says whether it has what it takes on a lease.
    pub(crate) fn take(
        &mut self,
        key: Key,
        charge: &Charge,
        limited: &Limited,
        now: Moment,
    ) -> bool {
        let charge = Amounts::from(*charge);
        let away = self.term == Term::Away;
        let booked = self.take_launch(limited, now);
        self.recent.take(&charge, now);
        if !away {
            self.idle = self.idle.minus(&charge);
            self.recent.fell_to(&self.idle, now);
        }
        *self.parts.of(key) = Part {
            number: self.number,
            away,
            charge,
            booked,
        };
        !away
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
        } = *self.parts.of(key);
        (away || self.is_over(number, now)).then_some(charge)
    }

    /// What one took never left; says whether it had that on a lease.
    pub(crate) fn refund(&mut self, key: Key) -> bool {
        let Part {
            number,
            away,
            charge,
            booked,
        } = std::mem::take(self.parts.of(key));
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
        !away
    }

    /// Whether one that has not been launched may be no more.
    pub(crate) fn has_lapsed(&mut self, key: Key, now: Moment) -> bool {
        let number = self.parts.of(key).number;
        self.is_over(number, now)
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
}
