//! Events that are ready together are written together.
//!
//! hyper's client hands over a body chunk by chunk, however many came in one piece, and
//! its server writes whenever there is nothing more at the moment: for a stream that is
//! one system call for each event. So what is there is gathered before it is let go. A
//! connection that a task of its own drives gets one turn to bring more:
//!
//! ```text
//! Empty -> Gathering    something came
//! Gathering -> Gathering    more came: another turn
//! Gathering -> Empty    nothing came in a turn, or it is enough, or the end
//! ```
//!
//! A turn is one of the scheduler's, microseconds; no clock runs. Where whoever polls the
//! body drives the connection, it has brought all there is, and gets none.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;

/// So much is not kept back for more, in bytes.
const ENOUGH: usize = 8 * 1024;

pin_project! {
    /// A body whose frames are joined where they are ready together.
    pub(crate) struct Together<B: Body> {
        #[pin]
        body: B,
        gathered: Gathered,
        // What came behind it and is no data; boxed, for it comes at the end of a stream.
        then: Option<Box<Result<Frame<Bytes>, B::Error>>>,
        // A task of its own brings the body.
        gets_turns: bool,
        // The body had its turn and brought nothing.
        had_turn: bool,
        is_over: bool,
    }
}

/// Mostly one event, which is not copied.
#[derive(Debug)]
enum Gathered {
    One(Bytes),
    Many(BytesMut),
}

impl<B: Body> Together<B> {
    /// `gets_turns` where a task of its own brings the body.
    pub(crate) fn new(body: B, gets_turns: bool) -> Self {
        Together {
            body,
            gathered: Gathered::One(Bytes::new()),
            then: None,
            gets_turns,
            had_turn: false,
            is_over: false,
        }
    }
}

impl Gathered {
    fn len(&self) -> usize {
        match self {
            Gathered::One(one) => one.len(),
            Gathered::Many(many) => many.len(),
        }
    }

    fn add(&mut self, more: Bytes) {
        match self {
            Gathered::One(one) if one.is_empty() => *one = more,
            Gathered::One(one) => {
                let mut many = BytesMut::with_capacity(ENOUGH);
                many.extend_from_slice(one);
                many.extend_from_slice(&more);
                *self = Gathered::Many(many);
            }
            Gathered::Many(many) => many.extend_from_slice(&more),
        }
    }

    fn take(&mut self) -> Option<Bytes> {
        let gathered = match std::mem::replace(self, Gathered::One(Bytes::new())) {
            Gathered::One(one) => one,
            Gathered::Many(many) => many.freeze(),
        };
        (!gathered.is_empty()).then_some(gathered)
    }
}

impl<B: Body<Data = Bytes>> Body for Together<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        while !*this.is_over && this.then.is_none() && this.gathered.len() < ENOUGH {
            match this.body.as_mut().poll_frame(cx) {
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => {
                        this.gathered.add(data);
                        *this.had_turn = false;
                    }
                    Err(other) => *this.then = Some(Box::new(Ok(other))),
                },
                Poll::Ready(Some(Err(error))) => *this.then = Some(Box::new(Err(error))),
                Poll::Ready(None) => *this.is_over = true,
                Poll::Pending if this.gathered.len() == 0 => return Poll::Pending,
                Poll::Pending if *this.had_turn || !*this.gets_turns => break,
                Poll::Pending => {
                    *this.had_turn = true;
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
            }
        }
        *this.had_turn = false;
        let gathered = this.gathered.take().map(|data| Ok(Frame::data(data)));
        Poll::Ready(gathered.or_else(|| this.then.take().map(|then| *then)))
    }

    fn is_end_stream(&self) -> bool {
        let is_empty = self.gathered.len() == 0 && self.then.is_none();
        is_empty && (self.is_over || self.body.is_end_stream())
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, gathered) = (self.body.size_hint(), self.gathered.len() as u64);
        let mut size = SizeHint::new();
        size.set_lower(rest.lower().saturating_add(gathered));
        if let Some(upper) = rest.upper() {
            size.set_upper(upper.saturating_add(gathered));
        }
        size
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::{Wake, Waker};

    use http::HeaderMap;

    use super::*;

    type Came = Poll<Option<Result<Frame<Bytes>, &'static str>>>;

    /// A body that is as it is told at each poll, and pending from then on.
    struct Told(VecDeque<Came>);

    impl Body for Told {
        type Data = Bytes;
        type Error = &'static str;

        fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Came {
            self.0.pop_front().unwrap_or(Poll::Pending)
        }
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn data(text: &'static str) -> Came {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(text)))))
    }

    const PENDING: Came = Poll::Pending;
    const END: Came = Poll::Ready(None);

    /// What is said at each poll, in words; `.` for nothing yet, and a `*` where it has
    /// asked to be polled again.
    fn said(told: impl IntoIterator<Item = Came>, polls: usize) -> String {
        said_by(told, polls, true)
    }

    fn said_by(told: impl IntoIterator<Item = Came>, polls: usize, gets_turns: bool) -> String {
        let mut body = Together::new(Told(told.into_iter().collect()), gets_turns);
        let woken = Arc::<Woken>::default();
        let waker = Waker::from(Arc::clone(&woken));
        let mut cx = Context::from_waker(&waker);
        let mut said = Vec::new();
        for _ in 0..polls {
            let before = woken.0.load(Ordering::Relaxed);
            let mut word = match Pin::new(&mut body).poll_frame(&mut cx) {
                Poll::Pending => ".".to_owned(),
                Poll::Ready(None) => "end".to_owned(),
                Poll::Ready(Some(Err(error))) => error.to_owned(),
                Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                    Ok(data) => String::from_utf8(data.to_vec()).unwrap(),
                    Err(_) => "trailers".to_owned(),
                },
            };
            if woken.0.load(Ordering::Relaxed) > before {
                word.push('*');
            }
            said.push(word);
        }
        said.join(" ")
    }

    #[test]
    fn what_is_ready_together_is_one() {
        let together = [data("a"), data("b"), data("c"), PENDING];
        assert_eq!(said(together, 3), ".* abc .");
        let in_turn = [data("a"), PENDING, data("b"), PENDING, PENDING];
        assert_eq!(said(in_turn, 4), ".* .* ab .");
    }

    #[test]
    fn what_came_alone_waits_for_one_turn_and_no_longer() {
        let alone = [data("a"), PENDING, PENDING, data("b"), PENDING, PENDING];
        assert_eq!(said(alone, 5), ".* a .* b .");
    }

    #[test]
    fn nobody_waits_for_what_brought_all_there_is() {
        let together = [data("a"), data("b"), PENDING, data("c"), PENDING, PENDING];
        assert_eq!(said_by(together, 3, false), "ab c .");
    }

    #[test]
    fn nothing_is_kept_behind_the_end() {
        assert_eq!(said([data("a"), data("b"), END, END], 2), "ab end");
        let error = Poll::Ready(Some(Err("broken")));
        assert_eq!(said([data("a"), error, END], 3), "a broken end");
        let trailers = Poll::Ready(Some(Ok(Frame::trailers(HeaderMap::new()))));
        assert_eq!(said([data("a"), trailers, END], 3), "a trailers end");
        assert_eq!(said([END], 1), "end");
    }

    #[test]
    fn enough_is_let_go_at_once() {
        static LONG: [u8; ENOUGH] = [b'x'; ENOUGH];
        let long = || Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&LONG)))));
        let mut body = Together::new(Told([long(), long(), PENDING].into()), true);
        let mut cx = Context::from_waker(Waker::noop());
        for _ in 0..2 {
            let frame = Pin::new(&mut body).poll_frame(&mut cx);
            let Poll::Ready(Some(Ok(frame))) = frame else {
                panic!("it is ready");
            };
            assert_eq!(frame.into_data().unwrap().as_ptr(), LONG.as_ptr());
        }
    }
}
