//! The runner's settings.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body::Body;
use tokio::io::{AsyncRead, AsyncWrite};
use tower_service::Service;

use crate::answers::{Answers, Ask};
use crate::done::Done;
use crate::error::Error;
use crate::event::{Event, Observer};
use crate::events::Events;
use crate::hopeless::{Failed, Hopeless};
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
    pub(crate) hopeless: Hopeless,
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
}

impl<S> Batch<S> {
    /// A runner through `service`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tollhouse_batch::Batch;
    ///
    /// // What the service is handed; it would be a client inside its gates.
    /// let service = tower::service_fn(async |request: Request<Bytes>| {
    ///     assert_eq!(request.method(), "POST");
    ///     assert_eq!(request.uri(), "/v1/chat/completions");
    ///     assert_eq!(request.headers()["content-type"], "application/json");
    ///     Ok::<_, std::io::Error>(Response::new(Full::new(request.into_body())))
    /// });
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// let run = Batch::new(service).run(input.as_bytes(), Vec::new(), Vec::new());
    /// assert_eq!(run.await?.ok, 1);
    /// # Ok(())
    /// # }
    /// ```
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
            },
            done: Done::new(),
            stop: Stop::new(),
            observer: Arc::new(|_| {}),
            hopeless: Hopeless::default(),
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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// // Each of the 20 requests takes a second.
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(20);
    /// let batch = Batch::new(service).look_ahead(5);
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!(summary.elapsed, Duration::from_secs(4));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn look_ahead(mut self, requests: usize) -> Self {
        assert!(requests > 0, "a batch must look at least one request ahead");
        self.settings.look_ahead = requests;
        self
    }

    /// How many bytes of request bodies may be in the service's hands before no
    /// further line is read. One line is always allowed. Default: 64 MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// // Of 32 bytes each: one leaves room below 40 bytes, two leave none.
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(6);
    /// let batch = Batch::new(service).look_ahead_bytes(40);
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!(summary.elapsed, Duration::from_secs(3));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn look_ahead_bytes(mut self, bytes: usize) -> Self {
        self.settings.look_ahead_bytes = bytes;
        self
    }

    /// The longest line of input, in bytes; a longer one is a bad line.
    /// Default: 16 MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::{Batch, Event};
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// let batch = Batch::new(service).max_line_bytes(20).on_event(|event| {
    ///     if let Event::BadLine(bad) = event {
    ///         assert_eq!(
    ///             bad.to_string(),
    ///             "line 1: 32 bytes long; at most 20 are allowed"
    ///         );
    ///     }
    /// });
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!((summary.ok, summary.bad_lines), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_line_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_line_bytes = bytes;
        self
    }

    /// The longest body of an answer, in bytes; a request with a longer one
    /// fails with `response_too_large`. Default: 128 MiB.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from(" ".repeat(2_000)));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// // The service answers 2,000 bytes.
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// let mut errors = Vec::new();
    /// let batch = Batch::new(service).max_body_bytes(1_000);
    /// let summary = batch.run(input.as_bytes(), Vec::new(), &mut errors).await?;
    /// assert_eq!(summary.failed, 1);
    /// assert!(String::from_utf8(errors)?.contains(r#""code":"response_too_large""#));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_body_bytes = bytes;
        self
    }

    /// Where lines go that are a request's body and nothing else. Unless set,
    /// `messages`, `prompt` and `input` tell the endpoint, and for the last the
    /// name of the model. Such a line is known as `line-` and its number.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use bytes::Bytes;
    /// # use http_body_util::Full;
    /// use http::{Request, Response, Uri};
    /// use tollhouse_batch::Batch;
    ///
    /// let service = tower::service_fn(async |request: Request<Bytes>| {
    ///     assert_eq!(request.uri(), "/v1/rerank");
    ///     Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::from("{}"))))
    /// });
    /// let input = r#"{"query":"tollhouse","documents":[]}"#;
    /// let batch = Batch::new(service).url(Uri::from_static("/v1/rerank"));
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!(summary.ok, 1);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn url(mut self, url: Uri) -> Self {
        self.url = Some(url);
        self
    }

    /// Whether answers are written in the order of the input. Those that come
    /// early are kept until their turn; they count as looked ahead, so that one
    /// slow request holds up no more than [`look_ahead`](Self::look_ahead)
    /// others, and memory stays bounded. Default: `false`, as they finish.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |request: http::Request<bytes::Bytes>| {
    /// #     let slow = request.body().windows(4).any(|part| part == b"slow");
    /// #     tokio::time::sleep(std::time::Duration::from_secs(if slow { 9 } else { 1 })).await;
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// // Of the two models one takes 9 s, the other 1 s.
    /// let input = r#"{"model":"slow","messages":[]}
    /// {"model":"fast","messages":[]}"#;
    /// let mut output = Vec::new();
    /// let batch = Batch::new(service).ordered(true);
    /// batch
    ///     .run(input.as_bytes(), &mut output, tokio::io::sink())
    ///     .await?;
    /// let output = String::from_utf8(output)?;
    /// assert!(output.find("line-1") < output.find("line-2"));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn ordered(mut self, ordered: bool) -> Self {
        self.settings.ordered = ordered;
        self
    }

    /// Gives the run up when `judge` finds a failure hopeless, and tells the
    /// reason: an exhausted quota, a key that is not valid. A request that shows
    /// it is not written, so that a later run sends it again; the run then stops
    /// as by its [`stop_handle`](Self::stop_handle), and
    /// [`Summary::gave_up`] has the reason.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = bytes::Bytes::from(r#"{"error":{"message":"no such key"}}"#);
    /// #     let response = http::Response::builder().status(401);
    /// #     Ok::<_, std::io::Error>(response.body(http_body_util::Full::new(body)).unwrap())
    /// # });
    ///
    /// let batch = Batch::new(service).look_ahead(1).give_up_when(|failed| {
    ///     (failed.status? == 401).then(|| format!("the key: {}", failed.message))
    /// });
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(1_000);
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!(summary.gave_up.as_deref(), Some("the key: no such key"));
    /// assert_eq!((summary.withdrawn, summary.failed), (1, 0));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn give_up_when(
        mut self,
        judge: impl Fn(&Failed<'_>) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.hopeless.judge = Some(Arc::new(judge));
        self
    }

    /// Gives the run up when more than this share of its requests has failed,
    /// counted from the twentieth on. Those that failed are written, and are not
    /// sent again unless asked. Default: never.
    ///
    /// # Panics
    ///
    /// When `share` is not between 0 and 1.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = http_body_util::Full::new(bytes::Bytes::new());
    /// #     let response = http::Response::builder().status(404).body(body);
    /// #     Ok::<_, std::io::Error>(response.unwrap())
    /// # });
    ///
    /// // The service answers everything with 404.
    /// let input = "{\"model\":\"gpt-5o\",\"messages\":[]}\n".repeat(1_000);
    /// let batch = Batch::new(service).look_ahead(1).max_failures(0.5);
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!(summary.failed, 20);
    /// let reason = "20 of 20 requests failed, more than 50%";
    /// assert_eq!(summary.gave_up.as_deref(), Some(reason));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn max_failures(mut self, share: f64) -> Self {
        assert!((0.0..=1.0).contains(&share), "a share is between 0 and 1");
        self.hopeless.max_failures = Some(share);
        self
    }

    /// Leaves out what earlier runs have answered.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tollhouse_batch::{Batch, Done};
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(2);
    /// // The earlier run came as far as the first line.
    /// let mut output = Vec::from(
    ///     r#"{"id":"batch_req_1","custom_id":"line-1","response":{"body":{}},"error":null}"#,
    /// );
    /// output.push(b'\n');
    ///
    /// let mut done = Done::new();
    /// done.read(&*output).await?;
    /// let batch = Batch::new(service).resume(done);
    /// let summary = batch.run(input.as_bytes(), &mut output, Vec::new()).await?;
    /// assert_eq!((summary.skipped, summary.ok), (1, 1));
    /// assert!(summary.is_complete());
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse::StaggerLayer;
    /// use tollhouse_batch::{Batch, SentLayer};
    /// use tower::Layer;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// // One launch an hour.
    /// let service = StaggerLayer::new(Duration::from_secs(3_600)).layer(SentLayer.layer(service));
    /// let batch = Batch::new(service).withdraw_unsent(true);
    /// let stop = batch.stop_handle();
    /// tokio::spawn(async move {
    ///     tokio::time::sleep(Duration::from_secs(10)).await;
    ///     stop.stop();
    /// });
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(3);
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!((summary.ok, summary.withdrawn), (1, 2));
    /// assert_eq!(summary.elapsed, Duration::from_secs(10));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn withdraw_unsent(mut self, withdraw: bool) -> Self {
        self.settings.withdraw_unsent = withdraw;
        self
    }

    /// Tells `observer` what happens, instead of whom was told before.
    ///
    /// It is called where things happen, also from several threads at once,
    /// and must be quick. For a stream see [`events`](Self::events).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::sync::{Arc, Mutex};
    /// use tollhouse_batch::{Batch, Event};
    /// # type Answer = http::Response<http_body_util::Full<bytes::Bytes>>;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     Err::<Answer, _>(std::io::Error::other("gone"))
    /// # });
    ///
    /// let failed = Arc::new(Mutex::new(Vec::new()));
    /// let names = failed.clone();
    /// let batch = Batch::new(service).on_event(move |event| {
    ///     if let Event::Failed { request, code, .. } = event {
    ///         names
    ///             .lock()
    ///             .unwrap()
    ///             .push(format!("{}: {code}", request.custom_id));
    ///     }
    /// });
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!(*failed.lock().unwrap(), ["line-1: request_failed"]);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn on_event(mut self, observer: impl Fn(Event) + Send + Sync + 'static) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// What happens, as a stream: instead of an
    /// [`on_event`](Self::on_event), for whoever would rather take than be told.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use futures_util::StreamExt;
    /// use tollhouse_batch::{Batch, Event};
    /// # use http_body_util::Full;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     Ok::<_, std::io::Error>(http::Response::new(Full::new(bytes::Bytes::from("{}"))))
    /// # });
    ///
    /// let mut batch = Batch::new(service);
    /// let mut events = batch.events();
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// tokio::spawn(batch.run(input.as_bytes(), Vec::new(), Vec::new()));
    /// while let Some(event) = events.next().await {
    ///     if let Event::Finished { request, .. } = event {
    ///         assert_eq!(&*request.custom_id, "line-1");
    ///     }
    /// }
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() {
    /// use futures_util::{StreamExt, stream};
    /// use http::Uri;
    /// use tollhouse_batch::{Ask, Batch};
    /// # use http_body_util::Full;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     Ok::<_, std::io::Error>(http::Response::new(Full::new(bytes::Bytes::from("{}"))))
    /// # });
    ///
    /// let requests = stream::iter(["a", "b"]).map(|id| Ask {
    ///     custom_id: id.into(),
    ///     url: Uri::from_static("/v1/responses"),
    ///     body: r#"{"model":"gpt-4o","input":"Hi"}"#.into(),
    /// });
    /// let mut answers = Batch::new(service).answers(requests);
    /// while let Some(answered) = answers.next().await {
    ///     assert_eq!(answered.result.unwrap().status(), 200);
    /// }
    /// # }
    /// ```
    pub fn answers<I>(self, requests: I) -> Answers<S, I>
    where
        I: futures_core::Stream<Item = Ask>,
    {
        Answers::new(self, requests)
    }

    /// A handle that stops the run.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(http::Response::new(body))
    /// # });
    ///
    /// let batch = Batch::new(service).look_ahead(1);
    /// let stop = batch.stop_handle();
    /// tokio::spawn(async move {
    ///     // Stands for `tokio::signal::ctrl_c()`.
    ///     tokio::time::sleep(Duration::from_millis(2_500)).await;
    ///     stop.stop();
    /// });
    /// // Each request takes a second.
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(100);
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert_eq!((summary.ok, summary.interrupted), (3, true));
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use bytes::Bytes;
    /// # use http::{Request, Response, StatusCode};
    /// # use http_body_util::Full;
    /// use tollhouse_batch::Batch;
    /// # let service = tower::service_fn(async |request: Request<Bytes>| {
    /// #     let mut response = Response::new(Full::new(Bytes::from("{}")));
    /// #     if request.uri() != "/v1/responses" {
    /// #         *response.status_mut() = StatusCode::NOT_FOUND;
    /// #     }
    /// #     Ok::<_, std::io::Error>(response)
    /// # });
    ///
    /// let input = r#"
    /// {"custom_id":"a","method":"POST","url":"/v1/responses","body":{"model":"gpt-4o"}}
    /// {"custom_id":"b","method":"POST","url":"/v1/respond","body":{"model":"gpt-4o"}}
    /// "#;
    /// let (mut output, mut errors) = (Vec::new(), Vec::new());
    /// let batch = Batch::new(service);
    /// let summary = batch
    ///     .run(input.as_bytes(), &mut output, &mut errors)
    ///     .await?;
    /// assert_eq!((summary.ok, summary.failed), (1, 1));
    /// let record: serde_json::Value = serde_json::from_slice(&output)?;
    /// assert_eq!(record["custom_id"], "a");
    /// let record: serde_json::Value = serde_json::from_slice(&errors)?;
    /// assert_eq!(record["response"]["status_code"], 404);
    /// # Ok(())
    /// # }
    /// ```
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
