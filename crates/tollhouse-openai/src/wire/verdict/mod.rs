//! Whether an unsuccessful answer is worth asking again for, when, and what
//! ran out.
//!
//! Statuses alone mislead: under 429 come rate limits that pass, requests that
//! can never fit, spent money and overloaded servers. So the structured fields
//! decide first (`x-should-retry`, the error's code, then its type), the text
//! last, and the status where nothing else is told.
//!
//! [`fault`] reads what the body tells, [`cause`] decides what it means,
//! [`delay`] finds how long to wait.

mod cause;
mod delay;
mod fault;
mod text;

#[cfg(test)]
mod tests;

use std::time::Duration;

use http::{HeaderMap, StatusCode};
use tollhouse::{Decision, Denial, Scope};

use cause::Cause;
pub(crate) use fault::Fault;

/// How much of an unsuccessful answer is read. The longest recorded one has 5 KiB.
pub(crate) const MOST_BYTES: usize = 1024 * 1024;

/// How long the rest of an unsuccessful answer is waited for after its head.
pub(crate) const MOST_TIME: Duration = Duration::from_secs(10);

/// What an answer means for the next attempt.
///
/// The default is the verdict on a success: nothing to retry.
///
/// # Examples
///
/// ```
/// use http::{HeaderMap, StatusCode};
/// use tollhouse_openai::{Decision, Scope, Verdict, classify};
///
/// let verdict = classify(StatusCode::SERVICE_UNAVAILABLE, &HeaderMap::new(), b"");
/// assert_eq!(
///     verdict,
///     Verdict {
///         retry: true,
///         after: None,
///         scope: Scope::Overload
///     }
/// );
///
/// // As a retry layer wants it.
/// let decision = Decision::from(verdict);
/// assert_eq!(
///     decision,
///     Decision::Retry {
///         after: None,
///         scope: Scope::Overload
///     }
/// );
/// assert_eq!(Decision::from(Verdict::default()), Decision::GiveUp);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Verdict {
    /// Whether the same request can succeed later with nobody changing the
    /// request, the key or the account.
    pub retry: bool,
    /// The delay that was told, if any: the wait until **this** request fits.
    /// A smaller one may fit sooner, and everybody who waits was told nearly
    /// the same, so add jitter and admit one after another. It may be longer
    /// than anyone wants to wait (at most a day); that is the caller's to cap.
    pub after: Option<Duration>,
    /// What ran out.
    pub scope: Scope,
}

impl Verdict {
    /// The refusal that concerns the account's budget, if this is one.
    ///
    /// A request that is itself too large or wrong says nothing about what is
    /// left for others, so it is none.
    pub fn denial(&self) -> Option<Denial> {
        let concerns_all = self.retry || self.scope == Scope::Quota;
        (concerns_all && self.scope != Scope::None).then_some(Denial {
            scope: self.scope,
            after: self.delay(),
        })
    }

    /// The told delay. A date that has come, or a delay of nothing, is no
    /// permission to ask at once and for ever: then the backoff decides, as in the
    /// official SDKs.
    fn delay(&self) -> Option<Duration> {
        self.after.filter(|after| !after.is_zero())
    }
}

impl From<Verdict> for Decision {
    fn from(verdict: Verdict) -> Self {
        if !verdict.retry {
            return Decision::GiveUp;
        }
        Decision::Retry {
            after: verdict.delay(),
            scope: verdict.scope,
        }
    }
}

/// Judges one answer by its status, headers and body.
///
/// The body may be of any form (JSON of any shape, a proxy's HTML, plain text,
/// empty, cut short); an event stream is judged by the first error event in it,
/// as if nothing had been output yet. A success is never retried. Whatever is
/// passed in, this neither fails nor panics.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use http::{HeaderMap, StatusCode};
/// use tollhouse_openai::{Scope, classify};
///
/// let body = br#"{"error": {"type": "tokens", "code": "rate_limit_exceeded", "message":
///     "Rate limit reached for gpt-4o on tokens per min (TPM): Limit 30000, Used 29937,
///      Requested 385. Please try again in 644ms."}}"#;
/// let verdict = classify(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), body);
/// assert!(verdict.retry);
/// assert_eq!(verdict.after, Some(Duration::from_millis(644)));
/// assert_eq!(verdict.scope, Scope::Tokens);
///
/// // The same status, the same code, and yet no wait helps.
/// let body = br#"{"error": {"type": "tokens", "code": "rate_limit_exceeded", "message":
///     "Request too large for gpt-4o on tokens per min (TPM): Limit 30000, Requested 31538."}}"#;
/// let verdict = classify(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), body);
/// assert!(!verdict.retry);
/// ```
pub fn classify(status: StatusCode, headers: &HeaderMap, body: &[u8]) -> Verdict {
    judge(status, headers, Fault::read(headers, body).as_ref())
}

/// Judges one answer, of which the body is read.
pub(crate) fn judge(status: StatusCode, headers: &HeaderMap, fault: Option<&Fault>) -> Verdict {
    let failed = status.as_u16() >= 400;
    let nothing = Fault::default();
    let fault = match fault {
        Some(fault) if failed || fault.is_structured() => fault,
        None if failed => &nothing,
        _ => return Verdict::default(),
    };
    // Inside a stream the status line said 200 before anything went wrong.
    let status = if failed {
        Some(status.as_u16())
    } else {
        fault.status()
    };
    let cause = cause::cause(status, headers, fault);
    verdict(cause, headers, fault)
}

fn verdict(cause: Cause, headers: &HeaderMap, fault: &Fault) -> Verdict {
    let told = should_retry(headers);
    let scope = match cause.scope() {
        // The provider asks for a retry and does not say what ran out.
        Scope::None if told == Some(true) => Scope::Overload,
        scope => scope,
    };
    Verdict {
        retry: told.unwrap_or_else(|| cause.passes()),
        after: delay::told(headers, fault),
        scope,
    }
}

/// The header that both official SDKs obey before anything else.
fn should_retry(headers: &HeaderMap) -> Option<bool> {
    match headers.get("x-should-retry")?.as_bytes() {
        b"true" => Some(true),
        b"false" => Some(false),
        _ => None,
    }
}
