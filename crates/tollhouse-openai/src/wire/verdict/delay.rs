//! How long an unsuccessful answer says to wait.

use std::time::Duration;

use http::HeaderMap;

use super::fault::Fault;
use super::text;
use crate::wire::time::{epoch, http_date, milliseconds, now, seconds, until};

/// The longest delay that is believed: after that, one call asks again. Resets of a
/// window may be longer; they close nothing.
const LONGEST: Duration = Duration::from_secs(86_400);

/// The told delay, at most a day: `retry-after-ms`, then `retry-after`, then the text or
/// `retryDelay`, whichever is longer, then what Azure wrote in 2023, then
/// OpenRouter's reset.
pub(super) fn told(headers: &HeaderMap, fault: &Fault) -> Option<Duration> {
    retry_after_ms(headers)
        .or_else(|| retry_after(headers))
        .or_else(|| text::delay(fault.text()).max(fault.retry_delay()))
        .or_else(|| azure_2023(headers))
        .or_else(|| openrouter(headers, fault))
        .map(|delay| delay.min(LONGEST))
}

/// Zero is not a delay: Azure sends `retry-after-ms: 0` beside
/// `retry-after: 1`.
fn positive(delay: Duration) -> Option<Duration> {
    (!delay.is_zero()).then_some(delay)
}

fn retry_after_ms(headers: &HeaderMap) -> Option<Duration> {
    positive(milliseconds(text_of(headers, "retry-after-ms")?)?)
}

fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let told = text_of(headers, "retry-after")?;
    match http_date(told) {
        Some(date) => Some(until(date, now(headers))),
        None => seconds(told).and_then(positive),
    }
}

/// With the extra hyphen, in seconds (openai/openai-python#937).
fn azure_2023(headers: &HeaderMap) -> Option<Duration> {
    ["x-rate-limit-reset-tokens", "x-rate-limit-reset-requests"]
        .iter()
        .filter_map(|name| seconds(text_of(headers, name)?))
        .max()
        .and_then(positive)
}

/// An instant in the body; one that has passed tells nothing.
fn openrouter(headers: &HeaderMap, fault: &Fault) -> Option<Duration> {
    let reset = epoch(Duration::from_millis(fault.reset_epoch_ms()?))?;
    positive(until(reset, now(headers)))
}

fn text_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}
