//! Fixed minutes: a counter that starts again at every minute of the
//! provider's clock.

use std::time::Duration;

use tokio::time::Instant;

use super::meter::Count;

/// Where the minutes of the provider's clock begin.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Clock {
    /// The moment the clock was started.
    pub(crate) epoch: Instant,
    /// How much of a minute had passed at the epoch.
    pub(crate) phase: Duration,
    /// The length of a minute.
    pub(crate) minute: Duration,
}

impl Clock {
    /// The number of the minute that `now` is in, from 0 for the epoch's.
    pub(crate) fn index(&self, now: Instant) -> u128 {
        self.reading(now) / self.minute.as_nanos()
    }

    /// How much of its minute has passed at `now`.
    fn passed(&self, now: Instant) -> u128 {
        self.reading(now) % self.minute.as_nanos()
    }

    fn reading(&self, now: Instant) -> u128 {
        (now.saturating_duration_since(self.epoch) + self.phase).as_nanos()
    }
}

/// The count of the minute that is running.
#[derive(Debug)]
pub(super) struct ClockMinute {
    limit: u64,
    /// What others use in a whole minute, evenly.
    others: u64,
    clock: Clock,
    initial: u64,
    index: u128,
    taken: u64,
}

impl ClockMinute {
    /// Begins at `now` with `initial` used in the running minute.
    pub(super) fn begin(limit: u64, others: u64, clock: Clock, now: Instant, initial: u64) -> Self {
        Self {
            limit,
            others,
            clock,
            initial,
            index: clock.index(now),
            taken: initial,
        }
    }

    fn turn(&mut self, now: Instant) {
        let index = self.clock.index(now);
        if index > self.index {
            self.index = index;
            self.taken = 0;
        }
    }

    fn used_by_others(&self, now: Instant) -> u64 {
        let passed = self.clock.passed(now) * u128::from(self.others);
        let used = passed.div_ceil(self.clock.minute.as_nanos());
        u64::try_from(used).expect("others use at most their share of a u64")
    }

    fn until_next(&self, now: Instant) -> Duration {
        let passed = u64::try_from(self.clock.passed(now)).expect("a minute fits");
        self.clock.minute - Duration::from_nanos(passed)
    }
}

impl Count for ClockMinute {
    fn capacity(&self) -> u64 {
        self.limit
    }

    fn used(&mut self, now: Instant) -> u64 {
        self.turn(now);
        self.taken.saturating_add(self.used_by_others(now))
    }

    fn wait(&mut self, now: Instant, amount: u64) -> Duration {
        if self.used(now).saturating_add(amount) <= self.limit {
            return Duration::ZERO;
        }
        self.until_next(now)
    }

    fn take(&mut self, now: Instant, amount: u64) {
        self.turn(now);
        self.taken = self.taken.saturating_add(amount);
    }

    fn give_back(&mut self, now: Instant, taken: Instant, amount: u64) {
        self.turn(now);
        if self.clock.index(taken) == self.index {
            self.taken = self.taken.saturating_sub(amount);
        }
    }

    fn take_refused(&mut self, now: Instant) {
        self.take(now, 1);
    }

    fn until_full(&mut self, now: Instant) -> Duration {
        match self.used(now) {
            0 => Duration::ZERO,
            _ => self.until_next(now),
        }
    }

    fn allowance(&self, first: Instant, last: Instant) -> u64 {
        let minutes = self
            .clock
            .index(last)
            .saturating_sub(self.clock.index(first))
            + 1;
        let minutes = u64::try_from(minutes).unwrap_or(u64::MAX);
        self.limit.saturating_mul(minutes) - self.initial
    }
}
