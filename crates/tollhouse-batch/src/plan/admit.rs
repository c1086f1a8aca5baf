//! Whether a batch may begin.

use std::error::Error as StdError;
use std::fmt;

use http::{HeaderValue, Response, StatusCode, header};
use tokio::time::Duration;

use super::{Impossible, Plan};
use crate::format::{Counted, Span};
use crate::input::line::BadLine;

/// Why a batch may not begin; see [`Plan::admit`]. `Display` is one line.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tollhouse_batch::{Limits, Plan};
///
/// let hour = Duration::from_secs(3_600);
/// let limits = Limits::new().tokens_per_minute(6_000);
/// let input = r#"{"model":"gpt-4o","messages":[]}"#;
/// let plan = Plan::read(input.as_bytes(), |_| 9_000, limits).await?;
///
/// let refused = plan.admit(hour).unwrap_err();
/// assert_eq!(refused.status(), 400);
/// assert_eq!(refused.code(), "requests_too_large");
/// // However long it waits.
/// assert_eq!(refused.retry_after(), None);
/// assert!(refused.to_string().starts_with("1 line can never be sent"));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NotAdmitted {
    why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Why {
    Bad {
        count: u64,
        first: Option<BadLine>,
    },
    Impossible {
        count: u64,
        first: Option<Impossible>,
    },
    TooLong {
        time: Duration,
        within: Duration,
    },
}

impl Plan {
    /// Decides whether a batch may begin that must be over `within` so much
    /// time; as preflight for handlers that take batches from others.
    ///
    /// # Errors
    ///
    /// [`NotAdmitted`] where lines are no requests or can never be sent, and
    /// where the limits make the batch longer.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), tollhouse_batch::Error> {
    /// use std::time::Duration;
    /// use bytes::Bytes;
    /// use http::Request;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#.to_owned() + "\n";
    /// let input = input.repeat(10);
    /// let limits = Limits::new().tokens_per_minute(6_000);
    /// let plan = Plan::read(input.as_bytes(), |_: &Request<Bytes>| 1_200, limits).await?;
    ///
    /// assert!(plan.admit(Duration::from_secs(60)).is_ok());
    /// let refused = plan.admit(Duration::from_secs(20)).unwrap_err();
    /// let response = refused.to_response();
    /// assert_eq!(response.status(), 503);
    /// // When the budget will have gained what is missing now.
    /// assert_eq!(response.headers()["retry-after"], "40");
    /// assert!(response.body().contains(r#""code":"batch_too_long""#));
    /// # Ok(())
    /// # }
    /// ```
    pub fn admit(&self, within: Duration) -> Result<(), NotAdmitted> {
        let why = if self.bad_lines.count > 0 {
            Why::Bad {
                count: self.bad_lines.count,
                first: self.bad_lines.first.first().cloned(),
            }
        } else if self.impossible.count > 0 {
            Why::Impossible {
                count: self.impossible.count,
                first: self.impossible.first.first().cloned(),
            }
        } else if self.time > within {
            Why::TooLong {
                time: self.time,
                within,
            }
        } else {
            return Ok(());
        };
        Err(NotAdmitted { why })
    }
}

impl NotAdmitted {
    /// The status to refuse it with: 503 for one that waiting may help, else
    /// 400.
    pub fn status(&self) -> StatusCode {
        match self.why {
            Why::TooLong { .. } => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::BAD_REQUEST,
        }
    }

    /// `bad_lines`, `requests_too_large` or `batch_too_long`.
    pub fn code(&self) -> &'static str {
        match self.why {
            Why::Bad { .. } => "bad_lines",
            Why::Impossible { .. } => "requests_too_large",
            Why::TooLong { .. } => "batch_too_long",
        }
    }

    /// After how long the same batch would be admitted if nothing else was sent
    /// meanwhile and the budget could hold it; `None` where waiting does not
    /// help.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(5);
    /// let limits = Limits::new().stagger(Duration::from_secs(15));
    /// let plan = Plan::read(input.as_bytes(), |_| 0, limits).await?;
    /// // It takes a minute.
    /// let refused = plan.admit(Duration::from_secs(20)).unwrap_err();
    /// assert_eq!(refused.retry_after(), Some(Duration::from_secs(40)));
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_after(&self) -> Option<Duration> {
        match self.why {
            Why::TooLong { time, within } => Some(time - within),
            _ => None,
        }
    }

    /// A response that says all of this: the status, `retry-after` in whole
    /// seconds, and the error as an OpenAI-style body.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(11);
    /// let limits = Limits::new().stagger(Duration::from_secs(15));
    /// let plan = Plan::read(input.as_bytes(), |_| 1_000, limits).await?;
    ///
    /// let response = plan
    ///     .admit(Duration::from_secs(60))
    ///     .unwrap_err()
    ///     .to_response();
    /// assert_eq!(response.status(), 503);
    /// // Ten gaps of 15 s, of which 60 s are allowed.
    /// assert_eq!(response.headers()["retry-after"], "90");
    /// let error: serde_json::Value = serde_json::from_str(response.body())?;
    /// assert_eq!(error["error"]["code"], "batch_too_long");
    /// # Ok(())
    /// # }
    /// ```
    pub fn to_response(&self) -> Response<String> {
        let error = serde_json::json!({
            "error": {"message": self.to_string(), "type": "batch_refused", "code": self.code()}
        });
        let mut response = Response::new(error.to_string());
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        let json = HeaderValue::from_static("application/json");
        headers.insert(header::CONTENT_TYPE, json);
        if let Some(after) = self.retry_after() {
            let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl fmt::Display for NotAdmitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Bad { count, first } => {
                write!(f, "{} without a valid request", Counted(*count, "line"))?;
                write_first(f, first.as_ref())
            }
            Why::Impossible { count, first } => {
                write!(f, "{} can never be sent", Counted(*count, "line"))?;
                write_first(f, first.as_ref())
            }
            Why::TooLong { time, within } => write!(
                f,
                "the batch takes {} at the present limits; at most {} is allowed",
                Span(*time),
                Span(*within)
            ),
        }
    }
}

fn write_first<T: fmt::Display>(f: &mut fmt::Formatter<'_>, first: Option<&T>) -> fmt::Result {
    match first {
        Some(first) => write!(f, ", the first of them {first}"),
        None => Ok(()),
    }
}

impl StdError for NotAdmitted {}
