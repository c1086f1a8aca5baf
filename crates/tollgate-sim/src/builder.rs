//! Sets up a provider.

use std::time::Duration;

use crate::config::{
    Answers, ChargeRule, Claim, Config, ConfigError, Enforcement, Faults, Headers, Latency, Limits,
    RequestEnforcement, Storm,
};
use crate::sim::Sim;

/// Sets up a [`Sim`]; each method's setting is explained at the field of
/// [`Config`] of the same name.
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
    pub fn build(self) -> Result<Sim, ConfigError> {
        Sim::new(self.config)
    }

    /// What all that is random is drawn from.
    pub fn seed(mut self, seed: u64) -> Self {
        self.config.seed = seed;
        self
    }

    /// How many times faster than real the provider lives.
    pub fn speed(mut self, speed: f64) -> Self {
        self.config.speed = speed;
        self
    }

    /// Tokens a minute for every model that is not named.
    pub fn tokens_per_minute(mut self, tokens: impl Into<Option<u64>>) -> Self {
        self.config.limits.tokens_per_minute = tokens.into();
        self
    }

    /// Requests a minute for every model that is not named.
    pub fn requests_per_minute(mut self, requests: impl Into<Option<u64>>) -> Self {
        self.config.limits.requests_per_minute = requests.into();
        self
    }

    /// Names a model; those that are not named do not exist then.
    pub fn model(mut self, name: impl Into<String>, limits: Limits) -> Self {
        self.config.models.insert(name.into(), limits);
        self
    }

    /// How a minute is counted.
    pub fn enforcement(mut self, enforcement: Enforcement) -> Self {
        self.config.enforcement = enforcement;
        self
    }

    /// How the request limit is enforced.
    pub fn requests(mut self, requests: RequestEnforcement) -> Self {
        self.config.requests = requests;
        self
    }

    /// What a request is charged when it is admitted.
    pub fn charge(mut self, charge: ChargeRule) -> Self {
        self.config.charge = charge;
        self
    }

    /// Whether the charge is replaced by the real usage later.
    pub fn true_up(mut self, true_up: bool) -> Self {
        self.config.true_up = true_up;
        self
    }

    /// Whether refused requests count against the request limit.
    pub fn count_refused(mut self, count: bool) -> Self {
        self.config.count_refused = count;
        self
    }

    /// The share of the limits that is free at first.
    pub fn start_level(mut self, share: f64) -> Self {
        self.config.start_level = share;
        self
    }

    /// The share of the limits that others use.
    pub fn others(mut self, share: f64) -> Self {
        self.config.others = share;
        self
    }

    /// What goes wrong.
    pub fn faults(mut self, faults: Faults) -> Self {
        self.config.faults = faults;
        self
    }

    /// A storm from one time to another, counted in the provider's time from
    /// the first call.
    pub fn storm(mut self, from: Duration, until: Duration) -> Self {
        self.config.storm = Some(Storm { from, until });
        self
    }

    /// The preset [`Config::hard`].
    pub fn hard(mut self) -> Self {
        self.config = self.config.hard();
        self
    }

    /// What the headers say.
    pub fn headers(mut self, headers: Headers) -> Self {
        self.config.headers = headers;
        self
    }

    /// What the rate-limit headers claim.
    pub fn claim(mut self, claim: Claim) -> Self {
        self.config.headers.claim = claim;
        self
    }

    /// Whether a 429 tells its delay in `retry-after` headers too.
    pub fn retry_after(mut self, told: bool) -> Self {
        self.config.headers.retry_after = told;
        self
    }

    /// How long an answer takes: until its first token, and for each further
    /// one.
    pub fn latency(mut self, first_token: Duration, per_token: Duration) -> Self {
        self.config.latency = Latency {
            first_token,
            per_token,
            ..self.config.latency
        };
        self
    }

    /// How widely latencies are spread.
    pub fn latency_spread(mut self, spread: f64) -> Self {
        self.config.latency.spread = spread;
        self
    }

    /// How long an answer is.
    pub fn answers(mut self, answers: Answers) -> Self {
        self.config.answers = answers;
        self
    }

    /// The key that is demanded.
    pub fn api_key(mut self, key: impl Into<String>) -> Self {
        self.config.api_key = Some(key.into());
        self
    }
}
