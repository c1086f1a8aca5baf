//! The pools that the requests of a batch take from.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Duration;
use tollhouse_batch::Limits;
use tollhouse_batch::plan::{Limit as Bound, Parts, Share};
use tollhouse_openai::account::{Explanation, Sharing};
use tollhouse_openai::call::{Call, Endpoint};
use tollhouse_openai::{
    Account, Ask, Caller, Charge, Limit, MeterSnapshot, Per, PolicyConfig, Snapshot, Unit,
};

/// An account, and those of its pools that requests were seen to take from.
///
/// # Cloning
///
/// Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Pools {
    account: Account,
    known: Arc<Mutex<Known>>,
}

#[derive(Debug, Default)]
struct Known {
    /// Where each model's requests belong, the empty name being none.
    routes: HashMap<Endpoint, HashMap<Box<str>, usize>>,
    all: Vec<Arc<Pool>>,
}

/// One pool, by a call that belongs to it.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    account: Account,
    model: Option<String>,
    endpoint: Endpoint,
    /// Told apart from any other by it.
    key: Key,
    pub(crate) name: Arc<str>,
    /// What it says.
    pub(crate) config: PolicyConfig,
    explained: Explanation,
}

/// A pool of `[pools]`, of a section or of a model may have the name of another kind's.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Key {
    name: String,
    described: bool,
    by_default: bool,
}

impl Pools {
    pub(crate) fn new(account: Account) -> Self {
        Self {
            account,
            known: Arc::default(),
        }
    }

    pub(crate) fn account(&self) -> &Account {
        &self.account
    }

    /// The number of the pool that a call takes from, in the order in which they were
    /// first seen.
    pub(crate) fn number_of(&self, call: &Call) -> usize {
        let (endpoint, model) = (call.endpoint(), call.model());
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let routes = known.routes.get(&endpoint);
        let found = routes.and_then(|routes| routes.get(model.unwrap_or_default()));
        if let Some(&number) = found {
            return number;
        }
        let pool = Pool::new(&self.account, model, endpoint);
        let number = known.number(pool);
        let routes = known.routes.entry(endpoint).or_default();
        routes.insert(model.unwrap_or_default().into(), number);
        number
    }

    /// The pool that a call takes from.
    pub(crate) fn of(&self, call: &Call) -> Arc<Pool> {
        let number = self.number_of(call);
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&known.all[number])
    }

    /// Those that were seen until now, in that order.
    pub(crate) fn all(&self) -> Vec<Arc<Pool>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.all.clone()
    }

    /// Whether any of them bounds its line.
    pub(crate) fn bound_lines(&self) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all = known.all.iter();
        all.any(|pool| pool.config.max_waiting.is_some())
    }

    /// Looks again at what the account says of each, because it says something else.
    pub(crate) fn refresh(&self) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.routes.clear();
        for pool in &mut known.all {
            let now = Pool::new(&self.account, pool.model.as_deref(), pool.endpoint);
            let name = match now.key == pool.key {
                true => Arc::clone(&pool.name),
                false => Arc::clone(&now.name),
            };
            *pool = Arc::new(Pool { name, ..now });
        }
    }

    /// What all pools share, as a plan reckons with it.
    pub(crate) fn shared_limits(&self, answers_take: Option<Duration>) -> Limits {
        let limits = Limits::new().stagger(self.shared_spacing());
        match (answers_take, self.account.snapshot().max_concurrency) {
            (Some(each), Some(slots)) => limits.concurrency(slots, each),
            _ => limits,
        }
    }

    /// The least time between two launches of whichever pools; zero where each has its
    /// own.
    pub(crate) fn shared_spacing(&self) -> Duration {
        match spacing_is_shared(&self.account) {
            true => self.account.config().defaults.stagger,
            false => Duration::ZERO,
        }
    }
}

impl Known {
    fn number(&mut self, pool: Pool) -> usize {
        let same = self.all.iter().position(|known| known.key == pool.key);
        same.unwrap_or_else(|| {
            let number = self.all.len();
            let is_taken = self.all.iter().any(|known| known.name == pool.name);
            let name = match is_taken {
                true => format!("{} ({})", pool.name, number + 1).into(),
                false => Arc::clone(&pool.name),
            };
            self.all.push(Arc::new(Pool { name, ..pool }));
            number
        })
    }
}

impl Pool {
    fn new(account: &Account, model: Option<&str>, endpoint: Endpoint) -> Self {
        let explained = account.explain(model, Some(endpoint));
        let mut config = explained.policy.clone();
        if spacing_is_shared(account) {
            config.stagger = Duration::ZERO;
        }
        Self {
            account: account.clone(),
            model: model.map(str::to_owned),
            endpoint,
            name: explained.pool.as_str().into(),
            key: Key {
                name: explained.pool.clone(),
                described: explained.described,
                by_default: explained.section == "[defaults]",
            },
            config,
            explained,
        }
    }

    /// What its account calls it.
    pub(crate) fn account_name(&self) -> &str {
        &self.key.name
    }

    /// How it stands.
    pub(crate) fn snapshot(&self) -> Snapshot {
        let model = self.model.as_deref().unwrap_or_default();
        self.account.budget(model, self.endpoint).snapshot()
    }

    /// How long it takes until all have launched that stand in its line before one of this caller's
    /// that came now; `None` where nobody stands there.
    pub(crate) fn line_takes(&self, caller: &Caller) -> Option<Duration> {
        let model = self.model.as_deref().unwrap_or_default();
        let budget = self.account.budget(model, self.endpoint);
        let waits = budget.snapshot().waiting > 0;
        waits.then(|| budget.eta(Ask::of(0).caller(caller.clone())))
    }

    /// What a request takes of it, in tokens.
    pub(crate) fn cost(&self, call: &Call) -> u64 {
        self.charge(call).get(Unit::Tokens)
    }

    fn charge(&self, call: &Call) -> Charge {
        self.explained.charge(call)
    }

    /// The tokens a minute that the provider allows, where they are limited and the
    /// limit is known by now.
    pub(crate) fn token_limit(&self) -> Option<u64> {
        token_limit(&self.snapshot())
    }

    /// The tokens a minute that are used of it.
    pub(crate) fn tokens_a_minute(&self) -> Option<u64> {
        Some(self.a_minute(Unit::Tokens)?.rate)
    }

    /// The requests a minute that are used, if they are limited.
    pub(crate) fn requests_a_minute(&self) -> Option<u64> {
        Some(self.a_minute(Unit::Requests)?.rate)
    }

    fn a_minute(&self, unit: Unit) -> Option<MeterSnapshot> {
        of(&self.snapshot(), unit, Per::Minute)
    }

    /// Its limits beside those of tokens and requests a minute.
    pub(crate) fn other_meters(&self) -> Vec<MeterSnapshot> {
        let mut meters = self.snapshot().meters;
        meters.retain(|meter| limit_of(meter).is_some());
        meters
    }

    /// What a plan must know of one of its requests.
    pub(crate) fn share(&self, call: &Call, limits: &Arc<Limits>) -> Share {
        let charge = self.charge(call);
        Share {
            pool: Arc::clone(&self.name),
            limits: Arc::clone(limits),
            cost: charge.get(Unit::Tokens),
            parts: Parts {
                input_tokens: charge.get(Unit::Input),
                output_tokens: charge.get(Unit::Output),
                images: charge.get(Unit::Images),
            },
        }
    }

    /// Its limits as a plan reckons with them. One that the provider's first answer will
    /// tell is none yet.
    pub(crate) fn limits(&self, answers_take: Option<Duration>) -> Limits {
        let mut limits = Limits::new().stagger(self.config.stagger);
        if let Some(rate) = self.tokens_a_minute() {
            limits = limits
                .tokens_per_minute(rate)
                .capacity(self.snapshot().capacity);
        }
        if let (Limit::PerMinute(_), Some(rate)) =
            (self.config.requests_per_minute, self.requests_a_minute())
        {
            limits = limits.requests_per_minute(rate);
        }
        for meter in self.other_meters() {
            limits = with(limits, &meter);
        }
        match answers_take {
            Some(each) => limits.concurrency(self.config.max_concurrency, each),
            None => limits,
        }
    }
}

/// With one more limit, beside those of tokens and requests a minute. What is used of it
/// is there at once; also by one request, though a process that is cut off from a shared
/// account has less for now.
fn with(limits: Limits, meter: &MeterSnapshot) -> Limits {
    let amount = meter.capacity;
    match limit_of(meter) {
        Some(Bound::TokensPerDay) => limits.tokens_per_day(amount),
        Some(Bound::RequestsPerDay) => limits.requests_per_day(amount),
        Some(Bound::InputTokens) => limits.input_tokens_per_minute(amount),
        Some(Bound::OutputTokens) => limits.output_tokens_per_minute(amount),
        Some(Bound::Images) => limits.images_per_minute(amount),
        _ => limits,
    }
}

/// What a plan calls a limit, beside those of tokens and requests a minute.
pub(crate) fn limit_of(meter: &MeterSnapshot) -> Option<Bound> {
    match (meter.unit, meter.per) {
        (Unit::Tokens, Per::Day) => Some(Bound::TokensPerDay),
        (Unit::Requests, Per::Day) => Some(Bound::RequestsPerDay),
        (Unit::Input, Per::Minute) => Some(Bound::InputTokens),
        (Unit::Output, Per::Minute) => Some(Bound::OutputTokens),
        (Unit::Images, Per::Minute) => Some(Bound::Images),
        _ => None,
    }
}

/// Where each model must learn its own limits but only one policy is described, launches
/// are spaced over all of them.
fn spacing_is_shared(account: &Account) -> bool {
    let config = account.config();
    let defaults = &config.defaults;
    let learns = [defaults.tokens_per_minute, defaults.requests_per_minute].contains(&Limit::Auto);
    config.sharing == Sharing::OnePool && learns
}

fn token_limit(snapshot: &Snapshot) -> Option<u64> {
    of(snapshot, Unit::Tokens, Per::Minute).map(|meter| meter.limit)
}

fn of(snapshot: &Snapshot, unit: Unit, per: Per) -> Option<MeterSnapshot> {
    let mut meters = snapshot.meters.iter();
    meters.find(|it| (it.unit, it.per) == (unit, per)).copied()
}
