//! Sets up a provider.

use std::time::Duration;

use crate::config::{
    Answers, Bounds, ChargeRule, Claim, Config, Enforcement, Faults, Headers, Latency, Limits,
    RequestEnforcement, Storm,
};

/// Sets up a [`Sim`](crate::Sim); each method sets the field of [`Config`] of the same name.
///
/// # Examples
///
/// A limit that is met:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// /// A chat of `tokens` tokens: "Hi there" takes 4, the rest is asked for.
/// fn chat(tokens: u64) -> http::Request<String> {
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
/// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 429);
/// # Ok(())
/// # }
/// ```
///
/// Answers that take their time, in a provider that lives sixty times as fast:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// let sim = Sim::builder()
///     .latency(Duration::from_secs(6), Duration::ZERO)
///     .speed(60.0)
///     .build()?;
/// let start = Instant::now();
/// let body = r#"{"model": "gpt-4o", "input": "Hi there"}"#;
/// let request = http::Request::post("/v1/responses").body(body)?;
/// sim.service().oneshot(request).await?;
/// assert_eq!(start.elapsed(), Duration::from_millis(100));
/// # Ok(())
/// # }
/// ```
///
/// What is not allowed is named with its value:
///
/// ```
/// use tollhouse_sim::{Faults, Sim};
///
/// let always = Faults {
///     cut: 1.5,
///     ..Faults::hard()
/// };
/// let error = Sim::builder().faults(always).build().unwrap_err();
/// assert_eq!(error.to_string(), "faults.cut is 1.5; allowed: 0 to 1");
/// ```
#[derive(Clone, Debug, Default)]
#[must_use = "a builder does nothing until it is built"]
pub struct Builder {
    pub(crate) config: Config,
}

impl From<Config> for Builder {
    fn from(config: Config) -> Self {
        Self { config }
    }
}

impl Builder {
    /// What all that is random is drawn from; 0 unless set ([`Config::seed`]).
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// How many times faster than real the provider lives; 1 unless set ([`Config::speed`]).
    pub fn speed(mut self, speed: f64) -> Self {
        self.config.speed = speed;
        self
    }

    /// Tokens a minute for every model that is not named; 30,000 unless set, `None` for no limit ([`Config::limits`]).
    pub fn tokens_per_minute(mut self, tokens: impl Into<Option<u64>>) -> Self {
        self.config.limits.tokens_per_minute = tokens.into();
        self
    }

    /// Requests a minute for every model that is not named; 500 unless set, `None` for no limit ([`Config::limits`]).
    pub fn requests_per_minute(mut self, requests: impl Into<Option<u64>>) -> Self {
        self.config.limits.requests_per_minute = requests.into();
        self
    }

    /// Names a model; those that are not named do not exist then ([`Config::models`]).
    pub fn model(mut self, name: impl Into<String>, limits: Limits) -> Self {
        self.config.models.insert(name.into(), limits);
        self
    }

    /// How a minute is counted; continuously unless set ([`Enforcement`]).
    pub fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.config.enforcement = enforcement;
        self
    }

    /// How the request limit is enforced; by the minute unless set ([`RequestEnforcement`]).
    pub fn requests(mut self, requests: RequestEnforcement) -> Self {
        self.config.requests = requests;
        self
    }

    /// What a request is charged when it is admitted; what it asks for unless set ([`ChargeRule`]).
    pub fn charge(mut self, charge: ChargeRule) -> Self {
        self.config.charge = charge;
        self
    }

    /// Whether the charge is replaced by the real usage later; off unless set ([`Config::true_up`]).
    pub fn true_up(mut self, true_up: bool) -> Self {
        self.config.true_up = true_up;
        self
    }

    /// Whether refused requests count against the request limit; on unless set ([`Config::count_refused`]).
    pub fn count_refused(mut self, count: bool) -> Self {
        self.config.count_refused = count;
        self
    }

    /// The share of the limits that is free at first, 0 to 1; 1 unless set ([`Config::start_level`]).
    pub fn start_level(mut self, share: f64) -> Self {
        self.config.start_level = share;
        self
    }

    /// The share of the limits that others use, 0 up to but not 1; 0 unless set ([`Config::others`]).
    pub fn others(mut self, share: f64) -> Self {
        self.config.others = share;
        self
    }

    /// What goes wrong; nothing unless set ([`Faults`]).
    pub fn faults(mut self, faults: Faults) -> Self {
        self.config.faults = faults;
        self
    }

    /// A storm from one provider's time after the first call to another; none unless set ([`Storm`]).
    pub fn storm(mut self, from: Duration, until: Duration) -> Self {
        self.config.storm = Some(Storm { from, until });
        self
    }

    /// The preset [`Config::hard`].
    pub fn hard(mut self) -> Self {
        self.config = self.config.hard();
        self
    }

    /// What the headers say; the truth unless set ([`Headers`]).
    pub fn headers(mut self, headers: Headers) -> Self {
        self.config.headers = headers;
        self
    }

    /// What the rate-limit headers claim; the truth unless set ([`Claim`]).
    pub fn claim(mut self, claim: Claim) -> Self {
        self.config.headers.claim = claim;
        self
    }

    /// Whether a 429 tells its delay in `retry-after` headers too; off unless set ([`Headers::retry_after`]).
    pub fn retry_after(mut self, told: bool) -> Self {
        self.config.headers.retry_after = told;
        self
    }

    /// The provider's time until the first token, and for each further one; no time unless set ([`Latency`]).
    pub fn latency(mut self, first_token: Duration, per_token: Duration) -> Self {
        self.config.latency = Latency {
            first_token,
            per_token,
            ..self.config.latency
        };
        self
    }

    /// How widely latencies are spread, 0 to 1; 0 unless set ([`Latency::spread`]).
    pub fn latency_spread(mut self, spread: f64) -> Self {
        self.config.latency.spread = spread;
        self
    }

    /// How long an answer is, and whether it calls tools ([`Answers`]).
    pub fn answers(mut self, answers: Answers) -> Self {
        self.config.answers = answers;
        self
    }

    /// What clients may make the provider hold ([`Bounds`]).
    pub fn bounds(mut self, bounds: Bounds) -> Self {
        self.config.bounds = bounds;
        self
    }

    /// The key that is demanded; none unless set ([`Config::api_key`]).
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.config.api_key = Some(key.into());
        self
    }
}
