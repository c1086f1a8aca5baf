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
use tollhouse::{Ask, ConcurrencyLayer, StaggerLayer, TokenBudget};

use super::config::{AccountConfig, Sharing};
use super::dry::DryRuns;
use super::models::{Kind, PoolId, Rules, learns};
use crate::call::{Call, Endpoint};
use crate::policy::PolicyConfig;
use crate::policy::budget::{BudgetGate, CallPass};
use crate::policy::layer;

/// The most pools of models that no section names; further ones share one.
const MOST: usize = 1_000;

/// The most names whose pools are known at once; they are forgotten and looked up again.
const MOST_ROUTES: usize = 4_096;

/// No model has a name as long.
const LONGEST_NAME: usize = 256;

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
    shared: SharedGates,
    dry: Option<Arc<DryRuns>>,
    /// How often it was looked up.
    uses: AtomicU64,
}

/// What all pools of an account share.
#[derive(Clone, Debug, Default)]
pub(super) struct SharedGates {
    pub(super) slots: Option<ConcurrencyLayer>,
    pub(super) max_slots: Option<usize>,
    pub(super) spacing: Option<StaggerLayer>,
}

/// All pools of an account.
pub(super) struct Pools {
    state: RwLock<State>,
}

struct State {
    config: Arc<AccountConfig>,
    rules: Arc<Rules>,
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
        let state = State {
            rules: Arc::new(Rules::new(&config)),
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
        }
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
            let plan = self.read().plan(model, endpoint);
            let made = match plan {
                Plan::There(pool) => pool,
                // Built under no lock: it may tell a recorder of itself.
                Plan::Build(recipe) => Arc::new(recipe.build()),
            };
            // One that another thread built meanwhile goes before ours, which is dropped
            // after the lock.
            let kept = self.write().keep(&made, model, endpoint);
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

impl Recipe {
    fn build(self) -> Pool {
        let mut builder = layer::builder(&self.config);
        if self.shared.spacing.is_some() {
            builder = builder.stagger(Duration::ZERO);
        }
        if let Some(label) = &self.label {
            builder = builder.name(&**label);
        }
        let budget = builder.build().expect("a config is checked when it is set");
        Pool {
            gate: BudgetGate::new(budget, &self.config),
            id: self.id,
            section: self.section,
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
            return self.config.defaults.name.as_deref().map(Arc::from);
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
    fn keep(&mut self, made: &Arc<Pool>, model: &str, endpoint: Endpoint) -> Option<Arc<Pool>> {
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
        let SharedGates { slots, spacing, .. } = &self.shared;
        let pass = CallPass::new(pass).sharing(slots.as_ref(), spacing.as_ref(), &ask);
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
        let spacing = Some(defaults.stagger).filter(|stagger| apart && !stagger.is_zero());
        SharedGates {
            slots: slots.map(ConcurrencyLayer::new),
            max_slots: slots,
            spacing: spacing.map(StaggerLayer::new),
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
