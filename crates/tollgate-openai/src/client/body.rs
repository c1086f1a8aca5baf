use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};

use super::Error;
use crate::answered::AnsweredBody;

pin_project! {
    /// The body of a response, as it arrives.
    ///
    /// It fails with an [`Error`] for which [`Error::is_body`] holds where the
    /// connection breaks or nothing comes for the attempt timeout. Dropping it
    /// early stops the work upstream.
    #[derive(Debug)]
    pub struct ResponseBody {
        #[pin]
        inner: AnsweredBody<TimedBody>,
    }
}

impl ResponseBody {
    pub(super) fn new(inner: AnsweredBody<TimedBody>) -> Self {
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

pin_project! {
    /// hyper's body, and how long it may stand still.
    #[derive(Debug)]
    pub(super) struct TimedBody {
        #[pin]
        inner: Incoming,
        // Runs only while a frame is waited for.
        #[pin]
        patience: Option<Sleep>,
        timeout: Duration,
        failed: bool,
    }
}

impl TimedBody {
    pub(super) fn new(inner: Incoming, timeout: Duration) -> Self {
        TimedBody {
            inner,
            patience: None,
            timeout,
            failed: false,
        }
    }
}

impl Body for TimedBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        let mut this = self.project();
        if *this.failed {
            return Poll::Ready(None);
        }
        if let Poll::Ready(frame) = this.inner.poll_frame(cx) {
            this.patience.set(None);
            *this.failed = matches!(frame, Some(Err(_)));
            return Poll::Ready(frame.map(|frame| frame.map_err(Error::body)));
        }
        if this.patience.is_none() {
            this.patience.set(Some(sleep(*this.timeout)));
        }
        if let Some(patience) = this.patience.as_pin_mut() {
            ready!(patience.poll(cx));
        }
        *this.failed = true;
        Poll::Ready(Some(Err(Error::body_timeout())))
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
