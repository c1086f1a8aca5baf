//! What clients may make the provider hold.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::seconds;

/// What clients may make the provider hold in memory, all together.
///
/// Whatever is above a bound is refused with an error that names the bound,
/// before it is counted by any limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bounds {
    /// The longest body of one request, in bytes; 67,108,864 (64 MiB) by
    /// default, 1 to 10^12. A longer one is answered 413.
    pub body_bytes: u64,
    /// Bytes held for all calls together: bodies that are being received,
    /// what is parsed of them, answers that are being sent; 268,435,456
    /// (256 MiB) by default, 1 to 10^12. A call that does not fit beside the
    /// others is answered 503, one that would not fit alone 413.
    pub memory_bytes: u64,
    /// How long a body may take to arrive, in the client's time; 60 s by
    /// default, more than 0 and at most a day. A slower one is answered 408.
    #[serde(rename = "body_seconds", with = "seconds")]
    pub body_time: Duration,
    /// Names of models that are kept while [`models`](crate::Config::models)
    /// names none; 1,000 by default, 1 to 1,000,000. Further names are answered
    /// 404, names of more than 256 bytes always 400.
    pub models: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            body_bytes: 64 << 20,
            memory_bytes: 256 << 20,
            body_time: Duration::from_secs(60),
            models: 1_000,
        }
    }
}
