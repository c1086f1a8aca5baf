//! One limit by the minute, whichever way its minute is counted.

use std::fmt::Debug;
use std::time::Duration;

use tokio::time::Instant;

/// A way to count a minute.
pub(super) trait Count: Debug + Send {
    /// The most that can be used at once.
    fn capacity(&self) -> u64;

    /// What counts as used at `now`, rounded up.
    fn used(&mut self, now: Instant) -> u64;

    /// How long until `amount` fits, if nobody else used anything. Zero if,
    /// and only if, it fits at `now`.
    fn wait(&mut self, now: Instant, amount: u64) -> Duration;

    /// Uses `amount`, whether it fits or not.
    fn take(&mut self, now: Instant, amount: u64);

    /// Gives back `amount` of what was taken at `taken`, as far as that still
    /// counts.
    fn give_back(&mut self, now: Instant, taken: Instant, amount: u64);

    /// Counts one request that was refused.
    fn take_refused(&mut self, now: Instant);

    /// How long until nothing counts as used, if nobody used anything.
    fn until_full(&mut self, now: Instant) -> Duration;

    /// The most that could have been used from `first`, the moment this count
    /// began, to `last`.
    fn allowance(&self, first: Instant, last: Instant) -> u64;
}

/// What an answer's headers say about one limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Allowed in one provider's minute.
    pub limit: u64,
    /// Left now.
    pub remaining: u64,
    /// Time until all of it is left again, in the client's time.
    pub reset: Duration,
}

/// Why a request does not fit now, in the numbers the error text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shortfall {
    /// Allowed in one provider's minute.
    pub limit: u64,
    /// Counted as used, rounded up.
    pub used: u64,
    /// What the request asked for.
    pub requested: u64,
    /// When the request would fit if nobody else came, in the client's time.
    /// As on the real side, it knows nothing of the share that
    /// [others](super::Rules::others) use.
    pub wait: Duration,
}

/// A limit and its count.
#[derive(Debug)]
pub(super) struct Meter {
    limit: u64,
    count: Box<dyn Count>,
}

impl Meter {
    pub(super) fn new(limit: u64, count: Box<dyn Count>) -> Self {
        Self { limit, count }
    }

    /// Says no to what does not fit; takes nothing.
    pub(super) fn check(&mut self, now: Instant, amount: u64) -> Result<(), Shortfall> {
        let wait = self.count.wait(now, amount);
        if wait.is_zero() {
            return Ok(());
        }
        Err(Shortfall {
            limit: self.limit,
            used: self.shown_used(now),
            requested: amount,
            wait,
        })
    }

    /// A limit by the minute that is enforced by the second lacks room while
    /// most of the minute is unused. The text speaks of the minute, so that
    /// its sum (used + requested - limit) stays the shortfall.
    fn shown_used(&mut self, now: Instant) -> u64 {
        self.count.used(now) + (self.limit - self.count.capacity())
    }

    pub(super) fn level(&mut self, now: Instant) -> Level {
        Level {
            limit: self.limit,
            remaining: self.limit.saturating_sub(self.count.used(now)),
            reset: self.count.until_full(now),
        }
    }

    pub(super) fn count(&mut self) -> &mut dyn Count {
        &mut *self.count
    }

    pub(super) fn allowance(&self, first: Instant, last: Instant) -> u64 {
        self.count.allowance(first, last)
    }
}
