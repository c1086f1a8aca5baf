//! So long between two launches.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::{Ahead, Charged, Cost, Launch, Random, Rule, When};
use crate::charge::Charge;
use crate::time::{Moment, Now};

/// Launches are at least `interval` apart.
///
/// The interval counts from the permission to launch, and anew from the launch
/// itself, so that one that dawdles is not followed too closely. One that dawdles
/// for longer than the interval holds up nobody: its permission has lapsed, and the next
/// is permitted.
#[derive(Debug)]
pub(crate) struct Spacing {
    interval: Duration,
    /// Up to this share of the interval is added at random.
    jitter: f64,
    /// How often they were changed.
    changed: u32,
    random: Random,
    /// What the next launch keeps its distance from; `None` before the first.
    last: Option<Start>,
    /// Names the latest permission.
    latest: u64,
    /// What `last` was before it.
    before: Option<Start>,
    /// Whether the latest permission was given while nothing was spaced, and not used
    /// yet: then `last` knows nothing of it.
    untimed: bool,
}

/// A permission or a launch. It is kept, and not the instant at which the next may
/// follow, because the interval may change meanwhile.
#[derive(Clone, Copy, Debug)]
struct Start {
    at: Moment,
    /// By this share of it the interval is lengthened.
    spread: f64,
}

/// A permission to launch: which one, and in the last bit whether it was used.
///
/// It is used by whoever has the lock of its rule, so nobody comes between a look at it
/// and a change.
#[derive(Debug, Default)]
pub(crate) struct Turn(AtomicU64);

impl Turn {
    #[inline]
    fn new(number: u64) -> Self {
        Turn(AtomicU64::new(number << 1))
    }

    #[inline]
    fn number(&self) -> u64 {
        self.0.load(Relaxed) >> 1
    }

    #[inline]
    pub(crate) fn is_launched(&self) -> bool {
        self.0.load(Relaxed) & 1 == 1
    }

    #[inline]
    fn set_launched(&self) {
        self.0.store(self.number() << 1 | 1, Relaxed);
    }

    /// It turns out never to have been.
    pub(crate) fn never_launched(&mut self) {
        *self.0.get_mut() &= !1;
    }
}

impl Spacing {
    /// # Panics
    ///
    /// If `jitter` is not in `0.0..=1.0`.
    #[track_caller]
    pub(crate) fn new(interval: Duration, jitter: f64, random: Random) -> Self {
        assert!(
            (0.0..=1.0).contains(&jitter),
            "jitter must be a share from 0 to 1, not {jitter}"
        );
        Spacing {
            interval,
            jitter,
            changed: 0,
            random,
            last: None,
            latest: 0,
            before: None,
            untimed: false,
        }
    }

    /// Whether there is anything to wait for at all.
    #[inline]
    pub(crate) fn is_off(&self) -> bool {
        self.interval.is_zero()
    }

    /// Whoever waits keeps the new distance from the last launch. A launch is
    /// counted while nothing is spaced, too, so that it may be spaced from; a permission
    /// is not timed then, and one that is still to be used is taken to be of `now`.
    ///
    /// # Panics
    ///
    /// If `jitter` is not in `0.0..=1.0`.
    #[track_caller]
    pub(crate) fn set_interval(&mut self, interval: Duration, jitter: f64, now: &mut Now) {
        assert!(
            (0.0..=1.0).contains(&jitter),
            "jitter must be a share from 0 to 1, not {jitter}"
        );
        let begins = self.is_off() && !interval.is_zero();
        (self.interval, self.jitter) = (interval, jitter);
        if begins && std::mem::take(&mut self.untimed) {
            self.last = Some(self.start(now.get()));
        }
        self.changed = self.changed.wrapping_add(1);
    }

    pub(crate) const fn jitter(&self) -> f64 {
        self.jitter
    }

    #[inline]
    fn start(&mut self, at: Moment) -> Start {
        let spread = match self.jitter > 0.0 {
            true => self.jitter * self.random.fraction(),
            false => 0.0,
        };
        Start { at, spread }
    }

    /// The earliest instant after `start`.
    fn after(&self, start: Start) -> Moment {
        let spread = match start.spread > 0.0 {
            true => self.interval.mul_f64(start.spread),
            false => Duration::ZERO,
        };
        start.at + self.interval + spread
    }

    /// The earliest next launch.
    fn earliest(&self) -> Option<Moment> {
        self.last.map(|last| self.after(last))
    }

    #[inline]
    fn permit(&mut self, now: Moment) -> u64 {
        let start = self.start(now);
        self.before = self.last.replace(start);
        self.latest += 1;
        self.latest
    }

    /// The clock need not be read for it.
    #[inline]
    fn permit_untimed(&mut self) -> u64 {
        self.before = self.last;
        self.latest += 1;
        self.latest
    }

    /// Somebody was permitted since, and may launch at any moment, or give it back.
    fn launch_late(&mut self, start: Start) {
        for last in [&mut self.before, &mut self.last] {
            if last.is_none_or(|last| last.at < start.at) {
                *last = Some(start);
            }
        }
    }

    /// What was permitted is not used. Where nobody was permitted since, the next
    /// may go as if it had not been.
    #[inline]
    fn take_back(&mut self, number: u64) {
        if number == self.latest {
            self.untimed = false;
            self.last = self.before;
        }
    }

    /// While nothing is spaced: another one launches in this turn, and perhaps last of all.
    #[inline]
    pub(crate) fn pass_on(&mut self, turn: &mut Turn) {
        // Else it would be the same anew.
        if turn.number() != self.latest || !self.untimed {
            self.take_back(turn.number());
            self.untimed = true;
            *turn = Turn::new(self.permit_untimed());
        }
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// The earliest instant at which somebody may launch, if not at once.
    pub(crate) fn next(&self, now: Moment) -> Option<Moment> {
        let next = self.earliest().filter(|_| !self.is_off());
        next.filter(|next| *next > now)
    }

    /// When the newcomer behind `waiting` others can launch at the earliest.
    pub(crate) fn eta(&self, waiting: usize, now: Moment) -> Moment {
        let behind = u32::try_from(waiting).unwrap_or(u32::MAX);
        self.earliest().map_or(now, |next| next.max(now)) + self.interval.saturating_mul(behind)
    }
}

impl Rule for Spacing {
    const NAME: &'static str = "stagger";
    const LAPSES: bool = true;
    type Held = Turn;

    #[inline]
    fn when(&mut self, _: &Charge, now: &mut Now) -> When {
        if self.is_off() {
            return When::Now;
        }
        match self.earliest() {
            Some(next) if next > now.get() => When::At(next),
            _ => When::Now,
        }
    }

    #[inline]
    fn is_open(&mut self, _: &Charge, _: &mut Now) -> bool {
        self.is_off()
    }

    #[inline(always)]
    fn take(&mut self, _: &Charge, now: &mut Now) -> Turn {
        self.untimed = self.is_off();
        Turn::new(match self.untimed {
            true => self.permit_untimed(),
            false => self.permit(now.get()),
        })
    }

    #[inline(always)]
    fn launch(&mut self, turn: &Turn, _: Launch, now: &mut Now) {
        if turn.is_launched() {
            return;
        }
        turn.set_launched();
        let start = self.start(now.get());
        match turn.number() == self.latest {
            true => (self.untimed, self.last) = (false, Some(start)),
            false => self.launch_late(start),
        }
    }

    #[inline]
    fn release(&mut self, turn: Turn, _: &mut Now) -> Charged {
        if turn.is_launched() {
            return Charged::Whole;
        }
        self.take_back(turn.number());
        Charged::Nothing
    }

    fn unsend(&mut self, turn: Turn, _: &mut Now) -> Charged {
        self.take_back(turn.number());
        Charged::Nothing
    }

    #[inline]
    fn cost(&self, _: &Charge) -> Cost {
        let nanos = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        Cost::nanos(nanos).max(Cost::LEAST)
    }

    #[inline]
    fn prices(&self) -> u32 {
        self.changed
    }

    /// As soon as another may be permitted; not only once one was, who would else launch
    /// at the same instant as this one.
    #[inline]
    fn has_lapsed(&mut self, turn: &Turn, now: &mut Now) -> bool {
        if turn.is_launched() || self.is_off() {
            return false;
        }
        turn.number() != self.latest || self.earliest() <= Some(now.get())
    }

    fn expected_wait(&mut self, _: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
        let now = now.get();
        self.eta(ahead.waiting, now) - now
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SEC: Duration = Duration::from_secs(1);

    fn spacing(interval: Duration, jitter: f64) -> Spacing {
        Spacing::new(interval, jitter, Random::seeded(1))
    }

    impl Spacing {
        fn at(&mut self, now: Moment) -> When {
            self.when(&Charge::default(), &mut Now::at(now))
        }

        fn permitted(&mut self, now: Moment) -> Turn {
            self.take(&Charge::default(), &mut Now::at(now))
        }

        fn launched(&mut self, turn: &Turn, now: Moment) {
            Rule::launch(self, turn, Launch::ToWire, &mut Now::at(now));
        }

        fn lapsed(&mut self, turn: &Turn, now: Moment) -> bool {
            self.has_lapsed(turn, &mut Now::at(now))
        }

        fn given_back(&mut self, turn: Turn) {
            self.release(turn, &mut Now::unread());
        }
    }

    #[test]
    fn interval_counts_from_the_launch() {
        let start = Moment::default();
        let mut spacing = spacing(15 * SEC, 0.0);
        assert_eq!(spacing.at(start), When::Now);
        let turn = spacing.permitted(start);
        assert_eq!(spacing.at(start), When::At(start + 15 * SEC));
        spacing.launched(&turn, start + 4 * SEC);
        assert_eq!(spacing.at(start + 15 * SEC), When::At(start + 19 * SEC));
        assert_eq!(spacing.at(start + 19 * SEC), When::Now);
    }

    #[test]
    fn giving_up_before_launch_leaves_no_gap() {
        let start = Moment::default();
        let mut spacing = spacing(15 * SEC, 0.0);
        let turn = spacing.permitted(start);
        spacing.given_back(turn);
        assert_eq!(spacing.at(start), When::Now);
    }

    #[test]
    fn one_that_never_launches_holds_up_nobody_for_longer_than_its_interval() {
        let start = Moment::default();
        let mut spacing = spacing(15 * SEC, 0.0);
        let first = spacing.permitted(start);
        assert!(!spacing.lapsed(&first, start + 15 * SEC - Duration::from_nanos(1)));
        assert!(spacing.lapsed(&first, start + 15 * SEC));
        let second = spacing.permitted(start + 15 * SEC);
        assert!(spacing.lapsed(&first, start + 15 * SEC));
        assert!(!spacing.lapsed(&second, start + 15 * SEC));
        // It launches all the same, late; and what follows keeps its distance.
        spacing.launched(&first, start + 20 * SEC);
        assert_eq!(spacing.at(start + 30 * SEC), When::At(start + 35 * SEC));
        spacing.given_back(first);
        assert_eq!(spacing.at(start + 30 * SEC), When::At(start + 35 * SEC));
    }

    #[test]
    fn a_late_launch_counts_though_a_later_permission_is_given_back() {
        let start = Moment::default();
        let mut spacing = spacing(15 * SEC, 0.0);
        let first = spacing.permitted(start);
        let second = spacing.permitted(start + 15 * SEC);
        spacing.launched(&first, start + 16 * SEC);
        spacing.given_back(second);
        let next = When::At(start + 31 * SEC);
        assert_eq!(spacing.at(start + 16 * SEC), next);
    }

    #[test]
    fn jitter_only_lengthens() {
        let start = Moment::default();
        let mut spacing = spacing(10 * SEC, 0.5);
        let mut gaps = Vec::new();
        for _ in 0..1000 {
            let turn = spacing.permitted(start);
            spacing.launched(&turn, start);
            let When::At(next) = spacing.at(start) else {
                panic!("a launch is followed by a gap")
            };
            gaps.push(next - start);
        }
        assert!(gaps.iter().all(|gap| (10 * SEC..15 * SEC).contains(gap)));
        assert!(gaps.iter().max() > gaps.iter().min());
    }

    #[test]
    fn zero_switches_it_off() {
        let start = Moment::default();
        let mut spacing = spacing(Duration::ZERO, 0.0);
        let turn = spacing.permitted(start);
        assert_eq!(spacing.at(start), When::Now);
        spacing.launched(&turn, start);
        assert_eq!(spacing.at(start), When::Now);
        assert!(!spacing.lapsed(&turn, start + SEC));
    }

    #[test]
    fn what_was_permitted_while_it_was_off_is_spaced_from() {
        let at = |second: u32| Moment::default() + second * SEC;
        let switch_on = |spacing: &mut Spacing, second| {
            spacing.set_interval(15 * SEC, 0.0, &mut Now::at(at(second)));
        };
        // Launched before it is switched on, and after it.
        for (launch, next) in [(1, 16), (6, 21)] {
            let mut spacing = spacing(Duration::ZERO, 0.0);
            let turn = spacing.permitted(at(0));
            if launch < 4 {
                spacing.launched(&turn, at(launch));
            }
            switch_on(&mut spacing, 4);
            if launch > 4 {
                assert_eq!(
                    spacing.at(at(4)),
                    When::At(at(19)),
                    "it may be launched now"
                );
                spacing.launched(&turn, at(launch));
            }
            assert_eq!(spacing.at(at(6)), When::At(at(next)));
        }
        // Off as before, it is not timed yet.
        let mut late = spacing(Duration::ZERO, 0.0);
        let _turn = late.permitted(at(0));
        late.set_interval(Duration::ZERO, 0.0, &mut Now::at(at(1)));
        switch_on(&mut late, 4);
        assert_eq!(late.at(at(4)), When::At(at(19)));
        // One is given back, and another is still to be used.
        let mut two = spacing(Duration::ZERO, 0.0);
        let (first, _second) = (two.permitted(at(0)), two.permitted(at(0)));
        two.given_back(first);
        let prices = two.prices();
        switch_on(&mut two, 4);
        assert_eq!(two.at(at(4)), When::At(at(19)));
        assert_ne!(two.prices(), prices, "a launch costs something by now");
        // Given back, whether it is switched on before or after it.
        for late in [true, false] {
            let mut spacing = spacing(Duration::ZERO, 0.0);
            let first = spacing.permitted(at(0));
            spacing.launched(&first, at(1));
            let second = spacing.permitted(at(2));
            if late {
                switch_on(&mut spacing, 3);
            }
            spacing.given_back(second);
            if !late {
                switch_on(&mut spacing, 3);
            }
            assert_eq!(spacing.at(at(3)), When::At(at(16)), "{late}");
        }
    }

    #[test]
    fn eta_counts_those_ahead() {
        let start = Moment::default();
        let mut spacing = spacing(15 * SEC, 0.0);
        assert_eq!(spacing.eta(0, start), start);
        let turn = spacing.permitted(start);
        spacing.launched(&turn, start);
        assert_eq!(spacing.eta(2, start), start + 45 * SEC);
        let ahead = Ahead {
            waiting: 2,
            ..Ahead::default()
        };
        let later = &mut Now::at(start + 5 * SEC);
        let wait = spacing.expected_wait(&Charge::default(), ahead, later);
        assert_eq!(wait, 40 * SEC);
    }

    #[test]
    fn a_launch_that_never_was_is_no_launch() {
        let mut turn = Turn::new(7);
        for _ in 0..2 {
            turn.never_launched();
            assert_eq!((turn.number(), turn.is_launched()), (7, false));
            turn.set_launched();
            assert_eq!((turn.number(), turn.is_launched()), (7, true));
        }
    }
}
