//! What others do, to show that the provider's model can reject.

use super::provider::{Arrival, What};
use super::schedule::Plan;

fn arrival(id: usize, plan: &Plan, reserved: u64) -> Arrival {
    Arrival {
        at: reserved + plan.dawdles + plan.travels,
        id,
        what: What::Request(plan.cost),
    }
}

/// No budget at all.
pub(crate) fn sent_at_once(plans: &[Plan]) -> Vec<Arrival> {
    let plans = plans.iter().enumerate();
    plans
        .map(|(id, plan)| arrival(id, plan, plan.asks))
        .collect()
}

/// A bucket of `limit` a minute that takes before sending and refills whatever
/// may be on its way: rule 1 of the ledger, and no other.
pub(crate) fn through_a_bucket(plans: &[Plan], limit: u64) -> Vec<Arrival> {
    let full = limit * 60_000;
    let (mut level, mut now) = (full, 0);
    let mut arrivals = Vec::new();
    for (id, plan) in plans.iter().enumerate() {
        let missing =
            (plan.cost * 60_000).saturating_sub(level + limit * plan.asks.saturating_sub(now));
        let admitted = now.max(plan.asks) + missing.div_ceil(limit);
        level = full.min(level + limit * (admitted - now)) - plan.cost * 60_000;
        now = admitted;
        arrivals.push(arrival(id, plan, admitted));
    }
    arrivals
}
