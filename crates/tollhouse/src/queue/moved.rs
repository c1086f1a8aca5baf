//! What moved when the head of the line was asked again.

use std::task::Waker;

use crate::time::Moment;

/// What moved when the head of the line was asked again.
#[derive(Default)]
pub(super) struct Moved {
    /// To be woken once the lock is gone. Mostly there is one, and a vector
    /// would cost an allocation for it.
    pub(super) first: Option<Waker>,
    pub(super) others: Vec<Waker>,
    pub(super) spare: Option<Waker>,
    /// The instant for which the running head must set its timer.
    pub(super) alarm: Option<Moment>,
}

impl Moved {
    /// Who is running already need not be woken. Its waker is kept all the
    /// same, to be dropped after the lock is gone.
    pub(super) fn called(&mut self, waker: Waker, is_running: bool) {
        if is_running {
            self.spare = Some(waker);
        } else {
            self.push(waker);
        }
    }

    pub(super) fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
        }
    }

    #[inline]
    pub(super) fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
        }
        if !self.others.is_empty() {
            self.others.into_iter().for_each(Waker::wake);
        }
    }
}
