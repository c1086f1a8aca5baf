//! One limit: so much of a unit in a period, with its bucket and its windows.

use std::time::Duration;

use super::{Bucket, Room, When, Window};
use crate::charge::{Per, Unit};
use crate::time::Moment;

/// What a meter allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Allowed {
    pub(crate) unit: Unit,
    pub(crate) per: Per,
    /// What the provider allows in the period.
    pub(crate) limit: u64,
    /// What of it is used.
    pub(crate) rate: u64,
    /// What of it is never used.
    pub(crate) kept: u64,
    /// The most that may be spent at once.
    pub(crate) capacity: u64,
}

impl Allowed {
    /// How long `amount` takes to refill.
    pub(crate) fn time_for(&self, amount: u64) -> Duration {
        let rate = u128::from(self.rate.max(1));
        let nanos = u128::from(amount) * u128::from(self.per.nanos()) / rate;
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    /// What makes its bucket: the rate, its period and the burst.
    fn terms(&self) -> (u64, Per, u64) {
        (self.rate, self.per, self.capacity)
    }

    /// A provider may enforce a minute's limit of requests by the second.
    fn is_paced(&self) -> bool {
        self.unit == Unit::Requests && self.per == Per::Minute
    }
}

/// A limit and what has been taken of it.
///
/// Of its parts all that are there must allow a request:
///
/// * the **level**, a bucket whose ceiling falls with what is in transit;
/// * the **window**, in which no stretch as long as the period holds more than the
///   limit;
/// * the **pace** of requests by the minute, of which a second's worth may go at
///   once. Under a window that minds a whole minute, and what is in transit, they
///   have no level of their own: a second's worth never waits for an answer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Meter {
    allowed: Allowed,
    level: Option<Bucket>,
    window: Option<Window>,
    pace: Option<Pace>,
}

impl Meter {
    pub(crate) fn new(allowed: Allowed, windowed: bool, now: Moment) -> Self {
        let Allowed {
            per,
            limit,
            rate,
            capacity,
            ..
        } = allowed;
        let paced = allowed.is_paced();
        Meter {
            level: (!paced || !windowed).then(|| Bucket::new(rate, per, capacity, now)),
            window: windowed.then(|| Window::new(per.duration(), limit)),
            pace: paced.then(|| Pace::new(limit, rate, now)),
            allowed,
        }
    }

    #[inline]
    pub(crate) fn allowed(&self) -> &Allowed {
        &self.allowed
    }

    #[inline]
    pub(crate) fn unit(&self) -> Unit {
        self.allowed.unit
    }

    /// Whether so much more is allowed for sure, whatever time has done for it since
    /// something changed.
    #[inline]
    pub(crate) fn has(&self, amount: u64) -> bool {
        amount <= self.allowed.capacity
            && self.level.as_ref().is_none_or(|level| level.has(amount))
            && self.window.as_ref().is_none_or(|window| window.has(amount))
            && self.pace.as_ref().is_none_or(|pace| pace.has(amount))
    }

    /// Whether so much more is not allowed for sure until something of what is taken lands or
    /// comes back.
    #[inline]
    pub(crate) fn is_shut(&self, amount: u64) -> bool {
        amount > 0
            && (self
                .level
                .as_ref()
                .is_some_and(|level| level.is_shut(amount))
                || self
                    .window
                    .as_ref()
                    .is_some_and(|window| window.is_shut(amount)))
    }

    /// When so much more is allowed. Exact unless something changes meanwhile.
    pub(crate) fn when(&mut self, amount: u64, now: Moment) -> When {
        let mut when = When::Now;
        if let Some(level) = &mut self.level {
            when = level.when(amount, now);
        }
        if let Some(window) = &mut self.window {
            when = when.and(window.when(amount, now));
        }
        if let Some(pace) = &mut self.pace {
            when = when.and(pace.when(amount, now));
        }
        when
    }

    /// When so much more would be allowed behind what is `ahead`, all of it spent as it
    /// fits.
    pub(crate) fn eta(&mut self, amount: u64, ahead: u64, now: Moment) -> Duration {
        let total = ahead.saturating_add(amount);
        let level = self.level.as_mut().map(|level| level.eta(total, now));
        let window = self.window.as_mut().map(|window| window.eta(total, now));
        let pace = self.pace.as_mut().map(|pace| pace.eta(amount, ahead, now));
        [level, window, pace]
            .into_iter()
            .flatten()
            .max()
            .unwrap_or_default()
    }

    /// Takes so much. The pace alone counts from this instant, and where nobody knows
    /// that, from the [next one that is known](Self::date).
    #[inline]
    pub(crate) fn reserve(&mut self, amount: u64, now: Option<Moment>) {
        if let Some(level) = &mut self.level {
            level.reserve(amount);
        }
        if let Some(window) = &mut self.window {
            window.reserve(amount);
        }
        match (&mut self.pace, now) {
            (Some(pace), Some(now)) => pace.reserve(amount, now),
            (Some(pace), None) => pace.undated += amount,
            (None, _) => {}
        }
    }

    /// Whether it counts from the instant at which something is taken.
    #[inline]
    pub(crate) fn is_paced(&self) -> bool {
        self.pace.is_some()
    }

    /// What was reserved at an instant that nobody knows counts from this one, which is
    /// no sooner.
    #[inline]
    pub(crate) fn date(&mut self, now: Moment) {
        if let Some(pace) = &mut self.pace {
            pace.date(now);
        }
    }

    /// What was reserved has surely been counted by `at`.
    #[inline]
    pub(crate) fn land(&mut self, amount: u64, at: Moment) {
        if let Some(level) = &mut self.level {
            level.land(amount, at);
        }
        if let Some(window) = &mut self.window {
            window.land(amount, at);
        }
    }

    /// What was reserved, or dated, at `dated` never left.
    pub(crate) fn refund(&mut self, amount: u64, dated: Moment, now: Moment) {
        if let Some(level) = &mut self.level {
            level.refund(amount, now);
        }
        if let Some(window) = &mut self.window {
            window.refund(amount);
        }
        if let Some(pace) = &mut self.pace {
            pace.refund(amount, dated, now);
        }
    }

    /// More was used than was reserved: debt.
    pub(crate) fn owe(&mut self, extra: u64, now: Moment) {
        if let Some(level) = &mut self.level {
            level.spend(extra, now);
        }
        if let Some(window) = &mut self.window {
            window.add(extra, now);
        }
    }

    /// How much room the level has, to be remembered for
    /// [`give_back`](Self::give_back).
    #[inline]
    pub(crate) fn room(&mut self, now: Moment) -> Option<Room> {
        self.level.as_mut().map(|level| level.room(now))
    }

    /// The provider gave `unused` back of what landed at `landed`, when there was
    /// `room`.
    pub(crate) fn give_back(&mut self, unused: u64, landed: Moment, room: Room, now: Moment) {
        if let Some(level) = &mut self.level {
            level.credit_late(unused, room, now);
        }
        if let Some(window) = &mut self.window {
            window.forgive(unused, landed, now);
        }
    }

    /// A meter that joins others which have been spending already: it stands as if
    /// it had been there from the first request on and had never refilled.
    ///
    /// `taken` is all that was ever taken, what is `in_transit` included. A meter
    /// that had really been there would have refilled since, so this one never has
    /// more than that.
    pub(crate) fn joining(
        allowed: Allowed,
        windowed: bool,
        (taken, in_transit): (u64, u64),
        now: Moment,
    ) -> Self {
        let mut meter = Meter::new(allowed, windowed, now);
        let landed = taken.saturating_sub(in_transit);
        let left = signed(allowed.capacity)
            .saturating_sub(signed(landed))
            .max(0);
        let level = left.saturating_sub(signed(in_transit));
        if let Some(bucket) = &mut meter.level {
            *bucket = Bucket::standing(allowed.terms(), level, in_transit, now);
        }
        if let Some(window) = &mut meter.window {
            let length = allowed.per.duration();
            *window = Window::standing(length, allowed.limit, (in_transit, landed), now);
        }
        if let Some(pace) = &mut meter.pace
            && taken > 0
        {
            // Whatever was taken, it may have been just now.
            pace.reserve(pace.most, now);
        }
        meter
    }

    /// Minds a sliding period beside the bucket from now on, or no more.
    ///
    /// A window that comes back counts all that was ever `taken` as just landed, up
    /// to the limit.
    pub(crate) fn set_windowed(&mut self, windowed: bool, taken: u64, now: Moment) {
        if !windowed {
            self.level_by_window(now);
            self.window = None;
        } else if self.window.is_none() {
            let open = self.in_transit();
            let landed = taken.saturating_sub(open);
            let Allowed { per, limit, .. } = self.allowed;
            let length = per.duration();
            self.window = Some(Window::standing(length, limit, (open, landed), now));
        }
    }

    /// Gives what is ruled by a window alone a level of its own: what the window
    /// leaves, which the provider's bucket has at least.
    fn level_by_window(&mut self, now: Moment) {
        if let (None, Some(window)) = (&self.level, &mut self.window) {
            let left = window.left(now);
            let bucket = Bucket::standing(self.allowed.terms(), left, window.open(), now);
            self.level = Some(bucket);
        }
    }

    /// Takes over what is allowed from now on, of the same unit and period; what
    /// was taken stays taken. A raised limit adds rate at once, and no level.
    pub(crate) fn resize(&mut self, allowed: Allowed, now: Moment) {
        if allowed.limit > self.allowed.limit {
            // A window's limit is a level: raised, it would be there at once.
            self.level_by_window(now);
        }
        let Allowed {
            limit,
            rate,
            capacity,
            ..
        } = allowed;
        self.allowed = allowed;
        if let Some(level) = &mut self.level {
            level.resize(rate, capacity, now);
        }
        if let Some(window) = &mut self.window {
            window.resize(limit);
        }
        if let Some(pace) = &mut self.pace {
            pace.resize(limit, rate, now);
        }
    }

    /// The bucket that may be set right by the provider's own count.
    pub(crate) fn level(&mut self) -> Option<&mut Bucket> {
        self.level.as_mut()
    }

    /// The provider says that `remaining` are left, of what has no level here.
    pub(crate) fn lower_pace(&mut self, remaining: u64, now: Moment) {
        if let (None, Some(pace)) = (&self.level, &mut self.pace) {
            pace.bucket.lower_to(signed(remaining), now);
        }
    }

    /// Whatever was taken before this limit was known, the provider took no more
    /// than it had.
    pub(crate) fn forgive_debt(&mut self, now: Moment) {
        if let Some(level) = &mut self.level {
            level.forgive_debt(now);
        }
    }

    /// Nothing is left of a burst: what follows does so as it refills. A day's or
    /// any longer refill is not waited for.
    pub(crate) fn drain(&mut self, now: Moment) {
        if self.allowed.per <= Per::Minute
            && let Some(level) = &mut self.level
        {
            level.lower_to(0, now);
        }
    }

    /// Nothing is left, but for a tenth of what is refilled in longer than a minute and
    /// cannot be waited for.
    pub(crate) fn empty(&mut self, now: Moment) {
        self.level_by_window(now);
        let left = match self.allowed.per {
            Per::Day => signed(self.allowed.capacity / 10),
            Per::Second | Per::Minute => 0,
        };
        if let Some(level) = &mut self.level {
            level.lower_to(left, now);
        }
    }

    /// The provider said that `amount` would be there after `delay`.
    pub(crate) fn wait_for(&mut self, amount: u64, delay: Duration, now: Moment) {
        match (&mut self.level, &mut self.pace) {
            (Some(level), _) => level.wait_for(amount, delay, now),
            (None, Some(pace)) => pace.bucket.wait_for(amount, delay, now),
            (None, None) => {}
        }
    }

    /// Lets it refill as fast as is allowed: nobody else takes any of it.
    pub(crate) fn forget_others(&mut self, now: Moment) {
        self.slow_to(u64::MAX, now);
    }

    /// Lets it refill no faster than `rate`; others have the rest.
    pub(crate) fn slow_to(&mut self, rate: u64, now: Moment) {
        if let Some(level) = &mut self.level {
            let rate = rate.min(self.allowed.rate);
            level.resize(rate, self.allowed.capacity, now);
        }
    }

    /// Reserved and not surely counted by the provider yet.
    #[inline]
    pub(crate) fn in_transit(&self) -> u64 {
        match (&self.level, &self.window) {
            (Some(level), _) => level.in_transit(),
            (None, Some(window)) => window.open(),
            (None, None) => 0,
        }
    }

    /// Whether nothing of it is spent, in transit or still counted.
    pub(crate) fn is_full(&mut self, now: Moment) -> bool {
        let most = |amount: u64| i64::try_from(amount).unwrap_or(i64::MAX);
        let Allowed {
            limit, capacity, ..
        } = self.allowed;
        let level = self
            .level
            .as_mut()
            .map(|level| level.level(now) >= most(capacity));
        let window = self
            .window
            .as_mut()
            .map(|window| window.left(now) >= most(limit));
        let pace = self.pace.as_mut().map(|pace| pace.is_full(now));
        let parts = [level, window, pace];
        self.in_transit() == 0 && parts.into_iter().flatten().all(|full| full)
    }

    /// What may be spent now; below zero is debt.
    pub(crate) fn left(&mut self, now: Moment) -> i64 {
        match (&mut self.level, &mut self.window) {
            (Some(level), _) => level.level(now),
            (None, Some(window)) => window.left(now),
            (None, None) => 0,
        }
    }

    /// How long `amount` takes to refill.
    #[inline]
    pub(crate) fn time_for(&self, amount: u64) -> Duration {
        self.allowed.time_for(amount)
    }

    pub(crate) fn is_windowed(&self) -> bool {
        self.window.is_some()
    }

    /// The provider is known to refill all the time: the bucket suffices.
    pub(crate) fn drop_window(&mut self) {
        if self.level.is_some() {
            self.window = None;
        }
    }
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// A second's worth of requests may go at once, because a limit by the minute may
/// be enforced by the second.
///
/// Its ceiling does not fall with what is in transit, and the second is counted
/// where a request is reserved, so that none of it waits for an answer.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
struct Pace {
    bucket: Bucket,
    second: Window,
    /// The most that can ever go at once; what is more goes as much.
    most: u64,
    /// Reserved since the clock was last read. It is taken off when that is read again,
    /// from what will have refilled by then, so it is never less than a later charge takes.
    undated: u64,
}

impl Pace {
    fn new(limit: u64, rate: u64, now: Moment) -> Self {
        let most = a_second_at(rate).min(a_second_of(limit));
        Pace {
            bucket: Bucket::new(rate, Per::Minute, a_second_at(rate), now),
            second: Window::new(Per::Second.duration(), a_second_of(limit)),
            most,
            undated: 0,
        }
    }

    #[inline]
    fn has(&self, amount: u64) -> bool {
        let amount = amount.min(self.most).saturating_add(self.undated);
        self.bucket.has(amount) && self.second.has(amount)
    }

    #[inline]
    fn date(&mut self, now: Moment) {
        let amount = std::mem::take(&mut self.undated);
        if amount > 0 {
            self.reserve(amount, now);
        }
    }

    fn when(&mut self, amount: u64, now: Moment) -> When {
        let amount = amount.min(self.most);
        self.bucket
            .when(amount, now)
            .and(self.second.when(amount, now))
    }

    fn eta(&mut self, amount: u64, ahead: u64, now: Moment) -> Duration {
        let total = ahead.saturating_add(amount.min(self.most));
        self.bucket.eta(total, now).max(self.second.eta(total, now))
    }

    #[inline]
    fn reserve(&mut self, amount: u64, now: Moment) {
        self.bucket.spend(amount, now);
        self.second.add(amount, now);
    }

    fn refund(&mut self, amount: u64, reserved: Moment, now: Moment) {
        self.bucket.credit(amount, now);
        self.second.forgive(amount, reserved, now);
    }

    fn is_full(&mut self, now: Moment) -> bool {
        let most = i64::try_from(self.most).unwrap_or(i64::MAX);
        self.bucket.level(now) >= most
    }

    fn resize(&mut self, limit: u64, rate: u64, now: Moment) {
        self.most = a_second_at(rate).min(a_second_of(limit));
        self.bucket.resize(rate, a_second_at(rate), now);
        self.second.resize(a_second_of(limit));
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

    const SECOND: Duration = Duration::from_secs(1);

    fn meter(unit: Unit, per: Per, limit: u64, windowed: bool) -> Meter {
        let allowed = Allowed {
            unit,
            per,
            limit,
            rate: limit,
            kept: 0,
            capacity: limit,
        };
        Meter::new(allowed, windowed, Moment::default())
    }

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
        let mut requests = meter(Unit::Requests, Per::Minute, 60, true);
        requests.reserve(1, Some(start));
        assert_eq!(requests.when(1, start), When::At(start + SECOND));
        requests.refund(1, start, start);
        assert_eq!(requests.when(1, start), When::Now);
    }

    #[test]
    fn more_requests_than_a_second_has_go_when_the_second_is_free() {
        let start = Moment::default();
        let mut requests = meter(Unit::Requests, Per::Minute, 60, true);
        assert_eq!(requests.when(5, start), When::Now);
        requests.reserve(5, Some(start));
        assert_eq!(requests.when(1, start), When::At(start + 5 * SECOND));
    }

    #[test]
    fn a_day_refills_all_day() {
        let start = Moment::default();
        let mut day = meter(Unit::Tokens, Per::Day, 86_400, false);
        day.reserve(86_400, Some(start));
        day.land(86_400, start);
        assert_eq!(day.when(10, start), When::At(start + 10 * SECOND));
    }

    #[test]
    fn a_window_of_a_day_lets_go_after_a_day() {
        let start = Moment::default();
        let mut day = meter(Unit::Requests, Per::Day, 3, true);
        for _ in 0..3 {
            assert_eq!(day.when(1, start), When::Now);
            day.reserve(1, Some(start));
            day.land(1, start + SECOND);
        }
        assert_eq!(
            day.when(1, start + 3600 * SECOND),
            When::At(start + 86_401 * SECOND)
        );
    }

    fn at(second: u32) -> Moment {
        Moment::default() + second * SECOND
    }

    /// Sixty a minute, of which so many were taken at 0 s and landed then.
    fn spent(unit: Unit, per: Per, windowed: bool, amount: u64) -> Meter {
        let mut meter = meter(unit, per, 60, windowed);
        meter.reserve(amount, Some(at(0)));
        meter.land(amount, at(0));
        meter
    }

    #[test]
    fn one_that_joins_has_never_refilled() {
        let allowed = *meter(Unit::Tokens, Per::Minute, 60, false).allowed();
        // Taken, in transit: the level.
        for (taken, in_transit, level) in [(30, 10, 30), (1_000, 10, -10), (0, 0, 60)] {
            let counts = (taken, in_transit);
            let mut joining = Meter::joining(allowed, false, counts, at(0));
            assert_eq!(
                (joining.left(at(0)), joining.in_transit()),
                (level, in_transit)
            );
        }
        let mut windowed = Meter::joining(allowed, true, (30, 10), at(0));
        assert_eq!(windowed.when(30, at(0)), When::Now);
        assert_eq!(
            windowed.when(31, at(0)),
            When::At(at(60)),
            "twenty count as landed"
        );
        let requests = *meter(Unit::Requests, Per::Minute, 60, true).allowed();
        for (taken, when) in [(0, When::Now), (1, When::At(at(1)))] {
            let mut paced = Meter::joining(requests, true, (taken, 0), at(0));
            assert_eq!(paced.when(1, at(0)), when, "it may have been just now");
        }
    }

    #[test]
    fn without_its_window_it_has_what_that_left() {
        let mut requests = spent(Unit::Requests, Per::Minute, true, 10);
        requests.reserve(5, Some(at(0)));
        assert_eq!((requests.left(at(0)), requests.in_transit()), (45, 5));
        requests.set_windowed(false, 15, at(0));
        assert!(!requests.is_windowed());
        assert_eq!((requests.left(at(0)), requests.in_transit()), (45, 5));
        assert_eq!(requests.left(at(7)), 52, "it refills");
        // The one that comes back counts what was taken as just landed.
        requests.set_windowed(true, 15, at(15));
        assert!(requests.is_windowed());
        assert_eq!(requests.when(46, at(15)), When::At(at(75)));
        requests.set_windowed(true, 60, at(20));
        assert_eq!(requests.when(45, at(20)), When::Now, "it was there already");
        requests.drop_window();
        assert!(!requests.is_windowed());
        let mut alone = spent(Unit::Requests, Per::Minute, true, 10);
        alone.drop_window();
        assert!(alone.is_windowed(), "nothing else rules it");
    }

    #[test]
    fn another_limit_adds_no_level() {
        // What a window alone rules: the new limit, and what is left after half a minute.
        for (limit, left) in [(60, 0), (120, 60), (30, -30)] {
            let mut requests = spent(Unit::Requests, Per::Minute, true, 60);
            let allowed = *meter(Unit::Requests, Per::Minute, limit, true).allowed();
            requests.resize(allowed, at(0));
            assert_eq!(requests.left(at(30)), left, "{limit}");
            assert_eq!(requests.allowed().limit, limit);
        }
        let mut tokens = spent(Unit::Tokens, Per::Minute, true, 60);
        let allowed = *meter(Unit::Tokens, Per::Minute, 120, true).allowed();
        tokens.resize(allowed, at(0));
        assert_eq!(tokens.left(at(30)), 60);
        assert_eq!(tokens.when(60, at(30)), When::Now);
        assert_eq!(tokens.when(61, at(31)), When::At(at(60)));
        // The pace, too.
        let mut requests = spent(Unit::Requests, Per::Minute, true, 1);
        let allowed = *meter(Unit::Requests, Per::Minute, 600, true).allowed();
        requests.resize(allowed, at(0));
        assert_eq!(requests.when(1, at(0)), When::At(at(0) + SECOND / 10));
    }

    #[test]
    fn debt_is_forgiven_and_a_burst_taken_away() {
        let mut tokens = meter(Unit::Tokens, Per::Minute, 60, true);
        tokens.owe(100, at(0));
        assert_eq!(tokens.left(at(0)), -40);
        assert_eq!(
            tokens.when(1, at(0)),
            When::At(at(60)),
            "the window counts it, too"
        );
        tokens.forgive_debt(at(0));
        assert_eq!(tokens.left(at(0)), 0);
        for (per, drained, emptied) in [(Per::Second, 0, 0), (Per::Minute, 0, 0), (Per::Day, 60, 6)]
        {
            let mut meter = meter(Unit::Tokens, per, 60, false);
            meter.drain(at(0));
            assert_eq!(meter.left(at(0)), drained, "{per:?}");
            meter.empty(at(0));
            assert_eq!(meter.left(at(0)), emptied, "{per:?}");
        }
        let mut requests = meter(Unit::Requests, Per::Minute, 60, true);
        requests.empty(at(0));
        assert_eq!((requests.left(at(0)), requests.left(at(20))), (0, 20));
    }

    #[test]
    fn what_is_told_lowers_the_level_or_else_the_pace() {
        let mut tokens = meter(Unit::Tokens, Per::Minute, 60, true);
        tokens.lower_pace(0, at(0));
        assert_eq!(tokens.when(60, at(0)), When::Now, "it has a level");
        tokens.wait_for(10, 30 * SECOND, at(0));
        assert_eq!(tokens.when(10, at(0)), When::At(at(30)));
        let mut requests = meter(Unit::Requests, Per::Minute, 60, true);
        requests.lower_pace(0, at(0));
        assert_eq!(requests.when(1, at(0)), When::At(at(1)));
        requests.wait_for(1, 30 * SECOND, at(0));
        assert_eq!(requests.when(1, at(0)), When::At(at(30)));
        assert_eq!(requests.eta(1, 1, at(0)), 31 * SECOND);
    }

    #[test]
    fn others_slow_the_refill_alone() {
        let mut tokens = spent(Unit::Tokens, Per::Minute, false, 60);
        tokens.slow_to(30, at(0));
        assert_eq!(tokens.left(at(10)), 5);
        tokens.slow_to(1_000, at(10));
        assert_eq!(tokens.left(at(20)), 15, "no faster than is allowed");
        tokens.slow_to(30, at(20));
        tokens.forget_others(at(20));
        assert_eq!(tokens.left(at(30)), 25);
        assert_eq!(tokens.left(at(600)), 60);
    }

    #[test]
    fn it_is_full_when_nothing_is_spent_in_transit_or_counted() {
        for (unit, windowed, full_at) in [
            (Unit::Tokens, false, 10),
            (Unit::Tokens, true, 60),
            (Unit::Requests, false, 10),
            (Unit::Requests, true, 60),
        ] {
            let mut meter = spent(unit, Per::Minute, windowed, 10);
            assert!(!meter.is_full(at(full_at) - Duration::from_nanos(1)));
            assert!(meter.is_full(at(full_at)), "{unit:?} {windowed}");
            meter.reserve(1, Some(at(full_at)));
            meter.land(1, at(full_at));
            assert!(!meter.is_full(at(full_at)));
            meter.reserve(1, Some(at(200)));
            assert!(!meter.is_full(at(300)), "one is on its way");
        }
        // Nothing is wanting but the pace.
        let mut requests = meter(Unit::Requests, Per::Minute, 60, true);
        requests.lower_pace(0, at(0));
        assert!(!requests.is_full(at(0)));
        assert!(requests.is_full(at(1)));
    }

    #[test]
    fn what_is_taken_at_an_unknown_instant_counts_from_the_next_known_one() {
        let mut requests = meter(Unit::Requests, Per::Minute, 120, true);
        for _ in 0..2 {
            assert!(requests.has(1));
            requests.reserve(1, None);
        }
        assert!(!requests.has(1));
        requests.date(at(5));
        requests.date(at(5) + SECOND / 2);
        assert_eq!(requests.when(1, at(5)), When::At(at(6)));
        assert!(!requests.has(1));
        requests.refund(1, at(5), at(5));
        assert_eq!(requests.when(1, at(5)), When::Now);
        assert!(requests.has(1));
    }

    #[test]
    fn what_is_given_back_is_there_again_at_once() {
        let mut tokens = meter(Unit::Tokens, Per::Minute, 60, true);
        tokens.reserve(60, Some(at(0)));
        tokens.land(60, at(0));
        let room = tokens.room(at(0)).expect("tokens have a level");
        tokens.give_back(40, at(0), room, at(2));
        assert_eq!(tokens.left(at(2)), 42);
        assert_eq!(tokens.when(40, at(2)), When::Now);
        assert_eq!(tokens.when(41, at(2)), When::At(at(60)));
        tokens.reserve(20, Some(at(2)));
        assert_eq!((tokens.left(at(2)), tokens.in_transit()), (22, 20));
        tokens.refund(20, at(2), at(2));
        assert_eq!((tokens.left(at(2)), tokens.in_transit()), (42, 0));
        assert_eq!(tokens.time_for(90), 90 * SECOND);
    }
}
