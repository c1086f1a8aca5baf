//! An answer on its way out of a connection.
//!
//! Over HTTP/1 it has the connection's turn until it is over. Over HTTP/2 there is no turn, and
//! the socket says nothing of who reads what: a client can let others go by an answer that
//! it reads nothing of. hyper asks an answer's body for more when there is room for it, in a
//! task for each answer, and so each of these has its own clock. What came in one piece is
//! handed over in small ones, or whoever reads slowly would be taken for one who does not.

use std::future::Future;
use std::mem::{replace, take};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::task_local;
use tokio::time::{Sleep, sleep};

use crate::check::Turn;

/// So much is handed over at once over HTTP/2, which is as much as its frames have room for.
const PIECE: usize = 16 * 1024;

task_local! {
    /// Of the answer that a task is for.
    static PACE: Arc<Pace>;
}

/// How an answer is taken.
#[derive(Debug, Default)]
struct Pace {
    /// How often hyper has asked for more.
    asked: AtomicU64,
    /// Whether it was handed a piece then, and so has asked for nothing since.
    is_handed: AtomicBool,
}

pin_project! {
    /// An answer's body.
    pub(crate) struct Outgoing<B> {
        #[pin]
        body: B,
        turn: Turn,
        // Over HTTP/2.
        pace: Option<Arc<Pace>>,
        // What is still to be handed over of the last frame.
        rest: Bytes,
    }
}

impl<B> Outgoing<B> {
    /// To be made by the task that hands it over.
    pub(crate) fn new(body: B, turn: Turn) -> Self {
        Outgoing {
            body,
            turn,
            pace: PACE.try_with(Arc::clone).ok(),
            rest: Bytes::new(),
        }
    }
}

impl Pace {
    fn asked(&self, is_handed: bool) {
        self.asked.fetch_add(1, Ordering::Relaxed);
        self.is_handed.store(is_handed, Ordering::Relaxed);
    }
}

/// The next piece of what is there.
fn piece(mut data: Bytes, rest: &mut Bytes) -> Frame<Bytes> {
    let length = data.len().min(PIECE);
    let piece = data.split_to(length);
    *rest = data;
    Frame::data(piece)
}

impl<B: Body<Data = Bytes>> Body for Outgoing<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        let Some(pace) = this.pace else {
            return this.body.poll_frame(cx);
        };
        let frame = match this.rest.is_empty() {
            true => this.body.poll_frame(cx),
            false => Poll::Ready(Some(Ok(Frame::data(take(this.rest))))),
        };
        pace.asked(matches!(frame, Poll::Ready(Some(_))));
        frame.map_ok(|frame| match frame.into_data() {
            Ok(data) => piece(data, this.rest),
            Err(trailers) => trailers,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let (rest, body) = (self.rest.len() as u64, self.body.size_hint());
        let mut all = SizeHint::new();
        all.set_lower(body.lower().saturating_add(rest));
        if let Some(upper) = body.upper() {
            all.set_upper(upper.saturating_add(rest));
        }
        all
    }
}

/// Runs the answers of one connection, each for as long as its client takes it.
///
/// # Cloning
///
/// Clones are the same connection's.
#[derive(Clone, Debug)]
pub(crate) struct Answers {
    /// How long a client may take nothing of what is ready for it.
    limit: Duration,
    open: Arc<AtomicUsize>,
}

impl Answers {
    pub(crate) fn new(limit: Duration) -> Self {
        Answers {
            limit,
            open: Arc::default(),
        }
    }

    /// Waits until there was nothing more to hand over for so long: what is left then lies in
    /// the connection, and nobody reads it.
    pub(crate) async fn are_over(&self, limit: Duration) {
        let mut was_over = false;
        loop {
            sleep(limit).await;
            let is_over = self.open.load(Ordering::Relaxed) == 0;
            if was_over && is_over {
                return;
            }
            was_over = is_over;
        }
    }
}

impl<F> Executor<F> for Answers
where
    F: Future<Output = ()> + Send + 'static,
{
    fn execute(&self, answering: F) {
        let pace = Arc::<Pace>::default();
        tokio::spawn(Answering {
            answering: PACE.scope(Arc::clone(&pace), answering),
            pace,
            asked: 0,
            patience: None,
            limit: self.limit,
            _open: Open::of(&self.open),
        });
    }
}

/// One of them.
struct Open(Arc<AtomicUsize>);

impl Open {
    fn of(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Ordering::Relaxed);
        Open(Arc::clone(open))
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

pin_project! {
    /// Dropping it resets its stream.
    struct Answering<F> {
        #[pin]
        answering: F,
        pace: Arc<Pace>,
        // So often hyper had asked when the clock was last set.
        asked: u64,
        patience: Option<Pin<Box<Sleep>>>,
        limit: Duration,
        _open: Open,
    }
}

impl<F: Future<Output = ()>> Future for Answering<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.answering.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let asked = this.pace.asked.load(Ordering::Relaxed);
        if asked != replace(this.asked, asked) {
            *this.patience = None;
        }
        if !this.pace.is_handed.load(Ordering::Relaxed) {
            return Poll::Pending;
        }
        let limit = *this.limit;
        let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(limit)));
        patience.as_mut().poll(cx).map(|()| {
            tracing::debug!("a client reads nothing of its answer");
        })
    }
}
