//! Waiting for the last one to leave.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use super::Queue;
use crate::rules::{Key, Rule};

/// Waits until nobody holds anything and nobody waits. Dropped, it leaves
/// nothing behind.
pub(crate) struct Idle<'q, R: Rule> {
    queue: &'q Queue<R>,
    key: Option<Key>,
}

impl<'q, R: Rule> Idle<'q, R> {
    pub(super) fn new(queue: &'q Queue<R>) -> Self {
        Idle { queue, key: None }
    }
}

impl<R: Rule> Future for Idle<'_, R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        // Copied before the lock and dropped after it: a waker is a user's.
        let mut waker = Some(cx.waker().clone());
        let mut state = self.queue.lock();
        let key = match self.key {
            Some(key) => key,
            None => state.watchers.insert(None),
        };
        let is_idle = state.inside == 0 && state.lanes.is_deserted();
        if is_idle {
            waker = state.watchers.remove(key);
            self.key = None;
        } else {
            // It stands aside while it has been called.
            state.watchers.step_aside(key);
            state.watchers.stand(key);
            std::mem::swap(state.watchers.get_mut(key), &mut waker);
            self.key = Some(key);
        }
        drop(state);
        drop(waker);
        match is_idle {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl<R: Rule> Drop for Idle<'_, R> {
    fn drop(&mut self) {
        if let Some(key) = self.key.take() {
            let waker = self.queue.lock().watchers.remove(key);
            drop(waker);
        }
    }
}
