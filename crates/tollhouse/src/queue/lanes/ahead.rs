//! Who stands before a caller's next request, and with what charge.

use super::lane::{Lane, Tag, Weight};
use super::{Lanes, callers::NAMED};
use crate::ask::Caller;
use crate::charge::{Charge, Total};
use crate::rules::Cost;

impl<T> Lanes<T> {
    /// How many stand before a newcomer of this caller, and what they are charged.
    ///
    /// All of its own lane, unless it `was_here` before them; and of every other one those that
    /// would be over sooner; they are reckoned as that part of all who wait there.
    pub(crate) fn ahead_of(
        &self,
        caller: &Caller,
        charge: &Charge,
        was_here: bool,
        price: impl Fn(&Charge) -> Cost,
    ) -> (usize, Total) {
        let index = self.known_lane_of(caller);
        let mine = index.map(|index| &self.lanes[index as usize]);
        let of_mine = mine.filter(|_| !was_here);
        let of_mine = of_mine.map_or_else(Default::default, |mine| (mine.waiting, mine.charge));
        if mine.is_some_and(|mine| mine.waiting == self.waiting) {
            return of_mine;
        }
        let (start, weight) = match mine {
            Some(mine) if mine.waiting > 0 => (mine.start, mine.weight),
            Some(mine) => (mine.start.max(self.virtual_time), mine.weight),
            None if self.names.len() < NAMED => (self.virtual_time, Weight::of(caller)),
            None => (self.virtual_time, Weight::SHARED),
        };
        let (mut waiting, mut total) = of_mine;
        let prices = Prices::new(price);
        let own = prices.of(&total, waiting).plus((prices.price)(charge));
        let finish = start.saturating_add(weight.over(own));
        for other in self.lanes_in_line().filter(|other| Some(*other) != index) {
            waiting += self.lanes[other as usize].add_part_up_to(finish, &mut total, &prices);
        }
        (waiting, total)
    }

    /// Those of this caller who wait: nobody else is surely served before its next
    /// newcomer, since a head of another lane may be passed.
    pub(crate) fn waiting_of(&self, caller: &Caller) -> (usize, Total) {
        let mine = self.known_lane_of(caller);
        mine.map_or_else(Default::default, |index| {
            let mine = &self.lanes[index as usize];
            (mine.waiting, mine.charge)
        })
    }

    /// What the first of this caller's that waits is charged, and how many stand before
    /// it with what charge, as the tags are now; `None` where none of its own waits.
    ///
    /// Of every other lane, those before it are reckoned as that part of all who wait
    /// there.
    pub(crate) fn before_first_of(
        &mut self,
        caller: &Caller,
        price: impl Fn(&Charge) -> Cost,
    ) -> Option<(Charge, usize, Total)> {
        let index = self.known_lane_of(caller)?;
        let first = self.first_of(index)?;
        let entry = self.entries.get(first);
        let charge = entry.charge.get();
        let mine = (self.lanes[index as usize].start, entry.arrival);
        if self.is_plain() {
            return Some((charge, 0, Total::default()));
        }
        let prices = Prices::new(price);
        let (mut waiting, mut total) = (0_usize, Total::default());
        for (rank, other) in self.starts.ranked() {
            if other != index && rank < mine {
                let lane = &self.lanes[other as usize];
                let before = lane.add_part_up_to(mine.0, &mut total, &prices);
                waiting = waiting.saturating_add(before.max(1));
            }
        }
        Some((charge, waiting, total))
    }
}

impl Lane {
    /// Of all who wait here, adds to `total` that part which would be over before a tag;
    /// says how many they are.
    fn add_part_up_to(
        &self,
        tag: Tag,
        total: &mut Total,
        prices: &Prices<impl Fn(&Charge) -> Cost>,
    ) -> usize {
        let all = self.weight.over(prices.of(&self.charge, self.waiting));
        let all = all.max(1);
        let part = tag.saturating_sub(self.start).min(all);
        total.add_part(&self.charge, |amount| part_of(amount, part, all));
        let many = part_of(self.waiting as u128, part, all);
        many.try_into().unwrap_or(usize::MAX)
    }
}

/// What requests cost at today's prices.
struct Prices<F> {
    price: F,
    /// Of one, at least.
    each: Cost,
}

impl<F: Fn(&Charge) -> Cost> Prices<F> {
    fn new(price: F) -> Self {
        let each = price(&Charge::default());
        Prices { price, each }
    }

    /// Of `many` that are charged `all` together. None cost nothing, though one that asks
    /// for nothing would.
    fn of(&self, all: &Total, many: usize) -> Cost {
        if many == 0 {
            return Cost::NOTHING;
        }
        let many = u64::try_from(many).unwrap_or(u64::MAX);
        (self.price)(&all.as_charge()).max(self.each.times(many))
    }
}

/// As much of `amount` as `part` is of `all`.
fn part_of(amount: u128, part: Tag, all: Tag) -> u128 {
    if part == all {
        return amount;
    }
    // Some bits less, so that nothing overflows.
    let (part, all) = (part >> 32, (all >> 32).max(1));
    let (whole, rest) = (amount / all, amount % all);
    let most = whole.saturating_mul(part);
    most.saturating_add(rest.saturating_mul(part) / all)
        .min(amount)
}
