//! How much of the limits is used after refusals that explain nothing.

use std::time::Duration;

use crate::time::Moment;

/// What is left of the pace by a refusal.
const SLOWED: f64 = 0.7;

/// No refusals, however many, slow the pace further: whoever never asks never
/// learns that it may ask more.
const LEAST: f64 = 0.05;

/// The share of the limits by which the pace recovers in a minute of good
/// answers.
const RECOVERS: f64 = 0.1;

const MINUTE: Duration = Duration::from_secs(60);

/// The share of the limits that is used: additive increase, multiplicative
/// decrease (Chiu and Jain, 1989).
///
/// A refusal that tells neither a delay nor what is left says one thing only:
/// the limits that we know are not those that are enforced. Nobody can say by
/// how much, so the pace falls by a factor, and is felt back up while answers
/// are good. In balance that is one such refusal every three minutes or more.
///
/// It recovers by answers and not by the clock: what nobody tried is not known
/// to be safe.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aimd {
    share: f64,
    /// Since when nobody has shown it to be safe.
    at: Moment,
}

impl Default for Aimd {
    /// All of the limits.
    fn default() -> Self {
        Aimd {
            share: 1.0,
            at: Moment::default(),
        }
    }
}

impl Aimd {
    fn is_full(self) -> bool {
        self.share >= 1.0
    }

    /// A refusal explained nothing.
    pub(crate) fn slow(&mut self, now: Moment) {
        self.share = (self.share * SLOWED).max(LEAST);
        self.at = now;
    }

    /// A request that left no sooner than `from` was answered well; says whether
    /// that changes the pace.
    #[inline]
    pub(crate) fn recover(&mut self, from: Moment) -> bool {
        if self.is_full() || from <= self.at {
            return false;
        }
        let minutes = (from - self.at).as_secs_f64() / MINUTE.as_secs_f64();
        self.share = (self.share + RECOVERS * minutes).min(1.0);
        self.at = from;
        true
    }

    /// What it leaves of a rate, at least one.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates fit exactly, and a share of one is positive and smaller"
    )]
    pub(crate) fn of(self, rate: u64) -> u64 {
        if self.is_full() {
            return rate;
        }
        // A nudge, so that 0.8 of 600 leaves 480 and not 479.
        ((rate as f64 * self.share * (1.0 + 1e-12)) as u64).max(1)
    }

    /// In whole percent, rounded down.
    pub(crate) fn percent(self) -> u8 {
        u8::try_from(self.of(100)).unwrap_or(100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> Moment {
        Moment::default() + Duration::from_secs(second)
    }

    #[test]
    fn a_refusal_slows_and_good_answers_recover() {
        let mut pace = Aimd::default();
        assert_eq!(pace.of(1_000), 1_000);
        assert!(!pace.recover(at(10)), "there is nothing to recover");
        pace.slow(at(60));
        assert_eq!(pace.of(1_000), 700);
        assert!(!pace.recover(at(60)), "launched before the refusal came");
        assert_eq!(pace.of(1_000), 700);
        assert!(pace.recover(at(120)));
        assert_eq!(pace.percent(), 80);
        assert!(pace.recover(at(150)));
        assert!(!pace.recover(at(130)), "an older one proves nothing new");
        assert_eq!(pace.percent(), 85);
        assert!(pace.recover(at(600)));
        assert_eq!(pace.of(1_000), 1_000);
    }

    #[test]
    fn something_is_always_left() {
        let mut pace = Aimd::default();
        for second in 0..100 {
            pace.slow(at(second));
        }
        assert_eq!(pace.of(1_000), 50);
        assert_eq!(pace.of(1), 1);
    }
}
