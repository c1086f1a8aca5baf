//! One set of limits in use, and how it is made.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tollhouse::{Ask, Caller, TokenBudget, TokenBudgetBuilder};

use super::gates::SharedGates;
use crate::account::callers::Callers;
use crate::account::dry::DryRuns;
use crate::account::models::{Kind, PoolId, Route};
use crate::call::Call;
use crate::policy::PolicyConfig;
use crate::policy::budget::{BudgetGate, CallPass};
use crate::policy::layer;
use crate::policy::told::ToldLimits;

/// Of a pool of models with limits of their own.
const ADVICE: &str = "Give each a section of its own in [models] of a tollhouse.toml.";

/// One set of limits in use.
#[derive(Debug)]
pub(in crate::account) struct Pool {
    pub(in crate::account) id: PoolId,
    pub(in crate::account) section: Arc<str>,
    pub(in crate::account) gate: BudgetGate,
    config: Arc<PolicyConfig>,
    shared: SharedGates,
    dry: Option<Arc<DryRuns>>,
    /// What its answers told of their limits; `None` where it is one model's.
    told: Option<Arc<ToldLimits>>,
    /// How often it was looked up.
    uses: AtomicU64,
    /// How often that was when it was last seen at rest, and how often it has been seen so.
    seen: Mutex<(u64, u64)>,
}

/// What a pool is made of.
pub(super) struct Recipe {
    pub(super) id: PoolId,
    pub(super) section: Arc<str>,
    pub(super) config: Arc<PolicyConfig>,
    pub(super) shared: SharedGates,
    pub(super) dry: Option<Arc<DryRuns>>,
    pub(super) label: Option<Arc<str>>,
}

impl Pool {
    /// Begins the way of one call.
    #[inline]
    pub(in crate::account) fn enter(&self, call: &Call, ask: Ask) -> CallPass {
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

    pub(in crate::account) fn budget(&self) -> TokenBudget {
        self.gate.budget().clone()
    }

    /// Has its queue go by its config, and those who are in it have the weights that the
    /// account says.
    pub(super) fn retune(&self, callers: &Callers) {
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

    /// The same pool as other rules describe it. Metrics know it by the name that it had first.
    pub(super) fn under(
        &self,
        route: Route,
        shared: SharedGates,
        dry: Option<Arc<DryRuns>>,
    ) -> Pool {
        Pool {
            gate: self.gate.under(&route.config),
            told: told(&route.id, self.told.as_ref()),
            id: route.id,
            section: route.section,
            config: route.config,
            shared,
            dry,
            uses: AtomicU64::new(self.uses()),
            seen: Mutex::default(),
        }
    }

    /// Whether somebody waits or is in flight.
    pub(super) fn is_busy(&self) -> bool {
        let now = self.gate.budget().snapshot();
        now.in_flight + now.waiting > 0
    }

    /// Somebody found it.
    #[inline]
    pub(super) fn look_up(&self) {
        self.uses.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn uses(&self) -> u64 {
        self.uses.load(Ordering::Relaxed)
    }

    /// It was seen at rest once more; says how often, since it was last looked up.
    pub(super) fn rested(&self) -> u64 {
        let uses = self.uses();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let (before, times) = *seen;
        *seen = (uses, if before == uses { times + 1 } else { 0 });
        seen.1
    }

    pub(super) fn is_stranger(&self) -> bool {
        self.id.kind == Kind::Model
    }

    /// What sections name is finite, and stays.
    pub(super) fn is_made_by_use(&self) -> bool {
        matches!(self.id.kind, Kind::Model | Kind::Shared)
    }
}

impl Recipe {
    pub(super) fn build(self) -> Pool {
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
            told: told(&self.id, None),
            id: self.id,
            section: self.section,
            config: self.config,
            shared: self.shared,
            dry: self.dry,
            uses: AtomicU64::new(0),
            seen: Mutex::default(),
        }
    }
}

/// What answers tell of their limits, where it may be that of several models; as it was noted
/// `before`, if it was.
fn told(id: &PoolId, before: Option<&Arc<ToldLimits>>) -> Option<Arc<ToldLimits>> {
    let noted = || before.cloned().unwrap_or_else(|| ToldLimits::new(ADVICE));
    (id.kind != Kind::Model).then(noted)
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
