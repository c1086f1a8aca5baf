//! A body that is as long as somebody has said.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// Tells a body's length where what stands around it does not: the provider is to
    /// know how long an upload is, if its sender has told.
    pub(crate) struct WithSize<B> {
        #[pin]
        body: B,
        left: SizeHint,
    }
}

impl<B> WithSize<B> {
    pub(crate) fn new(body: B, size: SizeHint) -> Self {
        WithSize { body, left: size }
    }
}

impl<B: Body<Data = Bytes>> Body for WithSize<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        let data = frame
            .as_ref()
            .and_then(|frame| frame.as_ref().ok()?.data_ref());
        *this.left = less(this.left, data.map_or(0, |data| data.len() as u64));
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.left
    }
}

fn less(size: &SizeHint, taken: u64) -> SizeHint {
    let mut left = SizeHint::new();
    left.set_lower(size.lower().saturating_sub(taken));
    if let Some(upper) = size.upper() {
        left.set_upper(upper.saturating_sub(taken).max(left.lower()));
    }
    left
}
