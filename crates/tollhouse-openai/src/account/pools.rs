//! The pools that are in use.
//!
//! A call finds its pool by its model's name under a read lock, without an allocation.
//! Nothing of a user's runs under that lock, and neither does a pool's own: a pool's
//! queue tells recorders of what it did.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use tokio::time::Instant;
use tollhouse::shared::Sharing as Ledger;
use tollhouse::{AccountSlots, Ask, Caller, TokenBudget, TokenBudgetBuilder};

use super::callers::Callers;
use super::changes::Changes;
use super::config::{AccountConfig, Sharing};
use super::dry::DryRuns;
use super::models::{Kind, PoolId, Route, Rules, learns};
use crate::call::{Call, Endpoint};
use crate::policy::PolicyConfig;
use crate::policy::budget::{BudgetGate, CallPass};
use crate::policy::layer::{self, LiveAttempts};
use crate::policy::told::ToldLimits;

/// The most pools of models that no section names; further ones share one.
const MOST: usize = 1_000;

/// The most names whose pools are known at once; they are forgotten and looked up again.
const MOST_ROUTES: usize = 4_096;

/// No model has a name as long.
const LONGEST_NAME: usize = 256;

/// Of a pool of models with limits of their own.
const ADVICE: &str = "Give each a section of its own in [models] of a tollhouse.toml.";

/// How often it is looked whether pools can be dropped.
const SWEEP: Duration = Duration::from_secs(1);

/// The most pools of models that metrics know by name: each is a time series, and names
/// come from outside.
const MOST_LABELS: usize = 100;

/// One set of limits in use.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) id: PoolId,
    pub(super) section: Arc<str>,
    pub(super) gate: BudgetGate,
    config: Arc<PolicyConfig>,
    shared: SharedGates,
    dry: Option<Arc<DryRuns>>,
    /// What its answers told of their limits; `None` where it is one model's.
    told: Option<Arc<ToldLimits>>,
    /// How often it was looked up.
    uses: AtomicU64,
}

/// What all pools of an account share.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedGates {
    pub(super) slots: Option<AccountSlots>,
    pub(super) max_slots: Option<usize>,
    /// Between launches of all pools; `None` where each pool keeps its own.
    interval: Option<Duration>,
    /// With whom other processes do.
    pub(super) ledger: Option<Ledger>,
}

/// All pools of an account.
pub(super) struct Pools {
    state: RwLock<State>,
    /// Of all its layers.
    attempts: LiveAttempts,
}

struct State {
    config: Arc<AccountConfig>,
    rules: Arc<Rules>,
    callers: Arc<Callers>,
    shared: SharedGates,
    dry: Option<Arc<DryRuns>>,
    live: HashMap<PoolId, Arc<Pool>>,
    /// Those among them that no section names.
    strangers: usize,
    /// Where each model was found to belong. A pool that is dropped is found no more.
    routes: HashMap<Endpoint, HashMap<Box<str>, Weak<Pool>>>,
    names: usize,
    labels: HashSet<Arc<str>>,
    swept: Option<Instant>,
    closed: bool,
}

impl Pools {
    pub(super) fn new(config: AccountConfig) -> Self {
        let attempts = LiveAttempts::new(&config.defaults);
        let state = State {
            rules: Arc::new(Rules::new(&config)),
            callers: Arc::new(Callers::new(&config)),
            shared: SharedGates::new(&config),
            dry: config.dry_run.then(Arc::default),
            config: Arc::new(config),
            live: HashMap::new(),
            strangers: 0,
            routes: HashMap::new(),
            names: 0,
            labels: HashSet::new(),
            swept: None,
            closed: false,
        };
        Pools {
            state: RwLock::new(state),
            attempts,
        }
    }

    /// Has all pools draw leases from a ledger that other processes draw from.
    ///
    /// # Panics
    ///
    /// If there is one already.
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
    /// Pools that something still leads to go on with their new numbers. The others are
    /// found no more: who stands in them is let in by their old numbers, and they are
    /// gone with the last one.
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
        self.sweep();
    }

    /// Drops the pools that nobody uses and that know nothing a new one would not.
    pub(super) fn sweep(&self) {
        let pools = self.all();
        let pools = pools.into_iter().filter(|pool| pool.is_made_by_use());
        let resting: Vec<_> = pools.filter_map(Resting::of).collect();
        let dropped: Vec<_> = {
            let mut state = self.write();
            let dropped = resting.iter().filter_map(|resting| state.remove(resting));
            dropped.collect()
        };
        drop(dropped);
    }

    pub(super) fn close(&self) {
        self.write().closed = true;
        for pool in self.all() {
            pool.gate.budget().close();
        }
    }

    /// Waits until no pool has anybody in it.
    pub(super) async fn idle(&self) {
        loop {
            for pool in self.all() {
                pool.gate.budget().idle().await;
            }
            // Somebody may have come to another one meanwhile.
            let is_busy = |pool: Arc<Pool>| {
                let now = pool.gate.budget().snapshot();
                now.in_flight + now.waiting > 0
            };
            if !self.all().into_iter().any(is_busy) {
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

/// What is to be done for a model whose pool is not known.
enum Plan {
    There(Arc<Pool>),
    Build(Recipe),
}

/// What a pool is made of.
struct Recipe {
    id: PoolId,
    section: Arc<str>,
    config: Arc<PolicyConfig>,
    shared: SharedGates,
    dry: Option<Arc<DryRuns>>,
    label: Option<Arc<str>>,
}

/// The numbers of a pool.
fn limits(config: &PolicyConfig, shared: &SharedGates) -> TokenBudgetBuilder {
    let mut limits = layer::builder(config);
    if let Some(slots) = &shared.slots {
        limits = limits.account_slots(slots);
    }
    match shared.interval {
        Some(_) => limits.stagger(Duration::ZERO),
        None => limits,
    }
}

/// What a pool is called among processes: kinds have names of their own.
fn shared_name(id: &PoolId) -> String {
    let kind = match id.kind {
        Kind::Named => "pools",
        Kind::Section => "models",
        Kind::Model => "model",
        Kind::Shared => "account",
    };
    format!("{kind}/{}", id.name)
}

impl Recipe {
    fn build(self) -> Pool {
        let mut builder = limits(&self.config, &self.shared);
        if let Some(label) = &self.label {
            builder = builder.pool(&**label);
        }
        if let Some(ledger) = &self.shared.ledger {
            builder = builder.shared(ledger, shared_name(&self.id));
        }
        let budget = builder.build().expect("a config is checked when it is set");
        Pool {
            gate: BudgetGate::new(budget, &self.config),
            told: (self.id.kind != Kind::Model).then(|| ToldLimits::new(ADVICE)),
            id: self.id,
            section: self.section,
            config: self.config,
            shared: self.shared,
            dry: self.dry,
            uses: AtomicU64::new(0),
        }
    }
}

impl State {
    fn find(&self, model: &str, endpoint: Endpoint) -> Option<Arc<Pool>> {
        let pool = self.routes.get(&endpoint)?.get(model)?.upgrade()?;
        pool.uses.fetch_add(1, Ordering::Relaxed);
        Some(pool)
    }

    fn plan(&self, model: &str, endpoint: Endpoint) -> Plan {
        let named = Some(model).filter(|model| (1..=LONGEST_NAME).contains(&model.len()));
        let mut route = self.rules.route(named, Some(endpoint));
        let is_full = |id: &PoolId| id.kind == Kind::Model && self.strangers >= MOST;
        if is_full(&route.id) && !self.live.contains_key(&route.id) {
            route = self.rules.shared();
        }
        if let Some(pool) = self.live.get(&route.id) {
            pool.uses.fetch_add(1, Ordering::Relaxed);
            return Plan::There(Arc::clone(pool));
        }
        let recipe = Recipe {
            label: self.label(&route.id),
            id: route.id,
            section: route.section,
            config: route.config,
            shared: self.shared.clone(),
            dry: self.dry.clone(),
        };
        Plan::Build(recipe)
    }

    fn label(&self, id: &PoolId) -> Option<Arc<str>> {
        let is_alone = self.config.sharing == Sharing::OnePool && id.kind == Kind::Shared;
        if is_alone {
            return None;
        }
        let is_known = id.kind != Kind::Model
            || self.labels.len() < MOST_LABELS
            || self.labels.contains(&id.name);
        Some(match is_known {
            true => Arc::clone(&id.name),
            false => "other".into(),
        })
    }

    /// Keeps a pool, and where a model belongs; `None` where there is no place for it any
    /// more.
    fn keep(
        &mut self,
        made: &Arc<Pool>,
        config: &Arc<AccountConfig>,
        model: &str,
        endpoint: Endpoint,
    ) -> Option<Arc<Pool>> {
        if !Arc::ptr_eq(config, &self.config) {
            return None;
        }
        let pool = match self.live.get(&made.id) {
            Some(there) => Arc::clone(there),
            None if made.is_stranger() && self.strangers >= MOST => return None,
            None => {
                self.strangers += usize::from(made.is_stranger());
                if made.is_stranger() && self.labels.len() < MOST_LABELS {
                    self.labels.insert(Arc::clone(&made.id.name));
                }
                self.live.insert(made.id.clone(), Arc::clone(made));
                Arc::clone(made)
            }
        };
        pool.uses.fetch_add(1, Ordering::Relaxed);
        if model.len() <= LONGEST_NAME {
            if self.names >= MOST_ROUTES {
                self.forget_routes();
            }
            let routes = self.routes.entry(endpoint).or_default();
            let before = routes.insert(model.into(), Arc::downgrade(&pool));
            self.names += usize::from(before.is_none());
        }
        Some(pool)
    }

    /// Goes by another config from now on; gives out what falls away.
    fn change(&mut self, next: Next) -> Gone {
        let Next {
            config,
            rules,
            callers,
        } = next;
        let shared = self.shared.under(&config);
        let dry = match config.dry_run {
            true => Some(self.dry.take().unwrap_or_default()),
            false => None,
        };
        let before = std::mem::take(&mut self.live);
        for pool in before.values() {
            if let Some(route) = rules.still(&pool.id) {
                let pool = pool.under(route, shared.clone(), dry.clone());
                self.live.insert(pool.id.clone(), Arc::new(pool));
            }
        }
        let strangers = self.live.values().filter(|pool| pool.is_stranger());
        self.strangers = strangers.count();
        self.names = 0;
        Gone {
            _pools: before,
            _routes: std::mem::take(&mut self.routes),
            _shared: std::mem::replace(&mut self.shared, shared),
            _dry: std::mem::replace(&mut self.dry, dry),
            _config: std::mem::replace(&mut self.config, config),
            _rules: std::mem::replace(&mut self.rules, rules),
            _callers: std::mem::replace(&mut self.callers, callers),
        }
    }

    fn forget_routes(&mut self) {
        self.routes.clear();
        self.names = 0;
    }

    /// Lets go of a pool, if nobody has looked it up since it was seen at rest.
    fn remove(&mut self, resting: &Resting) -> Option<Arc<Pool>> {
        let id = &resting.pool.id;
        let is_same = |there: &Arc<Pool>| Arc::ptr_eq(there, &resting.pool);
        if !self.live.get(id).is_some_and(is_same) || resting.pool.uses() != resting.uses {
            return None;
        }
        self.strangers -= usize::from(resting.pool.is_stranger());
        // Whoever shared for want of room may have one of his own now.
        self.forget_routes();
        self.live.remove(id)
    }
}

/// What an account goes by from now on.
struct Next {
    config: Arc<AccountConfig>,
    rules: Arc<Rules>,
    callers: Arc<Callers>,
}

impl Next {
    fn new(config: AccountConfig) -> Self {
        Next {
            rules: Arc::new(Rules::new(&config)),
            callers: Arc::new(Callers::new(&config)),
            config: Arc::new(config),
        }
    }
}

/// What a change left behind, to be dropped under no lock.
struct Gone {
    _pools: HashMap<PoolId, Arc<Pool>>,
    _routes: HashMap<Endpoint, HashMap<Box<str>, Weak<Pool>>>,
    _shared: SharedGates,
    _dry: Option<Arc<DryRuns>>,
    _config: Arc<AccountConfig>,
    _rules: Arc<Rules>,
    _callers: Arc<Callers>,
}

/// A pool that was seen at rest.
struct Resting {
    pool: Arc<Pool>,
    uses: u64,
}

impl Resting {
    /// Looked up so often, in nobody's hands and at rest, in this order: as long as
    /// nobody looks it up again, it stays at rest.
    fn of(pool: Arc<Pool>) -> Option<Resting> {
        let uses = pool.uses();
        // The account's and ours.
        let is_idle = Arc::strong_count(&pool) == 2 && pool.gate.budget().is_at_rest();
        is_idle.then_some(Resting { pool, uses })
    }
}

impl Pool {
    /// Begins the way of one call.
    #[inline]
    pub(super) fn enter(&self, call: &Call, ask: Ask) -> CallPass {
        let (pass, ask) = self.gate.enter_with_charge(call, ask);
        let watched = self.told.as_ref().and_then(|told| told.watch(call));
        let pass = CallPass::new(pass).watched(watched);
        match &self.dry {
            Some(dry) => {
                let watch = Arc::clone(dry);
                pass.dry(watch, self.id.name.clone(), self.gate.budget().clone(), ask)
            }
            None => pass,
        }
    }

    pub(super) fn budget(&self) -> TokenBudget {
        self.gate.budget().clone()
    }

    /// Has its queue go by its config, and those who are in it have the weights that the
    /// account says.
    fn retune(&self, callers: &Callers) {
        let budget = self.gate.budget();
        budget
            .set_limits(limits(&self.config, &self.shared))
            .expect("a config is checked when it is set");
        for caller in budget.snapshot().callers {
            let Some(name) = caller.name else { continue };
            if let Some(weight) = callers.weight_of(&name) {
                budget.set_caller(&Caller::new(name).weight(weight));
            }
        }
    }

    /// The same pool as other rules describe it.
    fn under(&self, route: Route, shared: SharedGates, dry: Option<Arc<DryRuns>>) -> Pool {
        Pool {
            gate: self.gate.under(&route.config),
            id: route.id,
            section: route.section,
            config: route.config,
            shared,
            dry,
            told: self.told.clone(),
            uses: AtomicU64::new(self.uses()),
        }
    }

    fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    fn is_stranger(&self) -> bool {
        self.id.kind == Kind::Model
    }

    /// What sections name is finite, and stays.
    fn is_made_by_use(&self) -> bool {
        matches!(self.id.kind, Kind::Model | Kind::Shared)
    }
}

impl SharedGates {
    fn new(config: &AccountConfig) -> Self {
        // Variables speak of one pool; where its limits must be learned model by model,
        // what they say of slots and spacing still holds for all.
        let apart = config.sharing == Sharing::OnePool && learns(&config.defaults);
        let defaults = &config.defaults;
        let slots = match apart {
            true => Some(
                defaults
                    .max_concurrency
                    .min(config.max_concurrency.unwrap_or(usize::MAX)),
            ),
            false => config.max_concurrency,
        };
        let shared = SharedGates {
            slots: slots.map(AccountSlots::new),
            max_slots: slots,
            interval: apart.then_some(defaults.stagger),
            ledger: None,
        };
        shared.retune();
        shared
    }

    /// What another config says, with the gates that there are.
    fn under(&self, config: &AccountConfig) -> SharedGates {
        let next = SharedGates::new(config);
        let there = self.clone();
        let slots = next.slots.map(|new| {
            there.slots.unwrap_or_else(|| {
                if let Some(ledger) = &self.ledger {
                    new.share(ledger);
                }
                new
            })
        });
        SharedGates {
            slots,
            ledger: there.ledger,
            ..next
        }
    }

    fn retune(&self) {
        if let (Some(slots), Some(max)) = (&self.slots, self.max_slots) {
            slots.set_max(max);
            slots.set_interval(self.interval.unwrap_or_default());
        }
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
