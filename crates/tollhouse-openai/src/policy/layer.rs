//! The policy put around a client: all four layers, fused, in the right order.

use std::fmt;
use std::time::Duration;

use tollhouse::retry::RetryBudget;
use tollhouse::{Backoff, GateLayer, RetryLayer, TokenBudget};
use tower_layer::Layer;

use super::Limit;
use super::attempts::PolicyMark;
use super::budget::BudgetGate;
use super::limited::Limited;
use super::settings::Settings;
use crate::layers::include_usage::IncludeUsage;
use crate::layers::verdict::WithVerdict;
use crate::policy::AnswerReader;
use crate::wire::learned::Learned;

/// The tokens a minute to go on with where `auto` learned nothing: the least
/// that any account of a paying customer has on a current model.
const FALLBACK: u64 = 30_000;

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
/// assert_eq!(start.elapsed(), policy.get_stagger());
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PolicyLayer {
    retry: RetryLayer<AnswerReader, PolicyMark>,
    gate: GateLayer<BudgetGate>,
    asks_for_usage: bool,
}

impl<S> Layer<S> for PolicyLayer {
    type Service = Limited<S>;

    fn layer(&self, inner: S) -> Limited<S> {
        let limited = self.retry.layer(self.gate.layer(WithVerdict::new(inner)));
        Limited::new(IncludeUsage::only_if(self.asks_for_usage, limited))
    }
}

impl fmt::Debug for PolicyLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyLayer")
            .field("retry", &self.retry)
            .field("gate", &self.gate)
            .field("asks_for_usage", &self.asks_for_usage)
            .finish()
    }
}

/// What all who use one policy share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) layer: PolicyLayer,
}

impl Shared {
    pub(super) fn new(settings: &Settings) -> Self {
        let budget = BudgetGate {
            budget: budget(settings),
            estimator: settings.charge_rule.with_est_tokens(settings.est_tokens),
            learned: settings.learn_factor.then(Learned::default),
        };
        Shared {
            layer: PolicyLayer {
                retry: retry(settings),
                gate: GateLayer::new(budget),
                asks_for_usage: settings.ask_for_usage,
            },
        }
    }

    pub(super) fn budget(&self) -> &BudgetGate {
        self.layer.gate.get_ref()
    }
}

fn budget(settings: &Settings) -> TokenBudget {
    let builder = match settings.tpm_limit {
        Limit::PerMinute(tokens) => TokenBudget::per_minute(tokens.get()),
        Limit::Auto => TokenBudget::per_minute(FALLBACK).learn_tokens(true),
        Limit::Unlimited => TokenBudget::unlimited(),
    };
    let mut builder = builder
        .max_concurrency(settings.max_concurrency)
        .stagger(settings.stagger)
        .max_waiting(settings.max_waiting)
        .headroom(settings.headroom)
        .learn_requests(settings.rpm_limit == Limit::Auto)
        .accounting(settings.accounting)
        .window(settings.window)
        .cautious_start(settings.cautious_start)
        .max_told_delay(settings.max_told_delay);
    if let Some(name) = &settings.name {
        builder = builder.name(name);
    }
    if let Some(requests) = settings.rpm_limit.amount() {
        builder = builder.requests_per_minute(requests);
    }
    if let Some(burst) = settings.burst {
        builder = builder.burst(burst);
    }
    builder
        .build()
        .expect("settings are checked when they are set")
}

fn retry(settings: &Settings) -> RetryLayer<AnswerReader, PolicyMark> {
    let mut layer = RetryLayer::new(backoff(settings), AnswerReader).mark(PolicyMark);
    if let Some(name) = &settings.name {
        layer = layer.name(name);
    }
    match settings.retry_budget {
        Some((share, reserve)) => layer.budget(RetryBudget::new(share, reserve)),
        None => layer,
    }
}

fn backoff(settings: &Settings) -> Backoff {
    let backoff = Backoff::new(settings.backoff_base)
        .cap(LONGEST_BACKOFF)
        .max_attempts(settings.max_attempts)
        .max_told_delay(settings.max_told_delay);
    match settings.retry_deadline {
        Some(total) => backoff.deadline(total),
        None => backoff,
    }
}
