//! What all calls share: the accounts of all models, and what was counted.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::config::{Config, Limits};
use crate::limits::{Account, Levels, Rules};
use crate::memory::Memory;
use crate::report::Report;
use crate::tallies::Tallies;

/// One provider, shared by all its faces.
#[derive(Debug)]
pub(crate) struct Provider {
    pub(crate) config: Config,
    rules: Rules,
    pub(crate) memory: Arc<Memory>,
    /// Opened by the first call, so that a run does not depend on how long
    /// before it the provider was made.
    state: Mutex<Option<State>>,
}

/// Everything that calls change.
#[derive(Debug)]
pub(crate) struct State {
    /// The moment of the first call.
    pub(crate) epoch: Instant,
    accounts: HashMap<String, Account>,
    /// Names that were asked for, known or not; bounded.
    names: HashSet<String>,
    pub(crate) tallies: Tallies,
}

impl Provider {
    pub(crate) fn new(config: Config) -> Self {
        Self {
            rules: rules(&config),
            memory: Memory::new(config.bounds.memory_bytes),
            config,
            state: Mutex::new(None),
        }
    }

    /// Works on the state. The time is read once it is locked, so that it never
    /// runs backwards there.
    pub(crate) fn with_state<T>(&self, work: impl FnOnce(&mut State, Instant) -> T) -> T {
        let mut state = self.lock();
        let now = Instant::now();
        let state = state.get_or_insert_with(|| State {
            epoch: now,
            accounts: HashMap::new(),
            names: HashSet::new(),
            tallies: Tallies::new(self.rules.clock(now)),
        });
        work(state, now)
    }

    /// A panic in a caller's thread leaves the state in order: no sum is ever
    /// half made.
    fn lock(&self) -> MutexGuard<'_, Option<State>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn report(&self) -> Report {
        let state = self.lock();
        let Some(state) = &*state else {
            return Report::default();
        };
        state.tallies.report(|model, first, last| {
            let account = state.accounts.get(model)?;
            account.allowance(first, last)
        })
    }

    pub(crate) fn rules(&self) -> &Rules {
        &self.rules
    }
}

/// The rules by which accounts are kept.
fn rules(config: &Config) -> Rules {
    Rules {
        enforcement: config.enforcement,
        requests: config.requests,
        count_refused: config.count_refused,
        start_level: config.start_level,
        others: config.others,
        minute: config.in_client_time(Duration::from_secs(60)),
    }
}

impl State {
    /// Whether a name is among the first `bound` ones.
    pub(crate) fn meets(&mut self, model: &str, bound: u64) -> bool {
        let known = self.names.contains(model);
        let meets = known || (self.names.len() as u64) < bound;
        if meets && !known {
            self.names.insert(model.to_owned());
        }
        meets
    }

    /// The account of a model, which its first call opens.
    pub(crate) fn account(
        &mut self,
        model: &str,
        limits: Limits,
        rules: &Rules,
        now: Instant,
    ) -> &mut Account {
        if !self.accounts.contains_key(model) {
            let account = Account::new(limits, rules, self.epoch, now);
            self.accounts.insert(model.to_owned(), account);
        }
        self.opened(model).expect("it was just opened")
    }

    /// The account of a model that was called before.
    pub(crate) fn opened(&mut self, model: &str) -> Option<&mut Account> {
        self.accounts.get_mut(model)
    }

    pub(crate) fn levels(&mut self, model: &str, now: Instant) -> Levels {
        self.opened(model)
            .map_or_else(Levels::default, |account| account.levels(now))
    }
}
