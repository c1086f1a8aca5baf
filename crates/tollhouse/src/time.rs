//! Points in time that are cheap to reckon with, and the present: the only place
//! that knows the type of the clock.

use std::ops::{Add, Sub};
use std::sync::LazyLock;
use std::time::Duration;

use tokio::time::Instant;

/// When this process first looked at the clock. Any fixed instant would do.
static EPOCH: LazyLock<Instant> = LazyLock::new(Instant::now);

/// Nanoseconds since an arbitrary instant, which an `Instant` is not allowed
/// to be: rules compare and subtract these at every call, and an `Instant`
/// takes fifty instructions for it. Below zero in a test whose paused clock
/// began before another one's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(test, derive(Hash))]
pub(crate) struct Moment(i64);

impl Moment {
    /// Nanoseconds since `earlier`; 0 if that is later.
    #[inline]
    pub(crate) fn nanos_since(self, earlier: Moment) -> u64 {
        self.0.saturating_sub(earlier.0).max(0).unsigned_abs()
    }

    /// Earlier than anything.
    pub(crate) const BEFORE_ALL: Moment = Moment(i64::MIN);

    /// Later than anything.
    pub(crate) const NEVER: Moment = Moment(i64::MAX);
}

impl From<Instant> for Moment {
    #[inline]
    fn from(instant: Instant) -> Self {
        let epoch = *EPOCH;
        match instant.checked_duration_since(epoch) {
            Some(after) => Moment(nanos(after)),
            None => Moment(-nanos(epoch.duration_since(instant))),
        }
    }
}

/// Longer than two centuries is forever.
#[inline]
fn nanos(time: Duration) -> i64 {
    const SECOND: i64 = 1_000_000_000;
    match u32::try_from(time.as_secs()) {
        Ok(seconds) => i64::from(seconds) * SECOND + i64::from(time.subsec_nanos()),
        Err(_) => i64::try_from(time.as_nanos()).unwrap_or(i64::MAX),
    }
}

impl From<Moment> for Instant {
    fn from(moment: Moment) -> Self {
        let nanos = Duration::from_nanos(moment.0.unsigned_abs());
        let instant = if moment.0 < 0 {
            EPOCH.checked_sub(nanos)
        } else {
            EPOCH.checked_add(nanos)
        };
        instant.unwrap_or(*EPOCH)
    }
}

impl Add<Duration> for Moment {
    type Output = Moment;

    #[inline]
    fn add(self, time: Duration) -> Moment {
        Moment(self.0.saturating_add(nanos(time)))
    }
}

impl Sub<Duration> for Moment {
    type Output = Moment;

    fn sub(self, time: Duration) -> Moment {
        Moment(self.0.saturating_sub(nanos(time)))
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

    #[cfg(test)]
    pub(crate) const fn at(moment: Moment) -> Self {
        Now(Some(moment))
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
    fn the_end_of_time_is_not_passed() {
        let now = Moment::default();
        assert_eq!(now + Duration::MAX, Moment(i64::MAX));
        assert_eq!((now + Duration::MAX) + Duration::MAX, Moment(i64::MAX));
    }
}
