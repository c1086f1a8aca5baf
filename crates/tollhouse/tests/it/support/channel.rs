//! A body whose frames are sent by hand.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::mpsc;

pub(crate) type Item = Result<Frame<Bytes>, std::io::Error>;

/// Ends when its sender is dropped, or after `left` more bytes where that is
/// known beforehand.
#[derive(Debug)]
pub(crate) struct Channel {
    frames: mpsc::UnboundedReceiver<Item>,
    left: Option<u64>,
}

/// A body of unknown length, and what feeds it.
pub(crate) fn streamed() -> (mpsc::UnboundedSender<Item>, Channel) {
    let (sender, frames) = mpsc::unbounded_channel();
    (sender, Channel { frames, left: None })
}

/// A body that says how long it is.
pub(crate) fn of_length(length: u64) -> (mpsc::UnboundedSender<Item>, Channel) {
    let (sender, body) = streamed();
    let left = Some(length);
    (sender, Channel { left, ..body })
}

pub(crate) fn data(text: &'static str) -> Item {
    Ok(Frame::data(Bytes::from_static(text.as_bytes())))
}

impl Body for Channel {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Item>> {
        let frame = self.frames.poll_recv(cx);
        if let (Poll::Ready(Some(Ok(frame))), Some(left)) = (&frame, &mut self.left) {
            *left -= frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.left == Some(0)
    }

    fn size_hint(&self) -> SizeHint {
        self.left
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}
