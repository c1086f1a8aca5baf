//! The runner's settings.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Duration;
use tower_service::Service;

use crate::error::Error;
use crate::event::{Event, Observer};
use crate::input::MAX_LINE_BYTES;
use crate::output::completed::Done;
use crate::run::events::Events;
use crate::run::files;
use crate::run::health::Patience;
use crate::run::judge::{Failed, Judge, Judgement};
use crate::run::stop::Stop;
use crate::run::stream::{Answers, Ask};
use crate::summary::Summary;

const LOOK_AHEAD: usize = 64;
const LOOK_AHEAD_BYTES: usize = 64 * 1024 * 1024;
/// The answer to an embeddings request of 2,048 texts takes about 70 MB.
const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;
const ANSWER_BYTES: usize = 256 * 1024 * 1024;
const ATTEMPTS: u32 = 5;
const FIRST_ANSWER: Duration = Duration::from_secs(60);

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
    pub(crate) url: Option<Uri>,
}

/// The numbers of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) look_ahead: usize,
    pub(crate) look_ahead_bytes: usize,
    pub(crate) max_line_bytes: usize,
    pub(crate) max_body_bytes: usize,
    pub(crate) withdraw_unsent: bool,
    pub(crate) ordered: bool,
    pub(crate) answer_bytes: usize,
    pub(crate) attempts: u32,
    pub(crate) patience: Patience,
    pub(crate) max_failures: Option<f64>,
}

impl<S> Batch<S> {
    /// A runner through `service`.
    pub fn new(service: S) -> Self {
        Self {
            service,
            settings: Settings {
                look_ahead: LOOK_AHEAD,
                look_ahead_bytes: LOOK_AHEAD_BYTES,
                max_line_bytes: MAX_LINE_BYTES,
                max_body_bytes: MAX_BODY_BYTES,
                withdraw_unsent: false,
                ordered: false,
                answer_bytes: ANSWER_BYTES,
                attempts: ATTEMPTS,
                patience: Patience {
                    outage: None,
                    first_answer: FIRST_ANSWER,
                },
                max_failures: None,
            },
            done: Done::new(),
            stop: Stop::new(),
            observer: Arc::new(|_| {}),
            judge: None,
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

    /// Sends a stream of requests and gives their answers as a stream, in the
    /// order of finishing: a batch for programs, with neither lines nor files.
    ///
    /// [`look_ahead`](Self::look_ahead), [`max_body_bytes`](Self::max_body_bytes),
    /// [`resume`](Self::resume), [`withdraw_unsent`](Self::withdraw_unsent) and
    /// [`stop_handle`](Self::stop_handle) hold as for [`run`](Self::run); of the
    /// events only [`Event::Sent`] is told. Nothing is read ahead unless the
    /// stream of answers is polled.
    ///
    /// # Cancellation
    ///
    /// Dropping the stream drops every request under way.
    ///
    /// # Panics
    ///
    /// Polling panics when the service does, or outside of a tokio runtime.
    pub fn answers<I>(self, requests: I) -> Answers<S, I>
    where
        I: futures_core::Stream<Item = Ask>,
    {
        Answers::new(self, requests)
    }

    /// A handle that stops the run.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

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
    /// line written is torn then; [`Done::open`] repairs it. A write that has
    /// begun goes on in the background until the runtime has shut down: within
    /// one process, open the file again only after that, or end the run with
    /// [`stop_handle`](Self::stop_handle) instead.
    ///
    /// # Panics
    ///
    /// When the service panics, or outside of a tokio runtime.
    pub async fn run<R, W, X, B>(self, input: R, output: W, errors: X) -> Result<Summary, Error>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
        X: AsyncWrite + Unpin,
        S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<Box<dyn StdError + Send + Sync>> + Send,
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        files::run(self, input, output, errors).await
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
