//! Points in time that are cheap to reckon with, and the present: the only place
//! that knows the type of the clock.

use std::num::NonZeroU64;
use std::ops::{Add, Sub};
use std::sync::LazyLock;
use std::time::{Duration, SystemTime};

use tokio::time::Instant;

/// When this process first looked at the clock. Any fixed instant would do.
static EPOCH: LazyLock<std::time::Instant> = LazyLock::new(|| Instant::now().into_std());

/// Nanoseconds since an arbitrary instant, which an `Instant` is not allowed
/// to be: rules compare and subtract these at every call, and an `Instant`
/// takes fifty instructions for it. Below zero in a test whose paused clock
/// began before another one's.
///
/// Kept shifted by [`ZERO`], so that it is never 0 and a moment that may be missing is
/// no larger than one that is there: each who waits keeps several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Moment(NonZeroU64);

/// The arbitrary instant, in the middle of all that can be told.
const ZERO: NonZeroU64 = NonZeroU64::new(1 << 63).unwrap();

impl Moment {
    /// Nanoseconds since `earlier`; 0 if that is later, and never more than a signed
    /// number holds.
    #[inline]
    pub(crate) fn nanos_since(self, earlier: Moment) -> u64 {
        let nanos = self.0.get().saturating_sub(earlier.0.get());
        nanos.min(i64::MAX.unsigned_abs())
    }

    /// Earlier than anything.
    pub(crate) const BEFORE_ALL: Moment = Moment(NonZeroU64::MIN);

    /// Later than anything.
    pub(crate) const NEVER: Moment = Moment(NonZeroU64::MAX);

    #[inline]
    fn plus(self, nanos: u64) -> Moment {
        Moment(self.0.saturating_add(nanos))
    }

    #[inline]
    fn minus(self, nanos: u64) -> Moment {
        let left = self.0.get().saturating_sub(nanos);
        NonZeroU64::new(left).map_or(Moment::BEFORE_ALL, Moment)
    }
}

impl Default for Moment {
    #[inline]
    fn default() -> Self {
        Moment(ZERO)
    }
}

impl From<Instant> for Moment {
    #[inline]
    fn from(instant: Instant) -> Self {
        // Of `std`'s: it is asked at every call, and tokio's would be one more function.
        let (instant, epoch) = (instant.into_std(), *EPOCH);
        match instant.checked_duration_since(epoch) {
            Some(after) => Moment::default().plus(nanos(after)),
            None => Moment::default().minus(nanos(epoch.duration_since(instant))),
        }
    }
}

/// Longer than five centuries is forever.
#[inline]
fn nanos(time: Duration) -> u64 {
    const SECOND: u64 = 1_000_000_000;
    let seconds = time.as_secs().saturating_mul(SECOND);
    seconds.saturating_add(u64::from(time.subsec_nanos()))
}

impl From<Moment> for Instant {
    fn from(moment: Moment) -> Self {
        let zero = Moment::default();
        let instant = if moment < zero {
            EPOCH.checked_sub(zero - moment)
        } else {
            EPOCH.checked_add(moment - zero)
        };
        Instant::from_std(instant.unwrap_or(*EPOCH))
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    #[inline]
    fn add(self, time: Duration) -> Moment {
        self.plus(nanos(time))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, time: Duration) -> Moment {
        self.minus(nanos(time))
    }
}

impl Sub for Moment {
    type Output = Duration;

    fn sub(self, earlier: Moment) -> Duration {
        Duration::from_nanos(self.nanos_since(earlier))
    }
}

/// The present, read from the clock at most once in a poll and only when
/// somebody asks: a reading costs more than all the rest of an uncontended
/// gate. A poll never blocks, so whatever happens in one happens at one
/// instant, as in any event loop.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::{Instant, sleep};
/// use tollhouse::gate::Now;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let mut now = Now::unread();
/// let instant = now.instant();
/// assert_eq!(instant, Instant::now());
/// sleep(Duration::from_secs(1)).await;
/// assert_eq!(now.instant(), instant, "it was read once");
/// // Whoever has the instant already need not read it again.
/// assert_eq!(Now::from(instant).instant(), instant);
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Now(Option<Moment>);

impl Now {
    /// A present that nobody has looked at yet.
    pub const fn unread() -> Self {
        Now(None)
    }

    /// The instant, the same at every asking.
    pub fn instant(&mut self) -> Instant {
        self.get().into()
    }

    pub(crate) const fn at(moment: Moment) -> Self {
        Now(Some(moment))
    }

    /// One that is read at once.
    pub(crate) fn read() -> Self {
        Now(Some(Instant::now().into()))
    }

    /// Whether somebody has read it.
    #[inline]
    pub(crate) const fn is_read(&self) -> bool {
        self.0.is_some()
    }

    #[inline]
    pub(crate) fn get(&mut self) -> Moment {
        *self.0.get_or_insert_with(|| Instant::now().into())
    }
}

impl From<Instant> for Now {
    fn from(instant: Instant) -> Self {
        Now(Some(instant.into()))
    }
}

/// Notices that the machine was suspended: the wall's clock has gone on meanwhile, and no other.
///
/// It looks at real clocks, whatever a test does with tokio's.
#[derive(Debug, Default)]
pub(crate) struct Suspension {
    before: Option<(SystemTime, std::time::Instant)>,
}

/// Clocks that differ by less may have been set right.
const SUSPENDED: Duration = Duration::from_secs(1);

impl Suspension {
    /// Whether the machine was suspended since the last time, or the wall's clock was set
    /// ahead.
    #[expect(
        clippy::disallowed_methods,
        reason = "the one place that compares them"
    )]
    pub(crate) fn was_noticed(&mut self) -> bool {
        let now = (SystemTime::now(), std::time::Instant::now());
        let before = self.before.replace(now);
        before.is_some_and(|before| is_ahead(before, now))
    }
}

fn is_ahead(
    before: (SystemTime, std::time::Instant),
    now: (SystemTime, std::time::Instant),
) -> bool {
    let steady = now.1.saturating_duration_since(before.1);
    let wall = now.0.duration_since(before.0).unwrap_or_default();
    wall.saturating_sub(steady) > SUSPENDED
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_come_back_as_they_were() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        for instant in [now, now + hour, now - Duration::from_millis(1)] {
            assert_eq!(Instant::from(Moment::from(instant)), instant);
        }
        let moment = Moment::from(now);
        assert_eq!(Moment::from(now + hour) - moment, hour);
        assert_eq!(moment - (moment + hour), Duration::ZERO);
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "it is about these clocks")]
    fn a_suspended_machine_is_told_from_a_slow_one() {
        let before = (SystemTime::now(), std::time::Instant::now());
        let second = Duration::from_secs(1);
        let later = |wall, steady| (before.0 + wall * second, before.1 + steady * second);
        assert!(!is_ahead(before, later(60, 60)));
        assert!(!is_ahead(before, later(61, 60)));
        assert!(is_ahead(before, later(62, 60)));
        assert!(!is_ahead(before, (before.0 - second, before.1)));
    }

    #[test]
    fn the_end_of_time_is_not_passed() {
        let now = Moment::default();
        assert_eq!(now + Duration::MAX, Moment::NEVER);
        assert_eq!((now + Duration::MAX) + Duration::MAX, Moment::NEVER);
        assert_eq!(now - Duration::MAX, Moment::BEFORE_ALL);
        assert_eq!(
            Moment::NEVER.nanos_since(Moment::BEFORE_ALL),
            i64::MAX.unsigned_abs()
        );
    }
}
