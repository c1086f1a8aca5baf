//! What a connection's reader and its server tell each other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

use super::Flaw;

/// Of one connection.
#[derive(Debug, Default)]
pub(crate) struct Signals {
    /// What is wrong with its last request, once something is.
    flaw: OnceLock<Flaw>,
    /// Whether it is HTTP no more, because somebody has agreed to that. It is said before
    /// the peer can know.
    is_opened: AtomicBool,
    /// Whether a request is not answered to its end yet.
    is_busy: AtomicBool,
    /// To be woken when it is.
    reader: AtomicWaker,
}

/// The turn of a request at its connection, until its answer is over.
#[derive(Debug)]
pub(crate) struct Turn(Arc<Signals>);

impl Signals {
    pub(crate) fn flaw(&self) -> Option<Flaw> {
        self.flaw.get().copied()
    }

    /// Nobody says it twice: nothing is read from then on.
    pub(super) fn is_flawed(&self, flaw: Flaw) {
        let _ = self.flaw.set(flaw);
    }

    pub(crate) fn open(&self) {
        self.is_opened.store(true, Ordering::Release);
    }

    pub(super) fn is_opened(&self) -> bool {
        self.is_opened.load(Ordering::Acquire)
    }

    /// Begins the turn of a request.
    pub(crate) fn turn(self: &Arc<Self>) -> Turn {
        self.is_busy.store(true, Ordering::Release);
        Turn(Arc::clone(self))
    }

    /// Waits until no request is under way.
    pub(super) fn poll_idle(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_idle() {
            return Poll::Ready(());
        }
        self.reader.register(cx.waker());
        // Or it ended just now.
        match self.is_idle() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        !self.is_busy.load(Ordering::Acquire)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.0.is_busy.store(false, Ordering::Release);
        self.0.reader.wake();
    }
}
