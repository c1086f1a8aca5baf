//! Continuous refill: a bucket of L that regains L a minute.

use std::time::Duration;

use tokio::time::Instant;

use super::meter::Count;

/// A bucket, kept as what is used of it.
///
/// `used` is in parts of a token: one token is as many parts as the minute has
/// nanoseconds, so that `rate` tokens a minute drain exactly `rate` parts a
/// nanosecond and no sum is ever rounded.
#[derive(Debug)]
pub(super) struct Bucket {
    capacity: u64,
    /// Tokens a minute that drain when nobody else is there: what told delays
    /// are computed from.
    rate: u64,
    /// Tokens a minute that really drain, others' use taken off.
    net_rate: u64,
    token: u128,
    initial: u64,
    used: u128,
    updated: Instant,
}

/// How fast a bucket refills.
#[derive(Clone, Copy, Debug)]
pub(super) struct Refill {
    /// Tokens a minute.
    pub(super) rate: u64,
    /// Tokens a minute that others use.
    pub(super) others: u64,
    /// The length of a minute.
    pub(super) minute: Duration,
}

impl Bucket {
    /// Begins at `now` with the given share of the bucket filled.
    pub(super) fn begin(capacity: u64, refill: Refill, now: Instant, filled: f64) -> Self {
        let initial = share_of(capacity, 1.0 - filled);
        let token = refill.minute.as_nanos();
        Self {
            capacity,
            rate: refill.rate,
            net_rate: refill.rate.saturating_sub(refill.others),
            token,
            initial,
            used: u128::from(initial) * token,
            updated: now,
        }
    }

    fn drain(&mut self, now: Instant) {
        let elapsed = now.saturating_duration_since(self.updated).as_nanos();
        let drained = elapsed.saturating_mul(u128::from(self.net_rate));
        self.used = self.used.saturating_sub(drained);
        self.updated = self.updated.max(now);
    }

    fn parts(&self, tokens: u64) -> u128 {
        u128::from(tokens) * self.token
    }

    /// The time in which `parts` drain at the nominal rate.
    fn time_for(&self, parts: u128) -> Duration {
        nanoseconds(parts.div_ceil(u128::from(self.rate)))
    }
}

impl Count for Bucket {
    fn capacity(&self) -> u64 {
        self.capacity
    }

    fn used(&mut self, now: Instant) -> u64 {
        self.drain(now);
        whole(self.used.div_ceil(self.token))
    }

    fn wait(&mut self, now: Instant, amount: u64) -> Duration {
        self.drain(now);
        let after = self.used + self.parts(amount);
        self.time_for(after.saturating_sub(self.parts(self.capacity)))
    }

    fn take(&mut self, now: Instant, amount: u64) {
        self.drain(now);
        self.used += self.parts(amount);
    }

    fn give_back(&mut self, now: Instant, _: Instant, amount: u64) {
        self.drain(now);
        self.used = self.used.saturating_sub(self.parts(amount));
    }

    /// A refused request empties the bucket at most: it makes no debt, but
    /// who asks again and again is never let in.
    fn take_refused(&mut self, now: Instant) {
        self.drain(now);
        let full = self.parts(self.capacity);
        let taken = self.used + self.token;
        self.used = self.used.max(taken.min(full));
    }

    fn until_full(&mut self, now: Instant) -> Duration {
        self.drain(now);
        self.time_for(self.used)
    }

    fn allowance(&self, first: Instant, last: Instant) -> u64 {
        let elapsed = last.saturating_duration_since(first).as_nanos();
        let regained = elapsed.saturating_mul(u128::from(self.net_rate)) / self.token;
        (self.capacity - self.initial).saturating_add(whole(regained))
    }
}

/// `share` of `amount`, rounded.
pub(super) fn share_of(amount: u64, share: f64) -> u64 {
    (amount as f64 * share).round() as u64
}

fn whole(amount: u128) -> u64 {
    u64::try_from(amount).unwrap_or(u64::MAX)
}

fn nanoseconds(count: u128) -> Duration {
    Duration::from_nanos(whole(count))
}
