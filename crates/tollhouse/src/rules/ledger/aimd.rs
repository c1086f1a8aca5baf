//! AIMD: how much of the limits is used after refusals that explain nothing.

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

/// The same where the last refusal came, give or take a tenth of it: the limit
/// is probably still there.
const FEELS: f64 = 0.03;

/// How far around the last refusal it feels its way.
const NEAR: f64 = 0.1;

/// Two refusals that told a delay and no counts are further apart where the
/// limits are right.
const REPEATED: Duration = Duration::from_secs(600);

const MINUTE: Duration = Duration::from_secs(60);

/// The share of the limits that is used: additive increase, multiplicative
/// decrease (Chiu and Jain, 1989).
///
/// A refusal that tells neither a delay nor what is left says one thing only:
/// the limits that we know are not those that are enforced; so does a second one
/// that tells a delay alone. Nobody can say by how much, so the pace falls by a
/// factor, and is felt back up while answers are good: quickly where it was safe
/// before, slowly where the last refusal came, and quickly again beyond, where
/// that limit is gone (the shape of CUBIC: Ha, Rhee and Xu, 2008). In balance
/// that is one such refusal every four minutes or so.
///
/// It recovers by answers and not by the clock: what nobody tried is not known
/// to be safe.
///
/// # Full: all of the limits
///
/// - refused without explanation: to *slowed*
///
/// # Slowed: below what was refused
///
/// - refused again: falls, and feels its way around where this one came
/// - answered well, near what was refused: *feels*, at three tenths of the speed
/// - answered well, far from it on either side: recovers
/// - all of the limits reached: to *full*
#[derive(Clone, Copy, Debug)]
pub(crate) struct Aimd {
    share: f64,
    /// Since when nobody has shown it to be safe.
    at: Moment,
    /// The share at which the last refusal came.
    refused: f64,
    /// The last refusal that told a delay and no counts.
    told: Option<Moment>,
}

impl Default for Aimd {
    /// All of the limits.
    fn default() -> Self {
        Aimd {
            share: 1.0,
            at: Moment::default(),
            refused: 1.0,
            told: None,
        }
    }
}

impl Aimd {
    #[inline]
    pub(super) fn is_full(self) -> bool {
        self.share >= 1.0
    }

    /// A refusal explained nothing.
    pub(crate) fn slow(&mut self, now: Moment) {
        // ===> Slowed
        self.refused = self.share;
        self.share = (self.share * SLOWED).max(LEAST);
        self.at = now;
    }

    /// A refusal told a delay, to a request that was reserved at `reserved`;
    /// whether it is one too many. Those that were on their way when the last
    /// one came are its herd, and count with it.
    pub(crate) fn is_repeated(&mut self, reserved: Moment, now: Moment) -> bool {
        let last = self.told;
        if last.is_some_and(|last| reserved <= last) {
            return false;
        }
        self.told = Some(now);
        last.is_some_and(|last| now - last <= REPEATED && reserved > self.at)
    }

    /// A request that left no sooner than `from` was answered well; says whether
    /// that changes the pace.
    #[inline]
    pub(crate) fn recover(&mut self, from: Moment) -> bool {
        if self.is_full() || from <= self.at {
            return false;
        }
        // From when it left, not from when it was answered: for so long only is the
        // pace known to have been borne.
        let minutes = (from - self.at).as_secs_f64() / MINUTE.as_secs_f64();
        self.rise(minutes);
        self.at = from;
        true
    }

    /// So many minutes of good answers.
    fn rise(&mut self, mut minutes: f64) {
        let near = self.refused * (1.0 - NEAR);
        let beyond = self.refused * (1.0 + NEAR);
        // Each stretch takes what it can of the minutes and hands on the rest, so that
        // one answer after a long silence goes the same way as many in it.
        for (until, pace) in [(near, RECOVERS), (beyond, FEELS), (1.0, RECOVERS)] {
            let rise = (pace * minutes).clamp(0.0, (until.min(1.0) - self.share).max(0.0));
            self.share += rise;
            minutes -= rise / pace;
        }
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
    fn it_is_slow_where_the_last_refusal_came_and_quick_beyond() {
        let mut pace = Aimd::default();
        pace.slow(at(0));
        pace.slow(at(60));
        assert_eq!(pace.percent(), 49, "refused at 70");
        assert!(pace.recover(at(60 + 84)));
        assert_eq!(pace.percent(), 63, "a tenth a minute");
        assert!(pace.recover(at(60 + 84 + 60)));
        assert_eq!(pace.percent(), 66);
        assert!(pace.recover(at(60 + 84 + 280)));
        assert_eq!(pace.percent(), 77);
        assert!(pace.recover(at(60 + 84 + 280 + 60)));
        assert_eq!(pace.percent(), 87);
    }

    #[test]
    fn a_second_told_refusal_soon_after_the_first_is_one_too_many() {
        let mut pace = Aimd::default();
        assert!(!pace.is_repeated(at(10), at(12)), "one may be chance");
        assert!(!pace.is_repeated(at(11), at(13)), "its herd");
        assert!(pace.is_repeated(at(20), at(22)));
        pace.slow(at(22));
        assert!(!pace.is_repeated(at(22), at(23)), "sent before it slowed");
        assert!(pace.is_repeated(at(30), at(31)));
        assert!(!pace.is_repeated(at(700), at(701)), "long ago");
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
