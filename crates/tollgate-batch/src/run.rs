//! The run itself: one loop that reads, hands to the service, and records.

use std::error::Error as StdError;
use std::mem;
use std::panic::resume_unwind;

use bytes::Bytes;
use http::Response;
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Duration, Instant};
use tower_service::Service;
use tracing::Instrument;

use crate::batch::{Batch, Settings};
use crate::call::call;
use crate::error::Error;
use crate::event::{Event, Observer, Request};
use crate::input::{Input, Item};
use crate::journal::Journal;
use crate::line::Line;
use crate::outcome::Written;
use crate::sent::Ticket;
use crate::stop::{Stop, Stopped};
use crate::summary::Summary;

/// Runs a batch to its end.
pub(crate) async fn run<S, R, W, X, B>(
    batch: Batch<S>,
    input: R,
    output: W,
    errors: X,
) -> Result<Summary, Error>
where
    R: AsyncRead + Unpin,
    W: AsyncWrite + Unpin,
    X: AsyncWrite + Unpin,
    S: Service<http::Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn StdError + Send + Sync>> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    let started = Instant::now();
    let mut input = Input::new(input, batch.done.ids, batch.settings.max_line_bytes);
    let mut stopped = batch.stop.listen();
    let mut run = Run {
        service: batch.service,
        settings: batch.settings,
        observer: batch.observer,
        stop: batch.stop,
        journal: Journal::new(output, errors),
        in_flight: JoinSet::new(),
        bytes_in_flight: 0,
        reading: true,
        stopping: false,
        unreadable: None,
        summary: Summary::default(),
    };
    loop {
        // In this order, so that a stop is heard first, and so that many
        // answers are there together when it is their turn to be written.
        tokio::select! {
            biased;
            () = stopped.wait(), if run.is_busy() && !run.stopping => run.interrupt(),
            item = input.next(), if run.has_room() => match item {
                Ok(Some(item)) => run.take(item),
                Ok(None) => run.reading = false,
                Err(error) => run.give_up_reading(input.line_number(), error),
            },
            Some(finished) = run.in_flight.join_next() => run.record(finished).await,
            else => return run.end(started.elapsed()),
        }
    }
}

struct Run<S, W, X> {
    service: S,
    settings: Settings,
    observer: Observer,
    stop: Stop,
    journal: Journal<W, X>,
    /// Tasks of their own, so that they go on while a line is being written,
    /// and whatever they hold in the service is never held for longer.
    in_flight: JoinSet<Finished>,
    /// The length of the lines in flight.
    bytes_in_flight: usize,
    /// Whether further lines are wanted.
    reading: bool,
    /// Whether the stop was heard.
    stopping: bool,
    unreadable: Option<Error>,
    summary: Summary,
}

/// A request that is over.
struct Finished {
    request: Request,
    line_bytes: usize,
    elapsed: Duration,
    /// `None` where the request was called back.
    written: Option<Written>,
}

impl<S, W, X> Run<S, W, X> {
    fn has_room(&self) -> bool {
        self.reading
            && self.in_flight.len() < self.settings.look_ahead
            && (self.in_flight.is_empty() || self.bytes_in_flight < self.settings.look_ahead_bytes)
    }

    fn is_busy(&self) -> bool {
        self.reading || !self.in_flight.is_empty()
    }

    /// The end of the input may have been seen already; then only a request
    /// that is called back makes the run incomplete.
    fn interrupt(&mut self) {
        self.stopping = true;
        self.summary.interrupted |= mem::take(&mut self.reading);
        self.tell_stopping();
    }

    fn give_up_reading(&mut self, line: u64, error: std::io::Error) {
        self.reading = false;
        self.unreadable = Some(Error::read("the input", line, error));
        self.tell_stopping();
    }

    fn tell_stopping(&self) {
        let in_flight = self.in_flight.len();
        tracing::debug!(in_flight, "the batch stops");
        self.tell(Event::Stopping { in_flight });
    }

    fn tell(&self, event: Event) {
        (self.observer)(event);
    }
}

impl<S, W, X, B> Run<S, W, X>
where
    W: AsyncWrite + Unpin,
    X: AsyncWrite + Unpin,
    S: Service<http::Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<Box<dyn StdError + Send + Sync>> + Send,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn StdError + Send + Sync>>,
{
    fn take(&mut self, item: Item) {
        self.summary.total += 1;
        match item {
            Item::Request(line) => self.start(line),
            Item::Answered { line, custom_id } => {
                self.summary.skipped += 1;
                self.tell(Event::Skipped(Request { line, custom_id }));
            }
            Item::Bad(bad) => {
                self.summary.bad_lines += 1;
                tracing::debug!(%bad, "bad line");
                self.tell(Event::BadLine(bad));
            }
        }
    }

    fn start(&mut self, line: Line) {
        let request = Request {
            line: line.number,
            custom_id: line.custom_id.clone(),
        };
        self.tell(Event::Started(request.clone()));
        let span = tracing::debug_span!("line", line = line.number, custom_id = &*line.custom_id);
        let task = Task {
            line_bytes: line.body.len(),
            ticket: Ticket::new(request.clone(), self.observer.clone()),
            stopped: self.settings.withdraw_unsent.then(|| self.stop.listen()),
            max_body_bytes: self.settings.max_body_bytes,
            request,
            line,
        };
        self.bytes_in_flight += task.line_bytes;
        let finished = task.run(self.service.clone());
        self.in_flight.spawn(finished.instrument(span));
    }

    /// Records a request that is over, and with it all others that are.
    async fn record(&mut self, first: Result<Finished, JoinError>) {
        let mut group = vec![unwrap(first)];
        while let Some(next) = self.in_flight.try_join_next() {
            group.push(unwrap(next));
        }
        for finished in &group {
            self.bytes_in_flight -= finished.line_bytes;
            if let Some(written) = &finished.written {
                self.journal.push(written);
            }
        }
        let saved = self.journal.commit().await;
        if !saved {
            // Nothing that is sent from now on could be kept.
            self.stop.stop();
        }
        for finished in group {
            self.count(finished, saved);
        }
    }

    fn count(&mut self, finished: Finished, saved: bool) {
        let request = finished.request;
        let elapsed = finished.elapsed;
        let Some(written) = finished.written else {
            self.summary.withdrawn += 1;
            self.summary.interrupted = true;
            return self.tell(Event::Withdrawn(request));
        };
        self.summary.tokens += written.tokens.unwrap_or(0);
        let event = match (written.failure, written.status) {
            _ if !saved => {
                self.summary.unwritten += 1;
                Event::Unwritten(request)
            }
            (None, Some(status)) => {
                self.summary.ok += 1;
                Event::Finished {
                    request,
                    status,
                    tokens: written.tokens,
                    elapsed,
                }
            }
            (failure, status) => {
                self.summary.failed += 1;
                let (code, message) = failure.map(|f| (f.code, f.message)).unwrap_or_default();
                Event::Failed {
                    request,
                    status,
                    code: code.into_owned(),
                    message,
                    elapsed,
                }
            }
        };
        self.tell(event);
    }

    fn end(mut self, elapsed: Duration) -> Result<Summary, Error> {
        self.summary.elapsed = elapsed;
        let summary = mem::take(&mut self.summary);
        match self.journal.into_failure().or(self.unreadable) {
            Some(error) => Err(error.after(summary)),
            None => Ok(summary),
        }
    }
}

/// One request on its way.
struct Task {
    line: Line,
    line_bytes: usize,
    request: Request,
    ticket: Ticket,
    /// Set where the request may be called back.
    stopped: Option<Stopped>,
    max_body_bytes: usize,
}

impl Task {
    async fn run<S, B>(self, service: S) -> Finished
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
            written: outcome.map(|outcome| outcome.write(&self.request.custom_id)),
            request: self.request,
            line_bytes: self.line_bytes,
            elapsed: started.elapsed(),
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

fn unwrap(finished: Result<Finished, JoinError>) -> Finished {
    match finished {
        Ok(finished) => finished,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Nobody else can cancel a task of the run's own set.
            Err(_) => panic!("the runtime was shut down while a batch ran in it"),
        },
    }
}
