//! Which pools there are, and where each model belongs: what changes under the lock.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Weak};

use tokio::time::Instant;

use super::gates::SharedGates;
use super::pool::{Pool, Recipe};
use crate::account::callers::Callers;
use crate::account::config::{AccountConfig, Sharing};
use crate::account::dry::DryRuns;
use crate::account::models::{Kind, PoolId, Route, Rules};
use crate::call::Endpoint;

/// The most pools of models that no section names; further ones share one.
const MOST: usize = 1_000;

/// How many of those are dropped at once where there is no room and all have learned
/// something: looking for them takes a look at every one.
pub(super) const ROOM: usize = MOST / 10;

/// The most names whose pools are known at once; they are forgotten and looked up again.
const MOST_ROUTES: usize = 4_096;

/// No model has a name as long.
const LONGEST_NAME: usize = 256;

/// The most pools of models that metrics know by name: each is a time series, and names
/// come from outside.
const MOST_LABELS: usize = 100;

/// What an account knows of its pools.
pub(super) struct State {
    pub(super) config: Arc<AccountConfig>,
    pub(super) rules: Arc<Rules>,
    pub(super) callers: Arc<Callers>,
    pub(super) shared: SharedGates,
    pub(super) dry: Option<Arc<DryRuns>>,
    pub(super) live: HashMap<PoolId, Arc<Pool>>,
    /// Those among them that no section names.
    strangers: usize,
    /// To which nothing leads any more, though somebody may still be in them.
    pub(super) left: Vec<Arc<Pool>>,
    /// Where each model was found to belong. A pool that is dropped is found no more.
    routes: Routes,
    names: usize,
    labels: HashSet<Arc<str>>,
    pub(super) swept: Option<Instant>,
    pub(super) closed: bool,
}

/// By endpoint, then by name.
type Routes = [HashMap<Box<str>, Weak<Pool>>; Endpoint::ALL.len()];

/// What is to be done for a model whose pool is not known.
pub(super) enum Plan {
    There(Arc<Pool>),
    Build(Recipe),
}

impl State {
    pub(super) fn new(config: AccountConfig) -> Self {
        let Next {
            config,
            rules,
            callers,
        } = Next::new(config);
        State {
            shared: SharedGates::new(&config),
            dry: config.dry_run.then(Arc::default),
            config,
            rules,
            callers,
            live: HashMap::new(),
            strangers: 0,
            left: Vec::new(),
            routes: Routes::default(),
            names: 0,
            labels: HashSet::new(),
            swept: None,
            closed: false,
        }
    }

    pub(super) fn find(&self, model: &str, endpoint: Endpoint) -> Option<Arc<Pool>> {
        let pool = self.routes[endpoint as usize].get(model)?.upgrade()?;
        pool.look_up();
        Some(pool)
    }

    pub(super) fn plan(&self, model: &str, endpoint: Endpoint) -> Plan {
        let mut route = route(&self.rules, model, endpoint);
        let is_full = |id: &PoolId| id.kind == Kind::Model && self.is_full();
        if is_full(&route.id) && !self.live.contains_key(&route.id) {
            route = self.rules.shared();
        }
        if let Some(pool) = self.live.get(&route.id) {
            pool.look_up();
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
    pub(super) fn keep(
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
            None if made.is_stranger() && self.is_full() => return None,
            None => {
                self.strangers += usize::from(made.is_stranger());
                if made.is_stranger() && self.labels.len() < MOST_LABELS {
                    self.labels.insert(Arc::clone(&made.id.name));
                }
                self.live.insert(made.id.clone(), Arc::clone(made));
                Arc::clone(made)
            }
        };
        pool.look_up();
        if model.len() <= LONGEST_NAME {
            if self.names >= MOST_ROUTES {
                self.forget_routes();
            }
            let routes = &mut self.routes[endpoint as usize];
            let before = routes.insert(model.into(), Arc::downgrade(&pool));
            self.names += usize::from(before.is_none());
        }
        Some(pool)
    }

    /// Goes by another config from now on; gives out what falls away.
    pub(super) fn change(&mut self, next: Next) -> Gone {
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
        let routes = std::mem::take(&mut self.routes);
        let led = led(&routes, &rules);
        let under = |pool: &Pool, route| Arc::new(pool.under(route, shared.clone(), dry.clone()));
        // In an order that does not change from one run to another.
        let mut gone = BTreeMap::new();
        for pool in before.values() {
            match rules.still(&pool.id) {
                Some(route) => {
                    self.live.insert(pool.id.clone(), under(pool, route));
                }
                None => {
                    gone.insert(&pool.id, pool);
                }
            }
        }
        for pool in gone.into_values() {
            // Among processes a pool is what it is called.
            let heir = heir(pool, &led).filter(|_| shared.ledger.is_none());
            match heir.filter(|heir| !self.live.contains_key(&heir.id)) {
                Some(heir) => {
                    self.live.insert(heir.id.clone(), under(pool, heir));
                }
                None => self.left.push(Arc::clone(pool)),
            }
        }
        for Led {
            model,
            endpoint,
            to,
            ..
        } in led
        {
            if let Some(pool) = self.live.get(&to.id) {
                self.routes[endpoint as usize].insert(model.into(), Arc::downgrade(pool));
            }
        }
        self.names = self.routes.iter().map(HashMap::len).sum();
        let strangers = self.live.values().filter(|pool| pool.is_stranger());
        self.strangers = strangers.count();
        Gone {
            _pools: before,
            _routes: routes,
            _shared: std::mem::replace(&mut self.shared, shared),
            _dry: std::mem::replace(&mut self.dry, dry),
            _config: std::mem::replace(&mut self.config, config),
            _rules: std::mem::replace(&mut self.rules, rules),
            _callers: std::mem::replace(&mut self.callers, callers),
        }
    }

    /// Whether the next model that no section names would have no pool of its own.
    pub(super) fn is_full(&self) -> bool {
        self.strangers >= MOST
    }

    fn forget_routes(&mut self) {
        self.routes.iter_mut().for_each(HashMap::clear);
        self.names = 0;
    }

    /// Lets go of a pool, if nobody has looked it up since it was seen at rest.
    pub(super) fn remove(&mut self, resting: &Resting) -> Option<Arc<Pool>> {
        let id = &resting.pool.id;
        let is_same = |there: &Arc<Pool>| Arc::ptr_eq(there, &resting.pool);
        if !self.live.get(id).is_some_and(is_same) || resting.pool.uses() != resting.uses {
            return None;
        }
        self.strangers -= usize::from(resting.is_stranger());
        // Whoever shared for want of room may have one of his own now.
        self.forget_routes();
        self.live.remove(id)
    }
}

/// Where a model was found to belong, and where it belongs now.
struct Led<'r> {
    model: &'r str,
    endpoint: Endpoint,
    from: *const Pool,
    to: Route,
}

fn led<'r>(routes: &'r Routes, rules: &Rules) -> Vec<Led<'r>> {
    let of = |endpoint| {
        let routes = routes[endpoint as usize].iter();
        routes.map(move |(model, from)| Led {
            model,
            endpoint,
            from: from.as_ptr(),
            to: route(rules, model, endpoint),
        })
    };
    Endpoint::ALL.into_iter().flat_map(of).collect()
}

/// Where all models of a pool belong now, if that is one pool: there it goes on, with all that it
/// has spent and with whoever is in it.
fn heir(pool: &Arc<Pool>, led: &[Led<'_>]) -> Option<Route> {
    let mut heirs = led.iter().filter(|led| led.from == Arc::as_ptr(pool));
    let first = &heirs.next()?.to;
    heirs
        .all(|led| led.to.id == first.id)
        .then(|| first.clone())
}

fn route(rules: &Rules, model: &str, endpoint: Endpoint) -> Route {
    let named = Some(model).filter(|model| (1..=LONGEST_NAME).contains(&model.len()));
    rules.route(named, Some(endpoint))
}

/// What an account goes by from now on.
pub(super) struct Next {
    config: Arc<AccountConfig>,
    rules: Arc<Rules>,
    callers: Arc<Callers>,
}

impl Next {
    pub(super) fn new(config: AccountConfig) -> Self {
        Next {
            rules: Arc::new(Rules::new(&config)),
            callers: Arc::new(Callers::new(&config)),
            config: Arc::new(config),
        }
    }
}

/// What a change left behind, to be dropped under no lock.
pub(super) struct Gone {
    _pools: HashMap<PoolId, Arc<Pool>>,
    _routes: Routes,
    _shared: SharedGates,
    _dry: Option<Arc<DryRuns>>,
    _config: Arc<AccountConfig>,
    _rules: Arc<Rules>,
    _callers: Arc<Callers>,
}

/// A pool that was seen at rest.
pub(super) struct Resting {
    pool: Arc<Pool>,
    uses: u64,
    /// Whether a new one would have to learn what it knows.
    pub(super) has_learned: bool,
    /// How often it was seen so since it was last looked up.
    pub(super) times: u64,
}

impl Resting {
    pub(super) fn is_stranger(&self) -> bool {
        self.pool.is_stranger()
    }

    /// Looked up so often, in nobody's hands and at rest, in this order: as long as
    /// nobody looks it up again, it stays at rest.
    pub(super) fn of(pool: Arc<Pool>) -> Option<Resting> {
        let uses = pool.uses();
        // The account's and ours.
        let is_idle = Arc::strong_count(&pool) == 2 && pool.gate.budget().is_at_rest();
        is_idle.then(|| Resting {
            has_learned: pool.gate.has_learned(),
            times: pool.rested(),
            uses,
            pool,
        })
    }
}
