//! The account of the demo, as the provider keeps it and as the policy knows
//! it.

use tokio::time::Duration;
use tollhouse_openai::{Limit, Policy};
use tollhouse_sim::{ConfigError, Sim};

/// gpt-4o on the first paid tier.
pub(super) const TOKENS: u64 = 30_000;
pub(super) const REQUESTS: u64 = 500;

pub(super) const HEADROOM: f64 = 0.05;
pub(super) const AT_ONCE: usize = 8;
/// Of a direct caller, where the batch has 1.
pub(super) const WEIGHT: u32 = 8;
pub(super) const STAGGER: Duration = Duration::from_millis(250);

/// As the variables' default.
const BACKOFF: Duration = Duration::from_secs(2);
const FIRST_TOKEN: Duration = Duration::from_millis(400);
const EACH_TOKEN: Duration = Duration::from_millis(10);

/// One account, at one speed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Account {
    speed: f64,
    seed: u64,
}

impl Account {
    pub(super) fn new(speed: f64, seed: u64) -> Self {
        Self { speed, seed }
    }

    pub(super) fn speed(&self) -> f64 {
        self.speed
    }

    pub(super) fn seed(&self) -> u64 {
        self.seed
    }

    /// What a time of the provider's takes here.
    pub(super) fn here(&self, time: Duration) -> Duration {
        time.div_f64(self.speed)
    }

    /// What a time here is to the provider.
    pub(super) fn there(&self, time: Duration) -> Duration {
        time.mul_f64(self.speed)
    }

    /// The provider.
    pub(super) fn provider(&self) -> Result<Sim, ConfigError> {
        Sim::builder()
            .seed(self.seed)
            .speed(self.speed)
            .tokens_per_minute(TOKENS)
            .requests_per_minute(REQUESTS)
            .latency(FIRST_TOKEN, EACH_TOKEN)
            .latency_spread(0.3)
            .build()
    }

    /// The policy in the time here: in a minute of ours the provider has more
    /// than one, but never holds more than one minute's tokens.
    fn policy(&self) -> Policy {
        let faster = |a_minute: u64| Limit::per_minute((a_minute as f64 * self.speed) as u64);
        Policy::default()
            .max_concurrency(AT_ONCE)
            .stagger(self.here(STAGGER))
            .tpm_limit(faster(TOKENS))
            .rpm_limit(faster(REQUESTS))
            .headroom(HEADROOM)
            .burst((TOKENS as f64 * (1.0 - HEADROOM) * self.speed.min(1.0)) as u64)
            .backoff_base(self.here(BACKOFF))
    }

    /// What all calls of a side go through.
    pub(super) fn described(&self) -> tollhouse_openai::Account {
        tollhouse_openai::Account::new(self.policy())
    }
}
