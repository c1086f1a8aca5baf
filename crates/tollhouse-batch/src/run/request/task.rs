//! One request on its way through the service.

use std::mem;
use std::panic::resume_unwind;
use std::sync::Arc;

use http::HeaderMap;
use tokio::task::JoinError;
use tokio::time::{Duration, Instant};

use super::call::call;
use super::client::Client;
use super::recall::RecallSignal;
use super::room::{Room, Share};
use super::tracker::Tracker;
use crate::event::Event;
use crate::input::line::Line;
use crate::input::line::Request;
use crate::output::outcome::Outcome;
use crate::output::record::{Record, Timing};
use crate::run::health::case::Case;
use crate::run::health::round::Round;
use crate::run::judge::{Judge, Judgement};
use crate::run::spending::{Charged, Prices};

/// A request that is about to be handed to the service.
pub(crate) struct Task {
    pub(crate) line: Line,
    pub(crate) tracker: Tracker,
    pub(crate) recall: RecallSignal,
    pub(crate) room: Arc<Room>,
    pub(crate) max_body_bytes: usize,
}

/// A request that came back, with what became of it.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) line: Line,
    pub(crate) tracker: Tracker,
    /// `None` where it was called back.
    pub(crate) outcome: Option<Outcome>,
    pub(crate) timing: Timing,
    /// The room that its answer takes.
    pub(crate) share: Option<Share>,
}

/// A request that came back from a run's task.
#[derive(Debug)]
pub(crate) struct Back {
    pub(crate) line: Line,
    pub(crate) tracker: Tracker,
    pub(crate) case: Case,
    /// Whether it was sent to see whether an outage is finished.
    pub(crate) probe: bool,
    pub(crate) charged: Charged,
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
    Answer(Record),
    Failure(Record, Judgement),
}

/// A request that is over, with the line for it.
#[derive(Debug)]
pub(crate) struct Resolved {
    pub(crate) request: Request,
    /// The length of its body in the input.
    pub(crate) bytes: usize,
    pub(crate) elapsed: Duration,
    /// From its start to the last time it was sent, where that is known.
    pub(crate) waited: Option<Duration>,
    /// `None` where it is left for a later run.
    pub(crate) record: Option<Record>,
    /// Held until its line is written.
    _share: Option<Share>,
}

impl Task {
    /// Sends the request, reads the whole answer and makes the line for it:
    /// here, beside the others, so that the run need only write it.
    pub(crate) async fn run(
        self,
        service: impl Client,
        (judge, prices): (Option<Judge>, Option<Arc<dyn Prices>>),
        case: Case,
        probe: bool,
    ) -> Back {
        let (room, handed) = (self.room.clone(), Instant::now());
        let finished = self.send(service).await;
        let outcome = match &finished.outcome {
            None => Came::Nothing,
            Some(outcome) => {
                let _turn = room.turn_to_copy(outcome.bytes()).await;
                let record = outcome.write(&finished.line, finished.timing);
                judged(judge.as_ref(), outcome, record)
            }
        };
        let charged = prices.map_or(Charged::Nothing, |prices| finished.charged(&*prices));
        let cut_short = finished.outcome.is_none() && finished.tracker.round().is_some();
        Back {
            was_cut_short: cut_short && !probe,
            handed,
            elapsed: finished.timing.elapsed,
            line: finished.line,
            tracker: finished.tracker,
            case,
            probe,
            charged,
            outcome,
            share: finished.share,
        }
    }

    /// Sends the request and reads the whole answer.
    pub(crate) async fn send(self, service: impl Client) -> Finished {
        let mut request = self.line.request();
        let extensions = request.extensions_mut();
        extensions.insert(self.tracker.request().clone());
        extensions.insert(self.tracker.clone());
        let share = Share::new(self.room.clone(), self.line.number);
        let (outcome, share) = tokio::select! {
            biased;
            (outcome, share) = call(service, request, self.max_body_bytes, share) => (Some(outcome), share),
            () = self.recall.pulled(self.tracker.clone()) => (None, None),
        };
        let timing = Timing {
            sent: self.tracker.sent(),
            elapsed: self.tracker.elapsed(),
        };
        Finished {
            line: self.line,
            tracker: self.tracker,
            outcome,
            timing,
            share,
        }
    }
}

impl Finished {
    /// What it cost, as far as can be told.
    fn charged(&self, prices: &dyn Prices) -> Charged {
        match &self.outcome {
            Some(Outcome::Answered(answer)) if answer.status.is_success() => {
                let cost = prices.cost(&self.line.request(), &answer.body);
                cost.map_or(Charged::Untold, Charged::Told)
            }
            Some(Outcome::Answered(_)) => Charged::Nothing,
            Some(Outcome::Failed(..)) if self.timing.sent.is_some() => Charged::Untold,
            Some(Outcome::Failed(..)) | None => Charged::Nothing,
        }
    }
}

fn judged(judge: Option<&Judge>, outcome: &Outcome, record: Record) -> Came {
    let no_headers = HeaderMap::new();
    let judgement = match (outcome.failed(&record, &no_headers), judge) {
        (None, _) => return Came::Answer(record),
        (Some(_), None) => Judgement::Failed,
        (Some(failed), Some(judge)) => judge(&failed),
    };
    Came::Failure(record, judgement)
}

impl Back {
    /// What came of it since it was handed out this time.
    pub(crate) fn round(&self) -> Option<Round> {
        self.tracker.round()
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
    pub(crate) fn finish(self, record: Option<Record>) -> Resolved {
        Resolved {
            waited: self.tracker.sent().map(|(_, waited)| waited),
            _share: self.share,
            ..Resolved::new(&self.line, self.elapsed, record)
        }
    }
}

impl Resolved {
    pub(crate) fn new(line: &Line, elapsed: Duration, record: Option<Record>) -> Self {
        Self {
            request: line.name(),
            bytes: line.body.len(),
            elapsed,
            waited: None,
            record,
            _share: None,
        }
    }

    /// The length of the line for it.
    pub(crate) fn bytes_to_write(&self) -> usize {
        self.record.as_ref().map_or(0, |record| record.text.len())
    }

    /// Whether an answer came, good or not.
    pub(crate) fn is_answered(&self) -> bool {
        self.record
            .as_ref()
            .is_some_and(|record| record.status.is_some())
    }

    /// The number of its line.
    pub(crate) fn line(&self) -> u64 {
        self.request.line
    }

    /// What is told of it, once its line is saved or known to be lost.
    pub(crate) fn event(self, saved: bool) -> Event {
        let (request, elapsed) = (self.request, self.elapsed);
        let Some(record) = self.record else {
            return Event::Withdrawn(request);
        };
        if !saved {
            return Event::Unwritten(request);
        }
        match (record.failure, record.status) {
            (None, Some(status)) => Event::Finished {
                request,
                status,
                tokens: record.tokens,
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

/// What a task of a run's own came to.
pub(crate) fn joined<T>(finished: Result<T, JoinError>) -> T {
    match finished {
        Ok(finished) => finished,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Nobody else can cancel a task of the run's own set.
            Err(_) => panic!("the runtime was shut down while a batch ran in it"),
        },
    }
}
