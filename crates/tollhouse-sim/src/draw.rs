//! Numbers drawn at random, and hashes: the same everywhere and every time.

/// A stream of numbers that its seed alone decides (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Draw(u64);

impl Draw {
    pub(crate) fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream that belongs to `index` in the family of `seed`.
    pub(crate) fn nth(seed: u64, index: u64) -> Self {
        let mut family = Self(seed ^ index.wrapping_mul(0xd1b5_4a32_d192_ed03));
        Self(family.next())
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Evenly from 0 up to but not 1.
    pub(crate) fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// From a log-normal distribution with this mean and sigma.
    pub(crate) fn log_normal(&mut self, mean: f64, sigma: f64) -> f64 {
        // Twelve even draws sum to a good bell with variance 1.
        let normal = (0..12).map(|_| self.share()).sum::<f64>() - 6.0;
        mean * (sigma * normal - sigma * sigma / 2.0).exp()
    }
}

/// A 64-bit hash (FNV-1a) that is the same on every platform and release, as
/// the standard library's is not.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hash(u64);

impl Hash {
    pub(crate) fn new() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }

    pub(crate) fn add(self, bytes: &[u8]) -> Self {
        let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        Self(bytes.iter().fold(self.0, step))
    }

    pub(crate) fn finish(self) -> u64 {
        Draw::seeded(self.0).next()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn draws_are_the_same_every_time() {
        let draw = |index| Draw::nth(7, index).next();
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }

    #[test]
    fn log_normal_has_the_mean_it_was_asked_for() {
        let mut draw = Draw::seeded(1);
        let sum: f64 = (0..20_000).map(|_| draw.log_normal(40.0, 0.5)).sum();
        let mean = sum / 20_000.0;
        assert!((39.0..41.0).contains(&mean), "{mean}");
    }

    #[test]
    fn hash_is_fnv_1a() {
        assert_eq!(Hash::new().add(b"a").0, 0xaf63_dc4c_8601_ec8c);
    }
}
