//! The headers' names and number forms, provider by provider.

use std::time::Duration;

use http::HeaderMap;

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

pub(super) fn requests(headers: &HeaderMap) -> Bucket {
    let bucket = first(headers, &REQUESTS);
    always(bucket, DAY, headers.contains_key(GROQ))
}

pub(super) fn tokens(headers: &HeaderMap) -> Bucket {
    let bucket = first(headers, &TOKENS);
    always(bucket, MINUTE, headers.contains_key(GROQ))
}

pub(super) fn project_tokens(headers: &HeaderMap) -> Bucket {
    read(headers, &PROJECT_TOKENS)
}

fn always(bucket: Bucket, window: Duration, holds: bool) -> Bucket {
    match bucket.limit {
        Some(_) if holds => Bucket {
            window: Some(window),
            ..bucket
        },
        _ => bucket,
    }
}

fn first(headers: &HeaderMap, names: &[Names]) -> Bucket {
    let there = |names: &&Names| {
        [names.limit, names.remaining, names.reset]
            .iter()
            .any(|name| headers.contains_key(*name))
    };
    names
        .iter()
        .find(there)
        .map_or_else(Bucket::default, |names| read(headers, names))
}

fn read(headers: &HeaderMap, names: &Names) -> Bucket {
    let limit = number(headers, names.limit).filter(|limit| *limit > 0);
    let remaining = number(headers, names.remaining);
    // A limit or rest that makes no sense (Azure's -1) takes what stands
    // beside it along: its zeros mean "unknown", not "empty".
    let senseless = |name, read: Option<u64>| headers.contains_key(name) && read.is_none();
    if senseless(names.limit, limit) {
        return Bucket::default();
    }
    let told = (!senseless(names.remaining, remaining))
        .then(|| reset(headers, names, limit.zip(remaining)))
        .flatten();
    Bucket {
        limit,
        remaining,
        reset: told.map(|(reset, _)| reset),
        window: counted(headers, names, limit.zip(remaining), told),
    }
}

fn counted(
    headers: &HeaderMap,
    names: &Names,
    count: Option<(u64, u64)>,
    told: Option<(Duration, Duration)>,
) -> Option<Duration> {
    if let (Window::Computed, Bare::Fitting { period }) = (names.window, names.bare)
        && let Some(period) = number(headers, period).filter(|period| *period > 0)
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
    headers: &HeaderMap,
    names: &Names,
    count: Option<(u64, u64)>,
) -> Option<(Duration, Duration)> {
    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    let text = text(headers, names.reset)?;
    if let Some(reset) = go_duration(text) {
        return Some((reset, MILLISECOND));
    }
    if let Some(instant) = rfc3339(text) {
        return Some((until(instant, now(headers)), SECOND));
    }
    let bare = seconds(text)?;
    match names.bare {
        // A fraction cannot be milliseconds told as an integer.
        Bare::Fitting { .. } if text.contains('.') => Some((bare, MILLISECOND)),
        Bare::Fitting { period } => fitting(text, number(headers, period), count?),
        Bare::Seconds => Some((seconds_or_epoch(headers, text)?, SECOND)),
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

fn seconds_or_epoch(headers: &HeaderMap, text: &str) -> Option<Duration> {
    let (number, _) = decimal(text)?;
    let since = match number {
        n if n < 1e9 => return seconds(text),
        n if n < 1e11 => Duration::try_from_secs_f64(n),
        n => Duration::try_from_secs_f64(n / 1e3),
    };
    Some(until(epoch(since.ok()?)?, now(headers)))
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

/// A count: an unsigned whole number; a fraction of zeros is forgiven.
fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    let text = text(headers, name)?;
    let whole = match text.split_once('.') {
        Some((whole, zeros)) if zeros.bytes().all(|b| b == b'0') => whole,
        Some(_) => return None,
        None => text,
    };
    // `parse` alone would take a leading plus.
    let digits = whole.bytes().all(|b| b.is_ascii_digit());
    digits.then(|| whole.parse().ok()).flatten()
}
