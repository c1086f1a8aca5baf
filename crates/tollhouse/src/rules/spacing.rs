//! So long between two launches.

use std::time::Duration;

use super::{Ahead, Launch, Random, Rule, When};
use crate::error::Refused;
use crate::time::{Moment, Now};

/// Launches are at least `interval` apart.
///
/// The interval counts from the launch itself, not from the permission to
/// launch, so only one request at a time may be permitted and not yet
/// launched: otherwise one that dawdles would be followed too closely.
#[derive(Debug)]
pub(crate) struct Spacing {
    interval: Duration,
    /// Up to this share of the interval is added at random.
    jitter: f64,
    random: Random,
    /// The earliest next launch; `None` before the first.
    next: Option<Moment>,
    /// How many were launched: names the latest launch.
    launches: u64,
    /// What `next` was before the latest launch.
    before: Option<Moment>,
    /// Whether somebody was permitted and has not launched yet.
    permitted: bool,
}

impl Spacing {
    /// # Panics
    ///
    /// If `jitter` is not in `0.0..=1.0`.
    pub(crate) fn new(interval: Duration, jitter: f64, random: Random) -> Self {
        assert!(
            (0.0..=1.0).contains(&jitter),
            "jitter must be a share from 0 to 1, not {jitter}"
        );
        Spacing {
            interval,
            jitter,
            random,
            next: None,
            launches: 0,
            before: None,
            permitted: false,
        }
    }

    /// Whether there is anything to wait for at all.
    pub(crate) fn is_off(&self) -> bool {
        self.interval.is_zero()
    }

    pub(crate) fn when(&self, now: Moment) -> When {
        match self.next {
            _ if self.is_off() => When::Now,
            _ if self.permitted => When::OnRelease,
            Some(next) if next > now => When::At(next),
            _ => When::Now,
        }
    }

    pub(crate) fn permit(&mut self) {
        self.permitted = true;
    }

    /// The permitted request leaves; says which launch that is.
    pub(crate) fn launch(&mut self, now: Moment) -> u64 {
        let spread = if self.jitter > 0.0 {
            self.interval.mul_f64(self.jitter * self.random.fraction())
        } else {
            Duration::ZERO
        };
        self.permitted = false;
        self.before = self.next.replace(now + self.interval + spread);
        self.launches += 1;
        self.launches
    }

    /// That launch never reached the provider. Where it is the latest one, the
    /// next may go as if it had not been.
    pub(crate) fn take_back(&mut self, launch: u64) {
        if launch == self.launches {
            self.next = self.before;
        }
    }

    /// The permitted request gave up: the next one may go in its place.
    pub(crate) fn give_back(&mut self) {
        self.permitted = false;
    }

    pub(crate) fn interval(&self) -> Duration {
        self.interval
    }

    /// When the newcomer behind `waiting` others can launch at the earliest.
    pub(crate) fn eta(&self, waiting: usize, now: Moment) -> Moment {
        let behind = u32::try_from(waiting + usize::from(self.permitted)).unwrap_or(u32::MAX);
        self.next.map_or(now, |next| next.max(now)) + self.interval.saturating_mul(behind)
    }
}

impl Rule for Spacing {
    const NAME: &'static str = "stagger";
    /// Which launch it was; `None` before it, and 0 where nothing is spaced.
    type Held = Option<u64>;

    fn when(&mut self, _: u64, now: &mut Now) -> When {
        if self.is_off() {
            return When::Now;
        }
        Spacing::when(self, now.get())
    }

    fn take(&mut self, _: u64, _: &mut Now) -> Option<u64> {
        self.permit();
        None
    }

    fn launch(&mut self, launched: &mut Option<u64>, _: Launch, now: &mut Now) {
        if launched.is_none() {
            *launched = Some(match self.is_off() {
                true => 0,
                false => Spacing::launch(self, now.get()),
            });
        }
    }

    fn release(&mut self, launched: Option<u64>, _: &mut Now) {
        if launched.is_none() {
            self.give_back();
        }
    }

    fn unsend(&mut self, launched: Option<u64>, _: &mut Now) {
        match launched {
            None => self.give_back(),
            Some(launch) => self.take_back(launch),
        }
    }

    fn never(&mut self, _: u64, _: &mut Now) -> Option<Refused> {
        None
    }

    fn expected_wait(&mut self, _: u64, ahead: Ahead, now: &mut Now) -> Duration {
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

    #[test]
    fn interval_counts_from_the_launch() {
        let start = Moment::default();
        let mut spacing = spacing(15 * SEC, 0.0);
        assert_eq!(spacing.when(start), When::Now);
        spacing.permit();
        assert_eq!(spacing.when(start), When::OnRelease);
        spacing.launch(start + 4 * SEC);
        assert_eq!(spacing.when(start + 15 * SEC), When::At(start + 19 * SEC));
        assert_eq!(spacing.when(start + 19 * SEC), When::Now);
    }

    #[test]
    fn giving_up_before_launch_leaves_no_gap() {
        let start = Moment::default();
        let mut spacing = spacing(15 * SEC, 0.0);
        spacing.permit();
        spacing.give_back();
        assert_eq!(spacing.when(start), When::Now);
    }

    #[test]
    fn jitter_only_lengthens() {
        let start = Moment::default();
        let mut spacing = spacing(10 * SEC, 0.5);
        let mut gaps = Vec::new();
        for _ in 0..1000 {
            spacing.permit();
            spacing.launch(start);
            let When::At(next) = spacing.when(start) else {
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
        spacing.permit();
        assert_eq!(spacing.when(start), When::Now);
        spacing.launch(start);
        assert_eq!(spacing.when(start), When::Now);
    }

    #[test]
    fn eta_counts_those_ahead() {
        let start = Moment::default();
        let mut spacing = spacing(15 * SEC, 0.0);
        assert_eq!(spacing.eta(0, start), start);
        spacing.permit();
        spacing.launch(start);
        assert_eq!(spacing.eta(2, start), start + 45 * SEC);
    }
}
