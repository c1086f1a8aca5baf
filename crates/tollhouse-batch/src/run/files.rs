//! A run from file to file: one loop that reads, hands to the service, and
//! records.

use std::io;
use std::mem;
use std::sync::Arc;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Duration, Instant, sleep_until};
use tracing::Instrument;

use crate::error::Error;
use crate::event::{EndedBy, Event, Observer};
use crate::input::line::Line;
use crate::input::{Input, Item};
use crate::output::journal::Journal;
use crate::output::order::Order;
use crate::run::batch::Batch;
use crate::run::health::Health;
use crate::run::judge::Judge;
use crate::run::latencies::Latencies;
use crate::run::max_failures::too_many;
use crate::run::parked::{Parked, Parking};
use crate::run::request::client::Client;
use crate::run::request::recall::Recall;
use crate::run::request::room::Room;
use crate::run::request::task::{Back, Resolved, Task, joined};
use crate::run::settings::Settings;
use crate::run::spending::Spending;
use crate::run::stop::Stop;
use crate::summary::Summary;

/// No more than this is written at once, but for the last line of it.
const WRITTEN_TOGETHER: usize = 4 * 1024 * 1024;

impl<S> Batch<S> {
    /// Runs the lines of `input` and writes each answer as one line, in the
    /// order of finishing or as [`ordered`](Self::ordered): those with a status
    /// of success to `output`, all others to `errors`. Both writers are flushed,
    /// not shut down. An input packed with gzip is unpacked.
    ///
    /// A request that gets no answer has a line with the code
    /// `request_failed` (the service's error), `response_failed` (the answer
    /// broke off) or `response_too_large`; a success that is no JSON has
    /// `response_not_json`.
    ///
    /// Beside the Batch API's fields each line has `tollhouse`: how often the
    /// request was sent (`attempts`), from its start to the last time
    /// (`waited_seconds`; both need a [`SentLayer`](crate::SentLayer), and are
    /// null without), until its end (`elapsed_seconds`), `tokens` and
    /// `request_id`.
    ///
    /// # Errors
    ///
    /// [`Error`] when the input cannot be read or a line cannot be written.
    /// Before it returns, the run waits for what is under way, and writes it
    /// or hands it back in the error.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops every request under way. At most the last
    /// line written is torn then; [`Done::open`](crate::Done::open) repairs it. A write that has
    /// begun goes on in the background until the runtime has shut down: within
    /// one process, open the file again only after that, or end the run with
    /// [`stop_handle`](Self::stop_handle) instead.
    ///
    /// # Panics
    ///
    /// When the service panics, or outside of a tokio runtime.
    pub async fn run<R, W, X>(mut self, input: R, output: W, errors: X) -> Result<Summary, Error>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        X: AsyncWrite + Unpin,
        S: Client,
    {
        let started = Instant::now();
        let mut stopped = self.stop.listen();
        let (done, max_bytes) = (
            mem::take(&mut self.done).into_parts(),
            self.settings.max_line_bytes,
        );
        let mut input = Input::new(input, done, max_bytes, self.url.clone());
        let mut run = Run::new(self, output, errors);
        let pulse = run.health.pulse.clone();
        let deadline = run.settings.deadline;
        loop {
            if !run.stopping {
                run.try_unaffordable().await;
            }
            run.hand_out(Instant::now());
            let alarm = run.alarm();
            // In this order, so that a stop is heard first, and so that many
            // answers are there together when it is their turn to be written.
            tokio::select! {
                biased;
                () = stopped.wait(), if run.is_busy() && !run.stopping => run.interrupt().await,
                () = until(deadline), if deadline.is_some() && run.is_busy() && !run.stopping => {
                    run.end_early(EndedBy::Deadline).await;
                }
                item = input.next(), if run.has_room() => match item {
                    Ok(Some(item)) => run.take(item),
                    Ok(None) => run.reading = false,
                    Err(error) => run.give_up_reading(input.line_number(), error),
                },
                Some(back) = run.in_flight.join_next() => run.record(back).await,
                () = pulse.next_failed(), if run.waits_out() => run.look_at_silence(),
                () = until(alarm), if alarm.is_some() => run.look_at_clock(),
                else => return run.end(started.elapsed()),
            }
        }
    }
}

/// Makes its timer only when it is waited for: most runs need none, not even a
/// runtime that has timers.
async fn until(alarm: Option<Instant>) {
    match alarm {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

pub(crate) struct Run<S, W, X> {
    service: S,
    pub(crate) settings: Settings,
    observer: Observer,
    stop: Stop,
    judge: Option<Judge>,
    /// Where answers are written in the order of the input.
    order: Option<Order<Resolved>>,
    journal: Journal<W, X>,
    /// Tasks of their own, so that they go on while a line is being written,
    /// and whatever they hold in the service is never held for longer.
    pub(crate) in_flight: JoinSet<Back>,
    /// The length of the bodies, in the input, of what is in hand.
    bytes_in_flight: usize,
    /// What the answers take.
    room: Arc<Room>,
    /// What is to be sent again.
    pub(crate) parking: Parking,
    pub(crate) health: Health,
    pub(crate) recall: Recall,
    /// Whether further lines are wanted.
    reading: bool,
    /// Whether the stop was heard.
    pub(crate) stopping: bool,
    unreadable: Option<Error>,
    spending: Option<Spending>,
    /// What was read and does not fit the cost limit now.
    unaffordable: Option<Parked>,
    latencies: Latencies,
    pub(crate) summary: Summary,
}

impl<S, W, X> Run<S, W, X>
where
    W: AsyncWrite + Unpin,
    X: AsyncWrite + Unpin,
{
    fn new(batch: Batch<S>, output: W, errors: X) -> Self {
        let settings = batch.settings;
        Self {
            service: batch.service,
            observer: batch.observer,
            stop: batch.stop,
            judge: batch.judge,
            order: settings.ordered.then(Order::default),
            journal: Journal::new(output, errors),
            in_flight: JoinSet::new(),
            bytes_in_flight: 0,
            room: Room::new(settings.answer_bytes),
            parking: Parking::default(),
            health: Health::new(settings.patience),
            recall: Recall::default(),
            reading: true,
            stopping: false,
            unreadable: None,
            spending: (batch.prices).map(|prices| Spending::new(prices, settings.cost_limit)),
            unaffordable: None,
            latencies: Latencies::new(),
            summary: Summary::default(),
            settings,
        }
    }
}

impl<S, W, X> Run<S, W, X> {
    fn is_busy(&self) -> bool {
        self.reading || !self.in_flight.is_empty() || self.has_parked()
    }

    fn has_parked(&self) -> bool {
        !self.parking.is_empty() || self.unaffordable.is_some()
    }

    fn has_room(&self) -> bool {
        if self.unaffordable.is_some() {
            return false;
        }
        let open = self.in_flight.len() + self.parking.len();
        match self.health.outage {
            None => self.is_room_beside(open, self.settings.look_ahead),
            // A line is read only to be the next probe.
            Some(_) => !self.parking.has_fresh() && self.may_read_probe(open),
        }
    }

    /// Whether another line could be read to ask with, beside so many in hand. One
    /// more than else, so that there is one beside a single line that fails.
    pub(crate) fn may_read_probe(&self, open: usize) -> bool {
        self.is_room_beside(open, self.settings.look_ahead.saturating_add(1))
    }

    fn is_room_beside(&self, open: usize, most: usize) -> bool {
        let held = self.order.as_ref().map_or(0, Order::held);
        self.reading
            && open + held < most
            && self.room.is_for_one_more(open)
            && (open == 0 || self.bytes_in_flight < self.settings.look_ahead_bytes)
    }

    /// Whether an outage is waited for, if there is one.
    pub(crate) fn waits_out(&self) -> bool {
        self.judge.is_some() && !self.stopping && self.is_busy()
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

    pub(crate) fn tell(&mut self, event: Event) {
        self.summary.count(&event);
        (self.observer)(event);
    }

    pub(crate) fn give_up(&mut self, reason: &str) {
        if self.summary.gave_up.is_none() {
            let reason = reason.into();
            self.tell(Event::GivingUp { reason });
            self.stop.stop();
        }
    }
}

impl<S, W, X> Run<S, W, X>
where
    W: AsyncWrite + Unpin,
    X: AsyncWrite + Unpin,
    S: Client,
{
    fn take(&mut self, item: Item) {
        match item {
            Item::Request(line) => {
                self.tell(Event::Started(line.name()));
                self.bytes_in_flight += line.body.len();
                if let Some(order) = &mut self.order {
                    order.start(line.number);
                }
                let new = Parked::new(line, &self.observer, &self.health.pulse);
                match self.affords(&new.line) {
                    true => self.start(new),
                    false => self.unaffordable = Some(new),
                }
            }
            Item::Answered { request, .. } => self.tell(Event::Skipped(request)),
            Item::Bad(bad) => {
                tracing::debug!(%bad, "bad line");
                self.tell(Event::BadLine(bad));
            }
        }
    }

    /// Whether a request fits the cost limit; then its estimate is reserved.
    fn affords(&mut self, line: &Line) -> bool {
        let spending = self.spending.as_mut();
        spending.is_none_or(|spending| spending.reserve(line.number, &line.request()))
    }

    fn start(&mut self, new: Parked) {
        match self.health.outage {
            None => self.send(new, false),
            Some(_) => self.parking.put(new),
        }
    }

    /// Starts what did not fit the cost limit, if it does now; ends the run where
    /// nothing is left that could make room for it.
    async fn try_unaffordable(&mut self) {
        let Some(new) = self.unaffordable.take() else {
            return;
        };
        if self.affords(&new.line) {
            self.start(new);
            return;
        }
        self.unaffordable = Some(new);
        if self.in_flight.is_empty() && self.parking.is_empty() {
            self.end_early(EndedBy::CostLimit).await;
        }
    }

    /// Hands out what is to be sent again, or as a probe.
    fn hand_out(&mut self, now: Instant) {
        if self.stopping {
            return;
        }
        let Some(outage) = &mut self.health.outage else {
            for parked in self.parking.due(now) {
                self.send(parked, false);
            }
            return;
        };
        if outage.next_probe().is_some_and(|at| at <= now)
            && let Some(parked) = self.parking.next_probe()
        {
            outage.probe_left();
            self.send(parked, true);
        }
    }

    /// Hands a request to the service.
    fn send(&mut self, parked: Parked, probe: bool) {
        let Parked {
            line,
            tracker,
            case,
            ..
        } = parked;
        let span = tracing::debug_span!("line", line = line.number, custom_id = &*line.custom_id);
        let stopped = self.settings.withdraw_unsent.then(|| self.stop.listen());
        let once = probe && !self.health.is_stuck(Instant::now());
        let task = Task {
            recall: self.recall.signal(stopped, once, case.was_cut_short),
            tracker,
            room: self.room.clone(),
            max_body_bytes: self.settings.max_body_bytes,
            line,
        };
        let prices = self
            .spending
            .as_ref()
            .map(|spending| spending.prices.clone());
        let back = task.run(
            self.service.clone(),
            (self.judge.clone(), prices),
            case,
            probe,
        );
        self.in_flight.spawn(back.instrument(span));
    }

    /// Sends nothing more. The end of the input may have been seen already; then
    /// only a request that is called back makes the run incomplete.
    async fn interrupt(&mut self) {
        self.stopping = true;
        self.summary.interrupted |= mem::take(&mut self.reading);
        self.tell_stopping();
        let parked = self.parking.take_all().chain(self.unaffordable.take());
        self.end_all(parked.map(Parked::withdraw).collect()).await;
    }

    /// Sends nothing more, and calls back what is not under way.
    async fn end_early(&mut self, ended_by: EndedBy) {
        self.tell(Event::Ending(ended_by));
        self.recall.ending();
        self.interrupt().await;
    }

    /// Records a request that came back, and with it others that have.
    async fn record(&mut self, first: Result<Back, JoinError>) {
        let mut next = Some(first);
        let (mut group, mut bytes) = (Vec::new(), 0);
        while let Some(back) = next {
            let back = joined(back);
            let (line, charged) = (back.line.number, back.charged);
            let resolved = self.settle(back, Instant::now());
            if let (Some(spending), true) = (&mut self.spending, resolved.is_some()) {
                spending.settle(line, charged);
            }
            bytes += resolved.as_ref().map_or(0, Resolved::bytes_to_write);
            group.extend(resolved);
            next = match bytes < WRITTEN_TOGETHER {
                true => self.in_flight.try_join_next(),
                false => None,
            };
        }
        self.end_all(group).await;
    }

    /// Writes what is over, as far as it is its turn, and tells of it.
    async fn end_all(&mut self, group: Vec<Resolved>) {
        let group = self.turns(group);
        for resolved in &group {
            self.bytes_in_flight -= resolved.bytes;
            if let Some(record) = &resolved.record {
                self.journal.push(record);
            }
        }
        let saved = self.journal.commit().await;
        if !saved {
            // Nothing that is sent from now on could be kept.
            self.stop.stop();
        }
        for resolved in group {
            if saved && resolved.is_answered() {
                self.latencies.add(resolved.waited, resolved.elapsed);
            }
            self.tell(resolved.event(saved));
        }
        let most = self.settings.max_failures;
        if let Some(reason) = too_many(most, &self.summary).filter(|_| self.is_busy()) {
            self.give_up(&reason);
        }
    }

    /// Those whose turn it is to be written.
    fn turns(&mut self, group: Vec<Resolved>) -> Vec<Resolved> {
        let Some(order) = &mut self.order else {
            return group;
        };
        for resolved in group {
            order.finish(resolved.line(), resolved);
        }
        std::iter::from_fn(|| order.next()).collect()
    }

    fn end(mut self, elapsed: Duration) -> Result<Summary, Error> {
        self.summary.elapsed = elapsed;
        self.summary.cost = self.spending.as_ref().map(Spending::spent);
        self.summary.waiting = self.latencies.waiting();
        self.summary.answers = self.latencies.answers();
        if let Some(outage) = &self.health.outage {
            self.summary.outage += outage.since.elapsed();
        }
        match self.journal.into_failure().or(self.unreadable) {
            Some(error) => Err(error.after(self.summary)),
            None => Ok(self.summary),
        }
    }
}
