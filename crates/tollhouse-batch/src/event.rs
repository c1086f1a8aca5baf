//! What happens during a run, as it happens.

use std::fmt;
use std::sync::Arc;

use http::StatusCode;
use serde::Serialize;
use tokio::time::{Duration, Instant};

use crate::input::line::{BadLine, Request};

/// One step of a run, told to [`Batch::on_event`](crate::Batch::on_event).
///
/// Every request that was [`Started`](Self::Started) may be
/// [`PutBack`](Self::PutBack) any number of times, and every line that is not
/// blank ends in exactly one of [`Finished`],
/// [`Failed`], [`Skipped`], [`BadLine`], [`Withdrawn`] and [`Unwritten`].
///
/// [`Finished`]: Self::Finished
/// [`Failed`]: Self::Failed
/// [`Skipped`]: Self::Skipped
/// [`BadLine`]: Self::BadLine
/// [`Withdrawn`]: Self::Withdrawn
/// [`Unwritten`]: Self::Unwritten
///
/// # Examples
///
/// A count of what is under way:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
/// use std::sync::atomic::{AtomicI64, Ordering};
/// use tollhouse_batch::{Batch, Event};
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let under_way = Arc::new(AtomicI64::new(0));
/// let gauge = under_way.clone();
/// let batch = Batch::new(service).on_event(move |event| match event {
///     Event::Started(_) => _ = gauge.fetch_add(1, Ordering::Relaxed),
///     Event::Finished { .. }
///     | Event::Failed { .. }
///     | Event::Withdrawn(_)
///     | Event::Unwritten(_) => _ = gauge.fetch_sub(1, Ordering::Relaxed),
///     _ => {}
/// });
/// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(9);
/// batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
/// assert_eq!(under_way.load(Ordering::Relaxed), 0);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// A request was handed to the service, where it may have to wait.
    Started(Request),
    /// A request has left for the provider: once for each attempt, and only
    /// where a [`SentLayer`](crate::SentLayer) is in the service.
    Sent(Request),
    /// A request succeeded, and its answer is written.
    Finished {
        /// Which one.
        request: Request,
        /// The status of the answer.
        status: StatusCode,
        /// The tokens that the answer says were used.
        tokens: Option<u64>,
        /// Time since [`Started`](Self::Started), waiting included.
        elapsed: Duration,
    },
    /// A request failed, and its failure is written.
    Failed {
        /// Which one.
        request: Request,
        /// The status of the answer; `None` where there was no answer.
        status: Option<StatusCode>,
        /// The provider's code, or one of [`Batch::run`](crate::Batch::run)'s.
        code: String,
        /// Why, in the words of the provider or of the service's error.
        message: String,
        /// Time since [`Started`](Self::Started), waiting included.
        elapsed: Duration,
    },
    /// A request came back without an answer that is its own: because of an
    /// outage, or perhaps so. It waits, and is sent again.
    PutBack(Request),
    /// The provider cannot be reached or is overloaded, as
    /// [`Batch::judge`](crate::Batch::judge) tells. Until it
    /// [answers](Self::Recovered) nothing is sent but a probe now and then; told
    /// again whenever one of them has failed.
    Outage {
        /// When the first attempt failed.
        since: Instant,
        /// Why the last one did.
        reason: Arc<str>,
    },
    /// The provider answers, and the run goes on.
    Recovered {
        /// From the first attempt that failed.
        lasted: Duration,
    },
    /// A request was called back, before it was sent or between two attempts,
    /// because the run stops; or it failed in a way that made the run be given up.
    /// A later run sends it.
    Withdrawn(Request),
    /// A request was answered, but the answer could not be written. The run
    /// ends with an [`Error`](crate::Error) that has it.
    Unwritten(Request),
    /// An earlier run has answered this request.
    Skipped(Request),
    /// A line is not a request.
    BadLine(BadLine),
    /// The run is given up, for this reason; [`Stopping`](Self::Stopping)
    /// follows.
    GivingUp {
        /// As [`Batch::judge`](crate::Batch::judge) told it, or what was waited for in
        /// vain.
        reason: Arc<str>,
    },
    /// A bound that was set for the run ends it; [`Stopping`](Self::Stopping)
    /// follows.
    Ending(EndedBy),
    /// The run sends nothing more and waits for what is under way.
    Stopping {
        /// How many requests are under way.
        in_flight: usize,
    },
}

/// A bound of the user's that ends a run early. What it leaves, a later run sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EndedBy {
    /// [`Batch::deadline`](crate::Batch::deadline).
    Deadline,
    /// [`Batch::cost_limit`](crate::Batch::cost_limit).
    CostLimit,
}

/// Hears events.
pub(crate) type Observer = Arc<dyn Fn(Event) + Send + Sync>;

impl fmt::Display for EndedBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "the deadline is reached",
            Self::CostLimit => "the cost limit is reached",
        })
    }
}
