//! One account: everything that one key may use, a pool for each model.
//!
//! A provider limits each model apart, or each family of models that share a pool. An
//! [`Account`] has one queue for each of them, so that what one is out of keeps nobody
//! from using another, and all who use the account share it, by whatever client:
//!
//! ```text
//!                      +-- pool of gpt-4o* --------+
//! call -> Retry -> its model's pool: one queue over slots, meters, spacing -> client
//!                      +-- pool of embeddings -----+
//! ```
//!
//! What it says is an [`AccountConfig`]: from code, from variables, or from a
//! `tollhouse.toml`, of which `docs/guide/account.md` tells every key.

mod callers;
mod changes;
mod config;
mod described;
mod dry;
mod error;
mod file;
mod models;
mod pools;
mod shared;
mod snapshot;
mod tokens;
mod updating;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Request};
use tollhouse::{Ask, Caller, Charge, Cost, TokenBudget};

pub use changes::{Change, Changes};
pub use config::{AccountConfig, Sharing};
pub use described::DescribedPool;
pub use error::{AccountError, Problem};
pub use shared::{SharedLedgerConfig, SharedSnapshot};
pub use snapshot::{AccountSnapshot, DryRunSnapshot, PoolCaller, PoolMeter, PoolSnapshot};

use crate::call::{Call, CallBody, Endpoint};
use crate::policy::budget::{CallPass, FindPool, PoolGate, ask_of, charge_of};
use crate::policy::{Policy, PolicyConfig, PolicyLayer};
use models::Kind;
use pools::{Pool, Pools};
use updating::Updating;

const WITHIN: &str = "Account::update was called within a change of the same account";

/// Everything one key may use: a live handle of a pool for each model.
///
/// # Pools
///
/// A pool is made when a model is first used, and dropped when it is idle and knows
/// nothing that a new one would not: none that is in debt, held by the provider, or whose
/// window still counts something. Names come from outside, so at most 1,000 models that no
/// section names have pools of their own at once; further ones share one with the
/// defaults.
///
/// # Cloning
///
/// Clones are cheap and share everything, as do all layers of an account.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tollhouse_openai::Account;
/// use tollhouse_sim::Sim;
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let account = Account::from_toml(
///     r#"
///     [models."gpt-4o*"]
///     tokens_per_minute = 30_000
///
///     [models."text-embedding-*"]
///     tokens_per_minute = 1_000_000
///     "#,
/// )?;
/// // A simulated provider, in place of `OpenAi::from_env()?`.
/// let client = account.layer().layer(Sim::builder().build()?.service());
///
/// let body = r#"{"model": "text-embedding-3-small", "input": "The sea"}"#;
/// let request = Request::post("/v1/embeddings").body(Bytes::from(body))?;
/// assert_eq!(client.oneshot(request).await?.status(), 200);
/// assert_eq!(account.snapshot().pools[0].name, "text-embedding-*");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Account {
    pools: Arc<Pools>,
    model_of: Option<ModelOf>,
    caller_of: Option<CallerOf>,
}

type CallerOf = Arc<dyn Fn(&Call, &HeaderMap) -> Option<Caller> + Send + Sync>;
type ModelOf = Arc<dyn Fn(&Call, &HeaderMap) -> Option<String> + Send + Sync>;

impl Account {
    /// An account of one policy: one pool for all models; where one of its limits is
    /// [`auto`](crate::Limit::Auto), one for each, and its slots and spacing are the
    /// account's ([`Sharing::OnePool`]).
    ///
    /// Its state is its own: calls through the policy itself are not counted.
    pub fn new(policy: Policy) -> Self {
        let config = AccountConfig::one_pool(policy.config().clone());
        Account::checked(config)
    }

    /// An account as it is described.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong at once.
    pub fn from_config(config: AccountConfig) -> Result<Self, AccountError> {
        config.validate()?;
        Ok(Account::checked(config))
    }

    /// An account as the environment describes it: by the file that `TOLLHOUSE_CONFIG`
    /// names, with the policy's variables laid over its defaults; or without one, as
    /// [`Account::new`] of the policy that the variables describe.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong at once, in the file or in the variables, and every
    /// variable that looks like a misspelt one.
    pub fn from_env() -> Result<Self, AccountError> {
        AccountConfig::from_env().and_then(Account::from_config)
    }

    /// An account as a `tollhouse.toml` describes it; reads no environment.
    ///
    /// # Errors
    ///
    /// As [`AccountConfig::from_toml`].
    pub fn from_toml(text: &str) -> Result<Self, AccountError> {
        AccountConfig::from_toml(text).map(Account::checked)
    }

    /// An account as a file describes it; reads no environment.
    ///
    /// # Errors
    ///
    /// As [`AccountConfig::open`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, AccountError> {
        AccountConfig::open(path).map(Account::checked)
    }

    fn checked(config: AccountConfig) -> Self {
        Account {
            pools: Arc::new(Pools::new(config)),
            model_of: None,
            caller_of: None,
        }
    }

    /// Shares it with other processes: every pool, the account's slots and the time between
    /// its launches draw leases from this ledger. In all processes that share an
    /// account it is described alike; of numbers that differ the lowest hold.
    ///
    /// # Panics
    ///
    /// If a call was made already: what it took, the ledger does not know of.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::shared::{Fallback, InMemory, Sharing};
    /// use tollhouse_openai::{Account, Policy};
    /// use tollhouse_openai::call::Endpoint;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // In the place of a Redis, by the crate `tollhouse-redis`.
    /// let ledger = InMemory::new();
    /// let (sharing, agent) = Sharing::new(ledger, Fallback::default());
    /// let agent = tokio::spawn(agent);
    /// let account = Account::new(Policy::default()).shared(&sharing);
    /// account.budget("gpt-4o", Endpoint::Chat).reserve(100).await?.settle(100);
    ///
    /// account.close();
    /// account.idle().await;
    /// sharing.leave().await;
    /// agent.await?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    #[track_caller]
    pub fn shared(self, sharing: &tollhouse::shared::Sharing) -> Self {
        self.pools.share(sharing);
        self
    }

    /// Its part in the ledger that it [shares](Self::shared), if it does.
    pub fn sharing(&self) -> Option<tollhouse::shared::Sharing> {
        self.pools.shared().ledger
    }

    /// Tells the model of a call by what this says of it; where that is nothing, by the
    /// body's `model` or Azure's deployment in the path, as without it. Layers that are
    /// made from what this returns go by it, others do not.
    ///
    /// # Examples
    ///
    /// Deployments that are named after teams:
    ///
    /// ```
    /// use tollhouse_openai::{Account, Policy};
    ///
    /// let account = Account::new(Policy::default()).model_by(|call, headers| {
    ///     let team = headers.get("x-team")?.to_str().ok()?;
    ///     Some(format!("{team}/{}", call.model()?))
    /// });
    /// let layer = account.layer();
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn model_by(
        mut self,
        model_of: impl Fn(&Call, &HeaderMap) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.model_of = Some(Arc::new(model_of));
        self
    }

    /// Tells who makes a call by what this says of it; where that is nothing, by the
    /// [`Caller`] in the request's extensions, as without it. A weight that `[callers]`
    /// gives the name goes before the caller's own. Layers that are made from what this
    /// returns go by it, others do not.
    ///
    /// # Examples
    ///
    /// Callers by a header that only colleagues can set:
    ///
    /// ```
    /// use tollhouse_openai::{Account, Caller, Policy};
    ///
    /// let account = Account::new(Policy::default()).caller_by(|_call, headers| {
    ///     let team = headers.get("x-team")?.to_str().ok()?;
    ///     Some(Caller::new(team))
    /// });
    /// let layer = account.layer();
    /// # let _ = layer;
    /// ```
    #[must_use]
    pub fn caller_by(
        mut self,
        caller_of: impl Fn(&Call, &HeaderMap) -> Option<Caller> + Send + Sync + 'static,
    ) -> Self {
        self.caller_of = Some(Arc::new(caller_of));
        self
    }

    /// As [`Policy::layer`], with a pool for each model: one retry outermost, then the
    /// pool of the call's model; to be put directly around the client.
    pub fn layer(&self) -> PolicyLayer {
        let gate = PoolGate::Each(Arc::new(self.clone()));
        PolicyLayer::new(self.pools.attempts(), gate)
    }

    /// What it says.
    pub fn config(&self) -> Arc<AccountConfig> {
        self.pools.config()
    }

    /// The weight that `[callers]` gives a name; `None` where it does not speak of it.
    pub fn weight_of(&self, caller: &str) -> Option<u32> {
        self.pools.weight_of(caller)
    }

    /// Changes what it says, all of it or nothing, while it is in use; tells what became
    /// different. The change begins with the config in use, and is made again where
    /// another one came in between.
    ///
    /// Whoever waits sees new numbers at once. What was let in stays in: fewer slots or
    /// tokens let less in until enough is over. A pool that nothing leads to any more
    /// lets those in who wait there, by its old numbers. Attempts and backoffs, and
    /// whether usage is asked for, are for the calls that begin from now on, through
    /// whichever layer; only [`name`](crate::PolicyConfig::name) stays as it was.
    ///
    /// The closure runs under no lock and may ask whatever it likes of the account; it sees
    /// there what held before the change. A change of the same account cannot be made within
    /// it, since it begins with a config that would be gone by then.
    ///
    /// # Errors
    ///
    /// Names everything that is wrong at once; then nothing has changed. Within a change that
    /// the same thread is making of the same account, through whichever clone, it says so.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::{Account, Limit, Policy};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = Account::new(Policy::default());
    /// let changes = account.update(|config| {
    ///     config.defaults.tokens_per_minute = Limit::per_minute(60_000);
    /// })?;
    /// assert_eq!(
    ///     changes.to_string(),
    ///     "[defaults] tokens_per_minute: 60000, until now 30000",
    /// );
    /// assert!(account.update(|config| config.defaults.headroom = 2.0).is_err());
    /// assert_eq!(account.config().defaults.headroom, 0.15);
    /// # Ok(())
    /// # }
    /// ```
    pub fn update(
        &self,
        mut change: impl FnMut(&mut AccountConfig),
    ) -> Result<Changes, AccountError> {
        loop {
            let old = self.pools.config();
            let mut new = (*old).clone();
            let updating = Updating::begin(&*self.pools);
            let within = || AccountError::new(vec![Problem::said("", WITHIN)]);
            let updating = updating.ok_or_else(within)?;
            // A user's: under no lock.
            change(&mut new);
            drop(updating);
            new.validate()?;
            if let Some(changes) = self.pools.replace(&old, new) {
                return Ok(changes);
            }
        }
    }

    /// Puts what a `tollhouse.toml` says in the place of all that it says; as
    /// [`update`](Self::update).
    ///
    /// # Errors
    ///
    /// As [`from_toml`](Self::from_toml); then nothing has changed.
    pub fn reload_toml(&self, text: &str) -> Result<Changes, AccountError> {
        let config = AccountConfig::from_toml(text)?;
        self.update(|old| old.clone_from(&config))
    }

    /// How it stands now.
    pub fn snapshot(&self) -> AccountSnapshot {
        AccountSnapshot::of(&self.pools)
    }

    /// The budget that calls of this model to this endpoint spend from, to look at or to
    /// spend from by hand; it is made where it is not there yet, and stays while this
    /// handle does.
    pub fn budget(&self, model: &str, endpoint: Endpoint) -> TokenBudget {
        self.pools.find(model, endpoint).budget()
    }

    /// Which pool such a call belongs to, why, and with which numbers; makes none.
    pub fn explain(&self, model: Option<&str>, endpoint: Option<Endpoint>) -> Explanation {
        let route = self.pools.rules().route(model, endpoint);
        Explanation {
            pool: route.id.name.to_string(),
            section: route.section.to_string(),
            described: route.id.kind == Kind::Named,
            policy: (*route.config).clone(),
        }
    }

    /// Where a request is about to stand, and what it costs; for whoever tells of each call
    /// and passes by no [`explain`](Self::explain), which copies the numbers. It goes by what
    /// [`layer`](Self::layer) goes by: the model and the caller as they are told, and the
    /// deadline. The pool is made where it is not there yet.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_openai::Account;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = Account::from_toml("[models.\"gpt-*\"]\ntokens_per_minute = 9000")?;
    /// let body = r#"{"model": "gpt-4o", "input": "Hi there", "max_output_tokens": 50}"#;
    /// let place = account.place(&Request::post("/v1/responses").body(Bytes::from(body))?);
    /// assert_eq!(&*place.pool, "gpt-*");
    /// assert!(place.charge > 50);
    /// assert_eq!(place.ahead(), 0);
    /// assert!(place.expected_wait().is_zero());
    /// # Ok(())
    /// # }
    /// ```
    pub fn place<Q: CallBody>(&self, request: &Request<Q>) -> Place {
        let call = Call::of(request);
        let (pool, ask) = self.find(&call, request.headers(), ask_of(request));
        Place {
            charge: pool.gate.estimator.cost(&call),
            pool: Arc::clone(&pool.id.name),
            ask: ask.charge(charge_of(&call, &pool.gate.estimator)),
            budget: pool.budget(),
        }
    }

    /// The pool of a call, and the ask with who asks.
    fn find(&self, call: &Call, headers: &HeaderMap, ask: Ask) -> (Arc<Pool>, Ask) {
        // A user's: under no lock.
        let told = self.model_of.as_ref();
        let told = told.and_then(|model_of| model_of(call, headers));
        let model = told.as_deref().or(call.model()).unwrap_or_default();
        let caller = self.caller_of.as_ref();
        let ask = match caller.and_then(|caller_of| caller_of(call, headers)) {
            Some(caller) => ask.caller(caller),
            None => ask,
        };
        let ask = self.pools.weigh(ask);
        (self.pools.find(model, call.endpoint()), ask)
    }

    /// Begins a shutdown: turns away whoever waits, for a next attempt, too, and whoever
    /// comes from now on, with [`Refused::Closed`](tollhouse::Refused::Closed). Calls in
    /// flight go on; [`idle`](Self::idle) waits for them.
    pub fn close(&self) {
        self.pools.close();
    }

    /// Waits until no call is in flight and none waits. Put a timeout around it for a
    /// deadline; dropping it leaves nothing behind.
    pub async fn idle(&self) {
        self.pools.idle().await;
    }
}

impl FindPool for Account {
    fn enter(&self, call: &Call, headers: &HeaderMap, ask: Ask) -> CallPass {
        let (pool, ask) = self.find(call, headers, ask);
        #[cfg(feature = "spans")]
        call.found(&pool.id.name, ask.label());
        pool.enter(call, ask)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Account")
            .field("pools", &self.pools)
            .finish_non_exhaustive()
    }
}

/// Where a request is about to stand; made by [`Account::place`].
///
/// # Cloning
///
/// Clones tell of the same pool, which stays while one of them does.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Place {
    /// The pool's name.
    pub pool: Arc<str>,
    /// What the call may be charged before anything is learned of such calls, in tokens.
    pub charge: u64,
    budget: TokenBudget,
    ask: Ask,
}

impl Place {
    /// How many of those who wait in the pool would go before it, if it came now; see
    /// [`TokenBudget::ahead`].
    pub fn ahead(&self) -> usize {
        self.budget.ahead(self.ask.clone())
    }

    /// How long it would wait, if it came now; see [`TokenBudget::eta`].
    pub fn expected_wait(&self) -> Duration {
        self.budget.eta(self.ask.clone())
    }
}

/// Which pool a call belongs to, why, and with which numbers; made by
/// [`Account::explain`].
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Explanation {
    /// The pool's name.
    pub pool: String,
    /// The section that says so, as it is written in the file.
    pub section: String,
    /// Whether the pool has a section in `[pools]`.
    pub described: bool,
    /// The numbers that result.
    pub policy: PolicyConfig,
}

impl Explanation {
    /// What a call takes of the pool's limits, by [`Unit`](tollhouse::Unit), before
    /// anything is learned of such calls.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_openai::{Account, Call, Unit};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let account = Account::from_toml("[models.\"gpt-*\"]\ninput_tokens_per_minute = 9000")?;
    /// let body = r#"{"model": "gpt-4o", "input": "Hi there", "max_output_tokens": 50}"#;
    /// let request = Request::post("/v1/responses").body(Bytes::from(body))?;
    /// let call = Call::of(&request);
    /// let charge = account.explain(call.model(), Some(call.endpoint())).charge(&call);
    /// assert_eq!(charge.get(Unit::Output), 50);
    /// assert_eq!(charge.get(Unit::Input), charge.get(Unit::Tokens) - 50);
    /// # Ok(())
    /// # }
    /// ```
    pub fn charge(&self, call: &Call) -> Charge {
        charge_of(call, &self.policy.estimator())
    }
}
