//! What is told.

use serde::{Deserialize, Serialize};

/// What the headers say.
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
