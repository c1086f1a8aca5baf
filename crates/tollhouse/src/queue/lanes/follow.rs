//! The line as it would be let in, were nobody to come.

use std::ops::Bound::{Excluded, Unbounded};

use super::lane::Tag;
use super::order::Rank;
use super::{Entry, Lanes};
use crate::charge::Charge;
use crate::rules::{Cost, Key};
use crate::time::Moment;

/// Where a lane stands while it is followed.
struct Follower {
    rank: Rank,
    lane: u32,
    next: Key,
}

impl<T> Lanes<T> {
    /// The charges of the first in line, were all let in one after the other and nobody came.
    pub(crate) fn first_in_line(
        &mut self,
        most: usize,
        price: impl Fn(&Charge) -> Cost,
    ) -> Vec<Charge> {
        let mut lanes = self.followed(most);
        let mut line = Vec::new();
        while line.len() < most {
            let first = (0..lanes.len()).min_by_key(|at| lanes[*at].rank);
            let Some(first) = first else { break };
            let Follower { rank, lane, next } = lanes[first];
            let charge = self.charge_of(next);
            line.push(charge);
            match self.after(lane, next) {
                Some(next) => {
                    let start = self.moved(lane, rank.0, price(&charge));
                    lanes[first].rank = (start, self.arrival_of(next));
                    lanes[first].next = next;
                }
                None => drop(lanes.swap_remove(first)),
            }
        }
        line
    }

    /// As many lanes as could be among the first.
    fn followed(&mut self, most: usize) -> Vec<Follower> {
        let mut ranked: Vec<_> = self.ranked().collect();
        ranked.sort_unstable();
        ranked.truncate(most);
        let lanes = ranked.into_iter();
        lanes
            .filter_map(|(rank, lane)| {
                let next = self.first_of(lane)?;
                Some(Follower { rank, lane, next })
            })
            .collect()
    }

    /// Lanes in which somebody waits, with their ranks.
    fn ranked(&self) -> impl Iterator<Item = (Rank, u32)> {
        // One that is alone has no rank among others.
        let alone = self.head_lane().filter(|_| self.is_plain());
        let alone = alone.map(|lane| ((self.lanes[lane as usize].start, Moment::default()), lane));
        let several = (!self.is_plain()).then(|| self.starts.ranked());
        alone.into_iter().chain(several.into_iter().flatten())
    }

    /// Who comes after one that waits, in the same lane.
    pub(super) fn after(&mut self, index: u32, key: Key) -> Option<Key> {
        let Entry {
            arrival, serial, ..
        } = *self.entries.get_mut(key);
        let lane = &self.lanes[index as usize];
        let mine = (arrival, serial);
        let returned = match lane.returned.contains_key(&mine) {
            true => lane.returned.range((Excluded(mine), Unbounded)).next(),
            // Newcomers of its own arrival go after who was here before.
            false => lane.returned.range((arrival, u32::MAX)..).next(),
        };
        let returned = returned.map(|((since, _), key)| (*since, *key));
        let newcomer = match lane.returned.contains_key(&mine) {
            true => self.newcomer_since(index, arrival),
            false => self.entries.next(key),
        };
        match (newcomer, returned) {
            (Some(newcomer), Some((since, returned))) => {
                let is_first = self.entries.get_mut(newcomer).arrival < since;
                Some(if is_first { newcomer } else { returned })
            }
            (newcomer, returned) => newcomer.or(returned.map(|(_, key)| key)),
        }
    }

    /// The first newcomer of a lane who did not come before.
    fn newcomer_since(&mut self, index: u32, arrival: Moment) -> Option<Key> {
        let mut next = self.lanes[index as usize].newcomers.first();
        while let Some(key) = next
            && self.entries.get_mut(key).arrival < arrival
        {
            next = self.entries.next(key);
        }
        next
    }

    fn arrival_of(&mut self, key: Key) -> Moment {
        self.entries.get_mut(key).arrival
    }

    /// Where a lane's tag is after a request of this cost.
    fn moved(&self, index: u32, start: Tag, cost: Cost) -> Tag {
        let weight = self.lanes[index as usize].weight;
        start.saturating_add(weight.over(cost))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ask::Caller;

    const fn price(charge: &Charge) -> Cost {
        Cost::nanos(charge.get(crate::charge::Unit::Tokens))
    }

    fn moment(second: u64) -> Moment {
        Moment::default() + std::time::Duration::from_secs(second)
    }

    proptest! {
        /// Whoever waits with whatever weight, newly or again, and let in before or not, is
        /// told of in the order in which the lanes let in.
        #[test]
        fn the_line_is_told_in_the_order_in_which_it_is_let_in(
            waiting in prop::collection::vec((0usize..5, 1u64..100, 0u64..40), 0..40),
            most in 0usize..20,
        ) {
            let mut lanes = Lanes::new();
            let names = [None, Some("a"), Some("b"), Some("c"), Some("d")];
            for (n, (caller, tokens, first)) in (0u64..).zip(waiting) {
                let weight = u32::try_from(caller).unwrap() + 1;
                let was_let_in = caller == 1 && first < 10;
                let caller = names[caller].map_or_else(Caller::default, |name| Caller::new(name).weight(weight));
                let charge = Charge::tokens(tokens);
                // No two at once: who goes first of those is not said. So those who were let in
                // before are of one caller.
                let place = first * 100 + n;
                if was_let_in {
                    lanes.come_back(&caller, charge, u32::try_from(place).unwrap(), (), price);
                    continue;
                }
                let first = (first < 20).then(|| moment(place));
                lanes.join(&caller, charge, (first, moment(10_000 + n)), (), price);
            }
            let told = lanes.first_in_line(most, price);
            let mut let_in = Vec::new();
            while let Some(key) = lanes.head().filter(|_| let_in.len() < most) {
                let_in.push(lanes.charge_of(key));
                lanes.launch(key);
                lanes.step_aside(key, price);
            }
            prop_assert_eq!(told, let_in);
        }
    }
}
