//! The runner's settings.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::done::Done;
use crate::error::Error;
use crate::event::{Event, Observer};
use crate::input::MAX_LINE_BYTES;
use crate::run;
use crate::stop::Stop;
use crate::summary::Summary;

const LOOK_AHEAD: usize = 64;
const LOOK_AHEAD_BYTES: usize = 64 * 1024 * 1024;
/// The answer to an embeddings request of 2,048 texts takes about 70 MB.
const MAX_BODY_BYTES: usize = 128 * 1024 * 1024;

/// Sends the requests of a JSONL file through a service and records the
/// answers.
///
/// `S` is any `tower` service from `http::Request<Bytes>` to a `http::Response`.
/// Each request is sent through a clone of it. The runner limits nothing but
/// its own memory: how fast requests leave is the service's affair.
///
/// See the [crate's example](crate#examples).
#[derive(Clone)]
pub struct Batch<S> {
    pub(crate) service: S,
    pub(crate) settings: Settings,
    pub(crate) done: Done,
    pub(crate) stop: Stop,
    pub(crate) observer: Observer,
}

/// The numbers of a run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) look_ahead: usize,
    pub(crate) look_ahead_bytes: usize,
    pub(crate) max_line_bytes: usize,
    pub(crate) max_body_bytes: usize,
    pub(crate) withdraw_unsent: bool,
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
            },
            done: Done::new(),
            stop: Stop::new(),
            observer: Arc::new(|_| {}),
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

    /// How many bytes of input lines may be in the service's hands before no
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

    /// Leaves out what earlier runs have answered.
    #[must_use]
    pub fn resume(mut self, done: Done) -> Self {
        self.done = done;
        self
    }

    /// Whether a run that stops calls back the requests that wait in the
    /// service, rather than wait with them. Needs a
    /// [`SentLayer`](crate::SentLayer) around the transport: without one no
    /// request is known to be sent, and all are called back. Default: `false`.
    #[must_use]
    pub fn withdraw_unsent(mut self, withdraw: bool) -> Self {
        self.settings.withdraw_unsent = withdraw;
        self
    }

    /// Tells `observer` what happens, instead of whom was told before.
    ///
    /// It is called where things happen, also from several threads at once,
    /// and must be quick. For a stream of events let it send into a channel:
    ///
    /// ```
    /// # use tollgate_batch::Batch;
    /// # let service = ();
    /// let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    /// let batch = Batch::new(service).on_event(move |event| {
    ///     // The receiver may have seen enough.
    ///     let _ = sender.send(event);
    /// });
    /// ```
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// A handle that stops the run.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Runs the lines of `input` and writes each answer as one line, in the
    /// order of finishing: those with a status of success to `output`, all
    /// others to `errors`. Both writers are flushed, not shut down.
    ///
    /// A request that gets no answer has a line with the code
    /// `request_failed` (the service's error), `response_failed` (the answer
    /// broke off) or `response_too_large`.
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
        run::run(self, input, output, errors).await
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
