//! One request on its way through the service.

use std::error::Error as StdError;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Body;
use tokio::time::Duration;
use tower_service::Service;

use crate::call::call;
use crate::event::{Event, Request};
use crate::hopeless::Judge;
use crate::line::Line;
use crate::outcome::{Outcome, Way, Written};
use crate::stop::Stopped;
use crate::ticket::Ticket;

/// A request that is about to be handed to the service.
pub(crate) struct Task {
    pub(crate) line: Line,
    pub(crate) ticket: Ticket,
    /// Set where the request may be called back.
    pub(crate) stopped: Option<Stopped>,
    pub(crate) max_body_bytes: usize,
    pub(crate) judge: Option<Judge>,
}

/// A request that is over, with what became of it.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) line: Line,
    /// `None` where it was called back.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) way: Way,
}

/// A request that is over, with the line for it.
#[derive(Debug)]
pub(crate) struct Finished {
    request: Request,
    /// The length of its body in the input.
    pub(crate) bytes: usize,
    elapsed: Duration,
    /// `None` where it was called back, or is left for a later run.
    pub(crate) written: Option<Written>,
    /// Why the whole run is hopeless, where this request shows it.
    pub(crate) hopeless: Option<String>,
}

impl Task {
    /// The length of the body.
    pub(crate) fn bytes(&self) -> usize {
        self.line.body.len()
    }

    /// Sends the request, reads the whole answer and makes the line for it:
    /// here, beside the others, so that the run need only write it.
    pub(crate) async fn run<S, B>(self, service: S) -> Finished
    where
        S: Service<http::Request<Bytes>, Response = Response<B>>,
        S::Error: Into<Box<dyn StdError + Send + Sync>>,
        B: Body,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let judge = self.judge.clone();
        self.over(service).await.finish(judge.as_ref())
    }

    /// Sends the request and reads the whole answer.
    pub(crate) async fn over<S, B>(self, service: S) -> Over
    where
        S: Service<http::Request<Bytes>, Response = Response<B>>,
        S::Error: Into<Box<dyn StdError + Send + Sync>>,
        B: Body,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let mut request = self.line.request();
        request.extensions_mut().insert(self.ticket.clone());
        let outcome = tokio::select! {
            biased;
            outcome = call(service, request, self.max_body_bytes) => Some(outcome),
            () = called_back(self.stopped, self.ticket.clone()) => None,
        };
        let way = Way {
            sent: self.ticket.sent(),
            elapsed: self.ticket.elapsed(),
        };
        Over {
            line: self.line,
            outcome,
            way,
        }
    }
}

impl Over {
    fn finish(self, judge: Option<&Judge>) -> Finished {
        let (outcome, id) = (self.outcome.as_ref(), &self.line.custom_id);
        let written = outcome.map(|outcome| outcome.write(id, self.way));
        let hopeless = hopeless(judge, outcome, written.as_ref());
        Finished {
            bytes: self.line.body.len(),
            // Were it written, a later run would take it for done.
            written: written.filter(|_| hopeless.is_none()),
            request: self.line.name(),
            elapsed: self.way.elapsed,
            hopeless,
        }
    }
}

fn hopeless(
    judge: Option<&Judge>,
    outcome: Option<&Outcome>,
    written: Option<&Written>,
) -> Option<String> {
    let no_headers = HeaderMap::new();
    let failed = outcome?.failed(written?, &no_headers)?;
    judge?(&failed)
}

impl Finished {
    /// The number of its line.
    pub(crate) fn line(&self) -> u64 {
        self.request.line
    }

    /// What is told of it, once its line is saved or known to be lost.
    pub(crate) fn event(self, saved: bool) -> Event {
        let (request, elapsed) = (self.request, self.elapsed);
        let Some(written) = self.written else {
            return Event::Withdrawn(request);
        };
        if !saved {
            return Event::Unwritten(request);
        }
        match (written.failure, written.status) {
            (None, Some(status)) => Event::Finished {
                request,
                status,
                tokens: written.tokens,
                elapsed,
            },
            (failure, status) => {
                let (code, message) = failure.map(|f| (f.code, f.message)).unwrap_or_default();
                Event::Failed {
                    request,
                    status,
                    code: code.into_owned(),
                    message,
                    elapsed,
                }
            }
        }
    }
}

/// Ends when the run stops and the request can be called back: at once where it
/// waits, else when an attempt has failed and another would have to wait.
async fn called_back(stopped: Option<Stopped>, ticket: Ticket) {
    let Some(mut stopped) = stopped else {
        return std::future::pending().await;
    };
    stopped.wait().await;
    ticket.call_back().await;
}
