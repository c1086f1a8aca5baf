//! The headers' names and number forms, provider by provider.

use std::time::Duration;

use http::{HeaderMap, HeaderValue};

use super::window::{DAY, MINUTE, window};
use crate::wire::time::{decimal, epoch, go_duration, now, rfc3339, seconds, until};

/// One bucket as the headers tell it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Bucket {
    pub(super) limit: Option<u64>,
    pub(super) remaining: Option<u64>,
    pub(super) reset: Option<Duration>,
    pub(super) window: Option<Duration>,
}

/// The headers of an answer that speak of limits, picked out once: there are dozens of
/// names to ask for, and few of them are ever there.
pub(super) struct Found<'h> {
    headers: &'h HeaderMap,
    limits: Vec<(&'h str, &'h HeaderValue)>,
    is_groqs: bool,
}

impl<'h> Found<'h> {
    pub(super) fn among(headers: &'h HeaderMap) -> Self {
        let mut found = Found {
            headers,
            limits: Vec::new(),
            is_groqs: false,
        };
        for (name, value) in headers {
            match name.as_str() {
                name if speaks_of_limits(name) => found.note(name, value),
                GROQ => found.is_groqs = true,
                _ => {}
            }
        }
        found
    }

    fn note(&mut self, name: &'h str, value: &'h HeaderValue) {
        if self.limits.is_empty() {
            // As many as two buckets have.
            self.limits.reserve(6);
        }
        self.limits.push((name, value));
    }

    fn get(&self, name: &str) -> Option<&'h HeaderValue> {
        let mut limits = self.limits.iter();
        limits
            .find(|(there, _)| *there == name)
            .map(|(_, value)| *value)
    }
}

/// As every name does that is asked for here.
fn speaks_of_limits(name: &str) -> bool {
    name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")
}

/// Where a bucket's three headers are, and how to read them.
struct Names {
    limit: &'static str,
    remaining: &'static str,
    reset: &'static str,
    /// How a reset without a unit is meant.
    bare: Bare,
    /// The window, where the name or the provider's documentation tells it.
    window: Window,
}

#[derive(Clone, Copy)]
enum Bare {
    /// Seconds or milliseconds, whichever fits (Azure sends both); the header
    /// names the period in seconds.
    Fitting { period: &'static str },
    /// Seconds; from a thousand million on, an instant since 1970 in seconds
    /// or milliseconds.
    Seconds,
}

#[derive(Clone, Copy)]
enum Window {
    /// By `limit x reset / (limit - remaining)`.
    Computed,
    Named(Duration),
    Unknown,
}

/// In the order in which they are asked; the first that is there wins.
const REQUESTS: [Names; 6] = [
    Names {
        limit: "x-ratelimit-limit-requests",
        remaining: "x-ratelimit-remaining-requests",
        reset: "x-ratelimit-reset-requests",
        bare: Bare::Fitting {
            period: "x-ratelimit-renewalperiod-requests",
        },
        window: Window::Computed,
    },
    Names {
        limit: "anthropic-ratelimit-requests-limit",
        remaining: "anthropic-ratelimit-requests-remaining",
        reset: "anthropic-ratelimit-requests-reset",
        bare: Bare::Seconds,
        window: Window::Named(MINUTE),
    },
    // Mistral.
    Names {
        limit: "x-ratelimit-limit-req-minute",
        remaining: "x-ratelimit-remaining-req-minute",
        reset: "x-ratelimit-reset-req-minute",
        bare: Bare::Seconds,
        window: Window::Named(MINUTE),
    },
    // Cerebras counts requests by the day and tokens by the minute.
    Names {
        limit: "x-ratelimit-limit-requests-minute",
        remaining: "x-ratelimit-remaining-requests-minute",
        reset: "x-ratelimit-reset-requests-minute",
        bare: Bare::Seconds,
        window: Window::Named(MINUTE),
    },
    Names {
        limit: "x-ratelimit-limit-requests-day",
        remaining: "x-ratelimit-remaining-requests-day",
        reset: "x-ratelimit-reset-requests-day",
        bare: Bare::Seconds,
        window: Window::Named(DAY),
    },
    // Together and others: no word for what is counted, nor for how long.
    Names {
        limit: "x-ratelimit-limit",
        remaining: "x-ratelimit-remaining",
        reset: "x-ratelimit-reset",
        bare: Bare::Seconds,
        window: Window::Unknown,
    },
];

const TOKENS: [Names; 3] = [
    Names {
        limit: "x-ratelimit-limit-tokens",
        remaining: "x-ratelimit-remaining-tokens",
        reset: "x-ratelimit-reset-tokens",
        bare: Bare::Fitting {
            period: "x-ratelimit-renewalperiod-tokens",
        },
        window: Window::Computed,
    },
    Names {
        limit: "anthropic-ratelimit-tokens-limit",
        remaining: "anthropic-ratelimit-tokens-remaining",
        reset: "anthropic-ratelimit-tokens-reset",
        bare: Bare::Seconds,
        window: Window::Named(MINUTE),
    },
    // Mistral, Cerebras.
    Names {
        limit: "x-ratelimit-limit-tokens-minute",
        remaining: "x-ratelimit-remaining-tokens-minute",
        reset: "x-ratelimit-reset-tokens-minute",
        bare: Bare::Seconds,
        window: Window::Named(MINUTE),
    },
];

const PROJECT_TOKENS: Names = Names {
    limit: "x-ratelimit-limit-project-tokens",
    remaining: "x-ratelimit-remaining-project-tokens",
    reset: "x-ratelimit-reset-project-tokens",
    bare: Bare::Fitting {
        period: "x-ratelimit-renewalperiod-project-tokens",
    },
    window: Window::Computed,
};

/// Groq counts requests by the day and tokens by the minute, always (its
/// rate-limit documentation); this header of its own gives it away.
const GROQ: &str = "x-groq-region";

pub(super) fn requests(found: &Found<'_>) -> Bucket {
    let bucket = first(found, &REQUESTS);
    always(bucket, DAY, found)
}

pub(super) fn tokens(found: &Found<'_>) -> Bucket {
    let bucket = first(found, &TOKENS);
    always(bucket, MINUTE, found)
}

pub(super) fn project_tokens(found: &Found<'_>) -> Bucket {
    read(found, &PROJECT_TOKENS)
}

fn always(bucket: Bucket, window: Duration, found: &Found<'_>) -> Bucket {
    match bucket.limit {
        Some(_) if found.is_groqs => Bucket {
            window: Some(window),
            ..bucket
        },
        _ => bucket,
    }
}

fn first(found: &Found<'_>, names: &[Names]) -> Bucket {
    let there = |names: &&Names| {
        [names.limit, names.remaining, names.reset]
            .iter()
            .any(|name| found.get(name).is_some())
    };
    names
        .iter()
        .find(there)
        .map_or_else(Bucket::default, |names| read(found, names))
}

fn read(found: &Found<'_>, names: &Names) -> Bucket {
    let limit = number(found, names.limit).filter(|limit| *limit > 0);
    let remaining = number(found, names.remaining);
    // A limit or rest that makes no sense (Azure's -1) takes what stands
    // beside it along: its zeros mean "unknown", not "empty".
    let senseless = |name, read: Option<u64>| found.get(name).is_some() && read.is_none();
    if senseless(names.limit, limit) {
        return Bucket::default();
    }
    let told = (!senseless(names.remaining, remaining))
        .then(|| reset(found, names, limit.zip(remaining)))
        .flatten();
    Bucket {
        limit,
        remaining,
        reset: told.map(|(reset, _)| reset),
        window: counted(found, names, limit.zip(remaining), told),
    }
}

fn counted(
    found: &Found<'_>,
    names: &Names,
    count: Option<(u64, u64)>,
    told: Option<(Duration, Duration)>,
) -> Option<Duration> {
    if let (Window::Computed, Bare::Fitting { period }) = (names.window, names.bare)
        && let Some(period) = number(found, period).filter(|period| *period > 0)
    {
        return Some(Duration::from_secs(period));
    }
    let (limit, remaining) = count?;
    match names.window {
        Window::Named(window) => Some(window),
        Window::Unknown => None,
        Window::Computed => told.and_then(|(reset, to)| window(limit, remaining, reset, to)),
    }
}

/// The time until full, and how exactly it is told.
fn reset(
    found: &Found<'_>,
    names: &Names,
    count: Option<(u64, u64)>,
) -> Option<(Duration, Duration)> {
    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    let text = text(found, names.reset)?;
    if let Some(reset) = go_duration(text) {
        return Some((reset, MILLISECOND));
    }
    if let Some(instant) = rfc3339(text) {
        return Some((until(instant, now(found.headers)), SECOND));
    }
    let bare = seconds(text)?;
    match names.bare {
        // A fraction cannot be milliseconds told as an integer.
        Bare::Fitting { .. } if text.contains('.') => Some((bare, MILLISECOND)),
        Bare::Fitting { period } => fitting(text, number(found, period), count?),
        Bare::Seconds => Some((seconds_or_epoch(found, text)?, SECOND)),
    }
}

/// Azure's integer without a unit: milliseconds or seconds, whichever is
/// nearer to what the used share of a period takes to come back.
fn fitting(
    text: &str,
    period: Option<u64>,
    (limit, remaining): (u64, u64),
) -> Option<(Duration, Duration)> {
    let bare: u64 = text.parse().ok()?;
    let used = limit.checked_sub(remaining)?;
    if bare == 0 {
        return Some((Duration::ZERO, Duration::from_secs(1)));
    }
    if used == 0 {
        return None;
    }
    let period = period.unwrap_or(MINUTE.as_secs()) as f64;
    let expected = used as f64 / limit as f64 * period;
    let off = |unit: f64| (bare as f64 * unit / expected).ln().abs();
    let (unit, resolution) = if off(1e-3) <= off(1.0) {
        (1e-3, Duration::from_millis(1))
    } else {
        (1.0, Duration::from_secs(1))
    };
    let reset = Duration::try_from_secs_f64(bare as f64 * unit).ok()?;
    Some((reset.min(crate::wire::time::LONGEST), resolution))
}

fn seconds_or_epoch(found: &Found<'_>, text: &str) -> Option<Duration> {
    let (number, _) = decimal(text)?;
    let since = match number {
        n if n < 1e9 => return seconds(text),
        n if n < 1e11 => Duration::try_from_secs_f64(n),
        n => Duration::try_from_secs_f64(n / 1e3),
    };
    Some(until(epoch(since.ok()?)?, now(found.headers)))
}

fn text<'h>(found: &Found<'h>, name: &str) -> Option<&'h str> {
    found.get(name)?.to_str().ok().map(str::trim_ascii)
}

/// A count: an unsigned whole number; a fraction of zeros is forgiven.
fn number(found: &Found<'_>, name: &str) -> Option<u64> {
    let text = found.get(name)?.as_bytes().trim_ascii();
    let digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (whole, rest) = text.split_at(digits);
    let is_whole = match rest.strip_prefix(b".") {
        Some(zeros) => zeros.iter().all(|byte| *byte == b'0'),
        None => rest.is_empty(),
    };
    if whole.is_empty() || !is_whole {
        return None;
    }
    whole.iter().try_fold(0_u64, |number, digit| {
        number.checked_mul(10)?.checked_add(u64::from(digit - b'0'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_is_asked_for_that_is_not_picked_out() {
        let all = REQUESTS.iter().chain(&TOKENS).chain([&PROJECT_TOKENS]);
        for names in all {
            let period = match names.bare {
                Bare::Fitting { period } => period,
                Bare::Seconds => names.limit,
            };
            for name in [names.limit, names.remaining, names.reset, period] {
                assert!(speaks_of_limits(name), "{name}");
            }
        }
    }
}
