//! Whether the provider refills all the time or counts minutes that end.

use std::time::Duration;

use super::Told;
use crate::charge::Per;
use crate::time::Moment;

/// Looks for proof that resets show a bucket that refills all the time, and
/// not a period that ends.
///
/// A continuous bucket is full again after `used / limit` periods, so
/// `limit x reset / used` is the period at every answer. A fixed minute's reset
/// falls while its use rises, so it can look like that at one level of use,
/// but not at two in a row; nor for longer than the one second that the
/// tolerance spans, or the five between two answers that a new minute hides in.
/// For other periods all of that is as much longer or shorter.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) struct Refill {
    /// Answers in a row that agree.
    in_a_row: u32,
    least_used: u64,
    most_used: u64,
    /// Since when they have been coming without a gap, and until when.
    first: Moment,
    last: Moment,
}

impl Refill {
    /// Answers in a row that must agree.
    const PROOFS: u32 = 3;

    /// So much later must an answer be counted than another one came.
    fn span(per: Per) -> Duration {
        per.duration() / 6
    }

    /// The longest gap within that time.
    fn gap(per: Per) -> Duration {
        per.duration() / 12
    }

    /// Whether that is proven with what an answer tells that came `now`, to a
    /// request that left no sooner than `from` and no later than `by`.
    pub(super) fn is_continuous(
        &mut self,
        told: &Told,
        per: Per,
        (from, by): (Moment, Moment),
        now: Moment,
    ) -> bool {
        let (Some(limit), Some(remaining), Some(reset)) = (told.limit, told.remaining, told.reset)
        else {
            return false;
        };
        let used = limit.saturating_sub(remaining);
        // Below a hundredth, the resolution of the header hides the window.
        if used.saturating_mul(100) < limit || limit == 0 {
            return false;
        }
        let shown = reset.as_millis().saturating_mul(u128::from(limit)) / u128::from(used);
        let period = per.duration().as_millis();
        if shown.abs_diff(period) > period / 120 {
            // ===> Nothing proven: one answer that disagrees outweighs all that agreed.
            *self = Refill::default();
            return false;
        }
        self.agrees(used, per, by, now);
        // ===> Proven, by either of what a fixed minute cannot do: fit at two levels of
        // use, or go on fitting at one. How long is reckoned from the earliest instant
        // at which it can have been counted, and gaps to the latest.
        let differ = self.most_used - self.least_used >= limit / 40;
        let lasted = from >= self.first + Self::span(per);
        self.in_a_row >= Self::PROOFS && (differ || lasted)
    }

    /// One more in a row. A silence counts as long as it may have been.
    fn agrees(&mut self, used: u64, per: Per, by: Moment, now: Moment) {
        if self.in_a_row == 0 {
            (self.least_used, self.most_used) = (used, used);
        }
        if self.in_a_row == 0 || by > self.last + Self::gap(per) {
            self.first = now;
        }
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.last = now;
        self.least_used = self.least_used.min(used);
        self.most_used = self.most_used.max(used);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(limit: u64, remaining: u64, reset_millis: u64) -> Told {
        Told {
            limit: Some(limit),
            remaining: Some(remaining),
            reset: Some(Duration::from_millis(reset_millis)),
        }
    }

    fn at(second: u64) -> Moment {
        Moment::default() + Duration::from_secs(second)
    }

    impl Refill {
        /// Counted at `at`, and told at once.
        fn proven(&mut self, told: &Told, at: Moment) -> bool {
            self.is_continuous(told, Per::Minute, (at, at), at)
        }
    }

    #[test]
    fn a_continuous_refill_shows_at_different_levels() {
        let mut refill = Refill::default();
        let at = at(0);
        assert!(!refill.proven(&told(1000, 900, 6_000), at));
        assert!(!refill.proven(&told(1000, 900, 6_000), at));
        assert!(
            !refill.proven(&told(1000, 900, 6_000), at),
            "one level proves nothing"
        );
        assert!(refill.proven(&told(1000, 500, 30_000), at));
    }

    #[test]
    fn a_continuous_refill_shows_at_one_level_in_time() {
        let mut refill = Refill::default();
        let empty = told(1000, 10, 59_400);
        assert!(!refill.proven(&empty, at(0)));
        assert!(!refill.proven(&empty, at(5)));
        assert!(!refill.proven(&empty, at(9)));
        assert!(
            !refill.is_continuous(&empty, Per::Minute, (at(0), at(0)), at(10)),
            "it may be an old count"
        );
        assert!(refill.proven(&empty, at(10)));
    }

    /// What is used falls only where it refills. Callers that all wait for the
    /// same minute once showed no more than this of it.
    #[test]
    fn a_continuous_refill_shows_while_it_refills() {
        let mut refill = Refill::default();
        assert!(!refill.proven(&told(30_000, 2_673, 54_654), at(4)));
        assert!(!refill.proven(&told(30_000, 3_184, 53_632), at(5)));
        assert!(refill.proven(&told(30_000, 3_682, 52_636), at(6)));
    }

    /// A gap between answers once hid what the ones before it had shown.
    #[test]
    fn levels_may_lie_a_gap_apart() {
        let mut refill = Refill::default();
        assert!(!refill.proven(&told(1000, 100, 54_000), at(0)));
        assert!(!refill.proven(&told(1000, 100, 54_000), at(0)));
        assert!(refill.proven(&told(1000, 500, 30_000), at(30)));
    }

    #[test]
    fn what_is_told_once_a_minute_is_no_proof() {
        let mut refill = Refill::default();
        // All spent at the start of every minute.
        for second in (0..600).filter(|second| second % 60 < 2) {
            assert!(!refill.proven(&told(1000, 10, 59_400), at(second)));
        }
    }

    #[test]
    fn a_fixed_minute_does_not_pass_for_continuous() {
        let mut refill = Refill::default();
        let at = at(0);
        // All spent at once at the start of the minute looks like it.
        assert!(!refill.proven(&told(1000, 10, 59_900), at));
        assert!(!refill.proven(&told(1000, 5, 59_800), at));
        assert!(!refill.proven(&told(1000, 0, 59_700), at));
        assert!(!refill.proven(&told(1000, 0, 40_000), at));
        // So does a tenth spent when a tenth of the minute is left.
        assert!(!refill.proven(&told(1000, 900, 6_000), at));
        assert!(!refill.proven(&told(1000, 800, 5_000), at));
    }

    #[test]
    fn nonsense_is_no_proof() {
        let mut refill = Refill::default();
        let at = at(0);
        for _ in 0..10 {
            assert!(!refill.proven(&told(0, 0, 60_000), at));
            assert!(!refill.proven(&told(10, 500, 60_000), at));
            assert!(!refill.proven(&Told::default(), at));
        }
    }

    /// A use of a hundredth counts, and resets that are wrong by half a second.
    #[test]
    fn what_the_headers_resolution_hides_is_no_contradiction() {
        for (first, last, proven) in [
            (told(1000, 990, 600), told(1000, 900, 6_000), true),
            (told(1000, 991, 540), told(1000, 900, 6_000), false),
            (told(1000, 0, 60_500), told(1000, 500, 30_250), true),
            (told(1000, 0, 60_501), told(1000, 500, 30_250), false),
            (told(1000, 0, 59_500), told(1000, 500, 29_750), true),
            (told(1000, 0, 59_499), told(1000, 500, 29_750), false),
            // A fortieth of the limit apart, and less.
            (told(1000, 500, 30_000), told(1000, 475, 31_500), true),
            (told(1000, 500, 30_000), told(1000, 476, 31_440), false),
        ] {
            let mut refill = Refill::default();
            assert!(!refill.proven(&first, at(0)));
            assert!(!refill.proven(&first, at(0)));
            assert_eq!(refill.proven(&last, at(0)), proven, "{first:?}");
        }
    }

    /// A second's period is tried over a sixth of it, a day's over four hours.
    #[test]
    fn longer_periods_take_longer_to_prove() {
        for (per, millis) in [
            (Per::Second, 166),
            (Per::Minute, 10_000),
            (Per::Day, 14_400_000),
        ] {
            let reset = per.duration().as_millis() as u64;
            let empty = told(1000, 0, reset);
            let mut refill = Refill::default();
            let mut proven_at = |millis| {
                let at = Moment::default() + Duration::from_millis(millis);
                refill.is_continuous(&empty, per, (at, at), at)
            };
            for part in 0..3 {
                assert!(!proven_at(millis * part / 3), "{per:?}");
            }
            assert!(!proven_at(millis - millis / 100));
            assert!(proven_at(millis + 1), "{per:?}");
        }
    }
}
