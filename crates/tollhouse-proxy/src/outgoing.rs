//! An answer on its way out of a connection.
//!
//! Over HTTP/1 it has the connection's turn until it is over. Over HTTP/2 there is no turn, and
//! the socket says nothing of who reads what: a client can let others go by an answer that
//! it reads nothing of. hyper asks an answer's body for more when there is room for it, in a
//! task for each answer, and so each of these has its own clock.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use hyper::rt::Executor;
use pin_project_lite::pin_project;
use tokio::task_local;
use tokio::time::{Sleep, sleep};

use crate::check::Turn;

task_local! {
    /// Of the answer that a task is for.
    static PACE: Arc<Pace>;
}

/// How an answer is taken.
#[derive(Debug, Default)]
struct Pace {
    /// How many pieces were handed over, where hyper has not asked for more since; else 0.
    handed: AtomicU64,
}

pin_project! {
    /// An answer's body.
    pub(crate) struct Outgoing {
        #[pin]
        body: Body,
        turn: Turn,
        // Over HTTP/2.
        pace: Option<Arc<Pace>>,
        handed: u64,
    }
}

impl Outgoing {
    /// To be made by the task that hands it over.
    pub(crate) fn new(body: Body, turn: Turn) -> Self {
        Outgoing {
            body,
            turn,
            pace: PACE.try_with(Arc::clone).ok(),
            handed: 0,
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let this = self.project();
        let frame = this.body.poll_frame(cx);
        if let Some(pace) = this.pace {
            *this.handed += 1;
            let is_handed = matches!(frame, Poll::Ready(Some(_)));
            let handed = if is_handed { *this.handed } else { 0 };
            pace.handed.store(handed, Ordering::Relaxed);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
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
    /// As many clones as answers, and one.
    open: Arc<()>,
}

impl Answers {
    pub(crate) fn new(limit: Duration) -> Self {
        Answers {
            limit,
            open: Arc::default(),
        }
    }

    /// Waits until there was nothing more to hand over for as long as a client may take
    /// nothing: what is left then lies in the connection, and nobody reads it.
    pub(crate) async fn are_over(&self) {
        let mut was_over = false;
        loop {
            sleep(self.limit).await;
            let is_over = Arc::strong_count(&self.open) == 1;
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
            taken: 0,
            patience: None,
            limit: self.limit,
            _open: Arc::clone(&self.open),
        });
    }
}

pin_project! {
    /// Dropping it resets its stream.
    struct Answering<F> {
        #[pin]
        answering: F,
        pace: Arc<Pace>,
        // As many pieces were handed over when the clock was last set.
        taken: u64,
        patience: Option<Pin<Box<Sleep>>>,
        limit: Duration,
        _open: Arc<()>,
    }
}

impl<F: Future<Output = ()>> Future for Answering<F> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if this.answering.poll(cx).is_ready() {
            return Poll::Ready(());
        }
        let handed = this.pace.handed.load(Ordering::Relaxed);
        if handed == 0 {
            *this.patience = None;
            return Poll::Pending;
        }
        if handed != *this.taken {
            *this.taken = handed;
            *this.patience = None;
        }
        let limit = *this.limit;
        let patience = this.patience.get_or_insert_with(|| Box::pin(sleep(limit)));
        patience.as_mut().poll(cx).map(|()| {
            tracing::debug!("a client reads nothing of its answer");
        })
    }
}
