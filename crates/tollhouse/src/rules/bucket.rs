//! So much in a period, with a burst.

use std::time::Duration;

use super::When;
use crate::charge::Per;
use crate::time::Moment;

/// A token bucket whose ceiling falls with what is in transit.
///
/// Levels are kept in fractions of a token, one for each nanosecond of the period
/// (sixty billion of them for a minute), of which a rate of one token in the period
/// refills exactly one a nanosecond: no rounding, ever.
///
/// It refills `rate` in the period up to `capacity - in_transit`, where in transit
/// is what was taken and has not yet surely been counted by the other side. So
/// a level here, plus all that is on its way, never exceeds the level there:
/// rule 2 of the ledger.
///
/// The level is brought up to date at every change of what there is to refill, so that
/// was the same since the last one.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(crate) struct Bucket {
    /// The fractions of a token: the nanoseconds of the period.
    token: u64,
    /// Tokens in the period, which is fractions a nanosecond.
    rate: u64,
    capacity: u64,
    in_transit: u64,
    /// In fractions; below zero is debt.
    level: i128,
    /// When `level` was true.
    at: Moment,
    /// All that it ever rose, but for refunds before launch, and all that its capacity
    /// ever fell by, in fractions: by so much the room for what comes back has shrunk.
    refilled: i128,
}

impl Bucket {
    /// A full bucket.
    pub(crate) fn new(rate: u64, per: Per, capacity: u64, now: Moment) -> Self {
        let token = per.nanos();
        Bucket {
            token,
            rate: rate.max(1),
            capacity,
            in_transit: 0,
            level: fractions(capacity, token),
            at: now,
            refilled: 0,
        }
    }

    /// One in which `level` is left beside what is `in_transit`.
    pub(crate) fn standing(
        (rate, per, capacity): (u64, Per, u64),
        level: i64,
        in_transit: u64,
        now: Moment,
    ) -> Self {
        let mut bucket = Bucket::new(rate, per, capacity, now);
        bucket.in_transit = in_transit;
        bucket.lower_to(level, now);
        bucket.level = bucket.level.min(bucket.ceiling());
        bucket
    }

    /// Brings the level up to date.
    #[inline]
    fn refill(&mut self, now: Moment) {
        let elapsed = now.nanos_since(self.at);
        if elapsed == 0 {
            return;
        }
        self.at = now;
        let ceiling = self.ceiling();
        if self.level < ceiling {
            // No more than 63 bits of time, so the product is no negative number.
            let refilled = (u128::from(self.rate) * u128::from(elapsed)).cast_signed();
            let refilled = refilled.min(ceiling - self.level);
            self.level += refilled;
            self.refilled += refilled;
        }
    }

    #[inline]
    fn fractions(&self, tokens: u64) -> i128 {
        fractions(tokens, self.token)
    }

    #[inline]
    fn ceiling(&self) -> i128 {
        self.fractions(self.capacity) - self.fractions(self.in_transit)
    }

    /// Whether the level allows `cost` without what has refilled since it was true:
    /// refilling only ever adds to it.
    #[inline]
    pub(crate) fn has(&self, cost: u64) -> bool {
        self.fractions(cost) <= self.level
    }

    /// Whether no refill would allow `cost` while so much is in transit.
    #[inline]
    pub(crate) fn is_shut(&self, cost: u64) -> bool {
        cost > self.capacity.saturating_sub(self.in_transit)
    }

    /// When the level allows `cost`. Exact unless something changes meanwhile.
    pub(crate) fn when(&mut self, cost: u64, now: Moment) -> When {
        self.refill(now);
        let missing = self.fractions(cost) - self.level;
        if missing <= 0 {
            return When::Now;
        }
        if self.fractions(cost) > self.ceiling() {
            return When::OnRelease;
        }
        When::At(now + self.time_for(missing))
    }

    /// How long `fractions` take to refill, rounded up to a whole nanosecond.
    fn time_for(&self, fractions: i128) -> Duration {
        let rate = i128::from(self.rate);
        let nanos = (fractions + rate - 1) / rate;
        u64::try_from(nanos).map_or(Duration::MAX, Duration::from_nanos)
    }

    /// When the level would allow `total`, spent in pieces as it comes.
    pub(crate) fn eta(&mut self, total: u64, now: Moment) -> Duration {
        self.refill(now);
        let missing = self.fractions(total) - self.level;
        if missing <= 0 {
            Duration::ZERO
        } else {
            self.time_for(missing)
        }
    }

    /// Takes `cost` from the level and lets it be in transit.
    ///
    /// Level and ceiling fall by the same, so there is as much to refill after it as
    /// before it, and the level need not be brought up to date for it.
    #[inline]
    pub(crate) fn reserve(&mut self, cost: u64) {
        self.level -= self.fractions(cost);
        self.in_transit += cost;
    }

    /// Takes `cost` from the level without minding its transit.
    #[inline]
    pub(crate) fn spend(&mut self, cost: u64, now: Moment) {
        self.refill(now);
        self.level -= self.fractions(cost);
    }

    /// What was in transit has surely been counted on the other side.
    #[inline]
    pub(crate) fn land(&mut self, cost: u64, now: Moment) {
        self.refill(now);
        self.in_transit -= cost;
    }

    /// What was reserved never left.
    pub(crate) fn refund(&mut self, cost: u64, now: Moment) {
        self.refill(now);
        self.in_transit -= cost;
        self.level = (self.level + self.fractions(cost)).min(self.ceiling());
    }

    /// How much room there is now, to be remembered for
    /// [`credit_late`](Self::credit_late).
    #[inline]
    pub(crate) fn room(&mut self, now: Moment) -> Room {
        self.refill(now);
        Room(self.ceiling() - self.level + self.refilled)
    }

    /// Gives back what the other side gave back at an unknown instant since
    /// there was `room`. A bucket that is full loses what is given back, so no
    /// more is counted than had room in the worst case: that the other side's
    /// was as full, at the worst moment, as this one can have become since.
    pub(crate) fn credit_late(&mut self, amount: u64, room: Room, now: Moment) {
        self.refill(now);
        let had_room = (room.0 - self.refilled).max(0);
        self.rise(self.fractions(amount).min(had_room));
    }

    /// Gives back up to the ceiling.
    pub(crate) fn credit(&mut self, amount: u64, now: Moment) {
        self.refill(now);
        self.rise(self.fractions(amount));
    }

    /// Whatever was taken, the other side has no debt: its level is not below
    /// zero, and so this one's not below what is in transit.
    pub(crate) fn forgive_debt(&mut self, now: Moment) {
        self.refill(now);
        // No higher than the ceiling, which is above it by the capacity.
        self.level = self.level.max(-self.fractions(self.in_transit));
    }

    /// More is in transit than was taken here; the level is charged for none of it.
    pub(crate) fn adopt(&mut self, amount: u64, now: Moment) {
        self.refill(now);
        self.in_transit += amount;
        self.level = self.level.min(self.ceiling());
    }

    /// Nothing refills before `then`.
    pub(crate) fn rest_until(&mut self, then: Moment) {
        self.at = self.at.max(then);
    }

    fn rise(&mut self, fractions: i128) {
        let risen = fractions.min(self.ceiling() - self.level).max(0);
        self.level += risen;
        self.refilled += risen;
    }

    /// Lowers the level to `most`, which may be below zero.
    pub(crate) fn lower_to(&mut self, most: i64, now: Moment) {
        self.refill(now);
        self.level = self.level.min(i128::from(most) * i128::from(self.token));
    }

    /// Lowers the level so that `cost` will be there after `delay`, not sooner.
    pub(crate) fn wait_for(&mut self, cost: u64, delay: Duration, now: Moment) {
        self.refill(now);
        let refilled = i128::from(self.rate).saturating_mul(nanos(delay));
        self.level = self
            .level
            .min(self.fractions(cost).saturating_sub(refilled));
    }

    /// Raises the level to `least`, up to the ceiling.
    pub(crate) fn raise_to(&mut self, least: u64, now: Moment) {
        self.refill(now);
        self.rise(self.fractions(least) - self.level);
    }

    /// Changes what it refills and holds. A level above the new ceiling falls
    /// to it; what is in transit stays so. What came back to the other side meanwhile
    /// is lost above its own ceiling, and is not found when that is raised again.
    pub(crate) fn resize(&mut self, rate: u64, capacity: u64, now: Moment) {
        self.refill(now);
        self.rate = rate.max(1);
        self.refilled += self.fractions(self.capacity.saturating_sub(capacity));
        self.capacity = capacity;
        self.level = self.level.min(self.ceiling());
    }

    /// The level in whole tokens, rounded down; below zero is debt.
    pub(crate) fn level(&mut self, now: Moment) -> i64 {
        self.refill(now);
        // Mostly it is so little that a short division does.
        match i64::try_from(self.level) {
            Ok(level) => level.div_euclid(self.token.cast_signed()),
            Err(_) => self.long_level(),
        }
    }

    #[cold]
    fn long_level(&self) -> i64 {
        i64::try_from(self.level.div_euclid(i128::from(self.token))).unwrap_or(i64::MIN)
    }

    /// The level to the last fraction, one for each nanosecond of the period.
    #[cfg(test)]
    pub(crate) fn exact(&mut self, now: Moment) -> i128 {
        self.refill(now);
        self.level
    }

    pub(crate) fn in_transit(&self) -> u64 {
        self.in_transit
    }

    /// How much refills in `time`, in whole tokens.
    pub(crate) fn refill_in(&self, time: Duration) -> u64 {
        let refilled = i128::from(self.rate).saturating_mul(nanos(time));
        u64::try_from(refilled / i128::from(self.token)).unwrap_or(u64::MAX)
    }
}

/// See [`Bucket::room`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Room(i128);

impl Room {
    /// In whole tokens of a bucket by this period, rounded down.
    pub(crate) fn whole(self, per: Per) -> i64 {
        let whole = self.0.div_euclid(i128::from(per.nanos()));
        i64::try_from(whole).unwrap_or(i64::MAX)
    }

    pub(crate) fn of_whole(whole: i64, per: Per) -> Room {
        Room(i128::from(whole) * i128::from(per.nanos()))
    }
}

#[inline]
fn fractions(tokens: u64, token: u64) -> i128 {
    i128::from(tokens) * i128::from(token)
}

/// Longer than five centuries is forever.
fn nanos(time: Duration) -> i128 {
    i128::from(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const SEC: Duration = Duration::from_secs(1);

    #[test]
    fn refills_at_the_rate_up_to_the_capacity() {
        let start = Moment::default();
        let mut bucket = Bucket::new(60, Per::Minute, 30, start);
        bucket.reserve(30);
        bucket.land(30, start);
        for (cost, second) in [(1, 1), (10, 10), (30, 30)] {
            assert_eq!(bucket.when(cost, start), When::At(start + second * SEC));
        }
        assert_eq!(bucket.level(start + 12 * SEC), 12);
        assert_eq!(bucket.level(start + 3600 * SEC), 30);
    }

    #[test]
    fn ceiling_falls_with_what_is_in_transit() {
        let start = Moment::default();
        let mut bucket = Bucket::new(60, Per::Minute, 60, start);
        bucket.reserve(20);
        assert_eq!(bucket.level(start + 60 * SEC), 40);
        assert_eq!(bucket.when(41, start + 60 * SEC), When::OnRelease);
        bucket.land(20, start + 60 * SEC);
        assert_eq!(
            bucket.level(start + 60 * SEC),
            40,
            "landing lifts the ceiling, not the level"
        );
        assert_eq!(
            bucket.when(41, start + 60 * SEC),
            When::At(start + 61 * SEC)
        );
        assert_eq!(bucket.level(start + 90 * SEC), 60);
    }

    #[test]
    fn refund_before_launch_gives_everything_back() {
        let start = Moment::default();
        let mut bucket = Bucket::new(60, Per::Minute, 60, start);
        bucket.reserve(60);
        bucket.refund(60, start);
        assert_eq!((bucket.level(start), bucket.in_transit()), (60, 0));
    }

    #[test]
    fn debt_is_waited_off() {
        let start = Moment::default();
        let mut bucket = Bucket::new(60, Per::Minute, 60, start);
        bucket.spend(160, start);
        assert_eq!(bucket.level(start), -100);
        assert_eq!(bucket.when(1, start), When::At(start + 101 * SEC));
    }

    #[test]
    fn a_told_delay_sets_the_level() {
        let start = Moment::default();
        let mut bucket = Bucket::new(60, Per::Minute, 60, start);
        bucket.wait_for(50, 20 * SEC, start);
        assert_eq!(bucket.when(50, start), When::At(start + 20 * SEC));
        assert_eq!(
            bucket.when(30, start),
            When::Now,
            "a smaller one fits sooner"
        );
        bucket.wait_for(50, SEC, start);
        assert_eq!(
            bucket.when(50, start),
            When::At(start + 20 * SEC),
            "never raises"
        );
    }

    /// One token a second, up to sixty.
    fn minute() -> Bucket {
        Bucket::new(60, Per::Minute, 60, Moment::default())
    }

    fn at(second: u32) -> Moment {
        Moment::default() + second * SEC
    }

    #[test]
    fn an_eta_is_when_all_of_it_would_have_come() {
        let mut bucket = minute();
        for (total, seconds) in [(0, 0), (60, 0), (61, 1), (200, 140)] {
            assert_eq!(bucket.eta(total, at(0)), seconds * SEC, "{total}");
        }
        bucket.reserve(60);
        assert_eq!(bucket.eta(1, at(0)), SEC);
        assert_eq!(bucket.refill_in(90 * SEC + SEC / 2), 90);
        let nanosecond = Duration::from_nanos(1);
        let mut third = Bucket::new(180, Per::Minute, 180, at(0));
        third.reserve(180);
        assert_eq!(third.eta(1, at(0)), SEC / 3 + nanosecond, "rounded up");
        assert_eq!(third.eta(3, at(0)), SEC);
    }

    #[test]
    fn what_comes_back_fills_it_up_to_the_ceiling() {
        let mut bucket = minute();
        bucket.reserve(40);
        bucket.credit(15, at(0));
        assert_eq!(
            bucket.level(at(0)),
            20,
            "there is no room beside the transit"
        );
        bucket.land(40, at(0));
        bucket.credit(15, at(0));
        assert_eq!(bucket.level(at(0)), 35);
        bucket.credit(100, at(0));
        assert_eq!(bucket.level(at(0)), 60);
    }

    /// Thirty are gone at 0 s, and ten of them have refilled at 10 s: then there is room
    /// left for twenty.
    #[test]
    fn what_comes_back_late_counts_as_far_as_there_was_room() {
        // What was given back before, and what comes back now: the level after it.
        for (before, now, level) in [(0, 5, 45), (0, 25, 60), (15, 5, 60), (15, 2, 57)] {
            let mut bucket = minute();
            bucket.reserve(30);
            bucket.land(30, at(0));
            let room = bucket.room(at(0));
            assert_eq!(room.whole(Per::Minute), 30);
            assert_eq!(Room::of_whole(30, Per::Minute), room);
            bucket.credit(before, at(10));
            bucket.credit_late(now, room, at(10));
            assert_eq!(bucket.level(at(10)), level, "{before} + {now}");
        }
        // What was above a lowered capacity found no room at the other side, either.
        let mut bucket = minute();
        bucket.spend(30, at(0));
        let room = bucket.room(at(0));
        bucket.resize(60, 40, at(0));
        assert_eq!(bucket.level(at(0)), 30);
        bucket.resize(60, 60, at(0));
        bucket.credit_late(30, room, at(0));
        assert_eq!(bucket.level(at(0)), 40);
    }

    #[test]
    fn forgiven_debt_leaves_what_is_in_transit() {
        for (in_transit, spent, level) in [(0, 160, 0), (20, 160, -20), (20, 10, 30)] {
            let mut bucket = minute();
            bucket.reserve(in_transit);
            bucket.spend(spent, at(0));
            bucket.forgive_debt(at(0));
            assert_eq!(bucket.level(at(0)), level, "{in_transit} {spent}");
        }
    }

    #[test]
    fn what_others_have_in_transit_lowers_the_ceiling_alone() {
        let mut bucket = minute();
        bucket.adopt(20, at(0));
        assert_eq!((bucket.level(at(0)), bucket.in_transit()), (40, 20));
        bucket.spend(30, at(0));
        bucket.adopt(20, at(0));
        assert_eq!((bucket.level(at(0)), bucket.in_transit()), (10, 40));
        assert_eq!(bucket.level(at(30)), 20);
        for (most, level) in [(5, 1), (-3, -3), (1, 1)] {
            let terms = (60, Per::Minute, 60);
            let mut standing = Bucket::standing(terms, most, 59, at(0));
            assert_eq!((standing.level(at(0)), standing.in_transit()), (level, 59));
        }
    }

    #[test]
    fn nothing_refills_while_it_rests() {
        let mut bucket = minute();
        bucket.reserve(60);
        bucket.land(60, at(0));
        bucket.rest_until(at(10));
        bucket.rest_until(at(5));
        assert_eq!(bucket.level(at(10)), 0);
        assert_eq!(bucket.level(at(13)), 3);
    }

    #[test]
    fn it_is_raised_up_to_the_ceiling_and_never_lowered_by_that() {
        let mut bucket = minute();
        bucket.reserve(40);
        bucket.spend(15, at(0));
        for (least, level) in [(4, 5), (6, 6), (50, 20), (50, 20)] {
            bucket.raise_to(least, at(0));
            assert_eq!(bucket.level(at(0)), level, "{least}");
        }
        bucket.lower_to(7, at(0));
        bucket.lower_to(9, at(0));
        assert_eq!(bucket.level(at(0)), 7);
    }

    #[test]
    fn another_size_refills_at_another_rate_from_now_on() {
        let mut bucket = minute();
        bucket.spend(50, at(0));
        bucket.resize(120, 100, at(10));
        assert_eq!(bucket.level(at(10)), 20, "no level is added");
        assert_eq!(bucket.level(at(20)), 40);
        bucket.resize(0, 30, at(20));
        assert_eq!(bucket.level(at(20)), 30);
        assert_eq!(bucket.refill_in(60 * SEC), 1, "some of it comes");
    }

    #[test]
    fn levels_are_rounded_down_however_large() {
        let mut bucket = minute();
        bucket.spend(61, at(0));
        assert_eq!(bucket.level(at(0) + SEC / 2), -1);
        let much = 1_000_000_000_000;
        let mut bucket = Bucket::new(much, Per::Day, much, at(0));
        bucket.reserve(1);
        assert_eq!(bucket.level(at(0)), 999_999_999_999);
        bucket.spend(2 * much, at(0));
        assert_eq!(bucket.level(at(0)), -1_000_000_000_001);
    }

    proptest! {
        /// The level after any history is what adding up every millisecond
        /// gives, and the promised instant is the first at which it fits.
        #[test]
        fn level_is_the_sum_of_every_millisecond(
            rate in 1u64..200_000,
            capacity in 1u64..200_000,
            steps in prop::collection::vec((0u8..4, 0u64..50_000, 0u64..5_000), 0..40),
        ) {
            let start = Moment::default();
            let mut bucket = Bucket::new(rate, Per::Minute, capacity, start);
            let mut level = i128::from(capacity) * 60_000;
            let mut transit: Vec<u64> = Vec::new();
            let mut now = start;
            for (step, amount, millis) in steps {
                for _ in 0..millis {
                    let ceiling = i128::from(capacity) * 60_000
                        - i128::from(transit.iter().sum::<u64>()) * 60_000;
                    if level < ceiling {
                        level = (level + i128::from(rate)).min(ceiling);
                    }
                }
                now = now + Duration::from_millis(millis);
                match step {
                    0 => {
                        let promised = bucket.when(amount, now);
                        let fits = level >= i128::from(amount) * 60_000;
                        prop_assert_eq!(promised == When::Now, fits);
                        if let When::At(at) = promised {
                            let mut later = Bucket { ..copy(&bucket) };
                            prop_assert_eq!(later.when(amount, at), When::Now);
                            let before = at - Duration::from_nanos(1);
                            let mut sooner = copy(&bucket);
                            prop_assert_ne!(sooner.when(amount, before.max(now)), When::Now);
                        }
                        if fits {
                            bucket.reserve(amount);
                            level -= i128::from(amount) * 60_000;
                            transit.push(amount);
                        }
                    }
                    1 if !transit.is_empty() => bucket.land(transit.remove(0), now),
                    2 if !transit.is_empty() => {
                        let cost = transit.remove(0);
                        bucket.refund(cost, now);
                        level += i128::from(cost) * 60_000;
                    }
                    3 => {
                        bucket.spend(amount / 100, now);
                        level -= i128::from(amount / 100) * 60_000;
                    }
                    _ => {}
                }
                prop_assert_eq!(i128::from(bucket.level(now)), level.div_euclid(60_000));
            }
        }
    }

    fn copy(bucket: &Bucket) -> Bucket {
        Bucket { ..*bucket }
    }
}
