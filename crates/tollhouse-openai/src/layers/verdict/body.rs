use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

pin_project! {
    /// The body of an answer of [`WithVerdict`](super::WithVerdict): the inner one, or what was read of it ahead of
    /// time followed by the rest.
    #[project = BodyProj]
    pub struct VerdictBody<B: Body> {
        #[pin]
        state: State<B>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<B: Body> {
        Untouched { #[pin] body: B },
        // Boxed, because it must be pinned while it is read ahead; this is
        // paid for unsuccessful answers only.
        Read { ahead: Ahead<B> },
    }
}

/// What was read of a body ahead of time.
pub(super) struct Ahead<B: Body> {
    frames: VecDeque<Frame<Bytes>>,
    bytes: usize,
    /// The failure that ended the reading, for the caller to meet in its place.
    error: Option<B::Error>,
    /// What is left to read, `None` after its end.
    rest: Option<Pin<Box<B>>>,
}

impl<B: Body<Data = Bytes>> VerdictBody<B> {
    pub(super) fn untouched(body: B) -> Self {
        VerdictBody {
            state: State::Untouched { body },
        }
    }

    pub(super) fn read(ahead: Ahead<B>) -> Self {
        VerdictBody {
            state: State::Read { ahead },
        }
    }
}

impl<B: Body<Data = Bytes>> Ahead<B> {
    pub(super) fn new(body: B) -> Self {
        Ahead {
            frames: VecDeque::new(),
            bytes: 0,
            error: None,
            rest: Some(Box::pin(body)),
        }
    }

    /// Reads on until the body ends, fails, or `most` bytes are there.
    pub(super) fn poll_read(&mut self, most: usize, cx: &mut Context<'_>) -> Poll<()> {
        while let Some(rest) = self.rest.as_mut().filter(|_| self.bytes < most) {
            match ready!(rest.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => {
                    self.bytes += frame.data_ref().map_or(0, Bytes::len);
                    self.frames.push_back(frame);
                }
                Some(Err(error)) => {
                    self.error = Some(error);
                    self.rest = None;
                }
                None => self.rest = None,
            }
        }
        Poll::Ready(())
    }

    /// The bytes read so far, in one piece.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let data = self.frames.iter().filter_map(Frame::data_ref);
        data.map(Bytes::as_ref).collect::<Vec<_>>().concat()
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        if let Some(frame) = self.frames.pop_front() {
            self.bytes -= frame.data_ref().map_or(0, Bytes::len);
            return Poll::Ready(Some(Ok(frame)));
        }
        if let Some(error) = self.error.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match &mut self.rest {
            Some(rest) => rest.as_mut().poll_frame(cx),
            None => Poll::Ready(None),
        }
    }

    fn is_end_stream(&self) -> bool {
        let rest_ended = self.rest.as_ref().is_none_or(|rest| rest.is_end_stream());
        self.frames.is_empty() && self.error.is_none() && rest_ended
    }

    fn size_hint(&self) -> SizeHint {
        let rest = match (&self.rest, &self.error) {
            (Some(rest), _) => rest.size_hint(),
            (None, None) => SizeHint::with_exact(0),
            // It was to be longer by what nobody knows.
            (None, Some(_)) => SizeHint::default(),
        };
        let mut hint = SizeHint::new();
        hint.set_lower(rest.lower().saturating_add(self.bytes as u64));
        if let Some(upper) = rest.upper() {
            hint.set_upper(upper.saturating_add(self.bytes as u64));
        }
        hint
    }
}

impl<B: Body<Data = Bytes>> Body for VerdictBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().state.project() {
            StateProj::Untouched { body } => body.poll_frame(cx),
            StateProj::Read { ahead } => ahead.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.state {
            State::Untouched { body } => body.is_end_stream(),
            State::Read { ahead } => ahead.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.state {
            State::Untouched { body } => body.size_hint(),
            State::Read { ahead } => ahead.size_hint(),
        }
    }
}

impl<B: Body> fmt::Debug for VerdictBody<B> {
    /// Tells no contents: they may be somebody's conversation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ahead = match &self.state {
            State::Untouched { .. } => None,
            State::Read { ahead } => Some(ahead.bytes),
        };
        f.debug_struct("VerdictBody")
            .field("read_ahead_bytes", &ahead)
            .finish_non_exhaustive()
    }
}
