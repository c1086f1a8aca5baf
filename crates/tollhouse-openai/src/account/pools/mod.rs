//! The pools that are in use.
//!
//! A call finds its pool by its model's name under a read lock, without an allocation.
//! Nothing of a user's runs under that lock, and neither does a pool's own: a pool's
//! queue tells recorders of what it did.

mod gates;
mod pool;
mod state;

use std::cmp::Reverse;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use tokio::time::Instant;
use tollhouse::Ask;
use tollhouse::shared::Sharing as Ledger;

use super::changes::Changes;
use super::config::AccountConfig;
use super::dry::DryRuns;
use super::models::Rules;
use crate::call::Endpoint;
use crate::policy::layer::LiveAttempts;

pub(super) use gates::SharedGates;
pub(super) use pool::Pool;
use state::{Next, Plan, ROOM, Resting, State};

/// How often it is looked whether pools can be dropped.
const SWEEP: Duration = Duration::from_secs(1);

/// All pools of an account.
pub(super) struct Pools {
    state: RwLock<State>,
    /// Of all its layers.
    attempts: LiveAttempts,
}

impl Pools {
    pub(super) fn new(config: AccountConfig) -> Self {
        let attempts = LiveAttempts::new(&config.defaults);
        Pools {
            state: RwLock::new(State::new(config)),
            attempts,
        }
    }

    /// Has all pools draw leases from a ledger that other processes draw from.
    ///
    /// # Panics
    ///
    /// If there is one already.
    #[track_caller]
    pub(super) fn share(&self, ledger: &Ledger) {
        let slots = {
            let mut state = self.write();
            assert!(
                state.live.is_empty(),
                "an account is shared before its first call"
            );
            state.shared.ledger = Some(ledger.clone());
            state.shared.slots.clone()
        };
        if let Some(slots) = slots {
            slots.share(ledger);
        }
    }

    pub(super) fn attempts(&self) -> LiveAttempts {
        self.attempts.clone()
    }

    pub(super) fn config(&self) -> Arc<AccountConfig> {
        Arc::clone(&self.read().config)
    }

    pub(super) fn rules(&self) -> Arc<Rules> {
        Arc::clone(&self.read().rules)
    }

    pub(super) fn shared(&self) -> SharedGates {
        self.read().shared.clone()
    }

    pub(super) fn dry_runs(&self) -> Option<Arc<DryRuns>> {
        self.read().dry.clone()
    }

    /// The pool of a model, made where it is not there yet.
    #[inline]
    pub(super) fn find(&self, model: &str, endpoint: Endpoint) -> Arc<Pool> {
        let found = self.read().find(model, endpoint);
        found.unwrap_or_else(|| self.make(model, endpoint))
    }

    /// An ask with the weight that the account gives its caller.
    #[inline]
    pub(super) fn weigh(&self, ask: Ask) -> Ask {
        match ask.who().name() {
            Some(_) => {
                let callers = Arc::clone(&self.read().callers);
                callers.weigh(ask)
            }
            None => ask,
        }
    }

    /// The weight that the account gives a name.
    pub(super) fn weight_of(&self, name: &str) -> Option<u32> {
        self.read().callers.weight_of(name)
    }

    /// Puts a config in the place of this one; `None` if that is not the one in use any
    /// more.
    ///
    /// Pools that something still leads to go on with their new numbers, and so does one whose
    /// models all lead to one that is new: as that one. The others are found no more: who stands
    /// in them is let in by their old numbers, and they are gone with the last one.
    pub(super) fn replace(&self, old: &Arc<AccountConfig>, new: AccountConfig) -> Option<Changes> {
        let changes = Changes::between(old, &new);
        let next = Next::new(new);
        // What falls away is dropped after the lock.
        let _gone = {
            let mut state = self.write();
            if !Arc::ptr_eq(&state.config, old) {
                return None;
            }
            state.change(next)
        };
        self.retune();
        Some(changes)
    }

    /// Has every pool, and what they share, go by its config. Each tells a recorder of
    /// itself, so this is done under no lock of ours; another change may come in between
    /// and then it is done again, so that the last word is the latest config's.
    fn retune(&self) {
        loop {
            let (config, pools, shared, callers) = {
                let state = self.read();
                let pools: Vec<_> = state.live.values().cloned().collect();
                let callers = Arc::clone(&state.callers);
                (
                    Arc::clone(&state.config),
                    pools,
                    state.shared.clone(),
                    callers,
                )
            };
            shared.retune();
            self.attempts.follow(&config.defaults);
            for pool in pools {
                pool.retune(&callers);
            }
            if Arc::ptr_eq(&config, &self.read().config) {
                return;
            }
        }
    }

    /// Every pool in use, by kind and name.
    pub(super) fn all(&self) -> Vec<Arc<Pool>> {
        let mut all: Vec<_> = self.read().live.values().cloned().collect();
        all.sort_by(|one, other| one.id.cmp(&other.id));
        all
    }

    /// Those that nothing leads to any more, though somebody may still be in them.
    pub(super) fn left(&self) -> Vec<Arc<Pool>> {
        self.read().left.clone()
    }

    fn all_and_left(&self) -> Vec<Arc<Pool>> {
        let mut all = self.all();
        all.extend(self.left());
        all
    }

    /// Drops those that are left and that nobody is in any more.
    fn forget_left(&self) {
        let mut left = self.left();
        // The account's and ours: nobody has found it and is about to go in.
        left.retain(|pool| Arc::strong_count(pool) == 2 && !pool.is_busy());
        if left.is_empty() {
            return;
        }
        // Ours are the last of them, and are dropped after the lock.
        let is_over = |pool: &Arc<Pool>| left.iter().any(|over| Arc::ptr_eq(over, pool));
        self.write().left.retain(|pool| !is_over(pool));
    }

    #[cold]
    fn make(&self, model: &str, endpoint: Endpoint) -> Arc<Pool> {
        self.sweep_now_and_then();
        loop {
            let (plan, config) = {
                let state = self.read();
                (state.plan(model, endpoint), Arc::clone(&state.config))
            };
            let made = match plan {
                Plan::There(pool) => pool,
                // Built under no lock: it may tell a recorder of itself.
                Plan::Build(recipe) => Arc::new(recipe.build()),
            };
            // One that another thread built meanwhile goes before ours, which is dropped
            // after the lock; and one of a config that is not in use any more is made
            // again.
            let kept = self.write().keep(&made, &config, model, endpoint);
            let Some(kept) = kept else { continue };
            if self.read().closed {
                kept.gate.budget().close();
            }
            return kept;
        }
    }

    fn sweep_now_and_then(&self) {
        let now = Instant::now();
        let is_due = |swept: Option<Instant>| swept.is_none_or(|swept| now >= swept + SWEEP);
        if !is_due(self.read().swept) {
            return;
        }
        self.write().swept = Some(now);
        let learned = self.drop_forgettable();
        self.make_room(learned);
    }

    /// Drops the pools that nobody uses and that know nothing a new one would not.
    pub(super) fn sweep(&self) {
        drop(self.drop_forgettable());
    }

    /// The same; gives out those that nobody uses and that have learned something.
    fn drop_forgettable(&self) -> Vec<Resting> {
        self.forget_left();
        let pools = self.all();
        let pools = pools.into_iter().filter(|pool| pool.is_made_by_use());
        let resting = pools.filter_map(Resting::of);
        let (learned, others): (Vec<_>, Vec<_>) = resting.partition(|it| it.has_learned);
        self.drop_those(&others);
        learned
    }

    /// What was learned is in force until it is learned otherwise, so it goes only where
    /// there is no room, and first that which was used longest ago.
    fn make_room(&self, mut learned: Vec<Resting>) {
        if !self.read().is_full() {
            return;
        }
        learned.retain(Resting::is_stranger);
        learned.sort_by_key(|resting| Reverse(resting.times));
        learned.truncate(ROOM);
        self.drop_those(&learned);
    }

    /// As far as nobody has looked them up since.
    fn drop_those(&self, resting: &[Resting]) {
        let dropped: Vec<_> = {
            let mut state = self.write();
            let dropped = resting.iter().filter_map(|resting| state.remove(resting));
            dropped.collect()
        };
        drop(dropped);
    }

    pub(super) fn close(&self) {
        self.write().closed = true;
        for pool in self.all_and_left() {
            pool.gate.budget().close();
        }
        self.attempts.close();
    }

    /// Waits until no pool has anybody in it.
    pub(super) async fn idle(&self) {
        loop {
            for pool in self.all_and_left() {
                pool.gate.budget().idle().await;
            }
            // Somebody may have come to another one meanwhile.
            if !self.all_and_left().iter().any(|pool| pool.is_busy()) {
                return;
            }
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Pools {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (config, live) = {
            let state = self.read();
            (Arc::clone(&state.config), state.live.len())
        };
        f.debug_struct("Pools")
            .field("config", &config)
            .field("live", &live)
            .finish_non_exhaustive()
    }
}
