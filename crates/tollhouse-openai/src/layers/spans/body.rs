use std::error::Error as StdError;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tollhouse::Meter;
use tracing::Span;

use super::{error, span};
use crate::wire::usage::UsageMeter;

pin_project! {
    /// The body of an answer of [`Spanned`](super::Spanned), and the span that
    /// ends with it.
    pub struct SpannedBody<B> {
        #[pin]
        body: B,
        reading: Reading,
    }
}

/// Writes on the span what the body tells, when it is over or dropped.
struct Reading {
    span: Span,
    /// Boxed: mostly there is none, and the answer is moved from layer to layer.
    meter: Option<Box<UsageMeter>>,
}

impl Reading {
    fn end(&mut self) {
        let told = self.meter.take().and_then(|meter| meter.scanner.found());
        if let Some(told) = told {
            span::usage(&self.span, told);
        }
        // Lets the span close now: the body may be kept.
        self.span = Span::none();
    }
}

impl Drop for Reading {
    fn drop(&mut self) {
        self.end();
    }
}

impl<B: Body> SpannedBody<B> {
    /// `meter` is one for this answer, where the span is written on.
    pub(super) fn new(body: B, span: Span, meter: Option<UsageMeter>) -> Self {
        let meter = meter.map(Box::new);
        let mut reading = Reading { span, meter };
        if body.is_end_stream() {
            reading.end();
        }
        SpannedBody { body, reading }
    }
}

impl<B> SpannedBody<B> {
    /// The body.
    pub fn get_ref(&self) -> &B {
        &self.body
    }
}

impl<B> Body for SpannedBody<B>
where
    B: Body<Data = Bytes>,
    B::Error: StdError + 'static,
{
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let polled = (this.reading.span).in_scope(|| this.body.as_mut().poll_frame(cx));
        let frame = ready!(polled);
        match &frame {
            Some(Ok(frame)) => {
                if let (Some(data), Some(meter)) = (frame.data_ref(), &mut this.reading.meter) {
                    meter.chunk(data);
                }
                // Who knows the length may never ask for the end.
                if this.body.is_end_stream() {
                    this.reading.end();
                }
            }
            Some(Err(failed)) => {
                span::failure(&this.reading.span, error::kind(failed));
                this.reading.end();
            }
            None => this.reading.end(),
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: fmt::Debug> fmt::Debug for SpannedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpannedBody")
            .field("body", &self.body)
            .field("span", &self.reading.span)
            .finish_non_exhaustive()
    }
}
