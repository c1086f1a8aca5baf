//! The figures that a queue shows, in the order in which they are told, and what has
//! changed of them.

use super::on::{
    HELD, HOLDS, IN_FLIGHT, IN_TRANSIT, LAUNCHES, LEVEL, LIMIT, OUTSTANDING, REFUNDED, RESERVED,
    SETTLED, SLOTS, WAITING,
};
use crate::rules::stats::{Counts, SCOPES, Stats};

pub(super) const GAUGES: [&str; 8] = [
    WAITING,
    IN_FLIGHT,
    SLOTS,
    LIMIT,
    LEVEL,
    IN_TRANSIT,
    OUTSTANDING,
    HELD,
];

pub(super) const COUNTERS: [&str; 5] = [RESERVED, REFUNDED, SETTLED, LAUNCHES, HOLDS];

/// A gauge that is not there: no level is one.
const ABSENT: f64 = f64::NAN;

/// A queue's figures as they were told last.
#[derive(Clone, Copy, Debug)]
pub(super) struct Figures {
    gauges: [f64; GAUGES.len()],
    counters: [u64; COUNTERS.len()],
    denials: [u64; SCOPES.len()],
}

/// Nothing was counted, and no level is known.
impl Default for Figures {
    fn default() -> Self {
        Figures {
            gauges: [ABSENT; GAUGES.len()],
            counters: [0; COUNTERS.len()],
            denials: [0; SCOPES.len()],
        }
    }
}

impl Figures {
    /// No level is taken for told.
    pub(super) fn forget_gauges(&mut self) {
        self.gauges = [ABSENT; GAUGES.len()];
    }

    /// Says of each gauge that has another value, by its place, which.
    #[inline]
    pub(super) fn each_gauge(&mut self, stats: &Stats, mut set: impl FnMut(usize, f64)) {
        for (index, (told, value)) in self.gauges.iter_mut().zip(gauges(stats)).enumerate() {
            if value != *told && !value.is_nan() {
                *told = value;
                set(index, value);
            }
        }
    }

    /// Says of each counter that has risen, by its place, by how much.
    #[inline]
    pub(super) fn each_counter(&mut self, counts: &Counts, raise: impl FnMut(usize, u64)) {
        let &Counts {
            reserved,
            refunded,
            settled,
            launches,
            holds,
            ..
        } = counts;
        let now = [reserved, refunded, settled, launches, holds];
        each_risen(&mut self.counters, &now, raise);
    }

    /// The same of refusals, by the place of their scope.
    #[inline]
    pub(super) fn each_denial(&mut self, counts: &Counts, raise: impl FnMut(usize, u64)) {
        // They are rare.
        if self.denials != counts.denials {
            each_risen(&mut self.denials, &counts.denials, raise);
        }
    }
}

#[inline]
fn each_risen(told: &mut [u64], now: &[u64], mut raise: impl FnMut(usize, u64)) {
    for (index, (told, count)) in told.iter_mut().zip(now).enumerate() {
        let more = count.saturating_sub(*told);
        if more > 0 {
            *told = *count;
            raise(index, more);
        }
    }
}

/// In the order of [`GAUGES`].
#[inline]
fn gauges(stats: &Stats) -> [f64; GAUGES.len()] {
    let waiting = stats.waiting as f64;
    let [taken, max] = match &stats.slots {
        Some(slots) => [slots.taken as f64, slots.max as f64],
        None => [ABSENT; 2],
    };
    let [limit, level, in_transit, outstanding] = match &stats.budget {
        Some(budget) => [
            budget.limit as f64,
            budget.level as f64,
            budget.in_transit as f64,
            budget.outstanding as f64,
        ],
        None => [ABSENT; 4],
    };
    let held = stats.held.map_or(ABSENT, |held| f64::from(u8::from(held)));
    [
        waiting,
        taken,
        max,
        limit,
        level,
        in_transit,
        outstanding,
        held,
    ]
}
