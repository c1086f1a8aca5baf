//! How long something may stand still.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};

/// A timer that runs while something is pending.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    /// Made at the first wait; most sockets never wait.
    timer: Option<Pin<Box<Sleep>>>,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Patience { limit, timer: None }
    }

    /// What `poll` says, or an error once it was pending for too long.
    pub(super) fn of<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match poll(cx) {
            Poll::Ready(ended) => {
                self.timer = None;
                Poll::Ready(ended)
            }
            Poll::Pending => self.poll(cx),
        }
    }

    /// Ready, with an error, when the time is over that began with the first poll.
    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let limit = self.limit;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}
