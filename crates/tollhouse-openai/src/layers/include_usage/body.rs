use std::collections::VecDeque;
use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

use super::filter::Filter;

pin_project! {
    /// The body of an answer, without the event that its caller did not ask
    /// for.
    ///
    /// What is not such a stream passes untouched. Dropping it drops the inner
    /// body, and what is held of a stream with it.
    ///
    /// The body of an answer of [`IncludeUsage`](super::IncludeUsage); the
    /// [module](super) shows one.
    pub struct WithoutUsage<B: Body> {
        #[pin]
        body: B,
        stream: Option<Box<Stream<B::Error>>>,
    }
}

/// A stream on its way through the filter.
struct Stream<E> {
    filter: Filter,
    /// Goes on before anything else.
    passed: VecDeque<Bytes>,
    /// Came after all that passed.
    last: Option<Result<Frame<Bytes>, E>>,
    /// The inner body has ended.
    over: bool,
}

impl<B: Body> WithoutUsage<B> {
    pub(super) fn new(body: B, hides: bool) -> Self {
        let stream = hides.then(|| {
            Box::new(Stream {
                filter: Filter::default(),
                passed: VecDeque::new(),
                last: None,
                over: false,
            })
        });
        WithoutUsage { body, stream }
    }

    /// The inner body.
    pub fn get_ref(&self) -> &B {
        &self.body
    }
}

impl<E> Stream<E> {
    /// What can go on now.
    fn next(&mut self) -> Option<Result<Frame<Bytes>, E>> {
        match self.passed.pop_front() {
            Some(data) => Some(Ok(Frame::data(data))),
            None => self.last.take(),
        }
    }

    fn is_empty(&self) -> bool {
        self.passed.is_empty() && self.last.is_none() && self.filter.is_empty()
    }

    fn take_in(&mut self, frame: Frame<Bytes>) {
        match frame.into_data() {
            Ok(data) => self.filter.feed(data, &mut self.passed),
            // Trailers.
            Err(frame) => self.end(Some(Ok(frame))),
        }
    }

    fn end(&mut self, last: Option<Result<Frame<Bytes>, E>>) {
        self.filter.finish(&mut self.passed);
        self.last = last;
        self.over = true;
    }
}

impl<B: Body<Data = Bytes>> Body for WithoutUsage<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let Some(stream) = this.stream else {
            return this.body.poll_frame(cx);
        };
        loop {
            let next = stream.next();
            if next.is_some() || stream.over {
                return Poll::Ready(next);
            }
            match ready!(this.body.as_mut().poll_frame(cx)) {
                Some(Ok(frame)) => stream.take_in(frame),
                Some(Err(error)) => stream.end(Some(Err(error))),
                None => stream.end(None),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.stream {
            None => self.body.is_end_stream(),
            Some(stream) => stream.is_empty() && (stream.over || self.body.is_end_stream()),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self.stream {
            None => self.body.size_hint(),
            // Nobody knows what will be taken out.
            Some(_) => SizeHint::default(),
        }
    }
}

impl<B: Body> fmt::Debug for WithoutUsage<B> {
    /// Tells no contents: they may be somebody's conversation.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WithoutUsage")
            .field("hides", &self.stream.is_some())
            .finish_non_exhaustive()
    }
}
