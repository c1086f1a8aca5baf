//! What the body of an answer may take, and how it ends.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{Response, Version};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper_util::client::legacy::connect::CaptureConnection;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::Error;
use super::inline::InlineBody;
use super::patience::{Patience, poll_over};
use super::peer::poison;
use crate::layers::verdict::VerdictBody;
use crate::wire::sse::is_event_stream;

pin_project! {
    /// The body of a response, as it arrives.
    ///
    /// It fails with an [`Error`] for which [`Error::is_body`] holds where the
    /// connection breaks, nothing comes for
    /// [`body_idle_timeout`](super::OpenAiBuilder::body_idle_timeout), or, but for a
    /// stream of events, all of it takes longer than
    /// [`body_timeout`](super::OpenAiBuilder::body_timeout). Dropping it
    /// early stops the work upstream.
    ///
    /// The body of every answer of [`OpenAi`](super::OpenAi), which shows one that is
    /// collected; [`Error::is_body`] one that breaks off.
    #[derive(Debug)]
    pub struct ResponseBody {
        #[pin]
        inner: VerdictBody<TimedBody>,
    }
}

impl ResponseBody {
    pub(super) fn new(inner: VerdictBody<TimedBody>) -> Self {
        ResponseBody { inner }
    }
}

impl Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

/// hyper's body, and the connection that it comes over.
#[derive(Debug)]
pub(super) enum Arriving {
    /// Driven by a task of its own.
    Shared {
        body: Incoming,
        connection: CaptureConnection,
    },
    /// Driven by whoever polls the body.
    Inline { body: InlineBody },
}

impl Arriving {
    fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        match self {
            Arriving::Shared { body, .. } => Pin::new(body).poll_frame(cx),
            Arriving::Inline { body } => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Arriving::Shared { body, .. } => body.is_end_stream(),
            Arriving::Inline { body } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Arriving::Shared { body, .. } => body.size_hint(),
            Arriving::Inline { body } => body.size_hint(),
        }
    }

    /// Lets nobody use the connection again.
    fn give_up(&mut self) {
        match self {
            Arriving::Shared { connection, .. } => poison(connection),
            Arriving::Inline { body } => body.close(),
        }
    }
}

/// A body, and how long it may take.
pub(super) struct TimedBody {
    inner: Arriving,
    idle: Duration,
    /// When the whole of it must be here, unless it is a stream of events.
    deadline: Option<Instant>,
    /// Made at the first wait, boxed so that the body can be moved about.
    patience: Option<Pin<Box<Sleep>>>,
    /// The patience runs; it does only while a frame is waited for.
    waiting: bool,
    failed: bool,
    /// Whether only the end of its stream is its end: a stream that was reset
    /// without an error was cut all the same, though hyper calls that an end
    /// (RFC 9113, section 8.1, means what the request still had to say).
    by_stream: bool,
}

impl TimedBody {
    pub(super) fn around(response: Response<Arriving>, patience: Patience) -> Response<TimedBody> {
        let kind = response.headers().get(CONTENT_TYPE);
        let is_stream = kind.is_some_and(is_event_stream);
        // A time beyond all time is none.
        let deadline = match is_stream {
            true => None,
            false => Instant::now().checked_add(patience.body),
        };
        let by_stream = response.version() == Version::HTTP_2;
        response.map(|inner| TimedBody {
            inner,
            idle: patience.body_idle.unwrap_or(patience.attempt),
            deadline,
            patience: None,
            waiting: false,
            failed: false,
            by_stream,
        })
    }

    /// Ready when the body has stood still for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let idle = self.idle;
        let patience = self.patience.get_or_insert_with(|| Box::pin(sleep(idle)));
        if !self.waiting {
            self.waiting = true;
            let idle = Instant::now().checked_add(idle);
            // A time beyond all time is none.
            if let Some(until) = idle.into_iter().chain(self.deadline).min() {
                patience.as_mut().reset(until);
            }
        }
        poll_over(patience.as_mut(), cx)
    }

    /// Whether all the time that there was for the whole of it is over.
    fn is_late(&self) -> bool {
        self.deadline
            .is_some_and(|deadline| Instant::now() >= deadline)
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.failed = true;
        Poll::Ready(Some(Err(error)))
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        let Poll::Ready(frame) = self.inner.poll_frame(cx) else {
            ready!(self.poll_patience(cx));
            self.inner.give_up();
            return self.fail(Error::body_timeout());
        };
        self.waiting = false;
        match frame {
            // A body that trickles never waits for long.
            Some(Ok(_)) if self.is_late() => self.fail(Error::body_timeout()),
            Some(Ok(frame)) => Poll::Ready(Some(Ok(frame))),
            Some(Err(error)) => self.fail(Error::body(error)),
            None if self.by_stream && !self.inner.is_end_stream() => self.fail(Error::body_cut()),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl fmt::Debug for TimedBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TimedBody")
            .field("inner", &self.inner)
            .field("idle", &self.idle)
            .field("deadline", &self.deadline)
            .field("failed", &self.failed)
            .finish_non_exhaustive()
    }
}
