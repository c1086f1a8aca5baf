//! All limits and rules for one account, and where they come from.

mod attempts;
pub(crate) mod budget;
mod builder;
pub(crate) mod config;
mod draft;
mod error;
pub(crate) mod layer;
mod left;
mod limit;
mod limited;
pub(crate) mod nearest;
mod reader;
pub(crate) mod told;
mod unsent;
pub(crate) mod value;
mod vars;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::{Arc, OnceLock};

pub use attempts::AttemptHeaders;
pub use config::PolicyConfig;
pub use error::{BadSetting, PolicyError};
pub use layer::PolicyLayer;
pub use left::LeftToCaller;
pub use limit::Limit;
pub use limited::{Limited, LimitedBody, LimitedFuture};
pub use reader::AnswerReader;
use tollhouse::TokenBudget;

use crate::wire::cost::Estimator;
use crate::wire::learned::{Learned, LearnedFactor};
use layer::Shared;

/// All limits and rules for one pool: an account, or some models of one. The live
/// handle that a [`PolicyConfig`] becomes.
///
/// The defaults are those of the environment variables:
///
/// | variable | default | allowed |
/// |---|---|---|
/// | `OPENAI_MAX_CONCURRENCY` | 3 | 1 to 1,000,000 requests in flight |
/// | `OPENAI_STAGGER_SECONDS` | 15 | 0 (off) to 86,400 seconds between launches |
/// | `OPENAI_TPM_LIMIT` | 30000 | 1 to 10^12 tokens a minute, `auto` or `unlimited` |
/// | `OPENAI_RPM_LIMIT` | unset | 1 to 10^12 requests a minute, `auto` or `unlimited` |
/// | `OPENAI_TPM_HEADROOM` | 0.15 | 0 to 0.9, the share of the limit never used |
/// | `OPENAI_EST_TOKENS_PER_RUN` | 7000 | 1 to 10^12 tokens |
/// | `OPENAI_RETRY_MAX_ATTEMPTS` | 5 | 1 to 1,000 attempts, the first included |
/// | `OPENAI_BACKOFF_BASE_SECONDS` | 2 | 0.001 to 60 seconds |
/// | `OPENAI_MAX_WAITING` | unset | 0 to 10^12 calls in line, or `unlimited` |
///
/// What the variables do not reach is chosen for safety: a sliding minute is
/// kept until the provider has shown that it does not need one, at most a tenth
/// of the burst is spent until a first answer has confirmed the level (a first
/// request that costs more goes alone), and what was reserved and not used is
/// not refunded. Delays of more than two minutes are not waited for, and in an
/// outage retries add a fifth to the requests and ten a minute, no more.
///
/// # Clients that retry
///
/// Every attempt goes out with `x-stainless-retry-count` and, unless it is a
/// read, with an `idempotency-key` that all attempts of a call share.
///
/// An SDK in front of this policy that retries as well multiplies the attempts:
/// **give it `max_retries=0`**. One that does not obey tells its own count in
/// the same header, and each of its retries has as many attempts less here.
///
/// # Cloning
///
/// One policy is one shared state, however often it is cloned and its layer
/// applied. A setter makes another policy of the one it is called on, with a
/// state of its own: change it first, then clone. One that is called on a policy in
/// use warns of that in an event.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse_openai::{Limit, Policy};
///
/// let policy = Policy::default()
///     .max_concurrency(8)
///     .stagger(Duration::from_millis(50))
///     .tpm_limit(Limit::per_minute(125_000))
///     .rpm_limit(Limit::per_minute(500));
/// let config = policy.config();
/// assert_eq!(config.max_concurrency, 8);
/// assert_eq!(config.tokens_per_minute.amount(), Some(125_000));
/// // What was not set.
/// assert_eq!(config.headroom, 0.15);
/// assert_eq!(config.est_tokens_per_run, 7_000);
/// assert_eq!(config.retry_max_attempts, 5);
///
/// let vars = |name: &str| (name == "OPENAI_TPM_LIMIT").then(|| "many".to_owned());
/// let error = Policy::from_vars(vars).unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     r#"OPENAI_TPM_LIMIT="many": allowed is a whole number from 1 to 1000000000000, auto or unlimited"#,
/// );
/// ```
#[derive(Clone, Default)]
pub struct Policy {
    config: Arc<PolicyConfig>,
    /// Made when it is first needed, so that setters cost nothing.
    shared: Arc<OnceLock<Shared>>,
}

impl Policy {
    /// A policy of this data.
    ///
    /// # Errors
    ///
    /// Names every setting whose value is not allowed.
    pub fn new(config: PolicyConfig) -> Result<Policy, PolicyError> {
        config.validate()?;
        Ok(Policy {
            config: Arc::new(config),
            shared: Arc::default(),
        })
    }

    /// What it says.
    pub fn config(&self) -> &PolicyConfig {
        &self.config
    }

    /// A policy as the environment describes it; what is not set or empty has
    /// its default.
    ///
    /// # Errors
    ///
    /// Names every variable whose value is not allowed.
    ///
    /// # Examples
    ///
    /// With `OPENAI_TPM_LIMIT=125000` in the environment:
    ///
    /// ```
    /// use tollhouse_openai::Policy;
    ///
    /// # // No other thread runs in an example.
    /// # unsafe { std::env::set_var("OPENAI_TPM_LIMIT", "125000") };
    /// let policy = Policy::from_env()?;
    /// assert_eq!(policy.config().tokens_per_minute.amount(), Some(125_000));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_env() -> Result<Policy, PolicyError> {
        // What is not Unicode is no number either, and is named as such.
        let read = Policy::from_vars(|name| {
            std::env::var_os(name).map(|value| value.to_string_lossy().into_owned())
        });
        let names = std::env::vars_os().map(|(name, _)| name.to_string_lossy().into_owned());
        match (Policy::known_names(names), read) {
            (Ok(()), read) => read,
            (Err(misspelt), Ok(_)) => Err(misspelt),
            (Err(misspelt), Err(bad)) => Err(bad.with(misspelt)),
        }
    }

    /// Names every variable among `names` that looks like a misspelt one of ours or
    /// of a client's, for whoever reads variables from somewhere else than the
    /// environment.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], with what each may have been meant for.
    pub fn known_names(names: impl Iterator<Item = String>) -> Result<(), PolicyError> {
        match vars::misspelt(names) {
            none if none.is_empty() => Ok(()),
            bad => Err(PolicyError::new(bad)),
        }
    }

    /// A policy from variables as `var` finds them: a command lays its flags
    /// over the environment here.
    ///
    /// # Errors
    ///
    /// Names every variable whose value is not allowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::collections::HashMap;
    /// use tollhouse_openai::Policy;
    ///
    /// let flags = HashMap::from([("OPENAI_MAX_CONCURRENCY", "8")]);
    /// let policy = Policy::from_vars(|name| {
    ///     let flag = flags.get(name).map(ToString::to_string);
    ///     flag.or_else(|| std::env::var(name).ok())
    /// })?;
    /// assert_eq!(policy.config().max_concurrency, 8);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Policy, PolicyError> {
        PolicyConfig::from_vars(var).and_then(Policy::new)
    }

    /// All four layers, fused, in the right order; to be put directly around
    /// the client.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_sim::Sim;
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// // A simulated provider, in place of `OpenAi::from_env()?`.
    /// let openai = Sim::builder().build()?.service();
    /// let client = Policy::default().layer().layer(openai);
    ///
    /// let body = r#"{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}"#;
    /// let request = Request::post("/v1/chat/completions").body(Bytes::from(body))?;
    /// let answer = client.clone().oneshot(request).await?;
    /// assert_eq!(answer.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn layer(&self) -> PolicyLayer {
        self.shared().layer.clone()
    }

    /// The budget, to look at or to spend from by hand.
    ///
    /// # Examples
    ///
    /// A call by other means than HTTP pays as well:
    ///
    /// ```
    /// use tollhouse_openai::Policy;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let policy = Policy::default();
    /// let reservation = policy.budget().reserve(2_500).await?;
    /// reservation.launched();
    /// reservation.settle(2_000);
    /// assert_eq!(policy.budget().snapshot().level, 25_500 - 2_500);
    /// # Ok(())
    /// # }
    /// ```
    pub fn budget(&self) -> TokenBudget {
        self.shared().budget().budget().clone()
    }

    /// What was learned of each model and endpoint by
    /// [`learn_factor`](Self::learn_factor); nothing where that is off.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use http_body_util::BodyExt;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_sim::Sim;
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default().learn_factor(true);
    /// let client = policy.layer().layer(Sim::builder().build()?.service());
    /// let request = Request::post("/v1/responses")
    ///     .body(Bytes::from(r#"{"model": "gpt-4o", "input": "Hi"}"#))?;
    /// client.oneshot(request).await?.into_body().collect().await?;
    ///
    /// let learned = &policy.learned()[0];
    /// assert_eq!((learned.model.as_str(), learned.calls), ("gpt-4o", 1));
    /// assert_eq!(learned.factor, None, "one call tells too little");
    /// # Ok(())
    /// # }
    /// ```
    pub fn learned(&self) -> Vec<LearnedFactor> {
        let learned = self.shared().budget().learned.as_ref();
        learned.map(Learned::snapshot).unwrap_or_default()
    }

    /// Begins a shutdown: turns away whoever waits and whoever comes from now
    /// on, with [`Refused::Closed`](tollhouse::Refused::Closed). Calls in flight
    /// go on; [`idle`](Self::idle) waits for them. Who waits for a next attempt is turned
    /// away, too.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use tollhouse_openai::{Policy, Refused};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let policy = Policy::default();
    /// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
    ///     Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
    /// }));
    /// policy.close();
    /// let error = client.oneshot(Request::default()).await.unwrap_err();
    /// assert_eq!(error.refused(), Some(&Refused::Closed));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.shared().budget().budget().close();
        self.shared().layer.close();
    }

    /// Waits until no call is in flight and none waits. Put a timeout around
    /// it for a deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use std::time::Duration;
    /// use tokio::time::{Instant, sleep, timeout};
    /// use tollhouse_openai::Policy;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default();
    /// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
    ///     sleep(Duration::from_secs(7)).await;
    ///     Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
    /// }));
    /// let start = Instant::now();
    /// tokio::spawn(client.oneshot(Request::default()));
    /// tokio::task::yield_now().await;
    ///
    /// policy.close();
    /// timeout(Duration::from_secs(30), policy.idle()).await?;
    /// assert_eq!(start.elapsed(), Duration::from_secs(7));
    /// # Ok(())
    /// # }
    /// ```
    pub async fn idle(&self) {
        self.shared().budget().budget().idle().await;
    }

    fn shared(&self) -> &Shared {
        self.shared.get_or_init(|| Shared::new(&self.config))
    }

    /// The cost of requests under this policy, before any learned factor.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_openai::{Cost, Policy};
    ///
    /// let body = r#"{"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 100}"#;
    /// let request = Request::post("/v1/chat/completions")
    ///     .body(Bytes::from(body))
    ///     .unwrap();
    /// // A token of text, four for the message, three for the reply's start.
    /// assert_eq!(Policy::default().charge().cost(&request), 1 + 4 + 3 + 100);
    /// ```
    pub fn charge(&self) -> Estimator {
        self.config.estimator()
    }
}

impl fmt::Debug for Policy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}
