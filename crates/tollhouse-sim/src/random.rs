//! Numbers drawn at random, and hashes: the same for the same seed.

use std::hash::Hasher;

use fnv::FnvHasher;

/// A stream of numbers that its seed alone decides.
#[derive(Clone, Debug)]
pub(crate) struct Rng(fastrand::Rng);

impl Rng {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(fastrand::Rng::with_seed(seed))
    }

    /// The stream that belongs to `index` in the family of `seed`.
    pub(crate) fn nth(seed: u64, index: u64) -> Self {
        // An odd factor sends no two indices to the same place.
        let member = seed ^ index.wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self::seeded(Self::seeded(member).next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0.u64(..)
    }

    /// Evenly from 0 up to but not `end`, which is at least 1.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0.u64(..end)
    }

    /// Evenly from 0 up to but not 1.
    pub(crate) fn share(&mut self) -> f64 {
        self.0.f64()
    }

    /// From a log-normal distribution with this mean and sigma.
    pub(crate) fn log_normal(&mut self, mean: f64, sigma: f64) -> f64 {
        // Twelve even draws sum to a good bell with variance 1.
        let normal = (0..12).map(|_| self.share()).sum::<f64>() - 6.0;
        mean * (sigma * normal - sigma * sigma / 2.0).exp()
    }
}

/// A 64-bit hash that is the same on every platform and release, as the
/// standard library's is not.
#[derive(Default)]
pub(crate) struct Hash(FnvHasher);

impl Hash {
    pub(crate) fn add(mut self, bytes: &[u8]) -> Self {
        self.0.write(bytes);
        self
    }

    /// Adds a value as its JSON, without a copy of it.
    pub(crate) fn add_json(mut self, value: &serde_json::Value) -> Self {
        serde_json::to_writer(&mut self, value).expect("a hash takes everything");
        self
    }

    pub(crate) fn finish(self) -> u64 {
        Rng::seeded(self.0.finish()).next()
    }
}

impl std::io::Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.write(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_same_every_time() {
        let draw = |index| Rng::nth(7, index).next();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn neighbouring_streams_are_not_alike() {
        for seed in [0, !0, 11] {
            for place in 0..4 {
                let nth = |index| {
                    (0..=place).fold((Rng::nth(seed, index), 0.0), |(mut rng, _), _| {
                        let share = rng.share();
                        (rng, share)
                    })
                };
                let below = (0..20_000).filter(|&index| nth(index).1 < 0.3).count();
                // 6,000, give or take four deviations of 65.
                assert!((5_740..6_260).contains(&below), "{seed} {place} {below}");
                let pairs =
                    (0..20_000).filter(|&index| nth(index).1 < 0.3 && nth(index + 1).1 < 0.3);
                let pairs = pairs.count();
                // 1,800, give or take four deviations of 52.
                assert!((1_590..2_010).contains(&pairs), "{seed} {place} {pairs}");
            }
        }
    }

    #[test]
    fn log_normal_has_the_mean_it_was_asked_for() {
        let mut rng = Rng::seeded(1);
        let sum: f64 = (0..20_000).map(|_| rng.log_normal(40.0, 0.5)).sum();
        let mean = sum / 20_000.0;
        assert!((39.0..41.0).contains(&mean), "{mean}");
    }

    #[test]
    fn a_value_is_hashed_as_its_text() {
        let value = serde_json::json!({"b": [1, 2.5], "a": "é"});
        let text = value.to_string();
        let hash = Hash::default().add_json(&value).finish();
        assert_eq!(hash, Hash::default().add(text.as_bytes()).finish());
    }
}
