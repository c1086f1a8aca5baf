//! Sets up a provider.

use std::time::Duration;

use crate::config::{
    Answers, ChargeRule, Claim, Config, ConfigError, Enforcement, Faults, Headers, Latency, Limits,
    RequestEnforcement, Storm,
};
use crate::sim::Sim;

/// Sets up a [`Sim`]; each method's setting is explained at the field of
/// [`Config`] of the same name.
///
/// # Examples
///
/// A chat of `tokens` tokens, as the examples of all methods send it, and a
/// provider that has room for one:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// fn chat(tokens: u64) -> http::Request<String> {
///     // "Hi there" takes 4 tokens; the rest is asked for.
///     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
///     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
///     http::Request::post("/v1/chat/completions")
///         .body(body)
///         .unwrap()
/// }
///
/// let sim = Sim::builder().tokens_per_minute(1_000).build()?;
/// let answer = sim.service().oneshot(chat(600)).await?;
/// assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], "400");
/// let refused = sim.service().oneshot(chat(600)).await?;
/// assert_eq!(refused.status(), 429);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    config: Config,
}

impl From<Config> for Builder {
    fn from(config: Config) -> Self {
        Self { config }
    }
}

impl Builder {
    /// Makes the provider.
    ///
    /// # Errors
    ///
    /// The first setting that is not allowed, with its value and what is.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_sim::Sim;
    ///
    /// let error = Sim::builder().start_level(2.0).build().unwrap_err();
    /// assert_eq!(error.to_string(), "start_level is 2; allowed: 0 to 1");
    /// ```
    pub fn build(self) -> Result<Sim, ConfigError> {
        Sim::new(self.config)
    }

    /// What all that is random is drawn from.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = |seed| Sim::builder().seed(seed).build();
    /// let mut ids = Vec::new();
    /// for sim in [sim(1)?, sim(1)?, sim(2)?] {
    ///     let answer = sim.service().oneshot(chat(600)).await?;
    ///     ids.push(answer.headers()["x-request-id"].clone());
    /// }
    /// assert_eq!(ids[0], ids[1]);
    /// assert_ne!(ids[0], ids[2]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// How many times faster than real the provider lives.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// // Its minute takes a second.
    /// let sim = Sim::builder()
    ///     .speed(60.0)
    ///     .tokens_per_minute(1_000)
    ///     .build()?;
    /// assert_eq!(sim.service().oneshot(chat(1_000)).await?.status(), 200);
    /// assert_eq!(sim.service().oneshot(chat(1_000)).await?.status(), 429);
    /// tokio::time::sleep(Duration::from_secs(1)).await;
    /// assert_eq!(sim.service().oneshot(chat(1_000)).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn speed(mut self, speed: f64) -> Self {
        self.config.speed = speed;
        self
    }

    /// Tokens a minute for every model that is not named.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder().tokens_per_minute(1_000).build()?;
    /// assert_eq!(sim.service().oneshot(chat(1_001)).await?.status(), 429);
    ///
    /// let sim = Sim::builder().tokens_per_minute(None).build()?;
    /// assert_eq!(sim.service().oneshot(chat(100_000)).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tokens_per_minute(mut self, tokens: impl Into<Option<u64>>) -> Self {
        self.config.limits.tokens_per_minute = tokens.into();
        self
    }

    /// Requests a minute for every model that is not named.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder().requests_per_minute(1).build()?;
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 200);
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 429);
    /// # Ok(())
    /// # }
    /// ```
    pub fn requests_per_minute(mut self, requests: impl Into<Option<u64>>) -> Self {
        self.config.limits.requests_per_minute = requests.into();
        self
    }

    /// Names a model; those that are not named do not exist then.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::{Limits, Sim};
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .model("gpt-4o-mini", Limits::default())
    ///     .build()?;
    /// // It asks for gpt-4o.
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 404);
    ///
    /// let sim = Sim::builder().model("gpt-4o", Limits::default()).build()?;
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn model(mut self, name: impl Into<String>, limits: Limits) -> Self {
        self.config.models.insert(name.into(), limits);
        self
    }

    /// How a minute is counted.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tollhouse_sim::{Enforcement, Sim};
    /// use tower::ServiceExt;
    ///
    /// // The first call arrives 10 s before its minute ends.
    /// let phase = Duration::from_secs(50);
    /// let sim = Sim::builder()
    ///     .tokens_per_minute(1_000)
    ///     .enforcement(Enforcement::FixedMinute { phase })
    ///     .build()?;
    /// assert_eq!(sim.service().oneshot(chat(1_000)).await?.status(), 200);
    /// tokio::time::sleep(Duration::from_secs(10)).await;
    /// assert_eq!(sim.service().oneshot(chat(1_000)).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.config.enforcement = enforcement;
        self
    }

    /// How the request limit is enforced.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tollhouse_sim::{RequestEnforcement, Sim};
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .requests_per_minute(60)
    ///     .requests(RequestEnforcement::PerSecond)
    ///     .build()?;
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 200);
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 429);
    /// // The refused request has to be made up for as well.
    /// tokio::time::sleep(Duration::from_secs(2)).await;
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn requests(mut self, requests: RequestEnforcement) -> Self {
        self.config.requests = requests;
        self
    }

    /// What a request is charged when it is admitted.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::{ChargeRule, Sim};
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder().charge(ChargeRule::OpenAi).build()?;
    /// sim.service().oneshot(chat(600)).await?;
    /// // The prompt alone.
    /// assert_eq!(sim.report().total.tokens_charged, 4);
    /// # Ok(())
    /// # }
    /// ```
    pub fn charge(mut self, charge: ChargeRule) -> Self {
        self.config.charge = charge;
        self
    }

    /// Whether the charge is replaced by the real usage later.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder().true_up(true).build()?;
    /// sim.service().oneshot(chat(600)).await?;
    /// let total = sim.report().total;
    /// assert!(total.tokens_charged < 600);
    /// assert_eq!(total.tokens_charged, total.tokens_used);
    /// # Ok(())
    /// # }
    /// ```
    pub fn true_up(mut self, true_up: bool) -> Self {
        self.config.true_up = true_up;
        self
    }

    /// Whether refused requests count against the request limit.
    ///
    /// # Examples
    ///
    /// A client that tries again every second is never served where its refused
    /// requests count too:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let mut statuses = Vec::new();
    /// for count in [true, false] {
    ///     let sim = Sim::builder()
    ///         .requests_per_minute(1)
    ///         .count_refused(count)
    ///         .build()?;
    ///     let mut last = sim.service().oneshot(chat(600)).await?;
    ///     for _ in 0..60 {
    ///         tokio::time::sleep(Duration::from_secs(1)).await;
    ///         last = sim.service().oneshot(chat(600)).await?;
    ///     }
    ///     statuses.push(last.status().as_u16());
    /// }
    /// assert_eq!(statuses, [429, 200]);
    /// # Ok(())
    /// # }
    /// ```
    pub fn count_refused(mut self, count: bool) -> Self {
        self.config.count_refused = count;
        self
    }

    /// The share of the limits that is free at first.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .start_level(0.0)
    ///     .tokens_per_minute(1_000)
    ///     .build()?;
    /// assert_eq!(sim.service().oneshot(chat(500)).await?.status(), 429);
    /// tokio::time::sleep(Duration::from_secs(30)).await;
    /// assert_eq!(sim.service().oneshot(chat(500)).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn start_level(mut self, share: f64) -> Self {
        self.config.start_level = share;
        self
    }

    /// The share of the limits that others use.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .tokens_per_minute(1_000)
    ///     .others(0.25)
    ///     .build()?;
    /// sim.service().oneshot(chat(1_000)).await?;
    /// tokio::time::sleep(Duration::from_secs(60)).await;
    /// // Of the 1,000 tokens that came back, others took 250.
    /// let answer = sim.service().oneshot(chat(700)).await?;
    /// assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], "50");
    /// # Ok(())
    /// # }
    /// ```
    pub fn others(mut self, share: f64) -> Self {
        self.config.others = share;
        self
    }

    /// What goes wrong.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::{Faults, Sim};
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .faults(Faults {
    ///         unavailable: 1.0,
    ///         ..Faults::default()
    ///     })
    ///     .build()?;
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 503);
    /// # Ok(())
    /// # }
    /// ```
    pub fn faults(mut self, faults: Faults) -> Self {
        self.config.faults = faults;
        self
    }

    /// A storm from one time to another, counted in the provider's time from
    /// the first call.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let (from, until) = (Duration::ZERO, Duration::from_secs(10));
    /// let sim = Sim::builder().storm(from, until).build()?;
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 429);
    /// tokio::time::sleep(until).await;
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn storm(mut self, from: Duration, until: Duration) -> Self {
        self.config.storm = Some(Storm { from, until });
        self
    }

    /// The preset [`Config::hard`].
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder().hard().build()?;
    /// // The bucket starts empty.
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 429);
    /// # Ok(())
    /// # }
    /// ```
    pub fn hard(mut self) -> Self {
        self.config = self.config.hard();
        self
    }

    /// What the headers say.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::{Headers, Sim};
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .headers(Headers {
    ///         missing: 1.0,
    ///         ..Headers::default()
    ///     })
    ///     .build()?;
    /// let answer = sim.service().oneshot(chat(600)).await?;
    /// assert!(
    ///     !answer
    ///         .headers()
    ///         .contains_key("x-ratelimit-remaining-tokens")
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn headers(mut self, headers: Headers) -> Self {
        self.config.headers = headers;
        self
    }

    /// What the rate-limit headers claim.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::{Claim, Sim};
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder().claim(Claim::Exhausted).build()?;
    /// let answer = sim.service().oneshot(chat(600)).await?;
    /// assert_eq!(answer.status(), 200);
    /// assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], "0");
    /// # Ok(())
    /// # }
    /// ```
    pub fn claim(mut self, claim: Claim) -> Self {
        self.config.headers.claim = claim;
        self
    }

    /// Whether a 429 tells its delay in `retry-after` headers too.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .tokens_per_minute(1_000)
    ///     .retry_after(true)
    ///     .build()?;
    /// sim.service().oneshot(chat(600)).await?;
    /// let refused = sim.service().oneshot(chat(600)).await?;
    /// // 200 tokens are missing.
    /// assert_eq!(refused.headers()["retry-after"], "12");
    /// assert_eq!(refused.headers()["retry-after-ms"], "12000");
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_after(mut self, told: bool) -> Self {
        self.config.headers.retry_after = told;
        self
    }

    /// How long an answer takes: until its first token, and for each further
    /// one.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .latency(Duration::from_millis(600), Duration::from_millis(20))
    ///     .build()?;
    /// let start = Instant::now();
    /// // A single token is asked for, and nothing follows it.
    /// sim.service().oneshot(chat(5)).await?;
    /// assert_eq!(start.elapsed(), Duration::from_millis(600));
    /// # Ok(())
    /// # }
    /// ```
    pub fn latency(mut self, first_token: Duration, per_token: Duration) -> Self {
        self.config.latency = Latency {
            first_token,
            per_token,
            ..self.config.latency
        };
        self
    }

    /// How widely latencies are spread.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder()
    ///     .latency(Duration::from_secs(10), Duration::ZERO)
    ///     .latency_spread(0.5)
    ///     .build()?;
    /// let start = Instant::now();
    /// sim.service().oneshot(chat(5)).await?;
    /// let spread = Duration::from_secs(5)..=Duration::from_secs(15);
    /// assert!(spread.contains(&start.elapsed()));
    /// # Ok(())
    /// # }
    /// ```
    pub fn latency_spread(mut self, spread: f64) -> Self {
        self.config.latency.spread = spread;
        self
    }

    /// How long an answer is.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::{Answers, Sim};
    /// use tower::ServiceExt;
    ///
    /// let short = Answers {
    ///     share: 0.01,
    ///     ..Answers::default()
    /// };
    /// let sim = Sim::builder().answers(short).build()?;
    /// sim.service().oneshot(chat(1_004)).await?;
    /// let total = sim.report().total;
    /// assert_eq!(total.tokens_charged, 1_004);
    /// assert!(total.tokens_used < 104);
    /// # Ok(())
    /// # }
    /// ```
    pub fn answers(mut self, answers: Answers) -> Self {
        self.config.answers = answers;
        self
    }

    /// The key that is demanded.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # fn chat(tokens: u64) -> http::Request<String> {
    /// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
    /// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
    /// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
    /// # }
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// let sim = Sim::builder().api_key("sk-test").build()?;
    /// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 401);
    ///
    /// let mut request = chat(600);
    /// request
    ///     .headers_mut()
    ///     .insert("authorization", "Bearer sk-test".parse()?);
    /// assert_eq!(sim.service().oneshot(request).await?.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.config.api_key = Some(key.into());
        self
    }
}
