//! A batch without files: requests in as a stream, answers out as a stream.

use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures_core::Stream;
use http::{Response, Uri};
use pin_project_lite::pin_project;
use tokio::task::JoinSet;
use tokio::time::Duration;

use crate::input::line::Line;
use crate::output::outcome::Outcome;
use crate::run::batch::Batch;
use crate::run::request::client::Client;
use crate::run::request::recall::RecallSignal;
use crate::run::request::room::Room;
use crate::run::request::task::{Finished, Task, joined};
use crate::run::request::tracker::Tracker;

/// A request for [`Batch::answers`].
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::{StreamExt, stream};
/// use http::Uri;
/// use tollhouse_batch::{Ask, Batch};
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let ask = Ask {
///     custom_id: "row-7".into(),
///     url: Uri::from_static("/v1/embeddings"),
///     body: r#"{"model":"text-embedding-3-small","input":"Hi"}"#.into(),
/// };
/// let twice = stream::iter([ask.clone(), ask]);
/// let answers: Vec<_> = Batch::new(service).answers(twice).collect().await;
/// assert_eq!(answers.len(), 1);
/// assert_eq!(&*answers[0].custom_id, "row-7");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ask {
    /// What its answer is known by; of two with the same id the second is left
    /// out.
    pub custom_id: Arc<str>,
    /// Where it goes: a path, or an absolute URI.
    pub url: Uri,
    /// The JSON of the request.
    pub body: Bytes,
}

/// An answer of [`Batch::answers`].
///
/// # Examples
///
/// Two requests that leave 5 s apart, and take 2 s each:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use http::Uri;
/// # use tollhouse_batch::Ask;
/// use std::time::Duration;
/// use futures_util::{StreamExt, stream};
/// use tollhouse::StaggerLayer;
/// use tollhouse_batch::{Batch, SentLayer};
/// use tower::Layer;
/// # let ask = |id: &str| Ask {
/// #     custom_id: id.into(),
/// #     url: Uri::from_static("/v1/responses"),
/// #     body: "{}".into(),
/// # };
/// # let transport = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     tokio::time::sleep(Duration::from_secs(2)).await;
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let service = StaggerLayer::new(Duration::from_secs(5)).layer(SentLayer.layer(transport));
/// let requests = stream::iter(["a", "b"]).map(ask);
/// let answers: Vec<_> = Batch::new(service).answers(requests).collect().await;
///
/// let second = &answers[1];
/// assert_eq!(second.result.as_ref().unwrap().body(), "{}");
/// assert_eq!(second.attempts, Some(1));
/// assert_eq!(second.waited, Some(Duration::from_secs(5)));
/// assert_eq!(second.elapsed, Duration::from_secs(7));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct Answered {
    /// The id of its request.
    pub custom_id: Arc<str>,
    /// The whole answer, of any status.
    pub result: Result<Response<Bytes>, NoAnswer>,
    /// How often the request was sent; needs a
    /// [`SentLayer`](crate::SentLayer).
    pub attempts: Option<u32>,
    /// From its start to the last time it was sent; needs a `SentLayer`.
    pub waited: Option<Duration>,
    /// From its start to the end of its answer.
    pub elapsed: Duration,
}

/// Why a request has no answer. `Display` is one line.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use bytes::Bytes;
/// # use futures_util::{StreamExt, stream};
/// # use http::{Request, Response, Uri};
/// # use http_body_util::Full;
/// use std::io;
/// use tollhouse_batch::{Ask, Batch};
///
/// let service = tower::service_fn(async |_: Request<Bytes>| {
///     Err::<Response<Full<Bytes>>, _>(io::Error::other("connection refused"))
/// });
/// let ask = Ask {
///     custom_id: "a".into(),
///     url: Uri::from_static("/v1/responses"),
///     body: r#"{"model":"gpt-4o","input":"Hi"}"#.into(),
/// };
/// let mut answers = Batch::new(service).answers(stream::iter([ask]));
/// let failed = answers.next().await.unwrap().result.unwrap_err();
/// assert_eq!(failed.code, "request_failed");
/// assert_eq!(failed.to_string(), "request_failed: connection refused");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub struct NoAnswer {
    /// One of [`Batch::run`]'s codes.
    pub code: String,
    message: String,
    source: Box<dyn StdError + Send + Sync>,
}

pin_project! {
    /// Answers as they come; made by [`Batch::answers`].
    ///
    /// # Cancellation
    ///
    /// Dropping it drops every request under way.
    ///
    /// # Examples
    ///
    /// Asks two models, takes the first answer, and spares the other:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use http::{Request, Response, Uri};
    /// use futures_util::{StreamExt, stream};
    /// use tollhouse_batch::{Ask, Batch};
    /// # let service = tower::service_fn(async |request: Request<bytes::Bytes>| {
    /// #     let slow = request.body().windows(4).any(|part| part == b"slow");
    /// #     tokio::time::sleep(std::time::Duration::from_secs(if slow { 9 } else { 1 })).await;
    /// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
    /// #     Ok::<_, std::io::Error>(Response::new(body))
    /// # });
    ///
    /// let requests = stream::iter(["slow", "fast"]).map(|model| Ask {
    ///     custom_id: model.into(),
    ///     url: Uri::from_static("/v1/responses"),
    ///     body: format!(r#"{{"model":"{model}","input":"Hi"}}"#).into(),
    /// });
    /// let mut answers = Batch::new(service).answers(requests);
    /// let first = answers.next().await.unwrap();
    /// assert_eq!(&*first.custom_id, "fast");
    /// drop(answers);
    /// # Ok(())
    /// # }
    /// ```
    pub struct Answers<S, I> {
        #[pin]
        requests: I,
        batch: Batch<S>,
        stopped: Pin<Box<dyn Future<Output = ()> + Send>>,
        in_flight: JoinSet<Finished>,
        room: Arc<Room>,
        reading: bool,
        taken: u64,
    }
}

impl<S> Batch<S> {
    /// Sends a stream of requests and gives their answers as a stream, in the
    /// order of finishing: a batch for programs, with neither lines nor files.
    ///
    /// [`look_ahead`](Self::look_ahead), [`max_body_bytes`](Self::max_body_bytes),
    /// [`resume`](Self::resume), [`withdraw_unsent`](Self::withdraw_unsent) and
    /// [`stop_handle`](Self::stop_handle) hold as for [`run`](Self::run); of the
    /// events only [`Event::Sent`](crate::Event::Sent) is told. Nothing is read ahead unless the
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
        I: Stream<Item = Ask>,
    {
        Answers::new(self, requests)
    }
}

impl<S, I> Answers<S, I> {
    fn new(batch: Batch<S>, requests: I) -> Self {
        let mut stopped = batch.stop.listen();
        Self {
            requests,
            room: Room::new(batch.settings.answer_bytes),
            batch,
            stopped: Box::pin(async move { stopped.wait().await }),
            in_flight: JoinSet::new(),
            reading: true,
            taken: 0,
        }
    }
}

impl<S, I> Stream for Answers<S, I>
where
    I: Stream<Item = Ask>,
    S: Client,
{
    type Item = Answered;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Answered>> {
        let mut this = self.project();
        if *this.reading && this.stopped.as_mut().poll(cx).is_ready() {
            *this.reading = false;
        }
        while *this.reading
            && this.in_flight.len() < this.batch.settings.look_ahead
            && this.room.is_for_one_more(this.in_flight.len())
        {
            match this.requests.as_mut().poll_next(cx) {
                Poll::Ready(Some(ask)) => {
                    *this.taken += 1;
                    let line = Line::new(*this.taken, ask.custom_id, ask.url, ask.body);
                    let done = &mut this.batch.done;
                    if done.is_to_do(&line.custom_id, line.number, line.hash) {
                        let task = task(this.batch, this.room, line);
                        this.in_flight.spawn(task.send(this.batch.service.clone()));
                    }
                }
                Poll::Ready(None) => *this.reading = false,
                Poll::Pending => break,
            }
        }
        loop {
            match ready!(this.in_flight.poll_join_next(cx)) {
                Some(finished) => match answered(joined(finished)) {
                    Some(answered) => return Poll::Ready(Some(answered)),
                    None => continue,
                },
                None if *this.reading => return Poll::Pending,
                None => return Poll::Ready(None),
            }
        }
    }
}

fn task<S>(batch: &Batch<S>, room: &Arc<Room>, line: Line) -> Task {
    let stopped = (batch.settings.withdraw_unsent).then(|| batch.stop.listen());
    Task {
        tracker: Tracker::new(line.name(), &batch.observer, &Arc::default()),
        recall: RecallSignal::of_stop(stopped),
        room: room.clone(),
        max_body_bytes: batch.settings.max_body_bytes,
        line,
    }
}

/// `None` where the request was called back.
fn answered(finished: Finished) -> Option<Answered> {
    let result = match finished.outcome? {
        Outcome::Answered(answer) => {
            let mut response = Response::new(answer.body);
            *response.status_mut() = answer.status;
            *response.headers_mut() = answer.headers;
            Ok(response)
        }
        Outcome::Failed(failure, source) => Err(NoAnswer {
            code: failure.code.into_owned(),
            message: failure.message,
            source,
        }),
    };
    Some(Answered {
        custom_id: finished.line.custom_id,
        result,
        attempts: finished.timing.sent.map(|(attempts, _)| attempts),
        waited: finished.timing.sent.map(|(_, waited)| waited),
        elapsed: finished.timing.elapsed,
    })
}

impl<S, I> fmt::Debug for Answers<S, I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("in_flight", &self.in_flight.len())
            .field("reading", &self.reading)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.message)
    }
}

impl StdError for NoAnswer {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        Some(&*self.source)
    }
}
