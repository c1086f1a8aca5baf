//! Enough chance to spread waits, seedable.

use std::hash::{BuildHasher, RandomState};

/// A stream of numbers that its seed alone decides.
#[derive(Clone, Debug)]
pub(crate) struct Random(fastrand::Rng);

impl Random {
    pub(crate) fn seeded(seed: u64) -> Self {
        Random(fastrand::Rng::with_seed(seed))
    }

    /// Seeded by the operating system's randomness, as hash maps are.
    pub(crate) fn from_entropy() -> Self {
        Random::seeded(RandomState::new().hash_one(()))
    }

    /// Uniform in `0.0..1.0`.
    pub(crate) fn fraction(&mut self) -> f64 {
        self.0.f64()
    }
}

/// By what is still to come, for the models that keep states apart.
#[cfg(test)]
impl std::hash::Hash for Random {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.get_seed().hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fractions_are_uniform_and_repeatable() {
        let mut random = Random::seeded(7);
        let mut counts = [0; 10];
        for _ in 0..10_000 {
            let fraction = random.fraction();
            assert!((0.0..1.0).contains(&fraction));
            counts[(fraction * 10.0) as usize] += 1;
        }
        assert!(
            counts.iter().all(|count| (880..1120).contains(count)),
            "{counts:?}"
        );

        let mut again = Random::seeded(7);
        assert_eq!(Random::seeded(7).fraction(), again.fraction());
        let (mut one, mut other) = (Random::from_entropy(), Random::from_entropy());
        assert_ne!(one.fraction(), other.fraction());
    }
}
