//! One request on its way through the service.

use std::error::Error as StdError;
use std::mem;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Body;
use tokio::time::{Duration, Instant};
use tower_service::Service;

use crate::event::{Event, Request};
use crate::input::line::Line;
use crate::output::outcome::{Outcome, Way, Written};
use crate::run::call::call;
use crate::run::judge::{Judge, Judgement};
use crate::run::parked::Case;
use crate::run::recall::Reins;
use crate::run::room::{Room, Share};
use crate::run::tracker::{Round, Ticket};

/// A request that is about to be handed to the service.
pub(crate) struct Task {
    pub(crate) line: Line,
    pub(crate) ticket: Ticket,
    pub(crate) reins: Reins,
    pub(crate) room: Arc<Room>,
    pub(crate) max_body_bytes: usize,
}

/// A request that came back, with what became of it.
#[derive(Debug)]
pub(crate) struct Over {
    pub(crate) line: Line,
    pub(crate) ticket: Ticket,
    /// `None` where it was called back.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) way: Way,
    /// The room that its answer takes.
    pub(crate) share: Option<Share>,
}

/// A request that came back from a run's task.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) line: Line,
    pub(crate) ticket: Ticket,
    pub(crate) case: Case,
    /// Whether it was sent to see whether an outage is over.
    pub(crate) probe: bool,
    /// Whether it was called back between two attempts, and no probe.
    pub(crate) was_cut_short: bool,
    /// When it was handed to the service.
    handed: Instant,
    elapsed: Duration,
    outcome: Came,
    share: Option<Share>,
}

/// What it came back with.
#[derive(Debug)]
pub(crate) enum Came {
    /// It was called back.
    Nothing,
    Answer(Written),
    Failure(Written, Judgement),
}

/// A request that is over, with the line for it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) request: Request,
    /// The length of its body in the input.
    pub(crate) bytes: usize,
    pub(crate) elapsed: Duration,
    /// `None` where it is left for a later run.
    pub(crate) written: Option<Written>,
    /// Held until its line is written.
    _share: Option<Share>,
}

impl Task {
    /// Sends the request, reads the whole answer and makes the line for it:
    /// here, beside the others, so that the run need only write it.
    pub(crate) async fn run<S, B>(
        self,
        service: S,
        judge: Option<Judge>,
        case: Case,
        probe: bool,
    ) -> Back
    where
        S: Service<http::Request<Bytes>, Response = Response<B>>,
        S::Error: Into<Box<dyn StdError + Send + Sync>>,
        B: Body,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (room, handed) = (self.room.clone(), Instant::now());
        let over = self.over(service).await;
        let outcome = match &over.outcome {
            None => Came::Nothing,
            Some(outcome) => {
                let _turn = room.turn_to_copy(outcome.bytes()).await;
                let written = outcome.write(&over.line.custom_id, over.way);
                judged(judge.as_ref(), outcome, written)
            }
        };
        let cut_short = over.outcome.is_none() && over.ticket.round().is_some();
        Back {
            was_cut_short: cut_short && !probe,
            handed,
            elapsed: over.way.elapsed,
            line: over.line,
            ticket: over.ticket,
            case,
            probe,
            outcome,
            share: over.share,
        }
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
        let share = Share::new(self.room.clone(), self.line.number);
        let (outcome, share) = tokio::select! {
            biased;
            (outcome, share) = call(service, request, self.max_body_bytes, share) => (Some(outcome), share),
            () = self.reins.pulled(self.ticket.clone()) => (None, None),
        };
        let way = Way {
            sent: self.ticket.sent(),
            elapsed: self.ticket.elapsed(),
        };
        Over {
            line: self.line,
            ticket: self.ticket,
            outcome,
            way,
            share,
        }
    }
}

fn judged(judge: Option<&Judge>, outcome: &Outcome, written: Written) -> Came {
    let no_headers = HeaderMap::new();
    let judgement = match (outcome.failed(&written, &no_headers), judge) {
        (None, _) => return Came::Answer(written),
        (Some(_), None) => Judgement::Failed,
        (Some(failed), Some(judge)) => judge(&failed),
    };
    Came::Failure(written, judgement)
}

impl Back {
    /// What came of it since it was handed out this time.
    pub(crate) fn round(&self) -> Option<Round> {
        self.ticket.round()
    }

    /// What it came back with, the first time this is asked.
    pub(crate) fn take(&mut self) -> Came {
        mem::replace(&mut self.outcome, Came::Nothing)
    }

    /// When its first attempt left this time, as far as is known.
    pub(crate) fn first_left(&self) -> Instant {
        self.round().map_or(self.handed, |round| round.first)
    }

    /// When its last attempt left, as far as is known.
    pub(crate) fn left(&self) -> Instant {
        self.round().map_or(self.handed, |round| round.last)
    }

    /// It is over, with this line or, without one, for a later run.
    pub(crate) fn finish(self, written: Option<Written>) -> Finished {
        Finished {
            _share: self.share,
            ..Finished::new(&self.line, self.elapsed, written)
        }
    }
}

impl Finished {
    pub(crate) fn new(line: &Line, elapsed: Duration, written: Option<Written>) -> Self {
        Self {
            request: line.name(),
            bytes: line.body.len(),
            elapsed,
            written,
            _share: None,
        }
    }

    /// The length of the line for it.
    pub(crate) fn bytes_to_write(&self) -> usize {
        self.written
            .as_ref()
            .map_or(0, |written| written.text.len())
    }

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
