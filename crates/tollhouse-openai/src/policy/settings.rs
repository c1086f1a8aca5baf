//! The values of a policy, read from its variables.

use std::num::NonZeroU64;
use std::time::Duration;

use tollhouse::{Accounting, Window};

use super::vars::Vars;
use super::{Limit, PolicyError};
use crate::wire::cost::{ChargeRule, DEFAULT_EST_TOKENS};

/// The most tokens or requests that a variable may name: above it, a number
/// can only be a slip, and sums of it stay far from overflow.
pub(super) const MOST: u64 = 1_000_000_000_000;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Settings {
    pub(super) name: Option<String>,
    pub(super) max_concurrency: usize,
    pub(super) stagger: Duration,
    pub(super) tpm_limit: Limit,
    pub(super) rpm_limit: Limit,
    pub(super) headroom: f64,
    pub(super) est_tokens: u64,
    pub(super) charge_rule: ChargeRule,
    pub(super) learn_factor: bool,
    pub(super) ask_for_usage: bool,
    pub(super) max_attempts: u32,
    pub(super) backoff_base: Duration,
    pub(super) retry_deadline: Option<Duration>,
    pub(super) max_told_delay: Duration,
    /// Retries for each request, and in any minute besides.
    pub(super) retry_budget: Option<(f64, u32)>,
    pub(super) max_waiting: usize,
    pub(super) burst: Option<u64>,
    pub(super) accounting: Accounting,
    pub(super) window: Window,
    pub(super) cautious_start: bool,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            name: None,
            max_concurrency: 3,
            stagger: Duration::from_secs(15),
            tpm_limit: Limit::per_minute(30_000),
            rpm_limit: Limit::Unlimited,
            headroom: 0.15,
            est_tokens: DEFAULT_EST_TOKENS,
            charge_rule: ChargeRule::Safe,
            learn_factor: false,
            ask_for_usage: false,
            max_attempts: 5,
            backoff_base: Duration::from_secs(2),
            retry_deadline: None,
            max_told_delay: Duration::from_secs(120),
            retry_budget: Some((0.2, 10)),
            max_waiting: usize::MAX,
            burst: None,
            accounting: Accounting::AsRequested,
            window: Window::Auto,
            cautious_start: true,
        }
    }
}

impl Settings {
    pub(super) fn from_vars(var: impl Fn(&str) -> Option<String>) -> Result<Settings, PolicyError> {
        let mut vars = Vars::new(&var);
        let mut set = Settings::default();
        vars.whole("OPENAI_MAX_CONCURRENCY", 1..=1_000_000, |n| {
            set.max_concurrency = n as usize
        });
        vars.real("OPENAI_STAGGER_SECONDS", 0.0..=86_400.0, |n| {
            set.stagger = seconds(n)
        });
        vars.limit("OPENAI_TPM_LIMIT", MOST, |limit| set.tpm_limit = limit);
        vars.limit("OPENAI_RPM_LIMIT", MOST, |limit| set.rpm_limit = limit);
        vars.real("OPENAI_TPM_HEADROOM", 0.0..=0.9, |n| set.headroom = n);
        vars.whole("OPENAI_EST_TOKENS_PER_RUN", 1..=MOST, |n| {
            set.est_tokens = n
        });
        vars.whole("OPENAI_RETRY_MAX_ATTEMPTS", 1..=1_000, |n| {
            set.max_attempts = n as u32
        });
        vars.real("OPENAI_BACKOFF_BASE_SECONDS", 0.001..=60.0, |n| {
            set.backoff_base = seconds(n)
        });
        vars.finish(set)
    }
}

/// The ranges above keep it finite and positive.
fn seconds(number: f64) -> Duration {
    Duration::from_secs_f64(number)
}

/// `auto`, or a number that is not zero.
pub(super) fn limit(value: &str, most: u64) -> Option<Limit> {
    if value.eq_ignore_ascii_case("auto") {
        return Some(Limit::Auto);
    }
    let number: NonZeroU64 = super::vars::whole(value)?.try_into().ok()?;
    (number.get() <= most).then_some(Limit::PerMinute(number))
}
