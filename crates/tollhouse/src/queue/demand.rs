//! What those who wait want, told to whoever fetches it from elsewhere.

use std::sync::Arc;

use super::Queue;
use super::bell::Bell;
use super::state::State;
use crate::charge::Amounts;
use crate::rules::{Demand, Rule};
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
