//! What those who wait want, told to whoever fetches it from elsewhere.

use std::sync::Arc;

use super::Queue;
use super::bell::Bell;
use super::lanes::Lanes;
use super::state::State;
use crate::charge::{Amounts, Charge};
use crate::rules::{Demand, Key, Rule};
use crate::time::Now;

impl<R: Rule> Queue<R> {
    /// Has this one called whenever the rule has such a need, from now on.
    pub(crate) fn call(&self, bell: Arc<dyn Bell>) {
        let before = self.lock().bell.replace(bell);
        drop(before);
    }

    /// Looks at the rule, and at the first `most` in line, in the order in which they would
    /// be let in.
    pub(crate) fn ask<T>(
        &self,
        most: usize,
        now: &mut Now,
        look: impl FnOnce(&mut R, &Demand, &mut Now) -> T,
    ) -> T {
        let state = &mut *self.lock();
        let demand = state.demand(most);
        look(&mut state.rule, &demand, now)
    }
}

impl<R: Rule> State<R> {
    fn demand(&mut self, most: usize) -> Demand {
        let rule = &self.rule;
        let line = self.lanes.first_in_line(most, |charge| rule.cost(charge));
        let named = line.iter().fold(Amounts::NOTHING, |sum, charge| {
            sum.plus(&Amounts::from(*charge))
        });
        let all = Amounts::from(self.lanes.charge().as_charge());
        Demand {
            rest: all.minus(&named),
            line,
            waiting: self.lanes.len(),
            weight: self.lanes.weight(),
        }
    }
}

/// Where a lane stands while it is followed.
struct Follower {
    rank: (u128, crate::time::Moment),
    lane: u32,
    next: Key,
}

impl<T> Lanes<T> {
    /// The charges of the first in line, were all let in one after the other and nobody came.
    fn first_in_line(
        &mut self,
        most: usize,
        price: impl Fn(&Charge) -> crate::rules::Cost,
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
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ask::Caller;
    use crate::rules::Cost;
    use crate::time::Moment;

    const fn price(charge: &Charge) -> Cost {
        Cost::nanos(charge.get(crate::charge::Unit::Tokens))
    }

    fn moment(second: u64) -> Moment {
        Moment::default() + std::time::Duration::from_secs(second)
    }

    proptest! {
        /// Whoever waits with whatever weight, newly or again, is told of in the order in
        /// which the lanes let in.
        #[test]
        fn the_line_is_told_in_the_order_in_which_it_is_let_in(
            waiting in prop::collection::vec((0usize..5, 1u64..100, 0u64..40), 0..40),
            most in 0usize..20,
        ) {
            let mut lanes = Lanes::new();
            let names = [None, Some("a"), Some("b"), Some("c"), Some("d")];
            for (n, (caller, tokens, first)) in (0u64..).zip(waiting) {
                let weight = u32::try_from(caller).unwrap() + 1;
                let caller = names[caller].map_or_else(Caller::default, |name| Caller::new(name).weight(weight));
                // No two at once: who goes first of those is not said.
                let first = (first < 20).then(|| moment(first * 100 + n));
                lanes.join(&caller, Charge::tokens(tokens), (first, moment(10_000 + n)), (), price);
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
