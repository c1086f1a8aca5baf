//! The run itself: one loop that reads, hands to the service, and records.

use std::error::Error as StdError;
use std::io;
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
use crate::error::Error;
use crate::event::{Event, Observer};
use crate::hopeless::Hopeless;
use crate::input::{Input, Item};
use crate::journal::Journal;
use crate::line::Line;
use crate::order::Order;
use crate::stop::Stop;
use crate::summary::Summary;
use crate::task::{Finished, Task};
use crate::ticket::Ticket;

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
    let mut stopped = batch.stop.listen();
    let (ids, max_bytes) = (batch.done.ids, batch.settings.max_line_bytes);
    let mut input = Input::new(input, ids, max_bytes, batch.url);
    let mut run = Run {
        service: batch.service,
        settings: batch.settings,
        observer: batch.observer,
        stop: batch.stop,
        hopeless: batch.hopeless,
        order: batch.settings.ordered.then(Order::default),
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
    hopeless: Hopeless,
    /// Where answers are written in the order of the input.
    order: Option<Order>,
    journal: Journal<W, X>,
    /// Tasks of their own, so that they go on while a line is being written,
    /// and whatever they hold in the service is never held for longer.
    in_flight: JoinSet<Finished>,
    /// The length of their bodies in the input.
    bytes_in_flight: usize,
    /// Whether further lines are wanted.
    reading: bool,
    /// Whether the stop was heard.
    stopping: bool,
    unreadable: Option<Error>,
    summary: Summary,
}

impl<S, W, X> Run<S, W, X> {
    fn is_busy(&self) -> bool {
        self.reading || !self.in_flight.is_empty()
    }

    fn has_room(&self) -> bool {
        let held = self.order.as_ref().map_or(0, Order::held);
        self.reading
            && self.in_flight.len() + held < self.settings.look_ahead
            && (self.in_flight.is_empty() || self.bytes_in_flight < self.settings.look_ahead_bytes)
    }

    /// The end of the input may have been seen already; then only a request
    /// that is called back makes the run incomplete.
    fn interrupt(&mut self) {
        self.stopping = true;
        self.summary.interrupted |= mem::take(&mut self.reading);
        self.tell_stopping();
    }

    fn give_up_reading(&mut self, line: u64, error: io::Error) {
        self.reading = false;
        self.unreadable = Some(Error::read("the input", line, error));
        self.tell_stopping();
    }

    fn tell_stopping(&mut self) {
        let in_flight = self.in_flight.len();
        tracing::debug!(in_flight, "the batch stops");
        self.tell(Event::Stopping { in_flight });
    }

    fn tell(&mut self, event: Event) {
        self.summary.count(&event);
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
        match item {
            Item::Request(line) => self.start(line),
            Item::Answered(request) => self.tell(Event::Skipped(request)),
            Item::Bad(bad) => {
                tracing::debug!(%bad, "bad line");
                self.tell(Event::BadLine(bad));
            }
        }
    }

    fn start(&mut self, line: Line) {
        self.tell(Event::Started(line.name()));
        let span = tracing::debug_span!("line", line = line.number, custom_id = &*line.custom_id);
        let task = Task {
            judge: self.hopeless.judge.clone(),
            ticket: Ticket::new(line.name(), &self.observer),
            stopped: self.settings.withdraw_unsent.then(|| self.stop.listen()),
            max_body_bytes: self.settings.max_body_bytes,
            line,
        };
        self.bytes_in_flight += task.bytes();
        if let Some(order) = &mut self.order {
            order.start(task.line.number);
        }
        let finished = task.run(self.service.clone());
        self.in_flight.spawn(finished.instrument(span));
    }

    /// Records a request that is over, and with it all others that are.
    async fn record(&mut self, first: Result<Finished, JoinError>) {
        let mut group = vec![unwrap(first)];
        while let Some(next) = self.in_flight.try_join_next() {
            group.push(unwrap(next));
        }
        let group = self.turns(group);
        for finished in &group {
            self.bytes_in_flight -= finished.bytes;
            if let Some(written) = &finished.written {
                self.journal.push(written);
            }
        }
        let saved = self.journal.commit().await;
        if !saved {
            // Nothing that is sent from now on could be kept.
            self.stop.stop();
        }
        let mut hopeless = None;
        for mut finished in group {
            hopeless = hopeless.or(finished.hopeless.take());
            self.tell(finished.event(saved));
        }
        let too_many = || self.hopeless.too_many(&self.summary);
        if let Some(reason) = hopeless.or_else(|| too_many().filter(|_| self.is_busy())) {
            self.give_up(&reason);
        }
    }

    /// Those whose turn it is to be written.
    fn turns(&mut self, group: Vec<Finished>) -> Vec<Finished> {
        let Some(order) = &mut self.order else {
            return group;
        };
        for finished in group {
            order.finish(finished);
        }
        std::iter::from_fn(|| order.next()).collect()
    }

    fn give_up(&mut self, reason: &str) {
        if self.summary.gave_up.is_none() {
            let reason = reason.into();
            self.tell(Event::GivingUp { reason });
            self.stop.stop();
        }
    }

    fn end(mut self, elapsed: Duration) -> Result<Summary, Error> {
        self.summary.elapsed = elapsed;
        match self.journal.into_failure().or(self.unreadable) {
            Some(error) => Err(error.after(self.summary)),
            None => Ok(self.summary),
        }
    }
}

/// What a task of a run's own came to.
pub(crate) fn unwrap<T>(finished: Result<T, JoinError>) -> T {
    match finished {
        Ok(finished) => finished,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            // Nobody else can cancel a task of the run's own set.
            Err(_) => panic!("the runtime was shut down while a batch ran in it"),
        },
    }
}
