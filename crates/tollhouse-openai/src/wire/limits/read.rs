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

/// Whose headers tell a bucket, and what it counts. Where several are told, the first goes
/// before the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Of {
    Requests,
    AnthropicRequests,
    /// Mistral.
    ReqMinute,
    /// Cerebras counts requests by the day and tokens by the minute.
    RequestsMinute,
    RequestsDay,
    /// Together and others: no word for what is counted, nor for how long.
    Unnamed,
    Tokens,
    AnthropicTokens,
    /// Mistral, Cerebras.
    TokensMinute,
    ProjectTokens,
}

const REQUESTS: [Of; 6] = [
    Of::Requests,
    Of::AnthropicRequests,
    Of::ReqMinute,
    Of::RequestsMinute,
    Of::RequestsDay,
    Of::Unnamed,
];

const TOKENS: [Of; 3] = [Of::Tokens, Of::AnthropicTokens, Of::TokensMinute];

/// What one header says of its bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Limit,
    Remaining,
    Reset,
    /// Azure's, in seconds.
    Period,
}

/// Groq counts requests by the day and tokens by the minute, always (its
/// rate-limit documentation); this header of its own gives it away.
const GROQ: &str = "x-groq-region";

/// What a header of this name tells. They are compared one by one: first those that are
/// there most often.
fn told_by(name: &str) -> Option<(Of, What)> {
    if !(name.starts_with("x-ratelimit-") || name.starts_with("anthropic-ratelimit-")) {
        return None;
    }
    Some(match name {
        "x-ratelimit-limit-requests" => (Of::Requests, What::Limit),
        "x-ratelimit-remaining-requests" => (Of::Requests, What::Remaining),
        "x-ratelimit-reset-requests" => (Of::Requests, What::Reset),
        "x-ratelimit-limit-tokens" => (Of::Tokens, What::Limit),
        "x-ratelimit-remaining-tokens" => (Of::Tokens, What::Remaining),
        "x-ratelimit-reset-tokens" => (Of::Tokens, What::Reset),
        "x-ratelimit-limit-project-tokens" => (Of::ProjectTokens, What::Limit),
        "x-ratelimit-remaining-project-tokens" => (Of::ProjectTokens, What::Remaining),
        "x-ratelimit-reset-project-tokens" => (Of::ProjectTokens, What::Reset),
        "x-ratelimit-renewalperiod-requests" => (Of::Requests, What::Period),
        "x-ratelimit-renewalperiod-tokens" => (Of::Tokens, What::Period),
        "x-ratelimit-renewalperiod-project-tokens" => (Of::ProjectTokens, What::Period),
        "anthropic-ratelimit-requests-limit" => (Of::AnthropicRequests, What::Limit),
        "anthropic-ratelimit-requests-remaining" => (Of::AnthropicRequests, What::Remaining),
        "anthropic-ratelimit-requests-reset" => (Of::AnthropicRequests, What::Reset),
        "anthropic-ratelimit-tokens-limit" => (Of::AnthropicTokens, What::Limit),
        "anthropic-ratelimit-tokens-remaining" => (Of::AnthropicTokens, What::Remaining),
        "anthropic-ratelimit-tokens-reset" => (Of::AnthropicTokens, What::Reset),
        "x-ratelimit-limit-req-minute" => (Of::ReqMinute, What::Limit),
        "x-ratelimit-remaining-req-minute" => (Of::ReqMinute, What::Remaining),
        "x-ratelimit-reset-req-minute" => (Of::ReqMinute, What::Reset),
        "x-ratelimit-limit-requests-minute" => (Of::RequestsMinute, What::Limit),
        "x-ratelimit-remaining-requests-minute" => (Of::RequestsMinute, What::Remaining),
        "x-ratelimit-reset-requests-minute" => (Of::RequestsMinute, What::Reset),
        "x-ratelimit-limit-requests-day" => (Of::RequestsDay, What::Limit),
        "x-ratelimit-remaining-requests-day" => (Of::RequestsDay, What::Remaining),
        "x-ratelimit-reset-requests-day" => (Of::RequestsDay, What::Reset),
        "x-ratelimit-limit-tokens-minute" => (Of::TokensMinute, What::Limit),
        "x-ratelimit-remaining-tokens-minute" => (Of::TokensMinute, What::Remaining),
        "x-ratelimit-reset-tokens-minute" => (Of::TokensMinute, What::Reset),
        "x-ratelimit-limit" => (Of::Unnamed, What::Limit),
        "x-ratelimit-remaining" => (Of::Unnamed, What::Remaining),
        "x-ratelimit-reset" => (Of::Unnamed, What::Reset),
        _ => return None,
    })
}

#[derive(Clone, Copy)]
enum Bare {
    /// Seconds or milliseconds, whichever fits (Azure sends both); the header
    /// of the period names that in seconds.
    Fitting,
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

impl Of {
    /// How a reset without a unit is meant.
    fn bare(self) -> Bare {
        match self {
            Of::Requests | Of::Tokens | Of::ProjectTokens => Bare::Fitting,
            _ => Bare::Seconds,
        }
    }

    /// The window, where the name or the provider's documentation tells it.
    fn window(self) -> Window {
        match self {
            Of::Requests | Of::Tokens | Of::ProjectTokens => Window::Computed,
            Of::AnthropicRequests | Of::ReqMinute | Of::RequestsMinute => Window::Named(MINUTE),
            Of::AnthropicTokens | Of::TokensMinute => Window::Named(MINUTE),
            Of::RequestsDay => Window::Named(DAY),
            Of::Unnamed => Window::Unknown,
        }
    }
}

/// The headers of one bucket, as they are there.
#[derive(Clone, Copy, Default)]
struct Told<'h> {
    limit: Option<&'h HeaderValue>,
    remaining: Option<&'h HeaderValue>,
    reset: Option<&'h HeaderValue>,
    period: Option<&'h HeaderValue>,
}

impl Told<'_> {
    fn is_there(&self) -> bool {
        self.limit.is_some() || self.remaining.is_some() || self.reset.is_some()
    }
}

/// The headers of an answer that speak of limits, picked out once: there are dozens of
/// names that might be asked for, and few of them are ever there.
pub(super) struct Found<'h> {
    headers: &'h HeaderMap,
    told: [Told<'h>; Of::ProjectTokens as usize + 1],
    is_groqs: bool,
}

impl<'h> Found<'h> {
    pub(super) fn among(headers: &'h HeaderMap) -> Self {
        let mut found = Found {
            headers,
            told: Default::default(),
            is_groqs: false,
        };
        for (name, value) in headers {
            match told_by(name.as_str()) {
                Some((of, what)) => found.note(of, what, value),
                None => found.is_groqs |= name == GROQ,
            }
        }
        found
    }

    /// Of several with one name, the first counts.
    fn note(&mut self, of: Of, what: What, value: &'h HeaderValue) {
        let told = &mut self.told[of as usize];
        let place = match what {
            What::Limit => &mut told.limit,
            What::Remaining => &mut told.remaining,
            What::Reset => &mut told.reset,
            What::Period => &mut told.period,
        };
        place.get_or_insert(value);
    }

    fn told(&self, of: Of) -> &Told<'h> {
        &self.told[of as usize]
    }
}

pub(super) fn requests(found: &Found<'_>) -> Bucket {
    let bucket = first(found, &REQUESTS);
    always(bucket, DAY, found)
}

pub(super) fn tokens(found: &Found<'_>) -> Bucket {
    let bucket = first(found, &TOKENS);
    always(bucket, MINUTE, found)
}

pub(super) fn project_tokens(found: &Found<'_>) -> Bucket {
    read(found, Of::ProjectTokens)
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

fn first(found: &Found<'_>, ofs: &[Of]) -> Bucket {
    let there = ofs.iter().find(|of| found.told(**of).is_there());
    there.map_or_else(Bucket::default, |of| read(found, *of))
}

fn read(found: &Found<'_>, of: Of) -> Bucket {
    let told = found.told(of);
    let limit = number(told.limit).filter(|limit| *limit > 0);
    let remaining = number(told.remaining);
    // A limit or rest that makes no sense (Azure's -1) takes what stands
    // beside it along: its zeros mean "unknown", not "empty".
    if told.limit.is_some() && limit.is_none() {
        return Bucket::default();
    }
    let is_senseless = told.remaining.is_some() && remaining.is_none();
    let reset = (!is_senseless)
        .then(|| reset(found, of, limit.zip(remaining)))
        .flatten();
    Bucket {
        limit,
        remaining,
        reset: reset.map(|(reset, _)| reset),
        window: counted(found, of, limit.zip(remaining), reset),
    }
}

fn counted(
    found: &Found<'_>,
    of: Of,
    count: Option<(u64, u64)>,
    reset: Option<(Duration, Duration)>,
) -> Option<Duration> {
    if let Window::Computed = of.window()
        && let Some(period) = number(found.told(of).period).filter(|period| *period > 0)
    {
        return Some(Duration::from_secs(period));
    }
    let (limit, remaining) = count?;
    match of.window() {
        Window::Named(window) => Some(window),
        Window::Unknown => None,
        Window::Computed => reset.and_then(|(reset, to)| window(limit, remaining, reset, to)),
    }
}

/// The time until full, and how exactly it is told.
fn reset(found: &Found<'_>, of: Of, count: Option<(u64, u64)>) -> Option<(Duration, Duration)> {
    const MILLISECOND: Duration = Duration::from_millis(1);
    const SECOND: Duration = Duration::from_secs(1);
    let told = found.told(of);
    let text = told.reset?.to_str().ok()?.trim_ascii();
    if let Some(reset) = go_duration(text) {
        return Some((reset, MILLISECOND));
    }
    if let Some(instant) = rfc3339(text) {
        return Some((until(instant, now(found.headers)), SECOND));
    }
    let bare = seconds(text)?;
    match of.bare() {
        // A fraction cannot be milliseconds told as an integer.
        Bare::Fitting if text.contains('.') => Some((bare, MILLISECOND)),
        Bare::Fitting => fitting(text, number(told.period), count?),
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

/// A count: an unsigned whole number; a fraction of zeros is forgiven.
fn number(value: Option<&HeaderValue>) -> Option<u64> {
    let text = value?.as_bytes().trim_ascii();
    let mut number = 0_u64;
    for (at, byte) in text.iter().enumerate() {
        if !byte.is_ascii_digit() {
            return (at > 0 && is_zero(&text[at..])).then_some(number);
        }
        number = number
            .checked_mul(10)?
            .checked_add(u64::from(byte - b'0'))?;
    }
    (!text.is_empty()).then_some(number)
}

/// A fraction of nothing.
fn is_zero(fraction: &[u8]) -> bool {
    let digits = fraction.strip_prefix(b".");
    digits.is_some_and(|digits| digits.iter().all(|digit| *digit == b'0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_known_in_full() {
        let plain = [
            ("requests", Of::Requests),
            ("req-minute", Of::ReqMinute),
            ("requests-minute", Of::RequestsMinute),
            ("requests-day", Of::RequestsDay),
            ("tokens", Of::Tokens),
            ("tokens-minute", Of::TokensMinute),
            ("project-tokens", Of::ProjectTokens),
        ];
        let words = [
            ("limit", What::Limit),
            ("remaining", What::Remaining),
            ("reset", What::Reset),
        ];
        for (word, what) in words {
            for (name, of) in plain {
                expect(&format!("x-ratelimit-{word}-{name}"), of, what);
            }
            expect(&format!("x-ratelimit-{word}"), Of::Unnamed, what);
            for (name, of) in [
                ("requests", Of::AnthropicRequests),
                ("tokens", Of::AnthropicTokens),
            ] {
                expect(&format!("anthropic-ratelimit-{name}-{word}"), of, what);
            }
        }
        for (name, of) in plain {
            let period = format!("x-ratelimit-renewalperiod-{name}");
            match of.bare() {
                Bare::Fitting => expect(&period, of, What::Period),
                Bare::Seconds => assert_eq!(told_by(&period), None, "{period}"),
            }
        }
    }

    /// It tells that, and with a letter less or more it tells nothing of the kind.
    fn expect(name: &str, of: Of, what: What) {
        assert_eq!(told_by(name), Some((of, what)), "{name}");
        let mut near = vec![format!("{name}s"), format!("{name}-"), format!("x{name}")];
        near.extend((0..name.len()).map(|at| name[..at].to_owned() + &name[at + 1..]));
        near.extend((1..name.len()).map(|end| name[..end].to_owned()));
        for near in near {
            assert_ne!(told_by(&near), Some((of, what)), "{near}");
        }
    }

    #[test]
    fn other_names_tell_nothing() {
        for name in [
            "x-ratelimit-",
            "x-ratelimit-renewalperiod",
            "x-ratelimit-limit-images",
            "x-ratelimit-limit-input-images",
            "x-ratelimit-limit-tokens_usage_based",
            "x-ratelimit-key",
            "x-ratelimit-rest-tokens",
            "x-ratelimit-reset-tokens-day",
            "anthropic-ratelimit-input-tokens-limit",
            "anthropic-ratelimit-tokens",
            "x-rate-limit-reset-tokens",
            GROQ,
        ] {
            assert_eq!(told_by(name), None, "{name}");
        }
    }
}
