//! A high quantile of ratios, in constant memory.

/// The bounds of a factor.
pub(super) const LEAST: f64 = 0.25;
pub(super) const MOST: f64 = 20.0;

/// Of a hundred calls, five may use more than they were charged.
const SHARE: f64 = 0.95;

/// Each bucket ends this much above the one before.
const STEP: f64 = 1.05;

/// The buckets from [`LEAST`] to [`MOST`], and one for all below.
const BUCKETS: usize = 91;

/// No quantile is told of fewer: of 20, the second largest is the first that
/// has 95 % below or at it.
const ENOUGH: u32 = 20;

/// With so many, the past is made to weigh half.
const FULL: u32 = 512;

/// Counts ratios by size and tells the 95 % quantile, up to a twentieth too
/// high and never too low within the bounds.
///
/// The last few hundred ratios decide: at 512 all counts are halved. So a
/// change for the worse is followed within some 5 % of what is counted, one for
/// the better within a thousand calls.
#[derive(Clone, Debug)]
pub(super) struct Quantile {
    counts: [u16; BUCKETS],
    total: u32,
}

impl Default for Quantile {
    fn default() -> Self {
        Quantile {
            counts: [0; BUCKETS],
            total: 0,
        }
    }
}

impl Quantile {
    /// Takes in one ratio; what is out of bounds counts as the bound.
    pub(super) fn add(&mut self, ratio: f64) {
        self.counts[bucket(ratio)] += 1;
        self.total += 1;
        if self.total == FULL {
            self.counts.iter_mut().for_each(|count| *count /= 2);
            self.total = self.counts.iter().map(|count| u32::from(*count)).sum();
        }
    }

    /// The quantile, once enough ratios are known.
    pub(super) fn get(&self) -> Option<f64> {
        if self.total < ENOUGH {
            return None;
        }
        let rank = (f64::from(self.total) * SHARE).ceil() as u32;
        let mut below = 0;
        let bucket = self.counts.iter().position(|count| {
            below += u32::from(*count);
            below >= rank
        });
        bucket.map(edge)
    }
}

/// The upper end of a bucket.
fn edge(bucket: usize) -> f64 {
    (LEAST * STEP.powi(bucket as i32)).min(MOST)
}

/// The bucket whose upper end is the first that is not below the ratio.
fn bucket(ratio: f64) -> usize {
    let steps = (ratio / LEAST).ln() / STEP.ln();
    // Casts what is below zero, and no number at all, to zero. Rounding must
    // not put a ratio that is an upper end itself above it.
    (((steps - 1e-9).ceil()) as usize).min(BUCKETS - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(ratios: impl IntoIterator<Item = f64>) -> Option<f64> {
        let mut quantile = Quantile::default();
        ratios.into_iter().for_each(|ratio| quantile.add(ratio));
        quantile.get()
    }

    fn copies(count: usize, ratio: f64) -> impl Iterator<Item = f64> {
        std::iter::repeat_n(ratio, count)
    }

    fn assert_near(found: Option<f64>, expected: f64) {
        let found = found.expect("enough was added");
        let range = expected * 0.999..=(expected * 1.051).min(MOST * 1.001);
        assert!(range.contains(&found), "{found}, not {expected}");
    }

    #[test]
    fn a_few_prove_nothing() {
        assert_eq!(of([]), None);
        assert_eq!(of(copies(19, 3.0)), None);
        assert_near(of(copies(20, 3.0)), 3.0);
    }

    #[test]
    fn one_in_twenty_is_let_go_and_two_are_not() {
        assert_near(of(copies(19, 1.0).chain([9.0])), 1.0);
        assert_near(of(copies(18, 1.0).chain([9.0, 9.0])), 9.0);
        assert_near(of(copies(95, 1.0).chain(copies(5, 9.0))), 1.0);
        assert_near(of(copies(94, 1.0).chain(copies(6, 9.0))), 9.0);
    }

    #[test]
    fn bounds_hold() {
        for (ratio, bound) in [
            (0.0, LEAST),
            (0.01, LEAST),
            (0.25, LEAST),
            (-1.0, LEAST),
            (f64::NAN, LEAST),
            (20.0, MOST),
            (1e9, MOST),
            (f64::INFINITY, MOST),
        ] {
            assert_eq!(of(copies(50, ratio)), Some(bound), "{ratio}");
        }
    }

    #[test]
    fn the_past_fades() {
        let change = |new: usize| of(copies(10_000, 8.0).chain(copies(new, 1.0)));
        assert_near(change(100), 8.0);
        assert_near(change(2_000), 1.0);
        let worse = |new: usize| of(copies(10_000, 1.0).chain(copies(new, 8.0)));
        assert_near(worse(5), 1.0);
        assert_near(worse(30), 8.0);
    }

    #[test]
    fn the_last_bucket_reaches_the_upper_bound() {
        assert_eq!(edge(0), LEAST);
        assert_eq!(edge(BUCKETS - 1), MOST);
        assert!(edge(BUCKETS - 2) < MOST);
    }

    proptest! {
        /// Against the exact quantile of a sorted list.
        #[test]
        fn it_is_at_most_a_step_above_the_exact_one(
            ratios in prop::collection::vec(0.01_f64..50.0, ENOUGH as usize..FULL as usize),
        ) {
            let found = of(ratios.iter().copied()).expect("enough");
            let mut sorted = ratios.clone();
            sorted.sort_by(f64::total_cmp);
            let rank = (ratios.len() as f64 * SHARE).ceil() as usize;
            let exact = sorted[rank - 1].clamp(LEAST, MOST);
            prop_assert!(found >= exact * (1.0 - 1e-9), "{found} below {exact}");
            prop_assert!(found <= exact * STEP * (1.0 + 1e-9), "{found} far above {exact}");
        }

        /// However long it goes on, in bounds and without overflow.
        #[test]
        fn it_stays_in_bounds(ratios in prop::collection::vec(any::<f64>(), 0..2_000)) {
            if let Some(found) = of(ratios) {
                prop_assert!((LEAST..=MOST).contains(&found));
            }
        }
    }
}
