//! What goes wrong.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

/// The shares of requests that are answered by a fault, each 0 to 1.
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
