//! Cross traffic: what others spend from the same account.
//!
//! Another process with the same key has no channel to this one but the
//! provider's count. Between two counts it should have risen by the refill and
//! fallen by what was spent here; whatever else is missing, others took.

use std::time::Duration;

use super::TRANSIT;
use crate::charge::Per;
use crate::time::Moment;

/// The time over which the estimate forgets: long against the gap between two
/// answers, short against the minute in which a bucket would be spent.
const MEMORY: Duration = Duration::from_secs(10);

/// Counts closer together than this are taken for one: what was in transit
/// would be most of their difference.
const APART: Duration = Duration::from_millis(100);

/// The share of the refill below which others are not told from noise.
const NOISE: f64 = 0.05;

/// The least share of the refill that is left to us, whatever others seem to
/// take: whoever never asks never learns that they are gone.
const LEAST: f64 = 0.05;

/// An estimate of the tokens a second that others spend.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(super) struct CrossTraffic {
    /// All that was spent here and not given back; wraps.
    spent: u64,
    last: Option<Count>,
    /// Tokens a second; noise makes it negative at times.
    rate: f64,
}

/// The provider's count at one moment.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
struct Count {
    at: Moment,
    remaining: u64,
    /// What had been spent here by then.
    spent: u64,
}

impl CrossTraffic {
    #[inline]
    pub(super) fn spent(&mut self, tokens: u64) {
        self.spent = self.spent.wrapping_add(tokens);
    }

    pub(super) fn returned(&mut self, tokens: u64) {
        self.spent = self.spent.wrapping_sub(tokens);
    }

    /// The provider said, `now`, that `remaining` of `limit` tokens are left;
    /// `limit` in the period come back.
    pub(super) fn learn(&mut self, remaining: u64, limit: u64, per: Per, now: Moment) {
        let count = Count {
            at: now,
            remaining,
            spent: self.spent,
        };
        let Some(last) = self.last else {
            self.last = Some(count);
            return;
        };
        let time = now - last.at;
        if time < APART {
            return;
        }
        self.last = Some(count);
        // Counts come when answers do, not evenly: one that spans more time weighs
        // more, so that the memory is the same in seconds however many there are.
        let weight = 1.0 - (-time.as_secs_f64() / MEMORY.as_secs_f64()).exp();
        self.rate += weight * (missing(last, count, limit, per) - self.rate);
    }

    /// Tokens a second, or zero where they cannot be told from noise.
    fn rate(&self, limit: u64, per: Per) -> f64 {
        let refill = a_second_of(limit, per);
        match self.rate {
            rate if rate < NOISE * refill => 0.0,
            rate => rate.min((1.0 - LEAST) * refill),
        }
    }

    /// What others leave in the period of `limit`.
    pub(super) fn leave(&self, limit: u64, per: Per) -> u64 {
        let theirs = self.rate(limit, per) * per.duration().as_secs_f64();
        limit - whole(theirs).min(limit)
    }

    /// What others may have in transit, as we may.
    pub(super) fn in_transit(&self, limit: u64, per: Per) -> u64 {
        whole(self.rate(limit, per) * TRANSIT.as_secs_f64())
    }
}

/// The tokens a second that are missing between two counts.
fn missing(earlier: Count, later: Count, limit: u64, per: Per) -> f64 {
    let seconds = (later.at - earlier.at).as_secs_f64();
    let refilled = earlier.remaining as f64 + a_second_of(limit, per) * seconds;
    // A full bucket takes no refill, and nobody can be blamed for it.
    if refilled >= limit as f64 {
        return 0.0;
    }
    (refilled - later.since(earlier) - later.remaining as f64) / seconds
}

impl Count {
    /// What was spent here since an earlier count; negative where more was
    /// given back.
    fn since(self, earlier: Count) -> f64 {
        self.spent.wrapping_sub(earlier.spent).cast_signed() as f64
    }
}

fn a_second_of(limit: u64, per: Per) -> f64 {
    limit as f64 / per.duration().as_secs_f64()
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are not negative and below any limit"
)]
fn whole(tokens: f64) -> u64 {
    tokens as u64
}

#[cfg(test)]
impl std::hash::Hash for CrossTraffic {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (self.spent, self.last, self.rate.to_bits()).hash(state);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens a minute: a thousand a second.
    const LIMIT: u64 = 60_000;

    /// Counts once a second, `ours` and `theirs` being spent in each.
    fn after(seconds: u32, level: u64, ours: u64, theirs: u64) -> CrossTraffic {
        let mut others = CrossTraffic::default();
        let mut level = level;
        for second in 0..seconds {
            others.learn(
                level,
                LIMIT,
                Per::Minute,
                Moment::default() + second * Duration::from_secs(1),
            );
            others.spent(ours);
            level = (level + 1_000).min(LIMIT) - ours - theirs;
        }
        others
    }

    #[test]
    fn who_is_alone_is_left_everything() {
        for ours in [0, 500, 1_000] {
            let others = after(30, 30_000, ours, 0);
            assert_eq!(others.leave(LIMIT, Per::Minute), LIMIT);
            assert_eq!(others.in_transit(LIMIT, Per::Minute), 0);
        }
    }

    #[test]
    fn others_show_by_what_is_missing() {
        let others = after(60, 30_000, 600, 400);
        assert!(
            (36_000..36_500).contains(&others.leave(LIMIT, Per::Minute)),
            "{others:?}"
        );
        assert!(
            (790..=800).contains(&others.in_transit(LIMIT, Per::Minute)),
            "{others:?}"
        );
    }

    #[test]
    fn others_who_leave_are_forgotten() {
        let mut others = after(60, 30_000, 600, 400);
        let gone = Moment::default() + Duration::from_secs(60);
        for second in 0..60 {
            others.spent(1_000);
            others.learn(
                30_000,
                LIMIT,
                Per::Minute,
                gone + second * Duration::from_secs(1),
            );
        }
        assert_eq!(others.leave(LIMIT, Per::Minute), LIMIT);
    }

    #[test]
    fn a_full_bucket_blames_nobody() {
        let others = after(30, LIMIT, 100, 0);
        assert_eq!(others.leave(LIMIT, Per::Minute), LIMIT);
    }

    #[test]
    fn what_was_given_back_is_not_held_against_others() {
        let mut others = CrossTraffic::default();
        let start = Moment::default();
        others.learn(30_000, LIMIT, Per::Minute, start);
        others.spent(5_000);
        others.returned(4_000);
        others.learn(30_000, LIMIT, Per::Minute, start + Duration::from_secs(1));
        assert_eq!(others.leave(LIMIT, Per::Minute), LIMIT);
    }

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    /// Nine hundred a second are missing over ten seconds; the memory is as long, so the
    /// estimate comes as far as e tells, and goes as far back when nothing is missing.
    #[test]
    fn the_estimate_follows_in_as_many_seconds_as_it_remembers() {
        let mut others = CrossTraffic::default();
        others.learn(30_000, LIMIT, Per::Minute, at(0));
        others.spent(5_000);
        others.returned(4_000);
        others.learn(30_000, LIMIT, Per::Minute, at(10_000));
        let expected = 900.0 * (1.0 - (-1.0_f64).exp());
        assert!((others.rate - expected).abs() < 1e-9, "{others:?}");
        others.learn(50_000, LIMIT, Per::Minute, at(30_000));
        let expected = expected * (-2.0_f64).exp();
        assert!((others.rate - expected).abs() < 1e-9, "{others:?}");
    }

    #[test]
    fn counts_that_come_together_are_one() {
        let mut others = CrossTraffic::default();
        others.learn(30_000, LIMIT, Per::Minute, at(0));
        others.learn(20_000, LIMIT, Per::Minute, at(99));
        assert_eq!(others.rate.to_bits(), 0);
        others.learn(20_000, LIMIT, Per::Minute, at(100));
        // 10,100 in a tenth of a second.
        let expected = 101_000.0 * (1.0 - (-0.01_f64).exp());
        assert!((others.rate - expected).abs() < 1e-6, "{others:?}");
    }

    /// A thousand a second refill: what others take of it, what is left, and what they may
    /// have in transit.
    #[test]
    fn noise_is_nobodys_and_a_twentieth_is_always_left() {
        for (rate, left, in_transit) in [
            (-10.0, 60_000, 0),
            (49.9, 60_000, 0),
            (50.0, 57_000, 100),
            (400.0, 36_000, 800),
            (950.0, 3_000, 1_900),
            (2_000.0, 3_000, 1_900),
        ] {
            let others = CrossTraffic {
                rate,
                ..CrossTraffic::default()
            };
            assert_eq!(others.leave(LIMIT, Per::Minute), left, "{rate}");
            assert_eq!(others.in_transit(LIMIT, Per::Minute), in_transit, "{rate}");
        }
    }

    #[test]
    fn something_is_left_whatever_others_take() {
        let others = after(30, 60_000, 0, 1_900);
        assert_eq!(others.leave(LIMIT, Per::Minute), 3_000);
    }
}
