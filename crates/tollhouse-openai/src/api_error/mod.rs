//! One error for whatever keeps a call from a good answer.
//!
//! Three things can: the provider's refusal, which comes as an answer; a gate's
//! refusal, before anything was sent; and no answer at all. The layers keep
//! them apart, so that an answer stays an answer, byte for byte. Who only wants
//! to know what to do next makes an [`ApiError`] of each and asks that.

#[cfg(feature = "async-openai")]
mod async_openai;
mod check;
mod display;
mod from;
mod text;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use tollhouse::{BoxError, Refused, Scope};

pub use text::OneLine;

use crate::wire::verdict::{Fault, Verdict};

/// Why a call has no good answer, and what to do about it.
///
/// Made by [`check`](Self::check) from an unsuccessful answer, and by `?` from
/// the errors of a [`Policy`](crate::Policy), of [`OpenAi`](crate::OpenAi), and
/// of tower's layers around them.
///
/// It displays as one line without key or prompt: the provider's sentence is in
/// it only where that is about a limit of the account, because others quote the
/// request. [`message`](Self::message) and [`body`](Self::body) have all that the
/// provider said.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::BodyExt;
/// use tollhouse_openai::{ApiError, OpenAi, Policy};
/// use tollhouse_sim::Sim;
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
/// let openai = OpenAi::builder().base_url(sim.url()).build()?;
/// let client = Policy::default().layer().layer(openai);
/// let ask = async |body: &'static str| -> Result<Bytes, ApiError> {
///     let request = Request::post("/v1/responses")
///         .body(body.into())
///         .expect("valid");
///     let answer = ApiError::check(client.clone().oneshot(request).await?).await?;
///     Ok(answer.into_body().collect().await?.to_bytes())
/// };
///
/// match ask(r#"{"model": "gpt-5.4", "input": "ping"}"#).await {
///     Ok(answer) => assert!(!answer.is_empty()),
///     Err(error) if error.is_quota_exhausted() => panic!("out of money: {error}"),
///     Err(error) if error.is_retryable() => panic!("later: {error}"),
///     Err(error) => panic!("never: {error}"),
/// }
/// # Ok(())
/// # }
/// ```
///
/// What it tells:
///
/// ```
/// use std::time::Duration;
/// use bytes::Bytes;
/// use http::{Response, StatusCode};
/// use http_body_util::Full;
/// use tollhouse_openai::{ApiError, Scope};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let refused = Response::builder()
///     .status(429)
///     .header("x-request-id", "req_7")
///     .body(Full::<Bytes>::from(
///         r#"{"error": {"code": "rate_limit_exceeded", "type": "tokens", "message":
///             "Rate limit reached on tokens per min. Please try again in 644ms."}}"#,
///     ))
///     .unwrap();
///
/// let error = ApiError::check(refused).await.unwrap_err();
/// assert!(error.is_rate_limited());
/// assert_eq!(error.scope(), Scope::Tokens);
/// assert_eq!(error.status(), Some(StatusCode::TOO_MANY_REQUESTS));
/// assert_eq!(error.request_id(), Some("req_7"));
/// assert_eq!(error.retry_after(), Some(Duration::from_millis(644)));
/// assert_eq!(
///     error.to_string(),
///     "429 rate_limit_exceeded: Rate limit reached on tokens per min. \
///      Please try again in 644ms. (request req_7)",
/// );
/// # }
/// ```
pub struct ApiError {
    /// Boxed, so that a `Result` stays small.
    inner: Box<Inner>,
}

struct Inner {
    verdict: Verdict,
    attempts: u32,
    cause: Cause,
}

enum Cause {
    Answer(Answer),
    Refused(Refused),
    NoAnswer(BoxError),
}

/// An unsuccessful answer.
struct Answer {
    status: StatusCode,
    request_id: Option<String>,
    /// What its body says, if it says anything.
    fault: Option<Arc<Fault>>,
    body: Bytes,
    /// Why the body is not whole.
    cut: Option<BoxError>,
}

impl Answer {
    fn code(&self) -> Option<&str> {
        self.fault.as_ref()?.code(self.status)
    }
}

impl ApiError {
    /// Whether a limit of the account, by the minute or the day, is used up for
    /// now: the provider said so, or a gate knew it without asking.
    pub fn is_rate_limited(&self) -> bool {
        self.is_retryable() && is_limit(self.scope())
    }

    /// Whether the money is used up: credits, a spend limit. No wait helps.
    pub fn is_quota_exhausted(&self) -> bool {
        self.scope() == Scope::Quota
    }

    /// Whether the provider is overloaded, down or out of reach.
    pub fn is_overloaded(&self) -> bool {
        self.scope() == Scope::Overload
    }

    /// Whether the same call can succeed later, with nobody changing the
    /// request, the key or the account; also where an answer broke off after it
    /// had begun. Under a [`Policy`](crate::Policy) retries were made already: so
    /// not at once.
    pub fn is_retryable(&self) -> bool {
        self.inner.verdict.retry
    }

    /// How long to wait at least, where that was told and can help.
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.verdict.after.filter(|_| self.is_retryable())
    }

    /// What ran out.
    pub fn scope(&self) -> Scope {
        self.inner.verdict.scope
    }

    /// How many attempts were made; 1 where nobody counted.
    pub fn attempts(&self) -> u32 {
        self.inner.attempts
    }

    /// The status of the answer, if there was one.
    pub fn status(&self) -> Option<StatusCode> {
        self.answer().map(|answer| answer.status)
    }

    /// The provider's name for the request, for talking to its support.
    pub fn request_id(&self) -> Option<&str> {
        self.answer()?.request_id.as_deref()
    }

    /// The error's code, as `rate_limit_exceeded`; its type where it has none.
    pub fn code(&self) -> Option<&str> {
        self.answer()?.code()
    }

    /// What the provider says, in its own words. May quote the request.
    pub fn message(&self) -> Option<&str> {
        self.answer()?.fault.as_ref()?.message()
    }

    /// The body of the answer, byte for byte, up to 1 MiB; empty where there was
    /// no answer. May quote the request.
    pub fn body(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        self.answer().map_or(&EMPTY, |answer| &answer.body)
    }

    /// The gate's refusal, if it was one: nothing was sent in the last attempt.
    pub fn refused(&self) -> Option<&Refused> {
        match &self.inner.cause {
            Cause::Refused(refused) => Some(refused),
            Cause::Answer(_) | Cause::NoAnswer(_) => None,
        }
    }

    fn answer(&self) -> Option<&Answer> {
        match &self.inner.cause {
            Cause::Answer(answer) => Some(answer),
            Cause::Refused(_) | Cause::NoAnswer(_) => None,
        }
    }

    fn new(verdict: Verdict, attempts: u32, cause: Cause) -> Self {
        let inner = Inner {
            verdict,
            attempts,
            cause,
        };
        ApiError {
            inner: Box::new(inner),
        }
    }
}

fn is_limit(scope: Scope) -> bool {
    // What runs out besides is a limit, too.
    !matches!(scope, Scope::Quota | Scope::Overload | Scope::None)
}
