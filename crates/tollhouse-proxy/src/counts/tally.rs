//! What the calls of each token came to.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;

/// So many tokens are tallied at once; beyond them, the one that was not shown for the
/// longest time is forgotten.
const MOST: usize = 4_096;

/// A tally for each token that was shown; the tokens themselves are not kept.
pub(crate) struct Tallies {
    hashers: [RandomState; 2],
    by_token: Mutex<ByToken>,
}

#[derive(Default)]
struct ByToken {
    shown: u64,
    /// By hashes, which a table would hash again.
    tallies: BTreeMap<[u64; 2], (Arc<Tally>, u64)>,
}

/// What the calls of one token came to, as they ended.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    calls: AtomicU64,
    attempts: AtomicU64,
    waited_micros: AtomicU64,
    longest_micros: AtomicU64,
}

/// The same as `GET /tollhouse/me` tells it.
#[derive(Debug, Serialize)]
pub(crate) struct Told {
    calls: u64,
    attempts: u64,
    waited_seconds: f64,
    longest_wait_seconds: f64,
}

impl Tallies {
    pub(crate) fn new() -> Self {
        Tallies {
            hashers: [RandomState::new(), RandomState::new()],
            by_token: Mutex::default(),
        }
    }

    /// That of a token, which somebody has found good.
    pub(crate) fn of(&self, token: &[u8]) -> Arc<Tally> {
        let key = [0, 1].map(|half: usize| self.hashers[half].hash_one(token));
        let mut by_token = self.lock();
        by_token.shown += 1;
        let now = by_token.shown;
        if let Some((tally, shown)) = by_token.tallies.get_mut(&key) {
            *shown = now;
            return Arc::clone(tally);
        }
        if by_token.tallies.len() >= MOST {
            by_token.forget_one();
        }
        let tally = Arc::<Tally>::default();
        by_token.tallies.insert(key, (Arc::clone(&tally), now));
        tally
    }

    /// No entry is ever half made.
    fn lock(&self) -> MutexGuard<'_, ByToken> {
        self.by_token.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ByToken {
    fn forget_one(&mut self) {
        let oldest = self.tallies.iter().min_by_key(|(_, (_, shown))| *shown);
        if let Some(oldest) = oldest.map(|(key, _)| *key) {
            self.tallies.remove(&oldest);
        }
    }
}

impl Tally {
    /// Counts a call that is over.
    pub(crate) fn add(&self, wait: Option<Duration>, attempts: u32) {
        let micros = wait.unwrap_or_default().as_micros();
        let micros = u64::try_from(micros).unwrap_or(u64::MAX);
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.attempts
            .fetch_add(u64::from(attempts), Ordering::Relaxed);
        self.waited_micros.fetch_add(micros, Ordering::Relaxed);
        self.longest_micros.fetch_max(micros, Ordering::Relaxed);
    }

    pub(crate) fn told(&self) -> Told {
        let seconds = |micros: &AtomicU64| micros.load(Ordering::Relaxed) as f64 / 1e6;
        Told {
            calls: self.calls.load(Ordering::Relaxed),
            attempts: self.attempts.load(Ordering::Relaxed),
            waited_seconds: seconds(&self.waited_micros),
            longest_wait_seconds: seconds(&self.longest_micros),
        }
    }
}

impl fmt::Debug for Tallies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tallies").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_have_a_tally_each_and_the_oldest_is_forgotten() {
        let tallies = Tallies::new();
        let wait = |millis| Some(Duration::from_millis(millis));
        tallies.of(b"one").add(wait(250), 2);
        tallies.of(b"one").add(wait(500), 1);
        tallies.of(b"one").add(None, 0);
        tallies.of(b"other").add(wait(4_000), 1);
        let told = tallies.of(b"one").told();
        assert_eq!((told.calls, told.attempts), (3, 3));
        assert_eq!(
            (told.waited_seconds, told.longest_wait_seconds),
            (0.75, 0.5)
        );
        for n in 0..MOST - 1 {
            tallies.of(&n.to_le_bytes());
        }
        assert_eq!(tallies.of(b"one").told().calls, 3);
        assert_eq!(tallies.of(b"other").told().calls, 0, "forgotten");
    }
}
