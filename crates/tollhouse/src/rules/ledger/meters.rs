//! The ledger's two meters: tokens and requests, each with its bucket and its
//! windows.

use std::time::Duration;

use crate::rules::{Bucket, Room, When, Window};
use crate::time::Moment;

const MINUTE: Duration = Duration::from_secs(60);
const SECOND: Duration = Duration::from_secs(1);

/// Tokens: a bucket whose ceiling falls with what is in transit, and a minute
/// that nothing exceeds.
#[derive(Debug)]
pub(super) struct Tokens {
    pub(super) bucket: Bucket,
    pub(super) minute: Option<Window>,
}

impl Tokens {
    pub(super) fn new(limit: u64, rate: u64, capacity: u64, windowed: bool, now: Moment) -> Self {
        Tokens {
            bucket: Bucket::new(rate, capacity, now),
            minute: windowed.then(|| Window::new(MINUTE, limit)),
        }
    }

    #[inline]
    pub(super) fn when(&mut self, cost: u64, now: Moment) -> When {
        let bucket = self.bucket.when(cost, now);
        match &mut self.minute {
            Some(minute) => bucket.and(minute.when(cost, now)),
            None => bucket,
        }
    }

    pub(super) fn eta(&mut self, total: u64, now: Moment) -> Duration {
        let minute = self.minute.as_mut().map(|minute| minute.eta(total, now));
        self.bucket.eta(total, now).max(minute.unwrap_or_default())
    }

    #[inline]
    pub(super) fn reserve(&mut self, cost: u64, now: Moment) {
        self.bucket.reserve(cost, now);
        if let Some(minute) = &mut self.minute {
            minute.reserve(cost);
        }
    }

    #[inline]
    pub(super) fn land(&mut self, cost: u64, at: Moment) {
        self.bucket.land(cost, at);
        if let Some(minute) = &mut self.minute {
            minute.land(cost, at);
        }
    }

    pub(super) fn refund(&mut self, cost: u64, now: Moment) {
        self.bucket.refund(cost, now);
        if let Some(minute) = &mut self.minute {
            minute.refund(cost);
        }
    }

    /// The real cost was higher by `extra`: debt.
    pub(super) fn owe(&mut self, extra: u64, now: Moment) {
        self.bucket.spend(extra, now);
        if let Some(minute) = &mut self.minute {
            minute.add(extra, now);
        }
    }

    /// Of what landed at `landed`, `excess` was never taken by the provider.
    pub(super) fn uncount(&mut self, excess: u64, landed: Moment, now: Moment) {
        self.bucket.credit(excess, now);
        if let Some(minute) = &mut self.minute {
            minute.forgive(excess, landed, now);
        }
    }

    /// The provider gave `unused` back of what landed at `landed`, when there
    /// was `room`.
    pub(super) fn give_back(&mut self, unused: u64, landed: Moment, room: Room, now: Moment) {
        self.bucket.credit_late(unused, room, now);
        if let Some(minute) = &mut self.minute {
            minute.forgive(unused, landed, now);
        }
    }

    pub(super) fn resize(&mut self, limit: u64, rate: u64, capacity: u64, now: Moment) {
        self.bucket.resize(rate, capacity, now);
        if let Some(minute) = &mut self.minute {
            minute.resize(limit);
        }
    }
}

/// Requests: paced so that a second's worth may go at once, because a limit by
/// the minute may be enforced by the second, and counted over a minute.
///
/// The pace's ceiling does not fall with what is in transit: the minute minds
/// that, and has room for it, so a second's worth never waits for an answer.
/// The second is counted where a request is reserved, for the same reason.
#[derive(Debug)]
pub(super) struct Requests {
    pub(super) bucket: Bucket,
    minute: Minute,
    second: Window,
}

/// A minute's worth of requests, as the provider may count it.
#[derive(Debug)]
enum Minute {
    /// Any minute, which suits every provider.
    Sliding(Window),
    /// All the time.
    Refilled(Bucket),
}

impl Minute {
    #[inline]
    fn when(&mut self, now: Moment) -> When {
        match self {
            Minute::Sliding(window) => window.when(1, now),
            Minute::Refilled(bucket) => bucket.when(1, now),
        }
    }

    fn eta(&mut self, count: u64, now: Moment) -> Duration {
        match self {
            Minute::Sliding(window) => window.eta(count, now),
            Minute::Refilled(bucket) => bucket.eta(count, now),
        }
    }

    #[inline]
    fn reserve(&mut self, now: Moment) {
        match self {
            Minute::Sliding(window) => window.reserve(1),
            Minute::Refilled(bucket) => bucket.reserve(1, now),
        }
    }

    #[inline]
    fn land(&mut self, at: Moment) {
        match self {
            Minute::Sliding(window) => window.land(1, at),
            Minute::Refilled(bucket) => bucket.land(1, at),
        }
    }

    fn room(&mut self, at: Moment) -> Room {
        match self {
            Minute::Sliding(_) => Room::default(),
            Minute::Refilled(bucket) => bucket.room(at),
        }
    }

    fn give_back(&mut self, landed: Moment, room: Room, now: Moment) {
        match self {
            Minute::Sliding(window) => window.forgive(1, landed, now),
            Minute::Refilled(bucket) => bucket.credit_late(1, room, now),
        }
    }

    fn refund(&mut self, now: Moment) {
        match self {
            Minute::Sliding(window) => window.refund(1),
            Minute::Refilled(bucket) => bucket.refund(1, now),
        }
    }

    fn resize(&mut self, limit: u64, rate: u64, now: Moment) {
        match self {
            Minute::Sliding(window) => window.resize(limit),
            Minute::Refilled(bucket) => bucket.resize(rate, rate, now),
        }
    }
}

impl Requests {
    pub(super) fn new(limit: u64, rate: u64, windowed: bool, now: Moment) -> Self {
        Requests {
            bucket: Bucket::new(rate, a_second_at(rate), now),
            minute: if windowed {
                Minute::Sliding(Window::new(MINUTE, limit))
            } else {
                Minute::Refilled(Bucket::new(rate, rate, now))
            },
            second: Window::new(SECOND, a_second_of(limit)),
        }
    }

    #[inline]
    pub(super) fn when(&mut self, now: Moment) -> When {
        let pace = self.bucket.when(1, now).and(self.second.when(1, now));
        pace.and(self.minute.when(now))
    }

    pub(super) fn eta(&mut self, count: u64, now: Moment) -> Duration {
        self.bucket
            .eta(count, now)
            .max(self.second.eta(count, now))
            .max(self.minute.eta(count, now))
    }

    #[inline]
    pub(super) fn reserve(&mut self, now: Moment) {
        self.bucket.spend(1, now);
        self.second.add(1, now);
        self.minute.reserve(now);
    }

    /// Says how much room there was then; see [`give_back`](Self::give_back).
    #[inline]
    pub(super) fn land(&mut self, at: Moment) -> Room {
        self.minute.land(at);
        self.minute.room(at)
    }

    /// What landed at `landed` turns out never to have been counted. The second
    /// in which it was reserved is over, and the pace has long refilled.
    pub(super) fn give_back(&mut self, landed: Moment, room: Room, now: Moment) {
        self.minute.give_back(landed, room, now);
    }

    pub(super) fn refund(&mut self, reserved: Moment, now: Moment) {
        self.bucket.credit(1, now);
        self.second.forgive(1, reserved, now);
        self.minute.refund(now);
    }

    pub(super) fn resize(&mut self, limit: u64, rate: u64, now: Moment) {
        self.bucket.resize(rate, a_second_at(rate), now);
        self.second.resize(a_second_of(limit));
        self.minute.resize(limit, rate, now);
    }
}

/// The pace's burst.
fn a_second_at(rate: u64) -> u64 {
    (rate / 60).max(1)
}

/// What a provider that enforces a minute's limit by the second allows in one:
/// rounded down, which is safe, where that costs less than a twentieth; else
/// up, since no provider would enforce 100 a minute as 1 a second.
fn a_second_of(limit: u64) -> u64 {
    let down = limit / 60;
    if down * 60 * 20 >= limit * 19 {
        down
    } else {
        down + 1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_is_rounded_down_where_that_is_cheap() {
        let table = [
            (1, 1),
            (59, 1),
            (60, 1),
            (63, 1),
            (64, 2),
            (100, 2),
            (500, 8),
            (600, 10),
            (60_000, 1000),
            (60_059, 1000),
        ];
        for (limit, second) in table {
            assert_eq!(a_second_of(limit), second, "{limit}");
        }
    }

    #[test]
    fn requests_are_paced_by_the_second() {
        let start = Moment::default();
        let mut requests = Requests::new(60, 60, true, start);
        requests.reserve(start);
        assert_eq!(requests.when(start), When::At(start + SECOND));
        requests.refund(start, start);
        assert_eq!(requests.when(start), When::Now);
    }
}
