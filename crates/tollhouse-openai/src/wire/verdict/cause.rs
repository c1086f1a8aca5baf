//! What an error means: code first, then type, then text, then status.

use http::HeaderMap;
use tollhouse::Scope;

use super::fault::Fault;
use super::text;

/// What made the answer fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// A limit of the account's that time refills.
    Limited(Scope),
    /// A limit that this request can never fit into.
    NeverFits(Scope),
    /// Money.
    Quota,
    /// The provider's own trouble.
    Overload,
    /// The request, its key, or a status that no waiting changes.
    Rejected,
}

impl Cause {
    /// Whether waiting can cure it.
    pub(super) fn passes(self) -> bool {
        matches!(self, Cause::Limited(_) | Cause::Overload)
    }

    /// What ran out.
    pub(super) fn scope(self) -> Scope {
        match self {
            Cause::Limited(scope) | Cause::NeverFits(scope) => scope,
            Cause::Quota => Scope::Quota,
            Cause::Overload => Scope::Overload,
            Cause::Rejected => Scope::None,
        }
    }
}

/// Decides what an error means. `status` is `None` inside a stream that names
/// none.
pub(super) fn cause(status: Option<u16>, headers: &HeaderMap, fault: &Fault) -> Cause {
    let named: Vec<Word> = fault.words().filter_map(|name| word(&name)).collect();
    // A quota type stands beside new codes every year, so it need not come first.
    if status == Some(402) || named.contains(&Word::Quota) {
        return Cause::Quota;
    }
    match (named.first(), status) {
        (Some(Word::Rejected), _) => Cause::Rejected,
        (Some(Word::Locked), _) => Cause::Overload,
        (Some(Word::Limited), Some(401 | 403 | 404)) => unnamed(status, headers, fault),
        // 413 comes from Groq, which means by it that no wait helps.
        (Some(Word::Limited), Some(413)) => Cause::NeverFits(scope(headers, fault)),
        (Some(Word::Limited), _) => limited(headers, fault),
        (Some(Word::Overload), None) => Cause::Overload,
        (Some(Word::Overload), Some(status)) if retried(status) => Cause::Overload,
        _ => unnamed(status, headers, fault),
    }
}

/// Decides by text and status, where code and type say nothing.
fn unnamed(status: Option<u16>, headers: &HeaderMap, fault: &Fault) -> Cause {
    let said = fault.text();
    if text::tells_quota(said) {
        return Cause::Quota;
    }
    if text::tells_rejection(said) {
        return Cause::Rejected;
    }
    match status {
        Some(429) => limited(headers, fault),
        Some(status) if retried(status) => Cause::Overload,
        Some(413) if text::never_fits(said) => Cause::NeverFits(scope(headers, fault)),
        Some(_) => Cause::Rejected,
        None if text::tells_overload(said) => Cause::Overload,
        None if text::tells_limit(said) => limited(headers, fault),
        None => Cause::Rejected,
    }
}

/// The statuses that both official SDKs retry.
fn retried(status: u16) -> bool {
    matches!(status, 408 | 409 | 429 | 500..)
}

/// Which of the things that are called a rate limit it is.
fn limited(headers: &HeaderMap, fault: &Fault) -> Cause {
    let said = fault.text();
    if text::tells_money_missing(said) {
        Cause::Quota
    } else if text::never_fits(said) {
        Cause::NeverFits(scope(headers, fault))
    } else if text::tells_overload(said) {
        Cause::Overload
    } else {
        Cause::Limited(scope(headers, fault))
    }
}

/// What ran out: by Google's quota names, else by the text, else by the type,
/// else by Azure's headers. Where nothing says, requests.
fn scope(headers: &HeaderMap, fault: &Fault) -> Scope {
    let (tokens, day) = match google(fault.quotas()) {
        Some(told) => told,
        None => {
            let said = text::limits_tokens(fault.text());
            let tokens = said.unwrap_or_else(|| names_tokens(headers, fault));
            (tokens, text::limits_day(fault.text()))
        }
    };
    match (tokens, day) {
        (true, false) => Scope::Tokens,
        (false, false) => Scope::Requests,
        (true, true) => Scope::TokensPerDay,
        (false, true) => Scope::RequestsPerDay,
    }
}

/// Tokens or not, by the day or not. Where several quotas ran out, one by the
/// day outlasts the others.
fn google(quotas: &[String]) -> Option<(bool, bool)> {
    let by_day = quotas.iter().find(|id| id.contains("perday"));
    let id = by_day.or(quotas.first())?;
    let requests = id.contains("request");
    Some((id.contains("token") && !requests, by_day.is_some()))
}

fn names_tokens(headers: &HeaderMap, fault: &Fault) -> bool {
    let policy = headers.get("policy-id").and_then(|id| id.to_str().ok());
    match policy {
        Some(policy) => policy.to_ascii_lowercase().contains("token"),
        None => {
            fault.words().any(|word| word.contains("token"))
                || headers.contains_key("x-rate-limit-reset-tokens")
        }
    }
}

/// What a code or type stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    Quota,
    Rejected,
    /// Transient whatever the status.
    Locked,
    Overload,
    Limited,
}

/// Looks a code or type up by its letters and digits, so that
/// `rate_limit_exceeded` and `RateLimitExceeded` are one word.
///
/// `invalid_request_error` is no word here: Mistral and Anthropic's compatible
/// endpoint send it with true rate limits. Nor is Together's `credit_limit`.
fn word(word: &str) -> Option<Word> {
    const WORDS: [(Word, &[&str]); 5] = [
        (
            Word::Quota,
            &[
                "insufficientquota",
                "insufficientuserquota",
                "insufficientbalance",
                "insufficientcredit",
                "insufficientfunds",
                "creditbalance",
                "spendlimit",
                "spendinglimit",
                "usagelimit",
                "billing",
                "exceededcurrentquota",
                "budgetexceeded",
                "paymentrequired",
                "arrearage",
            ],
        ),
        (
            Word::Rejected,
            &[
                "contentfilter",
                "contentpolicy",
                "responsibleai",
                "contextlength",
                "contextwindow",
                "invalidapikey",
                "invalidprompt",
                "authentication",
                "permission",
                "unauthorized",
                "forbidden",
                "accessdenied",
                "notfound",
                "requesttoolarge",
                "toolusefailed",
                "unsupported",
            ],
        ),
        (
            Word::Locked,
            &["conversationlocked", "capacityexceeded", "slowdown"],
        ),
        (
            Word::Overload,
            &[
                "overload",
                "servererror",
                "internalerror",
                "unavailable",
                "apierror",
                "timeout",
                "nocapacity",
                "queueexceeded",
                "badgateway",
            ],
        ),
        (
            Word::Limited,
            &[
                "ratelimit",
                "toomanyrequests",
                "toomanytokens",
                "quotaexceeded",
                "resourceexhausted",
                "throttl",
            ],
        ),
    ];
    // OpenAI's types of a rate limit; as parts of a word they mean nothing.
    if matches!(word, "tokens" | "requests") {
        return Some(Word::Limited);
    }
    let stands = |parts: &[&str]| parts.iter().any(|part| word.contains(part));
    WORDS
        .iter()
        .find(|(_, parts)| stands(parts))
        .map(|(meaning, _)| *meaning)
}
