//! One error for whatever keeps a call from a good answer.
//!
//! Three things can: the provider's refusal, which comes as an answer; a gate's
//! refusal, before anything was sent; and no answer at all. The layers keep
//! them apart, so that an answer stays an answer, byte for byte. Who only wants
//! to know what to do next makes an [`ApiError`] of each and asks that.

mod check;
mod said;
mod text;

#[cfg(test)]
mod tests;

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use tokio::time::Instant;
use tollhouse::{BoxError, Classify, Decision, Refused, Scope};

use crate::policy::AnswerReader;
use crate::wire::verdict::Verdict;
use said::Said;
use text::OneLine;

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
    said: Said,
    body: Bytes,
    /// Why the body is not whole.
    cut: Option<BoxError>,
}

impl ApiError {
    /// Whether a limit of the account, by the minute or the day, is used up for
    /// now: the provider said so, or a gate knew it without asking.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse_openai::{ApiError, Refused, error};
    ///
    /// let busy = Refused::Overloaded {
    ///     waiting: 9,
    ///     expected_wait: Duration::from_secs(12),
    /// };
    /// let error = ApiError::from(error::Error::from(busy));
    /// assert!(error.is_rate_limited());
    /// assert!(
    ///     !error.is_overloaded(),
    ///     "too many calls of ours, not of others"
    /// );
    /// ```
    pub fn is_rate_limited(&self) -> bool {
        self.is_retryable() && is_limit(self.scope())
    }

    /// Whether the money is used up: credits, a spend limit. No wait helps.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use http_body_util::Full;
    /// use tollhouse_openai::ApiError;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let spent = r#"{"error": {"code": "insufficient_quota", "message": "Check your plan."}}"#;
    /// let answer = Response::builder()
    ///     .status(429)
    ///     .body(Full::<Bytes>::from(spent));
    /// let error = ApiError::check(answer.unwrap()).await.unwrap_err();
    /// assert!(error.is_quota_exhausted());
    /// assert!(!error.is_rate_limited(), "whatever the status says");
    /// # }
    /// ```
    pub fn is_quota_exhausted(&self) -> bool {
        self.scope() == Scope::Quota
    }

    /// Whether the provider is overloaded, down or out of reach.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use http_body_util::Full;
    /// use tollhouse_openai::{ApiError, error};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let answer = Response::builder()
    ///     .status(503)
    ///     .body(Full::<Bytes>::default());
    /// let error = ApiError::check(answer.unwrap()).await.unwrap_err();
    /// assert!(error.is_overloaded());
    ///
    /// let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    /// assert!(ApiError::from(error::Error::inner(refused)).is_overloaded());
    /// # }
    /// ```
    pub fn is_overloaded(&self) -> bool {
        self.scope() == Scope::Overload
    }

    /// Whether the same call can succeed later, with nobody changing the
    /// request, the key or the account; also where an answer broke off after it
    /// had begun. Under a [`Policy`](crate::Policy) retries were made already: so
    /// not at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use http_body_util::Full;
    /// use tollhouse_openai::ApiError;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// for (status, retryable) in [(400, false), (401, false), (429, true), (500, true)] {
    ///     let answer = Response::builder()
    ///         .status(status)
    ///         .body(Full::<Bytes>::default());
    ///     let error = ApiError::check(answer.unwrap()).await.unwrap_err();
    ///     assert_eq!(error.is_retryable(), retryable, "{status}");
    /// }
    /// # }
    /// ```
    pub fn is_retryable(&self) -> bool {
        self.inner.verdict.retry
    }

    /// How long to wait at least, where that was told and can help.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use http_body_util::Full;
    /// use std::time::Duration;
    /// use tollhouse_openai::ApiError;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let answer = Response::builder().status(429).header("retry-after", "20");
    /// let answer = answer.body(Full::<Bytes>::default()).unwrap();
    /// let error = ApiError::check(answer).await.unwrap_err();
    /// assert_eq!(error.retry_after(), Some(Duration::from_secs(20)));
    /// # }
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        self.inner.verdict.after.filter(|_| self.is_retryable())
    }

    /// What ran out.
    pub fn scope(&self) -> Scope {
        self.inner.verdict.scope
    }

    /// How many attempts were made; 1 where nobody counted.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use std::time::Duration;
    /// use tollhouse_openai::{ApiError, Policy};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let policy = Policy::default().stagger(Duration::ZERO).max_attempts(3);
    /// let client = policy.layer().layer(service_fn(async |_: Request<Bytes>| {
    ///     Response::builder()
    ///         .status(503)
    ///         .body(Full::<Bytes>::default())
    /// }));
    /// let answer = client.oneshot(Request::default()).await?;
    /// let error = ApiError::check(answer).await.unwrap_err();
    /// assert_eq!(error.attempts(), 3);
    /// assert_eq!(error.to_string(), "503 Service Unavailable (3 attempts)");
    /// # Ok(())
    /// # }
    /// ```
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
        self.answer()?.said.code.as_deref()
    }

    /// What the provider says, in its own words. May quote the request.
    ///
    /// # Examples
    ///
    /// It is left out of the one line that is safe to log:
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Response;
    /// use http_body_util::Full;
    /// use tollhouse_openai::ApiError;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let answer = Response::builder().status(400).body(Full::<Bytes>::from(
    ///     r#"{"error": {"code": "invalid_prompt", "message": "Not allowed: 'my secret'"}}"#,
    /// ));
    /// let error = ApiError::check(answer.unwrap()).await.unwrap_err();
    /// assert_eq!(error.message(), Some("Not allowed: 'my secret'"));
    /// assert_eq!(error.code(), Some("invalid_prompt"));
    /// assert_eq!(error.to_string(), "400 invalid_prompt");
    /// # }
    /// ```
    pub fn message(&self) -> Option<&str> {
        self.answer()?.said.message.as_deref()
    }

    /// The body of the answer, byte for byte, up to 1 MiB; empty where there was
    /// no answer. May quote the request.
    pub fn body(&self) -> &Bytes {
        static EMPTY: Bytes = Bytes::new();
        self.answer().map_or(&EMPTY, |answer| &answer.body)
    }

    /// The gate's refusal, if it was one: nothing was sent in the last attempt.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::{ApiError, Refused, error};
    ///
    /// let error = ApiError::from(error::Error::from(Refused::Closed));
    /// assert_eq!(error.refused(), Some(&Refused::Closed));
    /// assert_eq!(error.status(), None, "nothing was sent");
    /// ```
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
    match scope {
        Scope::Tokens | Scope::Requests | Scope::TokensPerDay | Scope::RequestsPerDay => true,
        Scope::Quota | Scope::Overload | Scope::None => false,
    }
}

// ===== what it is made from =====

/// From a policy's or a gate's error.
impl From<tollhouse::Error> for ApiError {
    fn from(error: tollhouse::Error) -> Self {
        let attempts = error.attempts();
        if let Some(refused) = error.refused().copied() {
            return ApiError::new(of_refusal(&refused), attempts, Cause::Refused(refused));
        }
        let verdict = of_error(&error);
        match error.into_source().downcast::<ApiError>() {
            Ok(error) => *error,
            Err(source) => ApiError::new(verdict, attempts, Cause::NoAnswer(source)),
        }
    }
}

/// From a client's error, with nothing around the client.
impl From<crate::Error> for ApiError {
    fn from(error: crate::Error) -> Self {
        tollhouse::Error::inner(error).into()
    }
}

/// From whatever tower's layers around a policy or a client hand on.
impl From<BoxError> for ApiError {
    fn from(error: BoxError) -> Self {
        tollhouse::Error::inner(error).into()
    }
}

fn of_refusal(refused: &Refused) -> Verdict {
    let later = |scope, after| Verdict {
        retry: true,
        after: Some(after),
        scope,
    };
    let never = |scope| Verdict {
        scope,
        ..Verdict::default()
    };
    match *refused {
        Refused::TooLarge { .. } => never(Scope::Tokens),
        // Too many calls at once, of ours.
        Refused::Overloaded { expected_wait, .. } => later(Scope::Requests, expected_wait),
        Refused::Exhausted {
            scope: Scope::Quota,
            ..
        } => never(Scope::Quota),
        Refused::Exhausted { scope, until } => {
            later(scope, until.saturating_duration_since(Instant::now()))
        }
        _ => never(Scope::None),
    }
}

fn of_error(error: &tollhouse::Error) -> Verdict {
    // Never asked again by a layer, since the answer had begun; whoever has the
    // half of it may decide otherwise.
    let ours = error.downcast_ref::<crate::Error>();
    if ours.is_some_and(crate::Error::is_body) {
        return Verdict {
            retry: true,
            after: None,
            scope: Scope::Overload,
        };
    }
    match AnswerReader.classify(Err::<&Response<()>, _>(error)) {
        Decision::GiveUp => Verdict::default(),
        Decision::Retry { after, scope } => Verdict {
            retry: true,
            after,
            scope,
        },
    }
}

// ===== what it says =====

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.inner.cause {
            Cause::Answer(answer) => self.fmt_answer(answer, f)?,
            Cause::Refused(refused) => fmt::Display::fmt(refused, f)?,
            Cause::NoAnswer(_) => f.write_str("no whole answer came")?,
        }
        match (self.request_id().map(OneLine::short), self.attempts()) {
            (None, 0 | 1) => Ok(()),
            (None, attempts) => write!(f, " ({attempts} attempts)"),
            (Some(id), 0 | 1) => write!(f, " (request {id})"),
            (Some(id), attempts) => write!(f, " (request {id}, {attempts} attempts)"),
        }
    }
}

impl ApiError {
    fn fmt_answer(&self, answer: &Answer, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code() {
            Some(code) => write!(f, "{} {}", answer.status.as_u16(), OneLine::short(code))?,
            None => fmt::Display::fmt(&answer.status, f)?,
        }
        // Whatever else an error is about, it may quote the request.
        let is_about_account = is_limit(self.scope()) || self.is_quota_exhausted();
        match self.message().filter(|_| is_about_account) {
            Some(message) => write!(f, ": {}", OneLine::long(message)),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for ApiError {
    /// Tells how long the body is, not what is in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut f = f.debug_struct("ApiError");
        f.field("verdict", &self.inner.verdict);
        f.field("attempts", &self.attempts());
        match &self.inner.cause {
            Cause::Answer(answer) => f
                .field("status", &answer.status)
                .field("code", &answer.said.code)
                .field("request_id", &answer.request_id)
                .field("body_bytes", &answer.body.len())
                .field("cut", &answer.cut),
            Cause::Refused(refused) => f.field("refused", refused),
            Cause::NoAnswer(source) => f.field("source", source),
        };
        f.finish_non_exhaustive()
    }
}

impl StdError for ApiError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        let source = match &self.inner.cause {
            Cause::Answer(answer) => answer.cut.as_ref()?,
            Cause::Refused(_) => return None,
            Cause::NoAnswer(source) => source,
        };
        Some(&**source)
    }
}
