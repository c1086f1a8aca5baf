//! What is due when, in virtual time.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep, sleep_until};

/// Steps in the order of their instants, in milliseconds since it began; of one instant
/// in that of their numbers, and then of the steps.
pub(crate) struct Agenda<S> {
    start: Instant,
    due: BinaryHeap<Reverse<(u64, usize, S)>>,
    sleep: Pin<Box<Sleep>>,
}

impl<S: Ord + Copy> Agenda<S> {
    /// Begins now.
    pub(crate) fn new(steps: impl IntoIterator<Item = (u64, usize, S)>) -> Self {
        let start = Instant::now();
        Agenda {
            start,
            due: steps.into_iter().map(Reverse).collect(),
            sleep: Box::pin(sleep_until(start)),
        }
    }

    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).expect("not so long")
    }

    pub(crate) fn at(&self, millis: u64) -> Instant {
        self.start + Duration::from_millis(millis)
    }

    pub(crate) fn push(&mut self, step: (u64, usize, S)) {
        self.due.push(Reverse(step));
    }

    /// The next step once it is due; `None` if there is none.
    pub(crate) fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, S)>> {
        let Some(&Reverse((at, id, step))) = self.due.peek() else {
            return Poll::Ready(None);
        };
        if at > self.now() {
            let until = self.at(at);
            if self.sleep.deadline() != until {
                self.sleep.as_mut().reset(until);
            }
            ready!(self.sleep.as_mut().poll(cx));
        }
        self.due.pop();
        Poll::Ready(Some((id, step)))
    }
}
