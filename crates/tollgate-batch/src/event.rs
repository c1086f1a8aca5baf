//! What happens during a run, as it happens.

use std::sync::Arc;

use http::StatusCode;
use tokio::time::Duration;

use crate::line::BadLine;

/// One step of a run, told to [`Batch::on_event`](crate::Batch::on_event).
///
/// Every line that is not blank ends in exactly one of [`Finished`],
/// [`Failed`], [`Skipped`], [`BadLine`], [`Withdrawn`] and [`Unwritten`].
///
/// [`Finished`]: Self::Finished
/// [`Failed`]: Self::Failed
/// [`Skipped`]: Self::Skipped
/// [`BadLine`]: Self::BadLine
/// [`Withdrawn`]: Self::Withdrawn
/// [`Unwritten`]: Self::Unwritten
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
    /// A request was called back before it was sent, because the run stops, or
    /// failed in a way that made the run be given up. A later run sends it.
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
        /// As [`Batch::give_up_when`](crate::Batch::give_up_when) told it.
        reason: Arc<str>,
    },
    /// The run sends nothing more and waits for what is under way.
    Stopping {
        /// How many requests are under way.
        in_flight: usize,
    },
}

/// Which request an [`Event`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The number of its line, counted from 1.
    pub line: u64,
    /// Its `custom_id`.
    pub custom_id: Arc<str>,
}

/// Hears events.
pub(crate) type Observer = Arc<dyn Fn(Event) + Send + Sync>;
