//! A batch: the service it goes through, and how it is to run.

use std::fmt;
use std::sync::Arc;

use http::Uri;
use tokio::time::{Duration, Instant};

use crate::event::{Event, Observer};
use crate::money::Money;
use crate::output::completed::Done;
use crate::run::events::Events;
use crate::run::judge::{Failed, Judge, Judgement};
use crate::run::settings::Settings;
use crate::run::spending::Prices;
use crate::run::stop::Stop;

/// Sends the requests of a JSONL file through a service and records the
/// answers.
///
/// `S` is any `tower` service from `http::Request<Bytes>` to a `http::Response`.
/// Each request is sent through a clone of it. The runner limits nothing but
/// its own memory: how fast requests leave is the service's affair.
///
/// # Cloning
///
/// Clones share the observer of events and the [`Stop`]: one handle stops the
/// runs of all. Settings are each clone's own.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::Batch;
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let batch = Batch::new(service).look_ahead(8).ordered(true);
/// let input = r#"{"model":"gpt-4o","messages":[]}"#;
/// let mut output = Vec::new();
/// let summary = batch
///     .run(input.as_bytes(), &mut output, tokio::io::sink())
///     .await?;
/// assert!(summary.is_complete());
/// assert!(String::from_utf8(output)?.contains(r#""custom_id":"line-1""#));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Batch<S> {
    pub(crate) service: S,
    pub(crate) settings: Settings,
    pub(crate) done: Done,
    pub(crate) stop: Stop,
    pub(crate) observer: Observer,
    pub(crate) judge: Option<Judge>,
    pub(crate) prices: Option<Arc<dyn Prices>>,
    pub(crate) url: Option<Uri>,
}

impl<S> Batch<S> {
    /// A runner through `service`.
    pub fn new(service: S) -> Self {
        Self {
            service,
            settings: Settings::default(),
            done: Done::new(),
            stop: Stop::new(),
            observer: Arc::new(|_| {}),
            judge: None,
            prices: None,
            url: None,
        }
    }

    /// How many requests may be in the service's hands at once, waiting there
    /// or under way. Default: 64.
    ///
    /// It must be at least what the service can work on at once. A service
    /// that refuses to let more than so many wait needs a lower number.
    ///
    /// # Panics
    ///
    /// When `requests` is 0: nothing could ever be sent.
    #[must_use]
    pub fn look_ahead(mut self, requests: usize) -> Self {
        assert!(requests > 0, "a batch must look at least one request ahead");
        self.settings.look_ahead = requests;
        self
    }

    /// How many bytes of request bodies may be in the service's hands before no
    /// further line is read. One line is always allowed. Default: 64 MiB.
    #[must_use]
    pub fn look_ahead_bytes(mut self, bytes: usize) -> Self {
        self.settings.look_ahead_bytes = bytes;
        self
    }

    /// The longest line of input, in bytes; a longer one is a bad line.
    /// Default: 16 MiB.
    #[must_use]
    pub fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_line_bytes = bytes;
        self
    }

    /// The longest body of an answer, in bytes; a request with a longer one
    /// fails with `response_too_large`. Default: 128 MiB.
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_body_bytes = bytes;
        self
    }

    /// Where lines go that are a request's body and nothing else. Unless set,
    /// `messages`, `prompt` and `input` tell the endpoint, and for the last the
    /// name of the model. Such a line is known as `line-` and its number.
    #[must_use]
    pub fn url(mut self, url: Uri) -> Self {
        self.url = Some(url);
        self
    }

    /// Whether answers are written in the order of the input. Those that come
    /// early are kept until their turn; they count as looked ahead, so that one
    /// slow request holds up no more than [`look_ahead`](Self::look_ahead)
    /// others, and memory stays bounded. Default: `false`, as they finish.
    #[must_use]
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.settings.ordered = ordered;
        self
    }

    /// Asks `judge` whose fault each failure is: [`Judgement`] says what follows of
    /// it. Without a judge every failure is the request's own, and is written.
    ///
    /// With one, the run waits while the provider is away or overloaded: nothing
    /// is sent but one probe at a time, 1 s to 30 s apart, until one is answered,
    /// and no request fails for it. [`Event::Outage`] tells since when and why.
    /// Where a [`SentLayer`](crate::SentLayer) marks what leaves, what waits in the
    /// service is called back meanwhile, an outage is seen before any request has
    /// used up its attempts, and a probe is one attempt.
    ///
    /// It must be quick, and is called from several threads at once.
    #[must_use]
    pub fn judge(
        mut self,
        judge: impl Fn(&Failed<'_>) -> Judgement + Send + Sync + 'static,
    ) -> Self {
        self.judge = Some(Arc::new(judge));
        self
    }

    /// How many attempts of a request must have failed while others were answered
    /// before its failure is written, where the [judge](Self::judge) cannot tell
    /// whose fault it is: as many as the service makes. They are counted where a
    /// [`SentLayer`](crate::SentLayer) stands; elsewhere each time that the
    /// service gives it back counts as one. Default: 5.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.settings.attempts = attempts;
        self
    }

    /// How long an outage is waited for before the run is given up, to be resumed.
    /// Needs a [`judge`](Self::judge). Default: for ever.
    #[must_use]
    pub fn give_up_after(mut self, outage: Duration) -> Self {
        self.settings.patience.outage = Some(outage);
        self
    }

    /// How long an outage is waited for where nothing has been answered yet: the
    /// address may be wrong. Needs a [`judge`](Self::judge). Default: 60 s.
    #[must_use]
    pub fn first_answer_within(mut self, time: Duration) -> Self {
        self.settings.patience.first_answer = time;
        self
    }

    /// About how many bytes of answers may be in hand at once, from their first
    /// byte until they are written. Where they are full, only the first of the
    /// answers, in the order of the lines, is read on; and where answers are
    /// long, fewer requests are taken at once. Default: 256 MiB.
    #[must_use]
    pub fn answer_bytes(mut self, bytes: usize) -> Self {
        self.settings.answer_bytes = bytes;
        self
    }

    /// Gives the run up when more than this share of its requests has failed,
    /// counted from the twentieth on. Those that failed are written, and are not
    /// sent again unless asked. Default: never.
    ///
    /// # Panics
    ///
    /// When `share` is not between 0 and 1.
    #[must_use]
    pub fn max_failures(mut self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "a share is between 0 and 1");
        self.settings.max_failures = Some(share);
        self
    }

    /// Reckons what the run costs: [`Summary::cost`](crate::Summary::cost).
    #[must_use]
    pub fn prices(mut self, prices: impl Prices + 'static) -> Self {
        self.prices = Some(Arc::new(prices));
        self
    }

    /// Hands out no request whose estimate does not fit beside what was spent and the
    /// estimates of what is handed out already; where none is left that could make
    /// room, the run ends, and a later run sends the rest. So no more is spent, unless
    /// an answer costs more than its estimate, or a request is paid for more than
    /// once: the provider charges an attempt whose answer never came. Of this run
    /// alone; needs [`prices`](Self::prices), and a [`SentLayer`](crate::SentLayer) to
    /// know what was sent when no answer came. Default: none.
    #[must_use]
    pub fn cost_limit(mut self, limit: Money) -> Self {
        self.settings.cost_limit = Some(limit);
        self
    }

    /// Ends the run at this instant: nothing is sent from then on, for the first
    /// time or again; what waits in the service is called back, what is under way
    /// is finished and written. A later run sends the rest. Where no
    /// [`SentLayer`](crate::SentLayer) marks what is under way, all is called back.
    /// Default: none.
    ///
    /// [`Summary::ended_by`](crate::Summary::ended_by) tells that it was reached.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::StaggerLayer;
    /// use tollhouse_batch::{Batch, EndedBy, SentLayer};
    /// use tower::Layer;
    /// # let transport = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// let service = StaggerLayer::new(Duration::from_secs(15)).layer(SentLayer.layer(transport));
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(100);
    /// let batch = Batch::new(service).deadline(Instant::now() + Duration::from_secs(50));
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// // At 0, 15, 30 and 45 s.
    /// assert_eq!(summary.ok, 4);
    /// assert_eq!(summary.ended_by, Some(EndedBy::Deadline));
    /// assert_eq!(summary.elapsed, Duration::from_secs(50));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn deadline(mut self, at: Instant) -> Self {
        self.settings.deadline = Some(at);
        self
    }

    /// Leaves out what earlier runs have answered.
    #[must_use]
    pub fn resume(mut self, done: Done) -> Self {
        self.done = done;
        self
    }

    /// Whether a run that stops calls back the requests that wait in the
    /// service, for their first attempt or for another one, rather than wait with
    /// them. Needs a [`SentLayer`](crate::SentLayer) around the transport: without
    /// one no request is known to be sent, and all are called back. Default:
    /// `false`.
    #[must_use]
    pub fn withdraw_unsent(mut self, withdraw: bool) -> Self {
        self.settings.withdraw_unsent = withdraw;
        self
    }

    /// Tells `observer` what happens, instead of whom was told before.
    ///
    /// It is called where things happen, also from several threads at once,
    /// and must be quick. For a stream see [`events`](Self::events).
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// What happens, as a stream: instead of an
    /// [`on_event`](Self::on_event), for whoever would rather take than be told.
    pub fn events(&mut self) -> Events {
        let (sender, events) = tokio::sync::mpsc::unbounded_channel();
        self.observer = Arc::new(move |event| {
            // The receiver may have seen enough.
            let _ = sender.send(event);
        });
        Events { events }
    }

    /// A handle that stops the run.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }
}

impl<S> fmt::Debug for Batch<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("settings", &self.settings)
            .field("done", &self.done)
            .field("stop", &self.stop)
            .finish_non_exhaustive()
    }
}
