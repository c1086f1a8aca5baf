//! Whether the provider answers at all, as every attempt shows it.
//!
//! A request that fails comes back to the run only after all of its attempts,
//! which may take minutes. Each attempt is seen at once where a
//! [`SentLayer`](crate::SentLayer) stands around the transport.

use std::fmt::Display;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

/// So many attempts in a row without an answer ...
const LEAST_FAILED: u32 = 2;
/// ... over so long are no accident of one connection.
const LEAST_SILENT: Duration = Duration::from_secs(5);

/// What the attempts of a run have shown until now.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    seen: Mutex<Seen>,
    /// Told of each attempt without an answer.
    failed: Notify,
}

#[derive(Debug, Default)]
struct Seen {
    /// Whether an answer has ever begun.
    answered: bool,
    silence: Option<Silence>,
}

/// Attempts in a row that drew no answer.
#[derive(Clone, Debug)]
pub(crate) struct Silence {
    pub(crate) since: Instant,
    pub(crate) attempts: u32,
    /// Why the last of them drew none.
    pub(crate) reason: String,
}

impl Pulse {
    pub(crate) fn answered(&self) {
        let mut seen = self.lock();
        seen.answered = true;
        seen.silence = None;
    }

    pub(crate) fn failed(&self, error: &dyn Display) {
        // A user's code, so not under the lock.
        let reason = error.to_string();
        {
            let mut seen = self.lock();
            let silence = seen.silence.get_or_insert_with(|| Silence {
                since: Instant::now(),
                attempts: 0,
                reason: String::new(),
            });
            silence.attempts = silence.attempts.saturating_add(1);
            silence.reason = reason;
        }
        self.failed.notify_one();
    }

    /// Ends after an attempt without an answer. Safe to give up.
    pub(crate) async fn next_failed(&self) {
        self.failed.notified().await;
    }

    /// Whether an answer has ever begun.
    pub(crate) fn has_answered(&self) -> bool {
        self.lock().answered
    }

    /// The attempts without an answer since the last one with one, if there are.
    pub(crate) fn silence(&self) -> Option<Silence> {
        self.lock().silence.clone()
    }

    /// No sum is ever half made, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Silence {
    /// Whether this is more than a connection that broke.
    pub(crate) fn is_outage(&self, now: Instant) -> bool {
        self.attempts >= LEAST_FAILED && now.saturating_duration_since(self.since) >= LEAST_SILENT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn silence_is_an_outage_once_it_has_lasted() {
        let pulse = Pulse::default();
        let is_outage = || {
            let silence = pulse.silence();
            silence.is_some_and(|silence| silence.is_outage(Instant::now()))
        };
        for _ in 0..20 {
            pulse.failed(&"reset by peer");
        }
        assert!(!is_outage(), "one connection broke");
        tokio::time::advance(LEAST_SILENT).await;
        assert!(is_outage());
        assert!(!pulse.has_answered());
        pulse.answered();
        assert!(!is_outage() && pulse.has_answered());
        pulse.failed(&"reset by peer");
        tokio::time::advance(LEAST_SILENT).await;
        assert!(!is_outage(), "a single attempt shows nothing");
    }
}
