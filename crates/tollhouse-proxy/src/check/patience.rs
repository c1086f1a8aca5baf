//! How long something may stand still.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Sleep, sleep};
use tollhouse_openai::Deadline;

/// A timer that runs while something is pending.
#[derive(Debug)]
pub(super) struct Patience {
    limit: Duration,
    /// Made at the first wait; most sockets never wait.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether a wait has begun that is not over.
    is_running: bool,
}

impl Patience {
    pub(super) fn new(limit: Duration) -> Self {
        Patience {
            limit,
            timer: None,
            is_running: false,
        }
    }

    /// What `poll` says, or an error once it was pending for too long.
    pub(super) fn of<T>(
        &mut self,
        cx: &mut Context<'_>,
        poll: impl FnOnce(&mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        match poll(cx) {
            Poll::Ready(ended) => {
                self.end();
                self.timer = None;
                Poll::Ready(ended)
            }
            Poll::Pending => self.poll(cx),
        }
    }

    /// Ready, with an error, when the time is over that began with the first poll.
    pub(super) fn poll<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.is_running {
                    timer.as_mut().reset(Deadline::within(self.limit).instant());
                }
                timer
            }
            none => none.insert(Box::pin(sleep(self.limit))),
        };
        self.is_running = true;
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Whether something is waited for.
    pub(super) fn is_running(&self) -> bool {
        self.is_running
    }

    /// The wait is over. The timer stays for the next one: to put it off costs less than another.
    pub(super) fn end(&mut self) {
        self.is_running = false;
    }
}
