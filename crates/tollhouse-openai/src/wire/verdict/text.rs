//! What an error's text tells, where nothing better does.
//!
//! All text here is in lower case. Phrases are long enough that a link to a
//! billing page or a model's name cannot pass for one.

use std::time::Duration;

use crate::wire::time::{decimal, prose_duration};

/// The delay that follows one of the usual words, if it is above zero.
pub(super) fn delay(text: &str) -> Option<Duration> {
    const BEFORE: [&str; 6] = [
        "try again in ",
        "try again after ",
        "retry in ",
        "retry after ",
        "please wait ",
        "retry-after: ",
    ];
    BEFORE
        .iter()
        .flat_map(|words| text.match_indices(words))
        .map(|(at, words)| &text[at + words.len()..])
        .filter_map(|rest| prose_duration(rest.trim_start()))
        .find(|delay| !delay.is_zero())
}

/// Whether the request can never fit: it asks for more than the whole limit,
/// or the limit is zero.
pub(super) fn never_fits(text: &str) -> bool {
    if text.contains("request too large") {
        return true;
    }
    let mut limits = numbers_after(text, "limit");
    let requested = numbers_after(text, "requested").next();
    limits.any(|limit| limit == 0.0 || requested.is_some_and(|requested| requested > limit))
}

/// The numbers that stand directly after a word: `Limit 30000`, `limit: 0`.
fn numbers_after<'t>(text: &'t str, word: &'t str) -> impl Iterator<Item = f64> + 't {
    text.match_indices(word).filter_map(move |(at, _)| {
        number(text[at + word.len()..].trim_start_matches([':', '=', ' ']))
    })
}

/// A decimal number, with or without a comma before each three digits.
fn number(text: &str) -> Option<f64> {
    let (mut number, mut rest) = decimal(text)?;
    while let Some(group) = thousands(rest) {
        number = number * 1_000.0 + decimal(group)?.0;
        rest = &rest[1 + group.len()..];
    }
    Some(number)
}

/// The three digits of `,345`, where no fourth follows.
fn thousands(text: &str) -> Option<&str> {
    let after = text.strip_prefix(',')?;
    let digits = after.bytes().take_while(u8::is_ascii_digit).count();
    (digits == 3).then(|| &after[..3])
}

/// Money: credits, plans, spend limits. Google words its limits by the minute
/// in the same way, so its marks rule the phrase out.
pub(super) fn tells_quota(text: &str) -> bool {
    const SPENT: [&str; 22] = [
        "exceeded your current quota",
        "exceeded current quota",
        "insufficient balance",
        "insufficient account balance",
        "insufficient credit",
        "insufficient quota",
        "insufficient_quota",
        "insufficient funds",
        "credit balance is too low",
        "used all available credits",
        "have any credits",
        "out of credits",
        "purchase more credits",
        "requires more credits",
        "never purchased credits",
        "spending limit",
        "spend limit",
        "billing hard limit",
        "reached your specified api usage limits",
        "budget has been exceeded",
        "key limit exceeded",
        "余额不足",
    ];
    const GOOGLE: [&str; 4] = [
        "resource_exhausted",
        "resource has been exhausted",
        "generativelanguage",
        "gemini-api",
    ];
    contains(text, &SPENT) && !contains(text, &GOOGLE)
}

/// Money is missing, said under the code of a rate limit (Anthropic's long
/// contexts, Google's prepaid accounts).
pub(super) fn tells_money_missing(text: &str) -> bool {
    contains(text, &["extra usage is required", "credits are depleted"])
}

/// Faults of the request itself or of its key.
pub(super) fn tells_rejection(text: &str) -> bool {
    contains(
        text,
        &[
            "maximum context length",
            "context_length_exceeded",
            "contextwindowexceeded",
            "prompt is too long",
            "exceeds the context window",
            "content management policy",
            "content_policy_violation",
            "incorrect api key provided",
            "invalid_api_key",
        ],
    )
}

/// The provider's own trouble.
pub(super) fn tells_overload(text: &str) -> bool {
    contains(
        text,
        &[
            "overloaded",
            "high demand",
            "high traffic",
            "peak load",
            "capacity exceeded",
            "at capacity",
            "over capacity",
            "too busy",
            "server is busy",
            "high load",
            "heavy load",
            "负载已饱和",
            "usage increase rate",
            "temporarily unavailable",
            "the server had an error",
            "internal server error",
        ],
    )
}

/// Words for a limit of the account's own.
pub(super) fn tells_limit(text: &str) -> bool {
    contains(
        text,
        &["rate limit", "rate-limit", "ratelimit", "too many requests"],
    )
}

/// Whether tokens are what is limited; `None` where the text does not say.
/// The first unit named is the one that ran out: Together goes on to list all
/// of the account's limits.
pub(super) fn limits_tokens(text: &str) -> Option<bool> {
    const TOKENS: [&str; 11] = [
        "tokens per",
        "token limit",
        "limit type: tokens",
        "token rate limit",
        "tokens rate limit",
        "request tokens",
        "input tokens",
        "output tokens",
        "limit reached for tokens",
        "token_count",
        "too many tokens",
    ];
    const REQUESTS: [&str; 8] = [
        "requests per",
        "queries per",
        "limit type: requests",
        "request rate limit",
        "requests rate limit",
        "call rate limit",
        "images per",
        "concurren",
    ];
    let tokens = first(text, &TOKENS, &["tpm", "tpd"]);
    let requests = first(text, &REQUESTS, &["rpm", "rpd"]);
    match (tokens, requests) {
        (None, None) => None,
        (tokens, requests) => Some(tokens.unwrap_or(usize::MAX) < requests.unwrap_or(usize::MAX)),
    }
}

/// Whether a day or longer is what the limit counts. The first window named is
/// it: OpenRouter's limit by the minute ends in an offer of requests per day.
pub(super) fn limits_day(text: &str) -> bool {
    const LONG: [&str; 13] = [
        "per day",
        "per-day",
        "per_day",
        "perday",
        "byday",
        "daily",
        "per week",
        "per month",
        "monthly",
        "/ day",
        "/day",
        "/ month",
        "/month",
    ];
    const SHORT: [&str; 10] = [
        "per min", "per-min", "per_min", "permin", "byminute", "/ min", "/min", "/1min", "per sec",
        "per-sec",
    ];
    let long = first(text, &LONG, &["tpd", "rpd"]);
    let short = first(text, &SHORT, &["tpm", "rpm"]);
    long.is_some_and(|long| short.is_none_or(|short| long < short))
}

fn contains(text: &str, phrases: &[&str]) -> bool {
    phrases.iter().any(|phrase| text.contains(phrase))
}

/// The first place of any phrase, or of any word that stands alone.
fn first(text: &str, phrases: &[&str], words: &[&str]) -> Option<usize> {
    let phrases = phrases.iter().filter_map(|phrase| text.find(phrase));
    let words = words.iter().filter_map(|word| find_word(text, word));
    phrases.chain(words).min()
}

fn find_word(text: &str, word: &str) -> Option<usize> {
    let letter = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let alone = |at: &usize| {
        let before = at.checked_sub(1).and_then(|at| text.as_bytes().get(at));
        !letter(before) && !letter(text.as_bytes().get(at + word.len()))
    };
    text.match_indices(word).map(|(at, _)| at).find(alone)
}
