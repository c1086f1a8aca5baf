//! Repeatable chance: the same seed, the same schedule.

use std::ops::Range;

/// How many schedules a proof plays: so many times as many as the variable
/// `TOLLHOUSE_SCHEDULES` says, which `.ci/run` and `.ci/release` set, and a third without it, since a
/// plain test run is not optimized.
pub(crate) fn schedules(many: u64) -> u64 {
    match std::env::var("TOLLHOUSE_SCHEDULES") {
        Ok(times) => {
            many * times
                .parse::<u64>()
                .expect("TOLLHOUSE_SCHEDULES is a number")
        }
        Err(_) => many.div_ceil(3),
    }
}

/// A stream of numbers that its seed alone decides.
#[derive(Clone, Debug)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Random(fastrand::Rng::with_seed(seed))
    }

    /// Uniform in `range`, which must not be empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        self.0.u64(range)
    }
}
