use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;
use tollhouse_openai::{AccountConfig, OpenAi};

use crate::error::Refusal;
use crate::upstream::gates::Gates;

/// An account for each key that clients bring; the keys themselves are not kept.
pub(crate) struct Accounts {
    pub(super) pattern: Gates,
    openai: OpenAi,
    most: usize,
    /// The operating system's randomness, twice: 128 bits that nobody can aim at.
    hashers: [RandomState; 2],
    opened: Mutex<Opened>,
}

#[derive(Default)]
struct Opened {
    by_key: HashMap<[u64; 2], Open>,
    is_closed: bool,
}

/// One key's account.
struct Open {
    gates: Gates,
    number: usize,
    used: Instant,
    /// What it goes by.
    config: Arc<AccountConfig>,
}

/// After so long all limits by the minute are full again, so that forgetting an account
/// makes nobody go above one.
pub(super) const FORGOTTEN_AFTER: Duration = Duration::from_secs(150);

impl Accounts {
    pub(crate) fn new(pattern: Gates, openai: OpenAi, most: usize) -> Self {
        Accounts {
            pattern,
            openai,
            most,
            hashers: [RandomState::new(), RandomState::new()],
            opened: Mutex::default(),
        }
    }

    /// The account of a key, as the pattern is now.
    pub(super) fn of(&self, key: &[u8]) -> Result<Gates, Refusal> {
        let key = [0, 1].map(|half: usize| self.hashers[half].hash_one(key));
        let config = self.pattern.config();
        let (gates, before) = self.open(key, &config)?;
        // Changing an account wakes whoever waits, which is done under no lock.
        if !Arc::ptr_eq(&before, &config) {
            gates.go_by(&config);
        }
        Ok(gates)
    }

    /// The account, and what it went by until now.
    fn open(
        &self,
        key: [u64; 2],
        config: &Arc<AccountConfig>,
    ) -> Result<(Gates, Arc<AccountConfig>), Refusal> {
        let now = Instant::now();
        let mut opened = self.lock();
        if let Some(open) = opened.by_key.get_mut(&key) {
            open.used = now;
            let before = std::mem::replace(&mut open.config, Arc::clone(config));
            return Ok((open.gates.clone(), before));
        }
        if opened.is_closed {
            return Err(Refusal::Closing);
        }
        if opened.by_key.len() >= self.most {
            opened.forget_one(now)?;
        }
        let number = opened.free_number();
        let open = Open {
            gates: self.pattern.apart(number, self.openai.clone()),
            number,
            used: now,
            config: Arc::clone(config),
        };
        let gates = open.gates.clone();
        opened.by_key.insert(key, open);
        Ok((gates, Arc::clone(config)))
    }

    pub(super) fn all(&self) -> Vec<Gates> {
        let opened = self.lock();
        let opened = opened.by_key.values();
        opened.map(|open| open.gates.clone()).collect()
    }

    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        // Closing wakes whoever waits, which is done under no lock.
        for gates in self.all() {
            gates.close();
        }
    }

    /// No account is ever half opened.
    fn lock(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Opened {
    /// By which metrics tell an account from all others that are open.
    fn free_number(&self) -> usize {
        let is_free = |number: &usize| self.by_key.values().all(|open| open.number != *number);
        (1..).find(is_free).expect("fewer are open")
    }

    /// Forgets the account that was not used for the longest time: of those whose keys the
    /// provider never knew at once, or whoever makes keys up would keep all others out; of the
    /// others after some time.
    fn forget_one(&mut self, now: Instant) -> Result<(), Refusal> {
        let unproven = self.oldest_idle(|open| !open.gates.are_proven());
        let is_old = |open: &Open| now.saturating_duration_since(open.used) >= FORGOTTEN_AFTER;
        let oldest = unproven.or_else(|| self.oldest_idle(is_old));
        let oldest = oldest.ok_or(Refusal::TooManyKeys)?;
        self.by_key.remove(&oldest);
        Ok(())
    }

    fn oldest_idle(&self, may_go: impl Fn(&Open) -> bool) -> Option<[u64; 2]> {
        let all = self.by_key.iter();
        let idle = all.filter(|(_, open)| may_go(open) && open.gates.is_idle());
        let oldest = idle.min_by_key(|(_, open)| open.used);
        oldest.map(|(key, _)| *key)
    }
}

impl fmt::Debug for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Accounts")
            .field("most", &self.most)
            .finish_non_exhaustive()
    }
}
