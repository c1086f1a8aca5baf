//! A body that is paced by the clock and keeps its call in flight.

use std::fmt;
use std::future::Future;
use std::io;
use std::iter::{self, Peekable};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, SizeHint};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::answer::{Frame, Frames};
use crate::call::Call;

/// The most bytes that are handed on at once.
const PIECE: usize = 64 << 10;

pin_project! {
    /// Hands on each frame when it is due.
    ///
    /// The call ends as the last frame is handed on, not when that is found
    /// out: a client that has the last byte and calls again at once must not
    /// be seen as two.
    pub(super) struct AnswerBody {
        frames: Peekable<Frames>,
        begun: Instant,
        per_token: Duration,
        // The step at which it breaks off, if it does.
        cut_at: Option<u64>,
        // Set while the next frame is not due.
        #[pin]
        sleep: Option<Sleep>,
        // Until the last frame.
        call: Option<Call>,
        // What is left, where that is known beforehand.
        size: Option<u64>,
    }
}

impl AnswerBody {
    /// All of it, as fast as it is taken.
    pub(super) fn whole(data: Bytes, call: Call) -> Self {
        let size = data.len() as u64;
        Self {
            size: Some(size),
            ..Self::stream(pieces(data), call, Duration::ZERO)
        }
    }

    /// Frames whose steps are `per_token` apart, from now on.
    pub(super) fn stream(frames: Frames, call: Call, per_token: Duration) -> Self {
        Self {
            frames: frames.peekable(),
            begun: Instant::now(),
            per_token,
            cut_at: None,
            sleep: None,
            call: Some(call),
            size: None,
        }
    }

    /// Breaks off, as a lost connection does, instead of going on at `step`.
    pub(super) fn cut_at(self, step: u64) -> Self {
        Self {
            cut_at: Some(step),
            ..self
        }
    }

    /// Breaks off at once.
    pub(super) fn lost(call: Call) -> Self {
        Self::whole(Bytes::new(), call).cut_at(0)
    }

    fn poll_due(self: Pin<&mut Self>, cx: &mut Context<'_>, step: u64) -> Poll<()> {
        let mut this = self.project();
        let nanos = this.per_token.as_nanos() * u128::from(step);
        let due = *this.begun + Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        if this.sleep.is_none() {
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            this.sleep.set(Some(sleep_until(due)));
        }
        let sleep = this.sleep.as_mut().as_pin_mut();
        ready!(sleep.expect("it was just set").poll(cx));
        this.sleep.set(None);
        Poll::Ready(())
    }

    fn hand_on(self: Pin<&mut Self>) -> Option<Bytes> {
        let this = self.project();
        let frame = this.frames.next()?;
        if let Some(call) = this.call {
            call.generated(frame.tokens);
        }
        if this.frames.peek().is_none()
            && let Some(call) = this.call.take()
        {
            call.complete();
        }
        if let Some(size) = this.size {
            *size -= frame.data.len() as u64;
        }
        Some(frame.data)
    }

    fn break_off(self: Pin<&mut Self>) -> io::Error {
        let this = self.project();
        *this.frames = (Box::new(iter::empty()) as Frames).peekable();
        if let Some(call) = this.call.take() {
            call.cut();
        }
        connection_reset()
    }
}

/// Pieces that are copies, so that a connection which has taken some of them
/// holds those and not the whole.
fn pieces(mut data: Bytes) -> Frames {
    let frame = |data| Frame {
        step: 0,
        tokens: 0,
        data,
    };
    if data.len() <= PIECE {
        return Box::new(iter::once(frame(data)));
    }
    Box::new(iter::from_fn(move || {
        let piece = data.split_to(data.len().min(PIECE));
        (!piece.is_empty()).then(|| frame(Bytes::copy_from_slice(&piece)))
    }))
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<http_body::Frame<Bytes>>>> {
        let frames = self.as_mut().project().frames;
        let Some(step) = frames.peek().map(|frame| frame.step) else {
            return Poll::Ready(None);
        };
        ready!(self.as_mut().poll_due(cx, step));
        if self.cut_at.is_some_and(|cut_at| step >= cut_at) {
            return Poll::Ready(Some(Err(self.break_off())));
        }
        let data = self.hand_on();
        Poll::Ready(data.map(|data| Ok(http_body::Frame::data(data))))
    }

    fn is_end_stream(&self) -> bool {
        self.call.is_none()
    }

    fn size_hint(&self) -> SizeHint {
        self.size
            .map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

impl fmt::Debug for AnswerBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerBody")
            .field("call", &self.call)
            .field("size", &self.size)
            .finish_non_exhaustive()
    }
}

/// What a client of ours sees of a connection that was reset.
pub(super) fn connection_reset() -> io::Error {
    io::Error::new(
        io::ErrorKind::ConnectionReset,
        "the simulated provider reset the connection",
    )
}
