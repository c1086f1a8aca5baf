//! What was used lately.

use std::time::Duration;

use super::SECOND;
use crate::charge::Amounts;
use crate::time::Moment;

/// What was used lately, by the second.
#[derive(Debug)]
pub(super) struct Recent {
    /// When the present second began.
    since: Moment,
    /// What was taken in the one before, and in this one.
    taken: [Amounts; 2],
    /// The least that was idle in the two before, and in this one.
    idle: [Amounts; 3],
    /// What one request takes, about.
    pub(super) typical: Amounts,
    /// What is taken in a second, about, over the last ones.
    pub(super) usual: Amounts,
    last: Option<Moment>,
}

impl Recent {
    pub(super) fn new(now: Moment) -> Self {
        Recent {
            since: now,
            taken: [Amounts::NOTHING; 2],
            idle: [Amounts::NOTHING; 3],
            typical: Amounts::NOTHING,
            usual: Amounts::NOTHING,
            last: None,
        }
    }

    /// Begins another second where it is time.
    pub(super) fn pass(&mut self, idle: &Amounts, now: Moment) {
        for _ in 0..self.idle.len() {
            if self.since + SECOND > now {
                return;
            }
            self.since = self.since + SECOND;
            self.usual = self.usual.mean(&self.taken[1]);
            self.taken = [self.taken[1], Amounts::NOTHING];
            self.idle = [self.idle[1], self.idle[2], *idle];
        }
        if self.since + SECOND <= now {
            self.since = now;
        }
    }

    pub(super) fn take(&mut self, charge: &Amounts, now: Moment) {
        // What is idle is told apart, as it falls.
        let idle = self.idle[2];
        self.pass(&idle, now);
        self.taken[1] = self.taken[1].plus(charge);
        self.typical = match self.last {
            Some(_) => self.typical.mean(charge),
            None => *charge,
        };
        self.last = Some(now);
    }

    pub(super) fn fell_to(&mut self, idle: &Amounts, now: Moment) {
        self.pass(idle, now);
        self.idle[2] = self.idle[2].min(idle);
    }

    /// What is needed in a second, by the last one to two.
    pub(super) fn a_second(&self, now: Moment) -> Amounts {
        let [before, present] = &self.taken;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let time = SECOND + (now - self.since);
        before.plus(present).part(millis(SECOND), millis(time))
    }

    /// What nobody used for two seconds.
    pub(super) fn unused(&self) -> Amounts {
        self.idle[0].min(&self.idle[1]).min(&self.idle[2])
    }

    pub(super) fn was_used_within(&self, time: Duration, now: Moment) -> bool {
        self.last.is_some_and(|last| last + time > now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charge::Unit;

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    #[test]
    fn a_long_silence_ends_with_a_new_second() {
        let taken = Amounts::of(Unit::Tokens, 10);
        let mut recent = Recent::new(at(0));
        recent.take(&taken, at(100));
        assert_eq!(recent.since, at(0));
        recent.take(&taken, at(1_000));
        assert_eq!(recent.since, at(1_000));
        recent.take(&taken, at(4_500));
        assert_eq!(recent.since, at(4_000));
        recent.take(&taken, at(9_500));
        assert_eq!(recent.since, at(9_500));
        assert!(recent.was_used_within(SECOND, at(10_499)));
        assert!(!recent.was_used_within(SECOND, at(10_500)));
    }
}
