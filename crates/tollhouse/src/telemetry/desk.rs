//! Where a queue tells of itself.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Duration;

use super::Name;
use super::figures::Figures;
use super::handles::{Handles, Shared};
use crate::error::Refused;
use crate::rules::stats::Stats;

/// Tells the recorder of one queue, while nobody can wait for it: the recorder is a
/// user's, and may look at the queue that it is told of.
///
/// One tells at a time. Who finds another at it leaves a mark, for which that one
/// looks again: so of two who changed something, the later has the last word, and
/// nobody waits for anybody's recorder.
#[derive(Default)]
pub(crate) struct Desk {
    /// Held by the one whose turn it is. It is only ever tried, so nothing waits for it.
    book: Mutex<Book>,
    /// The thread whose turn it is.
    teller: AtomicUsize,
    /// Whether something has changed since the teller looked.
    stale: AtomicBool,
    /// For those who have something else to tell meanwhile.
    handles: Mutex<Option<Shared>>,
}

#[derive(Default)]
struct Book {
    handles: Option<Shared>,
    /// How often they were used, so that the clock is read now and then only.
    uses: u32,
    told: Told,
}

/// What was told last.
#[derive(Default)]
struct Told {
    figures: Figures,
    /// Of which letting go they were.
    number: u64,
}

/// So often the teller looks again before it leaves that to the next one, who
/// is there at once where so much is going on.
const LOOKS: usize = 100;

/// One use in so many reads the clock, which costs more than all the rest.
const LOOKS_AT_CLOCK: u32 = 16;

/// No thread.
const NOBODY: usize = 0;

impl Desk {
    /// One was let in, who waited so long.
    pub(crate) fn admitted(&self, name: Name<'_>, gate: &'static str, waited: Option<Duration>) {
        self.handles(name, gate).admitted(waited);
    }

    /// The same, told apart by the caller's name.
    pub(crate) fn admitted_as(
        &self,
        name: Name<'_>,
        gate: &'static str,
        caller: &Arc<str>,
        waited: Option<Duration>,
    ) {
        self.handles(name, gate).admitted_as(name, caller, waited);
    }

    pub(crate) fn refused(&self, name: Name<'_>, gate: &'static str, refused: &Refused) {
        self.handles(name, gate).refused(name, gate, refused);
    }

    /// Tells how the queue stood when it was let go of, and how many were let in by then
    /// who had not waited; `again` looks how it stands by now.
    #[inline]
    pub(crate) fn tell(
        &self,
        name: Name<'_>,
        gate: &'static str,
        mut now: Stats,
        let_in: usize,
        again: impl Fn() -> Stats,
    ) {
        let mut let_in = 0..let_in;
        let mut has_marked = false;
        for _ in 0..LOOKS {
            let Some(mut turn) = self.try_turn() else {
                // After the mark once more: that turn may be over, and the mark too late.
                if !has_marked && self.mark() {
                    has_marked = true;
                    continue;
                }
                let_in.for_each(|_| self.admitted(name, gate, None));
                return;
            };
            // Somebody marked it for a turn that was over by then.
            if self.stale.load(Ordering::Acquire) && self.stale.swap(false, Ordering::AcqRel) {
                now = again();
            }
            let (handles, told) = turn.begin(name, gate);
            let_in.by_ref().for_each(|_| handles.admitted(None));
            // Else somebody who let go later has told already.
            if told.number <= now.number {
                told.number = now.number;
                handles.tell(name, gate, &mut told.figures, &now);
            }
            drop(turn);
            if !self.stale.swap(false, Ordering::AcqRel) {
                return;
            }
            now = again();
        }
    }

    /// The turn to tell, unless it is another's.
    #[inline]
    fn try_turn(&self) -> Option<Turn<'_>> {
        let book = match self.book.try_lock() {
            Ok(book) => book,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        self.teller.store(this_thread(), Ordering::Relaxed);
        Some(Turn { desk: self, book })
    }

    /// Leaves a mark for the teller, unless that is this thread, whose recorder looks at
    /// what it is told of: that would never end.
    #[cold]
    fn mark(&self) -> bool {
        let is_another = self.teller.load(Ordering::Relaxed) != this_thread();
        if is_another {
            self.stale.swap(true, Ordering::AcqRel);
        }
        is_another
    }

    /// The handles of the present recorder, whosever turn it is.
    fn handles(&self, name: Name<'_>, gate: &'static str) -> Shared {
        let known = self.kept_handles().clone();
        let known = known.filter(|handles| handles.are_current(name, true));
        known.unwrap_or_else(|| self.renew(name, gate))
    }

    /// Looks the handles up; not under the lock, because that asks the recorder.
    #[cold]
    fn renew(&self, name: Name<'_>, gate: &'static str) -> Shared {
        let handles = Shared::new(Handles::resolve(name, gate));
        let old = self.kept_handles().replace(Shared::clone(&handles));
        drop(old);
        handles
    }

    fn kept_handles(&self) -> MutexGuard<'_, Option<Shared>> {
        self.handles.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One thread's turn to tell. It ends by itself, even if the recorder panics.
struct Turn<'d> {
    desk: &'d Desk,
    book: MutexGuard<'d, Book>,
}

impl Turn<'_> {
    /// The handles of the present recorder, and what was told by them.
    #[inline]
    fn begin(&mut self, name: Name<'_>, gate: &'static str) -> (&Handles, &mut Told) {
        let Book {
            handles,
            uses,
            told,
        } = &mut *self.book;
        *uses = uses.wrapping_add(1);
        let reads_clock = uses.is_multiple_of(LOOKS_AT_CLOCK);
        let are_current = |it: &Shared| it.are_current(name, reads_clock);
        if !handles.as_ref().is_some_and(are_current) {
            *handles = None;
            // All is told again to what may be another recorder.
            told.figures.forget_gauges();
        }
        let handles = handles.get_or_insert_with(|| self.desk.renew(name, gate));
        (handles, told)
    }
}

impl Drop for Turn<'_> {
    #[inline]
    fn drop(&mut self) {
        self.desk.teller.store(NOBODY, Ordering::Relaxed);
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// Tells threads apart at less cost than `ThreadId` does.
#[inline]
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}
