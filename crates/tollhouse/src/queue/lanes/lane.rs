//! One caller's part of the line, and by what it is ordered among others.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::PASSING;
use crate::ask::Caller;
use crate::charge::Total;
use crate::rules::{Cost, Ends, Key};
use crate::time::Moment;

/// How many lanes those share who have none of their own. Together they weigh as much as one caller, so
/// that each of the first has at least its share among one more.
pub(super) const SHARED: u32 = 64;

/// "No lane".
const NONE: u32 = u32::MAX;

/// What was given, over the weight: picoseconds in 2^32 parts.
pub(super) type Tag = u128;

/// A caller's weight, in parts of which [`SHARED`] are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight(u32);

impl Weight {
    pub(super) const SHARED: Weight = Weight(1);

    pub(super) fn of(caller: &Caller) -> Weight {
        Weight(caller.get_weight() * SHARED)
    }

    /// For people: of those who share a lane, 1.
    pub(super) fn rounded(self) -> u32 {
        self.0.div_ceil(SHARED)
    }

    /// How far a cost moves a tag.
    #[inline]
    pub(super) fn over(self, cost: Cost) -> Tag {
        // In two steps, each of which a machine divides by itself.
        let (cost, weight) = (cost.get(), u64::from(self.0));
        let (whole, rest) = (cost / weight, cost % weight);
        (Tag::from(whole) << 32) + Tag::from((rest << 32) / weight)
    }
}

/// By what a launch moved its lane's tag: the cost and the weight of that moment, kept
/// so that what is given back is what was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tagged {
    pub(super) lane: u32,
    pub(super) weight: Weight,
    pub(crate) cost: Cost,
}

impl Tagged {
    /// No lane knows of it.
    pub(crate) const NOT: Tagged = Tagged {
        lane: NONE,
        weight: Weight(1),
        cost: Cost::NOTHING,
    };

    /// Whether there is nothing to be told of its end.
    #[inline]
    pub(crate) fn is_not(self) -> bool {
        self.lane == NONE
    }
}

/// Whose a lane is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    Named(Arc<str>),
    /// One of those that the callers share who have none of their own.
    Shared(u64),
}

/// One caller's part of the line.
///
/// - a request joins: from idle it begins at the virtual time; *waiting*
/// - its last waiting request is launched or leaves: *flying*, if any is in flight
/// - nothing waits and nothing flies: *lingering* as long as its tag is ahead of the
///   virtual time, since that is what it owes the others; then it is forgotten
#[derive(Debug)]
pub(super) struct Lane {
    pub(super) owner: Owner,
    pub(super) weight: Weight,
    pub(super) start: Tag,
    /// In the order of first arrival.
    pub(super) newcomers: Ends,
    /// Those who were here before, and so have come earlier than others in line: by
    /// first arrival, then in the order of their return.
    pub(super) returned: BTreeMap<(Moment, u32), Key>,
    /// How many stand in line.
    pub(super) waiting: usize,
    /// What those are charged together.
    pub(super) charge: Total,
    /// How many were set aside.
    pub(super) aside: usize,
    pub(super) in_flight: usize,
    /// What the first one costs.
    pub(super) price: Cost,
    /// What has passed those who stood first, since the last of them was let in for whom
    /// that is counted.
    pub(super) passed: Cost,
    /// The first of those, while it waits. Others of its lane may stand before it meanwhile
    /// and be let in.
    pub(super) counted_for: Option<Key>,
    /// By how much those may be passed who stood first and stand behind another now.
    pub(super) most: Cost,
    /// Whether it is among [`Lanes::heads`](super::Lanes).
    pub(super) leads: bool,
    /// What was charged in [`Lanes::spell`](super::Lanes) number so and so.
    charged: (u32, Cost),
}

impl Lane {
    pub(super) fn new(owner: Owner, weight: Weight, start: Tag) -> Self {
        Lane {
            owner,
            weight,
            start,
            newcomers: Ends::EMPTY,
            returned: BTreeMap::new(),
            waiting: 0,
            charge: Total::default(),
            aside: 0,
            in_flight: 0,
            price: Cost::NOTHING,
            passed: Cost::NOTHING,
            counted_for: None,
            most: Cost::MOST,
            leads: false,
            charged: (0, Cost::NOTHING),
        }
    }

    pub(super) fn finish(&self) -> Tag {
        self.start.saturating_add(self.weight.over(self.price))
    }

    /// By how much the first may be passed.
    pub(super) fn most_may_pass(&self) -> Cost {
        self.price.times(PASSING).min(self.most)
    }

    /// Whether one of this cost may pass the first.
    pub(super) fn may_be_passed_by(&self, cost: Cost) -> bool {
        self.passed.plus(cost) <= self.most_may_pass()
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting == 0 && self.aside == 0 && self.in_flight == 0
    }

    /// What was charged since somebody last began to wait.
    pub(super) fn charged_in(&self, spell: u32) -> Cost {
        match self.charged {
            (noted, charged) if noted == spell => charged,
            _ => Cost::NOTHING,
        }
    }

    pub(super) fn note_charged(&mut self, spell: u32, change: impl FnOnce(Cost) -> Cost) {
        self.charged = (spell, change(self.charged_in(spell)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charge::Per;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_tag_moves_by_the_cost_over_the_weight(picos: u64, weight in 1u32..) {
            const SECOND: u64 = 1_000_000_000_000;
            let cost = Cost::of(picos, Per::Second, SECOND);
            let over = (Tag::from(picos) << 32) / Tag::from(weight);
            prop_assert_eq!(Weight(weight).over(cost), over);
        }
    }
}
