//! When to give a whole run up.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use http::{HeaderMap, StatusCode};

use crate::format::Count;
use crate::summary::Summary;

/// A share of failures says nothing of so few requests.
const LEAST_ENDED: u64 = 20;

/// A request that failed, as [`Batch::give_up_when`](crate::Batch::give_up_when)
/// sees it.
///
/// # Examples
///
/// A provider that sends everybody away until further notice:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Batch, Failed};
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = r#"{"error":{"code":"insufficient_quota","message":"check your plan"}}"#;
/// #     let body = http_body_util::Full::new(bytes::Bytes::from(body));
/// #     let response = http::Response::builder().status(429).header("x-should-retry", "false");
/// #     Ok::<_, std::io::Error>(response.body(body).unwrap())
/// # });
///
/// fn judge(failed: &Failed<'_>) -> Option<String> {
///     let told = failed.headers.get("x-should-retry")?;
///     (told == "false").then(|| format!("{}: {}", failed.code, failed.message))
/// }
///
/// let input = r#"{"model":"gpt-4o","messages":[]}"#;
/// let batch = Batch::new(service).give_up_when(judge);
/// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
/// assert_eq!(
///     summary.gave_up.as_deref(),
///     Some("insufficient_quota: check your plan")
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Failed<'a> {
    /// The answer's status; `None` where there was no answer.
    pub status: Option<StatusCode>,
    /// The answer's headers; empty where there was no answer.
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

/// Judges one failure: the reason to give up, if it is one.
pub(crate) type Judge = Arc<dyn Fn(&Failed<'_>) -> Option<String> + Send + Sync>;

/// What makes a run hopeless.
#[derive(Clone, Default)]
pub(crate) struct Hopeless {
    pub(crate) judge: Option<Judge>,
    pub(crate) max_failures: Option<f64>,
}

impl Hopeless {
    /// The reason that the failures so far are, if they are one.
    pub(crate) fn too_many(&self, summary: &Summary) -> Option<String> {
        let most = self.max_failures?;
        let ended = summary.ok + summary.failed;
        let share = summary.failed as f64 / ended as f64;
        (ended >= LEAST_ENDED && share > most).then(|| {
            format!(
                "{} of {} requests failed, more than {:.0}%",
                Count(summary.failed),
                Count(ended),
                most * 100.0
            )
        })
    }
}

impl fmt::Debug for Hopeless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hopeless")
            .field("judge", &self.judge.is_some())
            .field("max_failures", &self.max_failures)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_counts_from_twenty_requests_on() {
        let hopeless = Hopeless {
            max_failures: Some(0.5),
            ..Hopeless::default()
        };
        let after = |ok, failed| {
            let mut summary = Summary::default();
            (summary.ok, summary.failed) = (ok, failed);
            hopeless.too_many(&summary)
        };
        assert_eq!(after(0, 19), None);
        assert_eq!(after(10, 10), None);
        let reason = "11 of 20 requests failed, more than 50%".to_owned();
        assert_eq!(after(9, 11), Some(reason));
        assert_eq!(Hopeless::default().too_many(&Summary::default()), None);
    }
}
