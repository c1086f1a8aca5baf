//! What a failure means for the request, and for the whole run.

use std::error::Error as StdError;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::output::outcome::Outcome;
use crate::output::record::Record;

/// A request that did not succeed, as [`Batch::judge`](crate::Batch::judge) shows
/// it to a judge. The service's own attempts are used up by then.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Failed<'a> {
    /// The status of the answer; `None` where there was no answer.
    pub status: Option<StatusCode>,
    /// The headers of the answer; empty where there was no answer.
    pub headers: &'a HeaderMap,
    /// The answer's body; empty where there was no answer.
    pub body: &'a [u8],
    /// The provider's code, or one of [`Batch::run`](crate::Batch::run)'s.
    pub code: &'a str,
    /// Why, in the words of the provider or of the service's error.
    pub message: &'a str,
    /// The service's own error, where it gave no answer.
    pub error: Option<&'a (dyn StdError + Send + Sync + 'static)>,
}

/// Whose fault a failure is; given by the judge of [`Batch::judge`](crate::Batch::judge).
///
/// The runner knows no provider, so it cannot tell a bad request from a bad
/// hour; whoever makes the client can.
///
/// # Examples
///
/// By the status alone, where there is nothing better:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse_batch::{Batch, Failed, Judgement};
///
/// fn judge(failed: &Failed<'_>) -> Judgement {
///     match failed.status.map(|status| status.as_u16()) {
///         None | Some(502 | 503 | 504) => Judgement::Outage,
///         Some(500..) => Judgement::Unclear,
///         Some(401) => Judgement::Hopeless(format!("the key: {}", failed.message)),
///         Some(_) => Judgement::Failed,
///     }
/// }
///
/// // Away for three minutes.
/// let back = Instant::now() + Duration::from_secs(180);
/// let service = tower::service_fn(move |_: http::Request<bytes::Bytes>| async move {
///     if Instant::now() < back {
///         return Err(std::io::Error::other("connection refused"));
///     }
///     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
///     Ok(http::Response::new(body))
/// });
/// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(100);
/// let batch = Batch::new(service).judge(judge).first_answer_within(Duration::from_secs(600));
/// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
/// assert_eq!((summary.ok, summary.failed), (100, 0));
/// assert!(summary.elapsed <= Duration::from_secs(180 + 30));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Judgement {
    /// The request's own: its failure is written.
    Failed,
    /// The provider's, whatever it would have been asked: no connection could be
    /// made, it is overloaded, a gate is full. The request is sent again once
    /// the provider answers.
    Outage,
    /// Perhaps the request's own, perhaps the provider's: an internal error, an
    /// answer that broke off, a timeout. Taken for an outage; unless other
    /// requests are answered meanwhile, again and again: then it is the request's.
    Unclear,
    /// No later request can succeed: a spent quota, a key that is not accepted.
    /// The run is given up for this reason; the request is not written, so that a
    /// later run sends it again.
    Hopeless(String),
}

/// Judges one failure.
pub(crate) type Judge = Arc<dyn Fn(&Failed<'_>) -> Judgement + Send + Sync>;

impl Outcome {
    /// What a judge of failures sees, if it failed. `record` is its line.
    pub(crate) fn failed<'a>(
        &'a self,
        record: &'a Record,
        no_headers: &'a HeaderMap,
    ) -> Option<Failed<'a>> {
        let failure = record.failure.as_ref()?;
        let (headers, body, error) = match self {
            Self::Answered(answer) => (&answer.headers, &answer.body[..], None),
            Self::Failed(_, error) => (no_headers, &[][..], Some(&**error)),
        };
        Some(Failed {
            status: record.status,
            headers,
            body,
            code: &failure.code,
            message: &failure.message,
            error,
        })
    }
}
