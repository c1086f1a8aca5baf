//! The policy put around a client: all four layers, fused, in the right order.

use std::fmt;
use std::time::Duration;

use tollhouse::budget::TokenBudgetBuilder;
use tollhouse::retry::RetryBudget;
use tollhouse::{Backoff, GateLayer, RetryLayer, TokenBudget};
use tower_layer::Layer;

use super::attempts::PolicyMark;
use super::budget::{BudgetGate, PoolGate};
use super::draft::{Drafting, Sending};
use super::limited::{AsksForUsage, Limited};
use super::told::ToldLimits;
use super::{Limit, PolicyConfig};
use crate::layers::include_usage::IncludeUsage;
use crate::layers::verdict::WithVerdict;
use crate::policy::AnswerReader;

/// The tokens a minute to go on with where `auto` learned nothing: the least
/// that any account of a paying customer has on a current model.
const FALLBACK: u64 = 30_000;

/// Of one policy for models with limits of their own.
const ADVICE: &str = "Use an Account in the policy's place: it has a pool for each model.";

/// The longest drawn backoff.
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);

/// Puts a policy around any HTTP client that is a tower service.
///
/// Works with every `Service<http::Request<Bytes>, Response = http::Response<B>>`
/// that can be cloned: [`OpenAi`](crate::OpenAi), or a client of your own,
/// whose refusals are then read for it. One of requests with a
/// [`RequestBody`](crate::RequestBody), such as
/// [`StreamingOpenAi`](crate::StreamingOpenAi), passes uploads on as they come.
///
/// # Ordering
///
/// From the outside in: the question for the usage, retry, one queue for slots,
/// budget and spacing, the client. The queue takes the client for the transport,
/// so put this layer directly around it.
///
/// # Cloning
///
/// Clones, all services made from them and all layers of the same
/// [`Policy`](super::Policy) share its state.
///
/// # Examples
///
/// Two clients of one account:
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tokio::time::Instant;
/// use tollhouse_openai::Policy;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let policy = Policy::default();
/// let start = Instant::now();
/// let client = || {
///     policy.layer().layer(service_fn(async |_: Request<Bytes>| {
///         Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
///     }))
/// };
/// for client in [client(), client()] {
///     let request = Request::post("/v1/responses").body(Bytes::from("{}"))?;
///     client.oneshot(request).await?;
/// }
/// assert_eq!(start.elapsed(), policy.config().stagger);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PolicyLayer {
    attempts: LiveAttempts,
    gate: GateLayer<PoolGate>,
}

impl<S> Layer<S> for PolicyLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        let gated = self.gate.layer(Sending::new(WithVerdict::new(inner)));
        let retry = self.attempts.retry.layer(gated);
        let stack = IncludeUsage::new(Drafting::new(retry));
        Limited::new(stack, self.attempts.asks_for_usage.clone())
    }
}

impl fmt::Debug for PolicyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyLayer")
            .field("attempts", &self.attempts)
            .field("gate", &self.gate)
            .finish()
    }
}

impl PolicyLayer {
    pub(super) fn close(&self) {
        self.attempts.close();
    }

    /// The retry, and behind it this gate.
    pub(crate) fn new(attempts: LiveAttempts, gate: PoolGate) -> Self {
        PolicyLayer {
            attempts,
            gate: GateLayer::new(gate),
        }
    }
}

/// How often and when a call is sent, and whether it asks for its usage: what is said at
/// its first attempt holds for all of them.
///
/// # Cloning
///
/// Clones are the same, whichever layers and services they are in.
#[derive(Clone, Debug)]
pub(crate) struct LiveAttempts {
    retry: RetryLayer<AnswerReader, PolicyMark>,
    /// Of all calls, whether it limits anything at present or not.
    budget: RetryBudget,
    asks_for_usage: AsksForUsage,
}

impl LiveAttempts {
    pub(crate) fn new(config: &PolicyConfig) -> Self {
        let mut retry = RetryLayer::new(backoff(config), AnswerReader).mark(PolicyMark);
        if let Some(name) = &config.name {
            retry = retry.name(name);
        }
        let attempts = LiveAttempts {
            retry,
            budget: RetryBudget::default(),
            asks_for_usage: AsksForUsage::default(),
        };
        attempts.follow(config);
        attempts
    }

    /// Has nobody wait for a next attempt any more. For after the gates were closed.
    pub(crate) fn close(&self) {
        self.retry.close();
    }

    /// Goes by this config from now on, but for the name.
    pub(crate) fn follow(&self, config: &PolicyConfig) {
        if let Some(share) = config.retry_budget_share {
            self.budget.set(share, config.retry_budget_reserve);
        }
        let is_limited = config.retry_budget_share.is_some();
        self.retry.set_backoff(backoff(config));
        self.retry
            .set_budget(is_limited.then(|| self.budget.clone()));
        self.asks_for_usage.set(config.ask_for_usage);
    }
}

/// What all who use one policy share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) layer: PolicyLayer,
    pub(super) pool: BudgetGate,
}

impl Shared {
    pub(super) fn new(config: &PolicyConfig) -> Self {
        let budget = builder(config).build();
        let budget = budget.expect("a config is checked when it is set");
        let pool = BudgetGate::new(budget, config);
        Shared {
            layer: PolicyLayer::new(
                LiveAttempts::new(config),
                PoolGate::One(pool.clone(), ToldLimits::new(ADVICE)),
            ),
            pool,
        }
    }

    pub(super) fn budget(&self) -> &BudgetGate {
        &self.pool
    }
}

/// What builds the ledger, the slots and the spacing of one pool.
pub(crate) fn builder(config: &PolicyConfig) -> TokenBudgetBuilder {
    let builder = match config.tokens_per_minute {
        Limit::PerMinute(tokens) => TokenBudget::per_minute(tokens.get()),
        Limit::Auto => TokenBudget::per_minute(FALLBACK).learn_tokens(true),
        Limit::Unlimited => TokenBudget::unlimited(),
    };
    let mut builder = builder
        .max_concurrency(config.max_concurrency)
        .stagger(config.stagger)
        .max_waiting(config.max_waiting.unwrap_or(usize::MAX))
        .headroom(config.headroom)
        .learn_requests(config.requests_per_minute == Limit::Auto)
        .accounting(config.accounting)
        .window(config.window)
        .cautious_start(config.cautious_start)
        .max_told_delay(config.max_told_delay);
    if let Some(name) = &config.name {
        builder = builder.name(name);
    }
    if let Some(requests) = config.requests_per_minute.amount() {
        builder = builder.requests_per_minute(requests);
    }
    for (unit, per, amount) in config.meters() {
        builder = builder.meter(unit, per, amount);
    }
    if let Some(burst) = config.burst {
        builder = builder.burst(burst);
    }
    builder
}

fn backoff(config: &PolicyConfig) -> Backoff {
    let backoff = Backoff::new(config.backoff_base)
        .cap(LONGEST_BACKOFF)
        .max_attempts(config.retry_max_attempts)
        .max_told_delay(config.max_told_delay);
    match config.retry_deadline {
        Some(total) => backoff.deadline(total),
        None => backoff,
    }
}
