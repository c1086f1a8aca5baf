//! One request on its way through the service.

use std::error::Error as StdError;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use tokio::time::{Duration, Instant};
use tower_service::Service;

use crate::call::call;
use crate::event::{Event, Request};
use crate::line::Line;
use crate::outcome::Written;
use crate::sent::Ticket;
use crate::stop::Stopped;

/// A request that is about to be handed to the service.
pub(crate) struct Task {
    pub(crate) line: Line,
    pub(crate) ticket: Ticket,
    /// Set where the request may be called back.
    pub(crate) stopped: Option<Stopped>,
    pub(crate) max_body_bytes: usize,
}

/// A request that is over.
pub(crate) struct Finished {
    request: Request,
    /// The length of its body in the input.
    pub(crate) bytes: usize,
    elapsed: Duration,
    /// `None` where it was called back.
    pub(crate) written: Option<Written>,
}

impl Task {
    /// The length of the body.
    pub(crate) fn bytes(&self) -> usize {
        self.line.body.len()
    }

    /// Sends the request and reads the whole answer. The line for it is made
    /// here, beside the others, so that the run need only write it.
    pub(crate) async fn run<S, B>(self, service: S) -> Finished
    where
        S: Service<http::Request<Bytes>, Response = Response<B>>,
        S::Error: Into<Box<dyn StdError + Send + Sync>>,
        B: Body,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let started = Instant::now();
        let mut request = self.line.request();
        request.extensions_mut().insert(self.ticket.clone());
        let outcome = tokio::select! {
            biased;
            outcome = call(service, request, self.max_body_bytes) => Some(outcome),
            () = called_back(self.stopped, self.ticket) => None,
        };
        Finished {
            bytes: self.line.body.len(),
            written: outcome.map(|outcome| outcome.write(&self.line.custom_id)),
            request: self.line.name(),
            elapsed: started.elapsed(),
        }
    }
}

impl Finished {
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

/// Ends when the run stops and the request can still be called back.
async fn called_back(stopped: Option<Stopped>, ticket: Ticket) {
    if let Some(mut stopped) = stopped {
        stopped.wait().await;
        if ticket.withdraw() {
            return;
        }
    }
    std::future::pending().await
}
