//! So much in any stretch of a given length.

use std::collections::VecDeque;
use std::time::Duration;

use super::When;
use crate::time::Moment;

/// How finely a busy window remembers. With more entries than this, what lands
/// close together is remembered as one.
const FINE: usize = 4096;

/// At most `limit` in any stretch of `length`, however it is aligned.
///
/// What is taken counts from the taking until `length` after it landed, that
/// is, after it has surely been counted on the other side: rule 3 of the
/// ledger.
///
/// The log is exact while it is short. Beyond [`FINE`] entries, landings
/// within a four-thousandth of `length` share an entry and leave together with
/// the last of them, so the log stays short whatever the traffic, and errs on
/// the safe side by less than a thousandth.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Window {
    length: Duration,
    length_nanos: u64,
    /// Below this distance landings may be taken for one.
    grain_nanos: u64,
    limit: u64,
    /// Taken and not landed.
    open: u64,
    /// What landed within the last `length`, oldest first: when, and the
    /// running total with it, so that the sum of any stretch is a difference
    /// and the instant at which enough has left is found by halving.
    log: VecDeque<(Moment, u64)>,
    /// The running total of all that ever landed.
    total: u64,
    /// The running total of what has left.
    left: u64,
    /// When the last entry was begun, to bound how much it gathers.
    begun: Option<Moment>,
    /// Up to which running total somebody last waited for what landed to leave, and when
    /// that landed: mostly the same is asked again.
    awaited: Awaited,
}

/// What was looked up once need not be again.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
struct Awaited(Option<(u64, Moment)>);

/// It tells nothing that the log does not.
#[cfg(test)]
impl std::hash::Hash for Awaited {
    fn hash<H: std::hash::Hasher>(&self, _: &mut H) {}
}

impl Window {
    pub(crate) fn new(length: Duration, limit: u64) -> Self {
        let length_nanos = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        Window {
            length,
            length_nanos,
            grain_nanos: length_nanos / 4000,
            limit,
            open: 0,
            log: VecDeque::new(),
            total: 0,
            left: 0,
            begun: None,
            awaited: Awaited::default(),
        }
    }

    /// Forgets what landed too long ago to count.
    #[inline]
    fn expire(&mut self, now: Moment) {
        while let Some(&(landed, total)) = self.log.front() {
            if now.nanos_since(landed) < self.length_nanos {
                break;
            }
            self.left = total;
            self.log.pop_front();
        }
    }

    /// All that counts, and what has not been forgotten yet.
    #[inline]
    fn counts(&self) -> u64 {
        self.open + (self.total - self.left)
    }

    /// Whether `cost` more are allowed even if all that landed still counts: time only
    /// ever takes away from it.
    #[inline]
    pub(crate) fn has(&self, cost: u64) -> bool {
        self.counts().saturating_add(cost) <= self.limit
    }

    /// Whether `cost` more are not allowed even once all that landed has left.
    #[inline]
    pub(crate) fn is_shut(&self, cost: u64) -> bool {
        self.open.saturating_add(cost) > self.limit
    }

    /// When `cost` more are allowed. Exact unless something changes meanwhile.
    pub(crate) fn when(&mut self, cost: u64, now: Moment) -> When {
        self.expire(now);
        let after = self.counts().saturating_add(cost);
        if after <= self.limit {
            return When::Now;
        }
        self.when_gone(after - self.limit)
    }

    /// When so much of what landed will have left.
    fn when_gone(&mut self, excess: u64) -> When {
        let enough = self.left.saturating_add(excess);
        match self.landing_of(enough) {
            Some(landed) => When::At(landed + self.length),
            None => When::OnRelease,
        }
    }

    /// When the running total came to `enough`.
    fn landing_of(&mut self, enough: u64) -> Option<Moment> {
        if let Some((total, landed)) = self.awaited.0
            && total == enough
        {
            return Some(landed);
        }
        let last = self.log.partition_point(|(_, total)| *total < enough);
        let landed = self.log.get(last)?.0;
        self.awaited = Awaited(Some((enough, landed)));
        Some(landed)
    }

    /// When `total` more would be allowed, spent in pieces as it fits.
    pub(crate) fn eta(&mut self, total: u64, now: Moment) -> Duration {
        let whole = total.saturating_sub(1) / self.limit.max(1);
        let rounds = self
            .length
            .saturating_mul(u32::try_from(whole).unwrap_or(u32::MAX));
        let first = match self.when(total - whole * self.limit, now) {
            When::At(at) => at - now,
            When::Now => Duration::ZERO,
            When::OnRelease | When::OnChange | When::Never(_) => self.length,
        };
        rounds.saturating_add(first)
    }

    #[inline]
    pub(crate) fn reserve(&mut self, cost: u64) {
        self.open += cost;
    }

    pub(crate) fn refund(&mut self, cost: u64) {
        self.open -= cost;
    }

    /// What was taken has surely been counted by `at`.
    #[inline]
    pub(crate) fn land(&mut self, cost: u64, at: Moment) {
        self.open -= cost;
        self.add(cost, at);
    }

    /// Counts `amount` that was never reserved.
    #[inline]
    pub(crate) fn add(&mut self, amount: u64, at: Moment) {
        if amount == 0 {
            return;
        }
        self.total = self.total.saturating_add(amount);
        let gathers = self.log.len() >= FINE
            && self
                .begun
                .is_some_and(|begun| at.nanos_since(begun) < self.grain_nanos);
        match self.log.back_mut() {
            Some((landed, total)) if gathers || *landed >= at => {
                self.awaited.0 = None;
                *landed = at.max(*landed);
                *total = self.total;
            }
            _ => {
                self.expire(at);
                self.log.push_back((at, self.total));
                self.begun = Some(at);
            }
        }
    }

    /// Taken and not landed.
    #[inline]
    pub(crate) fn open(&self) -> u64 {
        self.open
    }

    /// How much more is allowed; below zero after debt.
    pub(crate) fn left(&mut self, now: Moment) -> i64 {
        self.expire(now);
        let counts = self.counts();
        let signed = |amount| i64::try_from(amount).unwrap_or(i64::MAX);
        signed(self.limit).saturating_sub(signed(counts))
    }

    /// One that begins with what is `open`, and counts up to `landed` as landed
    /// just now.
    pub(crate) fn standing(
        length: Duration,
        limit: u64,
        (open, landed): (u64, u64),
        now: Moment,
    ) -> Self {
        let mut window = Window::new(length, limit);
        window.open = open;
        window.add(landed.min(limit), now);
        window
    }

    /// Changes the limit; what counts already goes on counting.
    pub(crate) fn resize(&mut self, limit: u64) {
        self.limit = limit;
    }

    /// What landed at `at` turned out, `now`, to be less by `amount`.
    pub(crate) fn forgive(&mut self, amount: u64, at: Moment, now: Moment) {
        if now.nanos_since(at) >= self.length_nanos {
            // It does not count any more; those after it do.
            return;
        }
        let index = self.log.partition_point(|(landed, _)| *landed < at);
        let before = match index.checked_sub(1) {
            Some(before) => self.log[before].1,
            None => self.left,
        };
        let Some((_, total)) = self.log.get(index) else {
            return;
        };
        self.awaited.0 = None;
        // What is forgiven landed lately, so few have landed since.
        let forgiven = amount.min(total - before);
        for (_, total) in self.log.range_mut(index..) {
            *total -= forgiven;
        }
        self.total -= forgiven;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn counts_from_the_taking_until_a_length_after_landing() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, 100);
        window.reserve(70);
        assert_eq!(window.when(30, start), When::Now);
        assert_eq!(window.when(31, start), When::OnRelease);
        window.land(70, start + 2 * SEC);
        assert_eq!(
            window.when(31, start + 10 * SEC),
            When::At(start + 62 * SEC)
        );
        assert_eq!(window.when(31, start + 62 * SEC), When::Now);
    }

    #[test]
    fn waits_for_as_many_as_it_needs() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, 100);
        for second in 0..10 {
            window.add(10, start + second * SEC);
        }
        let now = start + 10 * SEC;
        for (cost, second) in [(1, 60), (10, 60), (11, 61), (95, 69), (100, 69)] {
            assert_eq!(
                window.when(cost, now),
                When::At(start + second * SEC),
                "{cost}"
            );
        }
    }

    #[test]
    fn forgives_what_was_not_used() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, 100);
        window.add(40, start);
        window.add(60, start + SEC);
        window.forgive(50, start + SEC, start + 2 * SEC);
        assert_eq!(window.when(50, start + 2 * SEC), When::Now);
        assert_eq!(window.when(51, start + 2 * SEC), When::At(start + 60 * SEC));
        window.forgive(1000, start + 2 * SEC, start + 2 * SEC);
        assert_eq!(window.when(51, start + 2 * SEC), When::At(start + 60 * SEC));
    }

    /// What had left the window was once taken off its successors.
    #[test]
    fn what_is_over_cannot_be_forgiven() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, 100);
        window.add(40, start);
        window.add(60, start + 30 * SEC);
        let now = start + 60 * SEC;
        window.forgive(40, start, now);
        assert_eq!(window.when(40, now), When::Now);
        assert_eq!(window.when(41, now), When::At(start + 90 * SEC));
    }

    #[test]
    fn a_long_eta_counts_whole_windows() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, 100);
        window.add(100, start);
        assert_eq!(window.eta(50, start), 60 * SEC);
        assert_eq!(window.eta(250, start), 180 * SEC);
    }

    #[test]
    fn an_eta_is_exact_within_the_first_window_and_whole_beyond() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, 100);
        window.add(40, start);
        window.add(50, start + 10 * SEC);
        let now = start + 20 * SEC;
        // Ten are there at once, forty more at 60 s, and the others at 70 s.
        let table = [(0, 0), (10, 0), (11, 40), (50, 40), (51, 50), (100, 50)];
        for (total, seconds) in table {
            assert_eq!(window.eta(total, now), seconds * SEC, "{total}");
            assert_eq!(
                window.eta(total + 200, now),
                match total {
                    0 => 60 * SEC + window.eta(100, now),
                    _ => (120 + seconds) * SEC,
                }
            );
        }
        let mut open = Window::new(60 * SEC, 100);
        open.reserve(100);
        assert_eq!(open.eta(1, start), 60 * SEC, "nobody knows when it lands");
        open.refund(100);
        assert_eq!(open.eta(100, start), Duration::ZERO);
    }

    #[test]
    fn what_is_left_falls_below_zero_and_follows_the_limit() {
        let start = Moment::default();
        let mut window = Window::standing(60 * SEC, 100, (30, 500), start);
        assert_eq!((window.open(), window.left(start)), (30, -30));
        window.resize(200);
        assert_eq!(window.left(start), 70);
        assert_eq!(window.when(71, start), When::At(start + 60 * SEC));
        window.resize(50);
        assert_eq!(window.when(20, start), When::At(start + 60 * SEC));
        assert_eq!(window.when(21, start), When::OnRelease);
        assert_eq!(window.left(start + 60 * SEC), 20);
    }

    /// Two threads tell of their landings in the wrong order.
    #[test]
    fn what_landed_before_the_last_leaves_with_it() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, 100);
        window.add(40, start + 5 * SEC);
        assert_eq!(window.when(61, start + 5 * SEC), When::At(start + 65 * SEC));
        window.add(20, start + 2 * SEC);
        window.add(0, start + 9 * SEC);
        let now = start + 10 * SEC;
        assert_eq!(window.when(41, now), When::At(start + 65 * SEC));
        assert_eq!(window.left(start + 65 * SEC), 100);
    }

    #[test]
    fn what_is_forgiven_is_not_waited_for() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, 100);
        for second in [0, 10, 20] {
            window.add(30, start + second * SEC);
        }
        let now = start + 30 * SEC;
        // Asked before and after, so that what was looked up once is not gone by.
        assert_eq!(window.when(41, now), When::At(start + 70 * SEC));
        window.forgive(25, start + 10 * SEC, now);
        assert_eq!(window.when(65, now), When::At(start + 60 * SEC));
        assert_eq!(window.when(66, now), When::At(start + 70 * SEC));
        assert_eq!(window.when(71, now), When::At(start + 80 * SEC));
        window.forgive(100, start, now);
        assert_eq!(window.left(now), 65, "no more than landed then");
        window.forgive(100, start + 20 * SEC, now);
        assert_eq!(window.left(now), 95);
    }

    #[test]
    fn a_long_log_gathers_what_lands_within_its_grain_and_a_short_one_nothing() {
        let start = Moment::default();
        // Its grain is a second.
        let mut window = Window::new(4_000 * SEC, u64::MAX / 2);
        let (half, nanosecond) = (SEC / 2, Duration::from_nanos(1));
        let many = u32::try_from(FINE).unwrap();
        for n in 0..many {
            window.add(1, start + n * half);
        }
        assert_eq!(window.log.len(), FINE);
        let last = start + (many - 1) * half;
        let landings = [
            (SEC - nanosecond, 0),
            (SEC, 1),
            (SEC + half, 1),
            (2 * SEC, 2),
        ];
        for (after, entries) in landings {
            window.add(1, last + after);
            assert_eq!(window.log.len(), FINE + entries, "{after:?}");
        }
    }

    /// A trial with a plain log made 300,000 reservations quadratic.
    #[test]
    fn the_log_stays_short_under_any_traffic() {
        let start = Moment::default();
        let mut window = Window::new(60 * SEC, u64::MAX / 2);
        for n in 0..300_000u64 {
            window.add(1, start + Duration::from_micros(n * 200));
        }
        assert!(window.log.len() < 2 * FINE, "{}", window.log.len());
        assert_eq!(window.total - window.left, 300_000);
        window.expire(start + 119 * SEC);
        let counts = window.total - window.left;
        assert!((5_000..5_100).contains(&counts), "{counts}");
    }

    proptest! {
        /// A short log agrees with adding everything up; and a promise is the
        /// first instant at which the cost fits.
        #[test]
        fn window_is_the_sum_of_its_stretch(
            limit in 1u64..500,
            steps in prop::collection::vec((0u64..200, 0u64..20), 1..100),
        ) {
            let start = Moment::default();
            let mut window = Window::new(60 * SEC, limit);
            let mut log: Vec<(Moment, u64)> = Vec::new();
            let mut now = start;
            let sum = |log: &[(Moment, u64)], now: Moment| -> u64 {
                log.iter().filter(|(at, _)| *at + 60 * SEC > now).map(|entry| entry.1).sum()
            };
            for (cost, seconds) in steps {
                now = now + u32::try_from(seconds).unwrap() * SEC;
                match window.when(cost, now) {
                    When::Now => {
                        prop_assert!(sum(&log, now) + cost <= limit);
                        window.add(cost, now);
                        log.push((now, cost));
                    }
                    When::At(at) => {
                        prop_assert!(sum(&log, now) + cost > limit);
                        prop_assert!(sum(&log, at) + cost <= limit);
                        prop_assert!(sum(&log, at - Duration::from_nanos(1)) + cost > limit);
                    }
                    When::OnRelease | When::OnChange => prop_assert!(cost > limit),
                    When::Never(_) => prop_assert!(false, "a window has no never"),
                }
            }
        }
    }
}
