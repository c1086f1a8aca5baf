//! An outage of the provider, and when to look whether it is over. Pure: told
//! what happens and the time, it answers when the next probe is due.

use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;

use tokio::time::{Duration, Instant};

/// The first probe goes out about so long after the outage was noticed; each
/// further one after twice as long ...
const FIRST_PROBE: Duration = Duration::from_secs(1);
/// ... up to this.
const LONGEST: Duration = Duration::from_secs(30);

/// While it lasts, nothing is sent but probes, one at a time.
#[derive(Debug)]
pub(crate) struct Outage {
    /// When the first attempt failed.
    pub(crate) since: Instant,
    /// When it was noticed: what was sent before shows nothing of it.
    pub(crate) noticed: Instant,
    pub(crate) reason: Arc<str>,
    /// The line whose failure began it, where it was one that may be to blame.
    pub(crate) suspect: Option<u64>,
    failed_probes: u32,
    /// `None` while one is under way.
    next_probe: Option<Instant>,
}

impl Outage {
    pub(crate) fn new(since: Instant, reason: &str, suspect: Option<u64>, now: Instant) -> Self {
        Self {
            since,
            noticed: now,
            reason: reason.into(),
            suspect,
            failed_probes: 0,
            next_probe: Some(now + delay(0)),
        }
    }

    /// When the next probe is due; `None` while one is under way.
    pub(crate) fn next_probe(&self) -> Option<Instant> {
        self.next_probe
    }

    pub(crate) fn probe_left(&mut self) {
        self.next_probe = None;
    }

    /// The probe came back, and the outage is not over.
    pub(crate) fn probe_failed(&mut self, reason: &str, now: Instant) {
        self.failed_probes = self.failed_probes.saturating_add(1);
        self.reason = reason.into();
        self.next_probe = Some(now + delay(self.failed_probes));
    }

    /// The probe came back without having been sent.
    pub(crate) fn probe_untold(&mut self, now: Instant) {
        self.next_probe = Some(now);
    }

    /// Whether no probe has failed: then it was perhaps no outage at all.
    pub(crate) fn is_unproven(&self) -> bool {
        self.failed_probes == 0
    }
}

/// From half to all of a time that doubles with each that failed before, so
/// that a thousand runners do not come back in the same second.
pub(crate) fn delay(failed: u32) -> Duration {
    let longest = FIRST_PROBE.saturating_mul(1 << failed.min(6)).min(LONGEST);
    // Its keys are random, and that is all that is wanted of it.
    let share = RandomState::new().hash_one(failed) as f64 / u64::MAX as f64;
    longest.mul_f64(0.5 + share / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_thirty_seconds_and_differ() {
        let longest = [1, 2, 4, 8, 16, 30, 30, 30].map(Duration::from_secs);
        for (failed, longest) in (0..).zip(longest) {
            let drawn: Vec<_> = (0..100).map(|_| delay(failed)).collect();
            let within = |delay: &Duration| (longest / 2..=longest).contains(delay);
            assert!(drawn.iter().all(within), "{failed}: {drawn:?}");
            assert!(drawn.iter().any(|delay| *delay != drawn[0]));
        }
        assert!(delay(u32::MAX) <= LONGEST);
    }
}
