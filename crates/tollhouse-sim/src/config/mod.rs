//! Everything that can be set, as plain data.
//!
//! Durations and shares are the provider's own: with a `speed` of 60, a first
//! token after 600 ms comes after 10 ms of the client's time. What a client is
//! *told* (resets, delays) is always in the client's time.

mod error;
mod seconds;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use error::ConfigError;

use crate::limits::Rules;

/// All settings of a simulated provider.
///
/// It can be read from any format that `serde` reads; what is left out has its
/// default, and an unknown name is an error. Durations are in seconds there.
///
/// ```
/// use tollhouse_sim::{Config, Enforcement};
///
/// let config: Config =
///     serde_json::from_str(r#"{"speed": 60, "enforcement": {"fixed-minute": {"phase": 12.5}}}"#)?;
/// assert_eq!(config.limits.tokens_per_minute, Some(30_000));
/// assert!(matches!(
///     config.enforcement,
///     Enforcement::FixedMinute { .. }
/// ));
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What all that is drawn at random is drawn from; 0 by default. The same
    /// seed and the same calls in the same order give the same run.
    pub seed: u64,
    /// How many times faster than real the provider lives; 1 by default,
    /// 0.001 to 60,000. Its minute takes 60 s / speed: refill, windows, latencies
    /// and storms shrink alike.
    pub speed: f64,
    /// The limits of every model that is not named in `models`; 30,000 tokens
    /// and 500 requests a minute by default.
    pub limits: Limits,
    /// The models that exist, with their limits. While none is named, every
    /// name is served; as soon as one is, all others are unknown.
    pub models: BTreeMap<String, Limits>,
    /// How a minute is counted; continuously by default.
    pub enforcement: Enforcement,
    /// Whether the request limit is enforced by the minute (the default) or by
    /// the second.
    pub requests: RequestEnforcement,
    /// What a request is charged when it is admitted; what it asks for by
    /// default.
    pub charge: ChargeRule,
    /// Whether the charge is replaced by the real usage once an answer is
    /// complete; off by default. An answer that is cut short keeps its charge.
    pub true_up: bool,
    /// Whether refused requests count against the request limit; on by
    /// default, as OpenAI documents.
    pub count_refused: bool,
    /// The share of the limits that is free at first, 0 to 1; 1 by default.
    pub start_level: f64,
    /// The share of the limits that others use up, steadily, 0 up to but not
    /// 1; none by default. Told delays and resets know nothing of it.
    pub others: f64,
    /// What goes wrong; nothing by default.
    pub faults: Faults,
    /// A time in which every request is answered 429; none by default.
    pub storm: Option<Storm>,
    /// What the headers say; the truth by default.
    pub headers: Headers,
    /// How long an answer takes; no time by default.
    pub latency: Latency,
    /// How long an answer is.
    pub answers: Answers,
    /// The key that is demanded; none by default. `Debug` does not show it.
    pub api_key: Option<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            seed: 0,
            speed: 1.0,
            limits: Limits::default(),
            models: BTreeMap::new(),
            enforcement: Enforcement::default(),
            requests: RequestEnforcement::default(),
            charge: ChargeRule::default(),
            true_up: false,
            count_refused: true,
            start_level: 1.0,
            others: 0.0,
            faults: Faults::default(),
            storm: None,
            headers: Headers::default(),
            latency: Latency::default(),
            answers: Answers::default(),
            api_key: None,
        }
    }
}

impl fmt::Debug for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Config")
            .field("seed", &self.seed)
            .field("speed", &self.speed)
            .field("limits", &self.limits)
            .field("models", &self.models)
            .field("enforcement", &self.enforcement)
            .field("requests", &self.requests)
            .field("charge", &self.charge)
            .field("true_up", &self.true_up)
            .field("count_refused", &self.count_refused)
            .field("start_level", &self.start_level)
            .field("others", &self.others)
            .field("faults", &self.faults)
            .field("storm", &self.storm)
            .field("headers", &self.headers)
            .field("latency", &self.latency)
            .field("answers", &self.answers)
            .field("api_key", &self.api_key.as_ref().map(|_| "hidden"))
            .finish()
    }
}

impl Config {
    /// The rules its accounts are kept by.
    pub(crate) fn rules(&self) -> Rules {
        Rules {
            enforcement: self.enforcement,
            requests: self.requests,
            count_refused: self.count_refused,
            start_level: self.start_level,
            others: self.others,
            minute: self.in_client_time(Duration::from_secs(60)),
        }
    }

    /// What a time of the provider's takes in the client's time.
    pub(crate) fn in_client_time(&self, time: Duration) -> Duration {
        time.div_f64(self.speed)
    }

    /// The limits of a model, or `None` if it does not exist.
    pub(crate) fn limits_of(&self, model: &str) -> Option<Limits> {
        match self.models.get(model) {
            Some(limits) => Some(*limits),
            None => self.models.is_empty().then_some(self.limits),
        }
    }

    /// What the real side has: the buckets start empty, others use 15 % of the
    /// limits, and [`Faults::hard`].
    ///
    /// Out of an empty bucket the very first call is refused, whoever makes
    /// it. Where the point is that nothing is refused, set a small
    /// `start_level` after it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_sim::{Config, Faults};
    ///
    /// let config = Config {
    ///     start_level: 0.05,
    ///     ..Config::default().hard()
    /// };
    /// assert_eq!(config.others, 0.15);
    /// assert_eq!(config.faults, Faults::hard());
    /// ```
    pub fn hard(self) -> Self {
        Self {
            start_level: 0.0,
            others: 0.15,
            faults: Faults::hard(),
            ..self
        }
    }
}

/// The limits of one model; `None` is no limit, and then no headers about it.
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
/// // `chat(600)` is a chat of 600 tokens.
/// let limits = Limits {
///     tokens_per_minute: Some(200_000),
///     requests_per_minute: None,
/// };
/// let sim = Sim::builder().model("gpt-4o", limits).build()?;
/// let answer = sim.service().oneshot(chat(600)).await?;
/// assert_eq!(answer.headers()["x-ratelimit-limit-tokens"], "200000");
/// assert!(!answer.headers().contains_key("x-ratelimit-limit-requests"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Tokens in one provider's minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests in one provider's minute.
    pub requests_per_minute: Option<u64>,
}

impl Default for Limits {
    /// gpt-4o on the first paid tier.
    fn default() -> Self {
        Self {
            tokens_per_minute: Some(30_000),
            requests_per_minute: Some(500),
        }
    }
}

/// How a minute is counted.
///
/// # Examples
///
/// What fits 45 s after all tokens of a minute were used, which was 30 s into
/// the minute of the clock:
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse_sim::limits::{Account, Rules};
/// use tollhouse_sim::{Enforcement, Limits};
///
/// let remaining = |enforcement| {
///     let rules = Rules {
///         enforcement,
///         ..Rules::default()
///     };
///     let limits = Limits {
///         tokens_per_minute: Some(1_000),
///         requests_per_minute: None,
///     };
///     let start = Instant::now();
///     let mut account = Account::new(limits, &rules, start, start);
///     account.admit(start, 1_000).unwrap();
///     account
///         .levels(start + Duration::from_secs(45))
///         .tokens
///         .unwrap()
///         .remaining
/// };
/// let phase = Duration::from_secs(30);
/// assert_eq!(remaining(Enforcement::Continuous), 750);
/// assert_eq!(remaining(Enforcement::FixedMinute { phase }), 1_000);
/// assert_eq!(remaining(Enforcement::SlidingMinute), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// A bucket of L that regains L a minute: OpenAI.
    #[default]
    Continuous,
    /// A counter that starts again each minute of the provider's clock: Azure.
    FixedMinute {
        /// How much of its minute has passed when the first call arrives; less
        /// than 60 s.
        #[serde(with = "seconds", default)]
        phase: Duration,
    },
    /// Whatever the last 60 s used, however they are aligned.
    SlidingMinute,
}

/// Whether a request limit of R a minute is enforced as such.
///
/// # Examples
///
/// Ten requests at once, under a limit of 60 a minute:
///
/// ```
/// use tokio::time::Instant;
/// use tollhouse_sim::limits::{Account, Rules};
/// use tollhouse_sim::{Limits, RequestEnforcement};
///
/// let admitted = |requests| {
///     let rules = Rules {
///         requests,
///         ..Rules::default()
///     };
///     let limits = Limits {
///         tokens_per_minute: None,
///         requests_per_minute: Some(60),
///     };
///     let now = Instant::now();
///     let mut account = Account::new(limits, &rules, now, now);
///     (0..10).filter(|_| account.admit(now, 0).is_ok()).count()
/// };
/// assert_eq!(admitted(RequestEnforcement::PerMinute), 10);
/// assert_eq!(admitted(RequestEnforcement::PerSecond), 1);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestEnforcement {
    /// Counted as tokens are.
    #[default]
    PerMinute,
    /// "60,000 requests/minute may be enforced as 1,000 requests/second"
    /// (OpenAI's guide to rate limits): a bucket of one second's worth, R / 60
    /// rounded up, that regains R a minute. Headers go on speaking of the
    /// minute.
    PerSecond,
}

/// What a request is charged when it is admitted.
///
/// Prompts are measured as OpenAI was seen to do: a quarter of the UTF-8 bytes
/// of all content, rounded up, plus one per message plus one for a chat; the
/// same quarter for completions and embeddings; the exact length of token
/// arrays; 765 for each image.
///
/// # Examples
///
/// A prompt of 4 tokens that asks for 596:
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
/// // `chat(600)` is a chat of 600 tokens.
/// for (rule, tokens) in [(ChargeRule::AsRequested, 600), (ChargeRule::OpenAi, 4)] {
///     let sim = Sim::builder().charge(rule).build()?;
///     sim.service().oneshot(chat(600)).await?;
///     assert_eq!(sim.report().total.tokens_charged, tokens);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChargeRule {
    /// The prompt, plus `n` times the asked length (16 where none is asked):
    /// OpenAI until March 2025, and as Azure, Groq and Cerebras do.
    #[default]
    AsRequested,
    /// The prompt alone; for responses plus a guess of the answer: 19 tokens,
    /// or 217 with function tools. OpenAI since March 2025.
    #[serde(rename = "openai")]
    OpenAi,
}

/// The shares of requests that are answered by a fault, each 0 to 1.
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
/// // `chat(600)` is a chat of 600 tokens.
/// let faults = Faults {
///     server_error: 1.0,
///     charged: false,
///     ..Faults::default()
/// };
/// let sim = Sim::builder().faults(faults).build()?;
/// assert_eq!(sim.service().oneshot(chat(600)).await?.status(), 500);
/// let total = sim.report().total;
/// assert_eq!((total.faults.server_error, total.tokens_charged), (1, 0));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Faults {
    /// Answered by status 500.
    pub server_error: f64,
    /// Answered by status 503.
    pub unavailable: f64,
    /// Not answered: the connection is reset.
    pub reset: f64,
    /// Streams that break off half way.
    pub cut: f64,
    /// Whether a request that meets a fault has passed the limits first, and
    /// was charged; on by default. A cut stream always was.
    pub charged: bool,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            server_error: 0.0,
            unavailable: 0.0,
            reset: 0.0,
            cut: 0.0,
            charged: true,
        }
    }
}

impl Faults {
    /// 1 % status 500, 1 % status 503, 0.5 % connection resets.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_sim::Faults;
    ///
    /// // Cut streams as well.
    /// let faults = Faults {
    ///     cut: 0.02,
    ///     ..Faults::hard()
    /// };
    /// assert_eq!((faults.server_error, faults.reset), (0.01, 0.005));
    /// ```
    pub fn hard() -> Self {
        Self {
            server_error: 0.01,
            unavailable: 0.01,
            reset: 0.005,
            ..Self::default()
        }
    }
}

/// A time in which every request is answered 429, measured in the provider's
/// time from the first call.
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
/// use tollhouse_sim::{Config, Sim};
/// use tower::ServiceExt;
///
/// // `chat(600)` is a chat of 600 tokens.
/// let config: Config = serde_json::from_str(r#"{"storm": {"from": 30, "until": 45}}"#)?;
/// let sim = Sim::new(config)?;
/// let mut statuses = Vec::new();
/// for _ in 0..4 {
///     statuses.push(sim.service().oneshot(chat(600)).await?.status().as_u16());
///     tokio::time::sleep(Duration::from_secs(15)).await;
/// }
/// assert_eq!(statuses, [200, 200, 429, 200]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Storm {
    /// Its beginning.
    #[serde(with = "seconds", default)]
    pub from: Duration,
    /// Its end; a request at this instant is served.
    #[serde(with = "seconds")]
    pub until: Duration,
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
/// // `chat(600)` is a chat of 600 tokens.
/// let headers = Headers {
///     on_rejection: false,
///     retry_after: true,
///     ..Headers::default()
/// };
/// let sim = Sim::builder()
///     .tokens_per_minute(1_000)
///     .headers(headers)
///     .build()?;
/// sim.service().oneshot(chat(1_000)).await?;
/// let refused = sim.service().oneshot(chat(500)).await?;
/// assert_eq!(refused.headers()["retry-after"], "30");
/// assert!(
///     !refused
///         .headers()
///         .contains_key("x-ratelimit-remaining-tokens")
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Headers {
    /// What the rate-limit headers claim.
    pub claim: Claim,
    /// The share of answers without rate-limit headers, 0 to 1; 0 by default.
    pub missing: f64,
    /// Whether a 429 has rate-limit headers too; on by default.
    pub on_rejection: bool,
    /// Whether a 429 that tells a delay also tells it as `retry-after`
    /// (seconds, rounded up) and `retry-after-ms`; off by default, since
    /// OpenAI's was never seen to.
    pub retry_after: bool,
}

impl Default for Headers {
    fn default() -> Self {
        Self {
            claim: Claim::default(),
            missing: 0.0,
            on_rejection: true,
            retry_after: false,
        }
    }
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
/// // `chat(600)` is a chat of 600 tokens.
/// let claims = [
///     Claim::Honest,
///     Claim::Untouched,
///     Claim::Exhausted,
///     Claim::Rubbish,
/// ];
/// for (claim, remaining) in claims.into_iter().zip(["400", "1000", "0", "many"]) {
///     let sim = Sim::builder()
///         .tokens_per_minute(1_000)
///         .claim(claim)
///         .build()?;
///     let answer = sim.service().oneshot(chat(600)).await?;
///     assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], remaining);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Claim {
    /// The truth.
    #[default]
    Honest,
    /// That nothing is used.
    Untouched,
    /// That nothing is left, for a whole minute.
    Exhausted,
    /// Values that mean nothing: `-1`, `many`, `soon`.
    Rubbish,
}

/// How long an answer takes.
///
/// # Examples
///
/// The first token of a stream comes early, the last one late:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use http_body_util::BodyExt;
/// use tokio::time::Instant;
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// let (first, each) = (Duration::from_millis(600), Duration::from_millis(20));
/// let sim = Sim::builder().latency(first, each).build()?;
/// let start = Instant::now();
/// let body = r#"{"model": "gpt-4o", "input": "Hi there", "stream": true}"#;
/// let request = http::Request::post("/v1/responses").body(body)?;
/// let answer = sim.service().oneshot(request).await?;
/// assert_eq!(start.elapsed(), first);
///
/// answer.into_body().collect().await?;
/// // All that was used, but for the 9 tokens of the prompt.
/// let generated = sim.report().total.tokens_used - 9;
/// assert_eq!(start.elapsed(), first + each * (generated as u32 - 1));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Latency {
    /// From the request to the head of a stream and its first token; also what
    /// a fault or an embedding takes. At most a day.
    #[serde(with = "seconds")]
    pub first_token: Duration,
    /// Between two tokens. At most a day.
    #[serde(with = "seconds")]
    pub per_token: Duration,
    /// Each request's times are multiplied by a factor drawn evenly from
    /// 1 - spread to 1 + spread, 0 to 1.
    pub spread: f64,
}

/// How long an answer is, in tokens.
///
/// Lengths are drawn from a log-normal distribution (sigma 0.5) and cut off at
/// the asked length. They depend on the seed and the request alone, so that the
/// same request always gets the same answer.
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
/// // `chat(600)` is a chat of 600 tokens.
/// let mut used = Vec::new();
/// for share in [0.05, 0.5] {
///     let answers = Answers {
///         share,
///         ..Answers::default()
///     };
///     let sim = Sim::builder().answers(answers).build()?;
///     sim.service().oneshot(chat(2_000)).await?;
///     used.push(sim.report().total.tokens_used);
/// }
/// assert!(used[0] < 200 && used[1] > 500);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// The mean, as a share of the asked length, above 0 and at most 1; 0.4 by
    /// default.
    pub share: f64,
    /// The mean where no length was asked; 200 by default, 1 to 100,000.
    pub tokens: u64,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            share: 0.4,
            tokens: 200,
        }
    }
}
