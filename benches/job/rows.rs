//! The providers that the job is run against, and what is demanded of each.

use std::time::Duration;

use tollhouse_openai::{Accounting, Limit, Policy};
use tollhouse_sim::{Config, Enforcement, Latency, Limits, RequestEnforcement};

use super::load::Load;

pub(crate) const TOKENS_PER_MINUTE: u64 = 125_000;
pub(crate) const REQUESTS_PER_MINUTE: u64 = 500;

/// The same job against one kind of provider.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) name: &'static str,
    pub(crate) load: Load,
    pub(crate) provider: Config,
    pub(crate) accounting: Accounting,
    /// The most that the time may be of the ideal one, in the median of several jobs.
    pub(crate) at_most: f64,
    /// The most calls that may be refused, in the median of several jobs.
    pub(crate) refused: u64,
}

/// The account as it is documented.
pub(crate) fn plain(seed: u64) -> Row {
    let provider = Config {
        seed,
        limits: Limits {
            tokens_per_minute: Some(TOKENS_PER_MINUTE),
            requests_per_minute: Some(REQUESTS_PER_MINUTE),
        },
        latency: Latency {
            first_token: Duration::from_millis(300),
            per_token: Duration::from_millis(2),
            spread: 0.2,
        },
        ..Config::default()
    };
    Row::new("plain", provider, 1.01)
}

/// The same account, and calls of all sizes.
pub(crate) fn all_sizes(seed: u64) -> Row {
    Row {
        name: "plain, all sizes",
        load: Load::AllSizes,
        at_most: 1.03,
        ..plain(seed)
    }
}

/// All rows of the table.
pub(crate) fn all(seed: u64) -> Vec<Row> {
    let plain = plain(seed).provider;
    // A twenty-fifth is room for a few calls.
    let hard = Config {
        start_level: 0.04,
        ..plain.clone().hard()
    };
    let quantised = Config {
        requests: RequestEnforcement::PerSecond,
        ..plain.clone()
    };
    let fixed = Config {
        enforcement: Enforcement::FixedMinute { phase: phase(seed) },
        ..plain.clone()
    };
    let trued_up = [
        Row::new("plain, trued up", plain.clone(), TRUED_UP).trued_up(),
        Row::new("hard, trued up", hard.clone(), 1.03).trued_up(),
        Row::new("quantised, trued up", quantised.clone(), 1.05).trued_up(),
        Row::new("fixed, trued up", fixed.clone(), 1.05).trued_up(),
    ];
    let mut rows = vec![
        Row::new("plain", plain.clone(), 1.01),
        all_sizes(seed),
        Row::new("hard", hard, 1.03),
        Row::new("hard, from nothing", plain.hard(), 1.03).out_of_nothing(),
        Row::new("quantised", quantised, 1.05),
        Row::new("fixed minutes", fixed, 1.05),
    ];
    rows.extend(trued_up);
    rows
}

/// What a trued-up call did not use comes back when its answer is complete, so
/// the last calls wait for tokens that are on their way back; and what the
/// provider tells of refunds is not counted again when they are settled.
const TRUED_UP: f64 = 1.04;

/// Where in its minute a provider of fixed minutes is when the job begins.
fn phase(seed: u64) -> Duration {
    Duration::from_millis(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) % 60_000)
}

impl Row {
    fn new(name: &'static str, provider: Config, at_most: f64) -> Self {
        Row {
            name,
            load: Load::Mixed,
            provider,
            accounting: Accounting::AsRequested,
            at_most,
            refused: 0,
        }
    }

    /// The provider gives back what was not used, and the policy knows.
    fn trued_up(mut self) -> Self {
        self.provider.true_up = true;
        self.accounting = Accounting::AsUsed;
        self
    }

    /// Both buckets are empty at first, so the first call is refused, whoever
    /// makes it. It is told when there would be room if nobody else came; that
    /// somebody does is found out by the next ones, for requests and for
    /// tokens.
    fn out_of_nothing(mut self) -> Self {
        self.refused = 3;
        self
    }

    /// The same for all: wide, unspaced, a hundredth of headroom.
    pub(crate) fn policy(&self) -> Policy {
        Policy::default()
            .max_concurrency(200)
            .stagger(Duration::ZERO)
            .headroom(0.01)
            .tpm_limit(Limit::per_minute(TOKENS_PER_MINUTE))
            .rpm_limit(Limit::per_minute(REQUESTS_PER_MINUTE))
            .accounting(self.accounting)
    }
}
