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

/// An xorshift generator (Marsaglia, "Xorshift RNGs", 2003), scrambled by one
/// multiplication.
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        // Small seeds must not give similar beginnings, and zero is a trap.
        let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        for _ in 0..4 {
            random.next();
        }
        random
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Uniform in `range`, which must not be empty.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + (self.next() >> 11) % (range.end - range.start)
    }
}
