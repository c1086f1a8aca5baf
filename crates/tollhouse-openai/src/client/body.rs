use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};

use super::Error;
use crate::layers::verdict::VerdictBody;

pin_project! {
    /// The body of a response, as it arrives.
    ///
    /// It fails with an [`Error`] for which [`Error::is_body`] holds where the
    /// connection breaks or nothing comes for the attempt timeout. Dropping it
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

/// hyper's body, and how long it may stand still.
#[derive(Debug)]
pub(super) struct TimedBody {
    inner: Incoming,
    timeout: Duration,
    /// Made at the first wait, boxed so that the body can be moved about.
    patience: Option<Pin<Box<Sleep>>>,
    /// The patience runs; it does only while a frame is waited for.
    waiting: bool,
    failed: bool,
}

impl TimedBody {
    pub(super) fn new(inner: Incoming, timeout: Duration) -> Self {
        TimedBody {
            inner,
            timeout,
            patience: None,
            waiting: false,
            failed: false,
        }
    }

    /// Ready when the body has stood still for too long.
    fn poll_patience(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let timeout = self.timeout;
        let patience = self
            .patience
            .get_or_insert_with(|| Box::pin(sleep(timeout)));
        if !self.waiting {
            self.waiting = true;
            // A timeout beyond all time is none.
            if let Some(deadline) = Instant::now().checked_add(timeout) {
                patience.as_mut().reset(deadline);
            }
        }
        patience.as_mut().poll(cx)
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
        if let Poll::Ready(frame) = Pin::new(&mut self.inner).poll_frame(cx) {
            self.waiting = false;
            self.failed = matches!(frame, Some(Err(_)));
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::body)));
        }
        ready!(self.poll_patience(cx));
        self.failed = true;
        Poll::Ready(Some(Err(Error::body_timeout())))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
