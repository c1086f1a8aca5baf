//! Response headers.

use std::time::Duration;

use axum::http::header::{HeaderMap, HeaderName, HeaderValue};

use crate::config::Claim;
use crate::go_duration;
use crate::limits::{Level, Levels};

/// The rate-limit headers: the truth, or what is claimed instead.
pub(super) fn put_levels(headers: &mut HeaderMap, levels: Levels, claim: Claim, minute: Duration) {
    let kinds = [(levels.requests, &REQUESTS), (levels.tokens, &TOKENS)];
    for (level, names) in kinds {
        if let Some(level) = level {
            let values = told(level, claim, minute);
            for (name, value) in names.iter().zip(values) {
                put(headers, name, &value);
            }
        }
    }
}

const REQUESTS: [&str; 3] = [
    "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests",
    "x-ratelimit-reset-requests",
];
const TOKENS: [&str; 3] = [
    "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens",
    "x-ratelimit-reset-tokens",
];

/// Limit, remaining and reset.
fn told(level: Level, claim: Claim, minute: Duration) -> [String; 3] {
    let Level { limit, .. } = level;
    let (remaining, reset) = match claim {
        Claim::Honest => (level.remaining, level.reset),
        Claim::Untouched => (limit, Duration::ZERO),
        Claim::Exhausted => (0, minute),
        Claim::Rubbish => return ["-1".into(), "many".into(), "soon".into()],
    };
    [
        limit.to_string(),
        remaining.to_string(),
        go_duration::format(reset),
    ]
}

/// A told delay, in both forms; whole seconds are rounded up.
pub(super) fn put_retry_after(headers: &mut HeaderMap, wait: Duration) {
    let millis = wait.as_millis();
    put(headers, "retry-after-ms", &millis.to_string());
    put(headers, "retry-after", &millis.div_ceil(1_000).to_string());
}

/// Puts a value that is made of digits and letters alone.
pub(super) fn put(headers: &mut HeaderMap, name: &'static str, value: &str) {
    let value = HeaderValue::from_str(value).expect("digits and letters are a header value");
    headers.insert(HeaderName::from_static(name), value);
}
