//! Counts what calls hold, against a bound for all of them.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// What all calls hold together, in bytes.
#[derive(Clone, Debug)]
pub(crate) struct Held {
    bytes: Arc<AtomicUsize>,
    most: usize,
}

/// What one call holds; given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    held: Held,
    bytes: usize,
}

/// Calls hold as much as they may together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Full;

impl Held {
    pub(crate) fn new(most: usize) -> Self {
        Held {
            bytes: Arc::default(),
            most,
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(crate) fn share(&self) -> Share {
        Share {
            held: self.clone(),
            bytes: 0,
        }
    }
}

impl Share {
    fn grow(&mut self, bytes: usize) -> Result<(), Full> {
        let most = self.held.most;
        let grown = |held: usize| held.checked_add(bytes).filter(|held| *held <= most);
        let held = &self.held.bytes;
        held.fetch_update(Ordering::Relaxed, Ordering::Relaxed, grown)
            .map_err(|_| Full)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.held.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the proxy holds as much as it may for other calls")
    }
}

impl std::error::Error for Full {}

pin_project! {
    /// A body whose bytes are counted as they come.
    pub(crate) struct Counted<'s, B> {
        #[pin]
        body: B,
        share: &'s mut Share,
    }
}

impl<'s, B> Counted<'s, B> {
    pub(crate) fn new(body: B, share: &'s mut Share) -> Self {
        Counted { body, share }
    }
}

impl<B> Body for Counted<'_, B>
where
    B: Body<Data = Bytes>,
    B::Error: Into<axum::BoxError>,
{
    type Data = Bytes;
    type Error = axum::BoxError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::BoxError>>> {
        let this = self.project();
        let frame = ready!(this.body.poll_frame(cx));
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(Into::into)?;
            let length = frame.data_ref().map_or(0, Bytes::len);
            this.share.grow(length)?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_bounded_together_and_given_back() {
        let held = Held::new(10);
        let (mut one, mut other) = (held.share(), held.share());
        assert_eq!(one.grow(6), Ok(()));
        assert_eq!(other.grow(5), Err(Full));
        assert_eq!(other.grow(4), Ok(()));
        assert_eq!(other.grow(usize::MAX), Err(Full));
        assert_eq!(held.bytes(), 10);
        drop(one);
        assert_eq!(held.bytes(), 4);
        drop(other);
        assert_eq!(held.bytes(), 0);
    }
}
