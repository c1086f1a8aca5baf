//! What moved when the head of the line was asked again.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::task::Waker;

use crate::time::Moment;

/// What moved when the head of the line was asked again.
///
/// Whoever was called is woken when this is dropped, so declare it before the
/// lock: a subscriber that panics as the lock is let go of, or a waker that
/// panics, must cost nobody else his wake-up.
#[derive(Default)]
pub(super) struct Moved {
    /// To be woken once the lock is gone. Mostly there is one, and a vector
    /// would cost an allocation for it.
    first: Option<Waker>,
    others: Vec<Waker>,
    spare: Option<Waker>,
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

    #[inline]
    pub(super) fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
        }
    }

    /// Wakes all already, where the lock is gone and there is more to do.
    #[inline]
    pub(super) fn wake(&mut self) {
        if let Some(first) = self.first.take() {
            self.wake_all(first);
        }
    }

    /// Wakes all, each for itself, then goes on with the first panic, as if
    /// that waker had been the last: it is not ours to hide.
    fn wake_all(&mut self, first: Waker) {
        let mut panic = wake(first);
        for waker in std::mem::take(&mut self.others) {
            panic = panic.or(wake(waker));
        }
        match panic {
            Some(panic) if !std::thread::panicking() => resume_unwind(panic),
            _ => {}
        }
    }
}

/// Its panic, if it does.
fn wake(waker: Waker) -> Option<Box<dyn Any + Send>> {
    catch_unwind(AssertUnwindSafe(|| waker.wake())).err()
}

impl Drop for Moved {
    #[inline]
    fn drop(&mut self) {
        self.wake();
    }
}
