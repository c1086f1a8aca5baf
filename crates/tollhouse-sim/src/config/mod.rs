//! Everything that can be set, as plain data.
//!
//! Durations and shares are the provider's own: with a `speed` of 60, a first
//! token after 600 ms comes after 10 ms of the client's time. What a client is
//! *told* (resets, delays) is always in the client's time.

mod answers;
mod bounds;
mod error;
mod faults;
mod headers;
mod limits;
mod seconds;
mod validate;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use answers::{Answers, Latency};
pub use bounds::Bounds;
pub use error::ConfigError;
pub use faults::{Faults, Storm};
pub use headers::{Claim, Headers};
pub use limits::{ChargeRule, Enforcement, Limits, RequestEnforcement};

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
    /// What clients may make the provider hold.
    pub bounds: Bounds,
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
            bounds: Bounds::default(),
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
            .field("bounds", &self.bounds)
            .field("api_key", &self.api_key.as_ref().map(|_| "hidden"))
            .finish()
    }
}

impl Config {
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
