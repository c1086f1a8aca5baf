//! What the ledger allows, and how that changes while it is spent.

use super::metered::Metered;
use super::{Entry, Ledger, Limit, Share, Stage, Terms};
use crate::charge::Unit;
use crate::rules::Meter;
use crate::time::Moment;

impl Ledger {
    /// Goes on under other terms.
    ///
    /// What was taken stays taken: levels, windows, debt, holds, what is in transit,
    /// the pace that was felt out and the limits that answers named all go on. A
    /// raised limit adds rate at once, and no level; a lowered one caps the level.
    pub(crate) fn set_terms(&mut self, terms: Terms, now: Moment) {
        let now = self.catch_up(now);
        self.unlearned &= terms.learns.anything();
        let before = std::mem::replace(&mut self.terms, terms);
        self.terms.succeed(&before, self.unlearned);
        self.bound_to_what_joins(now);
        self.fit(Ledger::joining_meter, now);
        if self.terms.window != before.window {
            let windowed = self.terms.windowed();
            for metered in &mut self.meters {
                let taken = self.taken.get(metered.meter.unit());
                metered.meter.set_windowed(windowed, taken, now);
            }
        }
        if self.terms.accounting != before.accounting {
            self.meters.iter_mut().for_each(Metered::account_anew);
        }
    }

    /// Another part of the limits is this process's from now on.
    ///
    /// Of a part nothing is there at first: whatever was not spent here, others may
    /// have spent.
    pub(crate) fn set_share(&mut self, share: Share, now: Moment) {
        let now = self.catch_up(now);
        if self.terms.share == share {
            return;
        }
        self.terms.share = share;
        self.resize(now);
        for metered in &mut self.meters {
            metered.forget_others(now);
            if matches!(share, Share::Part(_)) {
                metered.meter.empty(now);
            }
        }
    }

    /// Brings the meters into line with the terms, as far as answers change them.
    pub(super) fn resize(&mut self, now: Moment) {
        self.fit(Ledger::first_meter, now);
    }

    /// Leaves the meters of the terms in their order and no others; `begin` makes
    /// one that is not there yet.
    fn fit(&mut self, begin: impl Fn(&mut Ledger, &Limit, Moment) -> Metered, now: Moment) {
        self.resized = self.resized.wrapping_add(1);
        let mut before = std::mem::take(&mut self.meters);
        for n in 0..self.terms.limits.len() {
            let limit = self.terms.limits[n];
            let allowed = self.terms.allowed(&limit);
            let metered = match before.iter().position(|it| it.is_of(&limit)) {
                Some(at) => {
                    let mut metered = before.swap_remove(at);
                    metered.resize(allowed, now);
                    metered
                }
                None => begin(self, &limit, now),
            };
            self.meters.push(metered);
        }
    }

    /// The meter of a limit that an answer named: the provider has had it all along.
    fn first_meter(&mut self, limit: &Limit, now: Moment) -> Metered {
        let allowed = self.terms.allowed(limit);
        self.bound_charges(limit.unit, allowed.capacity, |_| true, now);
        let mut metered = Metered::new(Meter::new(allowed, self.terms.windowed(), now));
        // What was reserved before there was a meter is in it all the same.
        for (key, entry) in self.transit.entries_mut() {
            let amount = entry.charge.get(limit.unit);
            if amount == 0 {
                continue;
            }
            metered.reserve(key, amount, Some(now));
            if entry.stage == Stage::Landed {
                metered.land(key, amount, entry.at);
            }
            if entry.is_orphan() {
                metered.stand(amount);
            }
        }
        metered.meter.forgive_debt(now);
        metered
    }

    /// What was reserved before a limit was known is charged as no more of its unit
    /// than could ever fit, because the provider surely took no more; whatever else
    /// has counted more of it, meters of longer periods among them, gives that back.
    ///
    /// A learned limit comes last in the terms, so that all other meters are there.
    fn bound_charges(&mut self, unit: Unit, most: u64, whose: fn(&Entry) -> bool, now: Moment) {
        for (key, entry) in self.transit.entries_mut() {
            if !whose(entry) {
                continue;
            }
            let excess = entry.bound(unit, most);
            if excess == 0 {
                continue;
            }
            self.taken.subtract_of(unit, excess);
            if unit == Unit::Tokens && !entry.is_orphan() {
                self.outstanding -= excess;
                self.tally.refunded(excess);
            }
            let others = self.meters.iter_mut();
            for metered in others.filter(|it| it.meter.unit() == unit) {
                metered.lessen(key, excess, entry, now);
            }
        }
    }

    /// The same of what is on its way when somebody sets a limit, as long as all other
    /// meters are there. What has landed owes a meter that joins nothing.
    fn bound_to_what_joins(&mut self, now: Moment) {
        for n in 0..self.terms.limits.len() {
            let limit = self.terms.limits[n];
            if !self.meters.iter().any(|it| it.is_of(&limit)) {
                let capacity = self.terms.allowed(&limit).capacity;
                let is_on_its_way = |entry: &Entry| entry.stage != Stage::Landed;
                self.bound_charges(limit.unit, capacity, is_on_its_way, now);
            }
        }
    }

    /// The meter of a limit that somebody sets while others are being spent.
    fn joining_meter(&mut self, limit: &Limit, now: Moment) -> Metered {
        let (mut in_transit, mut outstanding) = (0_u64, 0_u64);
        for (_, entry) in self.transit.entries_mut() {
            let amount = entry.charge.get(limit.unit);
            if entry.stage != Stage::Landed {
                in_transit = in_transit.saturating_add(amount);
            }
            if !entry.is_orphan() {
                outstanding = outstanding.saturating_add(amount);
            }
        }
        let taken = (self.taken.get(limit.unit), in_transit);
        let allowed = self.terms.allowed(limit);
        let meter = Meter::joining(allowed, self.terms.windowed(), taken, now);
        Metered::joining(meter, outstanding, now)
    }
}
