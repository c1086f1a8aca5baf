//! A policy's gate to the budget.

use http::{Request, Response};
use tollhouse::budget::BudgetPass;
use tollhouse::{Gate, TokenBudget, Unit};

use crate::call::{Call, CallBody};
use crate::policy::AnswerReader;
use crate::wire::cost::Estimator;
use crate::wire::learned::Learned;
use crate::wire::usage::{Asked, UsageMeter};

/// Reserves what a request may be charged, and settles with what its answer
/// says was used.
///
/// A [`TpmBudgetLayer`](tollhouse::TpmBudgetLayer) knows a request by its cost
/// alone. This gate asks what was read of the request and keeps what its answer is to be
/// held against: the prompt, which is the least that a call can have used, and
/// the factor that is learned from the real usage.
///
/// # Cloning
///
/// Clones share the budget and what was learned.
///
/// Slots and spacing are the budget's, too: one queue, so that whoever waits holds
/// nothing. `Policy::budget` has it.
#[derive(Clone, Debug)]
pub(super) struct BudgetGate {
    pub(super) budget: TokenBudget,
    pub(super) estimator: Estimator,
    pub(super) learned: Option<Learned>,
}

impl BudgetGate {
    /// The most tokens that one request may cost.
    fn most(&self) -> u64 {
        let meters = self.budget.snapshot().meters;
        let tokens = meters.iter().filter(|meter| meter.unit == Unit::Tokens);
        tokens.map(|meter| meter.capacity).min().unwrap_or(u64::MAX)
    }

    /// The budget.
    pub(super) fn budget(&self) -> &TokenBudget {
        &self.budget
    }
}

impl<Q: CallBody, B> Gate<Request<Q>, Response<B>> for BudgetGate {
    type Pass = BudgetPass<Asked, AnswerReader, UsageMeter>;

    fn pass(&self, request: &Request<Q>) -> Self::Pass {
        let call = Call::of(request);
        let Some(estimate) = self.estimator.estimate(call.facts()) else {
            return BudgetPass::new(&self.budget, 0, Asked::default(), AnswerReader);
        };
        let learned = self.learned.as_ref();
        let cost = match learned {
            Some(learned) => learned.cost(&estimate, || self.most()),
            None => estimate.tokens,
        };
        BudgetPass::new(
            &self.budget,
            cost,
            Asked::new(&estimate, learned),
            AnswerReader,
        )
    }
}
