//! What of a policy can be set, and asked.

use std::sync::Arc;
use std::time::Duration;

use tollhouse::retry::RetryBudget;
use tollhouse::{Accounting, Window};

use super::settings::{MOST, Settings};
use super::{Limit, Policy};
use crate::wire::cost::ChargeRule;

/// # Settings
impl Policy {
    /// A name for this policy in metrics, to tell it from the other policies of
    /// a program. One of a few: each is a time series of its own.
    ///
    /// # Examples
    ///
    /// With the feature `metrics`, and a recorder such as Prometheus's:
    ///
    /// ```
    /// # #[cfg(feature = "metrics")] {
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    /// use tollhouse_openai::Policy;
    ///
    /// let page = PrometheusBuilder::new()
    ///     .install_recorder()
    ///     .expect("the only recorder");
    /// let policy = Policy::default().name("batch");
    /// policy.budget().snapshot();
    /// let told = page.render();
    /// assert!(told.contains(r#"tollhouse_budget_limit_tokens{policy="batch"} 30000"#));
    /// # }
    /// ```
    #[must_use]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(|settings| settings.name = Some(name.into()))
    }

    /// The most requests in flight, a stream until its last byte.
    ///
    /// # Panics
    ///
    /// If `requests` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use std::time::Duration;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_openai::testing::{Recorder, Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default().max_concurrency(2).stagger(Duration::ZERO);
    /// let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
    ///     Reply::ok(Response::new(Empty::<Bytes>::new())).after(Duration::from_secs(2))
    /// });
    /// let recorder = Recorder::new();
    /// let client = policy.layer().layer(recorder.layer(provider));
    ///
    /// let call = || client.clone().oneshot(Request::default());
    /// tokio::try_join!(call(), call(), call(), call(), call())?;
    /// recorder.assert_in_flight_at_most(2);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_concurrency(self, requests: usize) -> Self {
        assert!(requests > 0, "a policy must let at least 1 request through");
        self.with(|settings| settings.max_concurrency = requests)
    }

    /// The least time between two launches; zero switches it off.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse_openai::Policy;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default().stagger(Duration::from_millis(50));
    /// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
    ///     Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
    /// }));
    /// let start = Instant::now();
    /// for _ in 0..3 {
    ///     client.clone().oneshot(Request::default()).await?;
    /// }
    /// assert_eq!(start.elapsed(), Duration::from_millis(100));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stagger(self, interval: Duration) -> Self {
        self.with(|settings| settings.stagger = interval)
    }

    /// The tokens a minute.
    ///
    /// # Panics
    ///
    /// If the number is above 10^12.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::{Limit, Policy};
    ///
    /// let policy = Policy::default()
    ///     .headroom(0.0)
    ///     .tpm_limit(Limit::per_minute(125_000));
    /// assert_eq!(policy.budget().snapshot().capacity, 125_000);
    /// ```
    #[must_use]
    pub fn tpm_limit(self, limit: Limit) -> Self {
        assert_limit(limit);
        self.with(|settings| settings.tpm_limit = limit)
    }

    /// The requests a minute.
    ///
    /// # Panics
    ///
    /// If the number is above 10^12.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::{Limit, Policy};
    ///
    /// let policy = Policy::default().rpm_limit(Limit::per_minute(500));
    /// assert_eq!(policy.budget().snapshot().requests_limit, Some(500));
    /// ```
    #[must_use]
    pub fn rpm_limit(self, limit: Limit) -> Self {
        assert_limit(limit);
        self.with(|settings| settings.rpm_limit = limit)
    }

    /// The share of the limits that is never used.
    ///
    /// # Panics
    ///
    /// If `share` is not from 0 to 0.9.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::Policy;
    ///
    /// // Of 30,000 tokens a minute.
    /// let policy = Policy::default().headroom(0.5);
    /// assert_eq!(policy.budget().snapshot().capacity, 15_000);
    /// ```
    #[must_use]
    pub fn headroom(self, share: f64) -> Self {
        assert!(
            (0.0..=0.9).contains(&share),
            "headroom {share}: 0 to 0.9 is allowed"
        );
        self.with(|settings| settings.headroom = share)
    }

    /// The tokens charged to a request whose answer's length cannot be told.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_openai::{Cost, Policy};
    ///
    /// let policy = Policy::default().est_tokens(1_200);
    /// let request = Request::post("/v1/responses").body(Bytes::from(r#"{"input": "Hi"}"#));
    /// assert_eq!(policy.charge().cost(&request.unwrap()), 1_200);
    /// ```
    #[must_use]
    pub fn est_tokens(self, tokens: u64) -> Self {
        self.with(|settings| settings.est_tokens = tokens)
    }

    /// How requests are charged.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_openai::{ChargeRule, Cost, Policy};
    ///
    /// let policy = Policy::default().charge_rule(ChargeRule::Fixed(500));
    /// let request = Request::post("/v1/responses").body(Bytes::from(r#"{"input": "Hi"}"#));
    /// assert_eq!(policy.charge().cost(&request.unwrap()), 500);
    /// ```
    #[must_use]
    pub fn charge_rule(self, rule: ChargeRule) -> Self {
        self.with(|settings| settings.charge_rule = rule)
    }

    /// The attempts in all, the first included.
    ///
    /// # Panics
    ///
    /// If `attempts` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_openai::testing::{Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
    ///     let down = Response::builder().status(503).body(Empty::<Bytes>::new());
    ///     Reply::ok(down.unwrap())
    /// });
    /// let client = Policy::default()
    ///     .max_attempts(2)
    ///     .layer()
    ///     .layer(provider.clone());
    /// assert_eq!(client.oneshot(Request::default()).await?.status(), 503);
    /// assert_eq!(provider.count(), 2);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_attempts(self, attempts: u32) -> Self {
        assert!(attempts > 0, "a policy must allow at least 1 attempt");
        self.with(|settings| settings.max_attempts = attempts)
    }

    /// The first backoff; it doubles from attempt to attempt, to at most 60
    /// seconds. Zero asks again at once, which the variable does not allow.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse_openai::Policy;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default()
    ///     .stagger(Duration::ZERO)
    ///     .backoff_base(Duration::from_millis(100));
    /// let client = policy
    ///     .max_attempts(3)
    ///     .layer()
    ///     .layer(service_fn(async |_: Request<Bytes>| {
    ///         Response::builder().status(503).body(Empty::<Bytes>::new())
    ///     }));
    /// // At most 100 ms and then 200 ms.
    /// let start = Instant::now();
    /// client.oneshot(Request::default()).await?;
    /// assert!(start.elapsed() < Duration::from_millis(310));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn backoff_base(self, base: Duration) -> Self {
        self.with(|settings| settings.backoff_base = base)
    }

    /// The longest time over all attempts of a call; unlimited unless set. See
    /// [`Backoff::deadline`](tollhouse::Backoff::deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse_openai::Policy;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default()
    ///     .stagger(Duration::ZERO)
    ///     .retry_deadline(Duration::from_secs(10));
    /// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
    ///     let busy = Response::builder().status(429).header("retry-after", "7");
    ///     busy.body(Empty::<Bytes>::new())
    /// }));
    /// // A third attempt could start after 14 s only.
    /// let start = Instant::now();
    /// assert_eq!(client.oneshot(Request::default()).await?.status(), 429);
    /// assert_eq!(start.elapsed(), Duration::from_secs(7));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_deadline(self, total: Duration) -> Self {
        self.with(|settings| settings.retry_deadline = Some(total))
    }

    /// The longest delay told by the provider that is waited for; 120 s unless
    /// set. An answer that tells a longer one, as with a limit by the day, is
    /// handed back at once, the delay in it, and until then all other calls are
    /// refused at once with [`Refused::Exhausted`](tollhouse::Refused::Exhausted).
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use std::time::Duration;
    /// use tollhouse_openai::{Policy, Refused};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default().max_told_delay(Duration::from_secs(30));
    /// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
    ///     let busy = Response::builder()
    ///         .status(429)
    ///         .header("retry-after", "3600");
    ///     busy.body(Empty::<Bytes>::new())
    /// }));
    /// let answer = client.clone().oneshot(Request::default()).await?;
    /// assert_eq!(answer.headers()["retry-after"], "3600");
    /// let error = client.oneshot(Request::default()).await.unwrap_err();
    /// assert!(matches!(error.refused(), Some(Refused::Exhausted { .. })));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_told_delay(self, longest: Duration) -> Self {
        self.with(|settings| settings.max_told_delay = longest)
    }

    /// How many retries all calls together may make in any minute: `share` for
    /// each request, and `reserve` more; 0.2 and 10 unless set. Waiting for a
    /// limit draws on nothing. See [`RetryBudget`].
    ///
    /// # Panics
    ///
    /// If `share` is not from 0 to 1,000.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_openai::testing::{Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
    ///     let down = Response::builder().status(503).body(Empty::<Bytes>::new());
    ///     Reply::ok(down.unwrap())
    /// });
    /// // Three retries a minute, whatever is asked.
    /// let policy = Policy::default()
    ///     .stagger(std::time::Duration::ZERO)
    ///     .retry_budget(0.0, 3);
    /// let client = policy.layer().layer(provider.clone());
    /// for _ in 0..2 {
    ///     client.clone().oneshot(Request::default()).await?;
    /// }
    /// assert_eq!(provider.count(), 2 + 3);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn retry_budget(self, share: f64, reserve: u32) -> Self {
        // For its check: here, and not where the policy is first used.
        drop(RetryBudget::new(share, reserve));
        self.with(|settings| settings.retry_budget = Some((share, reserve)))
    }

    /// Lets every call use up its attempts, whatever the others do.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use std::time::Duration;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_openai::testing::{Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
    ///     let down = Response::builder().status(503).body(Empty::<Bytes>::new());
    ///     Reply::ok(down.unwrap())
    /// });
    /// let policy = Policy::default().stagger(Duration::ZERO).max_attempts(3);
    /// let client = policy
    ///     .without_retry_budget()
    ///     .layer()
    ///     .layer(provider.clone());
    /// for _ in 0..20 {
    ///     client.clone().oneshot(Request::default()).await?;
    /// }
    /// assert_eq!(provider.count(), 20 * 3);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn without_retry_budget(self) -> Self {
        self.with(|settings| settings.retry_budget = None)
    }

    /// The most calls that may wait for a slot; one more is refused at once
    /// with [`Refused::Overloaded`](tollhouse::Refused::Overloaded). Unlimited
    /// unless set.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tollhouse_openai::{Policy, Refused};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default().max_concurrency(1).max_waiting(0);
    /// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
    ///     Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from("{}")))
    /// }));
    /// let answer = client.clone().oneshot(Request::default()).await?;
    /// let error = client.oneshot(Request::default()).await.unwrap_err();
    /// assert!(matches!(error.refused(), Some(Refused::Overloaded { .. })));
    /// # drop(answer);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_waiting(self, calls: usize) -> Self {
        self.with(|settings| settings.max_waiting = calls)
    }

    /// The most tokens spent at once after a quiet time; what the headroom
    /// leaves of a minute unless set, and never more than that.
    ///
    /// # Panics
    ///
    /// If `tokens` is zero.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::{Policy, Refused};
    ///
    /// let policy = Policy::default().burst(8_000);
    /// let refused = policy.budget().try_reserve(9_000).unwrap_err();
    /// assert_eq!(
    ///     refused,
    ///     Refused::TooLarge {
    ///         cost: 9_000,
    ///         limit: 8_000
    ///     }
    /// );
    /// ```
    #[must_use]
    pub fn burst(self, tokens: u64) -> Self {
        assert!(tokens > 0, "a burst of 0 tokens lets nothing pass");
        self.with(|settings| settings.burst = Some(tokens))
    }

    /// Whether chat streams that do not ask for their usage are made to, and
    /// the event that tells it is taken out again; off unless set. See
    /// [`include_usage`](crate::layers::include_usage).
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Empty;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_openai::testing::{Reply, ScriptedProvider};
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let provider = ScriptedProvider::new(|_, _: &Request<Bytes>| {
    ///     Reply::ok(Response::new(Empty::<Bytes>::new()))
    /// });
    /// let client = Policy::default()
    ///     .ask_for_usage(true)
    ///     .layer()
    ///     .layer(provider.clone());
    /// let request = Request::post("/v1/chat/completions").body(r#"{"stream":true}"#.into())?;
    /// client.oneshot(request).await?;
    /// assert_eq!(
    ///     provider.requests()[0].body(),
    ///     r#"{"stream_options":{"include_usage":true},"stream":true}"#,
    /// );
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ask_for_usage(self, ask: bool) -> Self {
        self.with(|settings| settings.ask_for_usage = ask)
    }

    /// Whether costs are made of what calls really used: off unless set.
    ///
    /// The ratio of real to estimated tokens is remembered for each model and
    /// endpoint, and the next estimates are multiplied by a ratio that 95 % of
    /// the last few hundred calls stayed below, from 0.25 to 20. A cost never
    /// falls below what the provider charges when it admits the request, nor
    /// rises above what the budget can hold. [`learned`](Self::learned) tells
    /// what is known.
    ///
    /// It evens out what debt would catch later anyway: calls whose real input
    /// cannot be seen (hosted tools), and estimates for answers of no asked
    /// length.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use http_body_util::BodyExt;
    /// use std::time::Duration;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_sim::Sim;
    /// use tower::{Layer, ServiceExt};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default().stagger(Duration::ZERO).learn_factor(true);
    /// let client = policy.layer().layer(Sim::builder().build()?.service());
    /// for _ in 0..20 {
    ///     // Estimated at 7,000 tokens, for its answer has no asked length.
    ///     let request = Request::post("/v1/responses")
    ///         .body(Bytes::from(r#"{"model": "gpt-4o", "input": "Hi"}"#))?;
    ///     client
    ///         .clone()
    ///         .oneshot(request)
    ///         .await?
    ///         .into_body()
    ///         .collect()
    ///         .await?;
    /// }
    /// assert!(policy.learned()[0].factor.unwrap() < 1.0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn learn_factor(self, learn: bool) -> Self {
        self.with(|settings| settings.learn_factor = learn)
    }

    /// Whether the provider gives back what a request did not use;
    /// [`Accounting::AsRequested`], it does not, unless set.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::{BodyExt, Full};
    /// use tollhouse_openai::{Accounting, Policy};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default().accounting(Accounting::AsUsed);
    /// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
    ///     let told = r#"{"usage": {"total_tokens": 300}}"#;
    ///     Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from(told)))
    /// }));
    /// let request = Request::post("/v1/responses").body(Bytes::from(r#"{"input": "Hi"}"#))?;
    /// client.oneshot(request).await?.into_body().collect().await?;
    /// assert_eq!(policy.budget().snapshot().level, 25_500 - 300);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn accounting(self, accounting: Accounting) -> Self {
        self.with(|settings| settings.accounting = accounting)
    }

    /// Whether a sliding minute is kept beside the bucket; [`Window::Auto`]
    /// unless set.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::{Policy, Window};
    ///
    /// let policy = Policy::default().window(Window::Off);
    /// assert!(!policy.budget().snapshot().windowed);
    /// ```
    #[must_use]
    pub fn window(self, window: Window) -> Self {
        self.with(|settings| settings.window = window)
    }

    /// Whether at most a tenth of the burst is spent until a first answer has
    /// confirmed the level; on unless switched off. A first request that costs
    /// more than that goes alone.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse_openai::Policy;
    ///
    /// for (cautious, both) in [(true, false), (false, true)] {
    ///     let policy = Policy::default().stagger(Duration::ZERO);
    ///     let budget = policy.cautious_start(cautious).budget();
    ///     let first = budget.try_reserve(7_000);
    ///     let second = budget.try_reserve(7_000);
    ///     assert_eq!(first.is_ok() && second.is_ok(), both);
    /// }
    /// ```
    #[must_use]
    pub fn cautious_start(self, cautious: bool) -> Self {
        self.with(|settings| settings.cautious_start = cautious)
    }

    /// The most requests in flight.
    pub fn get_max_concurrency(&self) -> usize {
        self.settings.max_concurrency
    }

    /// The least time between two launches.
    pub fn get_stagger(&self) -> Duration {
        self.settings.stagger
    }

    /// The tokens a minute.
    pub fn get_tpm_limit(&self) -> Limit {
        self.settings.tpm_limit
    }

    /// The requests a minute.
    pub fn get_rpm_limit(&self) -> Limit {
        self.settings.rpm_limit
    }

    /// The share of the limits that is never used.
    pub fn get_headroom(&self) -> f64 {
        self.settings.headroom
    }

    /// The tokens charged to a request whose answer's length cannot be told.
    pub fn get_est_tokens(&self) -> u64 {
        self.settings.est_tokens
    }

    /// How requests are charged.
    pub fn get_charge_rule(&self) -> ChargeRule {
        self.settings.charge_rule
    }

    /// The attempts in all.
    pub fn get_max_attempts(&self) -> u32 {
        self.settings.max_attempts
    }

    /// The first backoff.
    pub fn get_backoff_base(&self) -> Duration {
        self.settings.backoff_base
    }

    fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(Arc::make_mut(&mut self.settings));
        self.shared = Arc::default();
        self
    }
}

fn assert_limit(limit: Limit) {
    let number = limit.amount().unwrap_or(1);
    assert!(
        number <= MOST,
        "a limit of {number} a minute: 1 to {MOST} is allowed"
    );
}
