//! How long answers are, and how long they take.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

/// How long an answer takes.
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
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Answers {
    /// The mean, as a share of the asked length, above 0 and at most 1; 0.4 by
    /// default.
    pub share: f64,
    /// The mean where no length was asked; 200 by default, 1 to 100,000.
    pub tokens: u64,
    /// The share of answers that call a tool where they may and need not, 0 to
    /// 1; 1 by default. What follows a tool's result is always a text.
    pub tool_calls: f64,
}

impl Default for Answers {
    fn default() -> Self {
        Self {
            share: 0.4,
            tokens: 200,
            tool_calls: 1.0,
        }
    }
}
