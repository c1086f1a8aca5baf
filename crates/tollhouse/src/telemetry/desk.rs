//! Where a queue tells of itself.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::Name;
use super::handles::{Handles, Shared};
use crate::error::Refused;
use crate::rules::stats::{Counts, Stats};

/// Tells the recorder of one queue, never under a lock: the recorder is a
/// user's, and may look at the queue that it is told of.
///
/// Levels are told by one at a time. Who finds another at it leaves a mark,
/// for which that one looks again: so of two who changed something, the later
/// has the last word, and nobody waits for anybody's recorder.
#[derive(Debug, Default)]
pub(crate) struct Desk(Mutex<Book>);

#[derive(Default)]
struct Book {
    handles: Option<Shared>,
    /// What was told last by these handles.
    told: Option<Stats>,
    /// What was told last by whichever.
    number: u64,
    counted: Counts,
    /// The thread that is telling.
    teller: Option<usize>,
    /// Whether something changed since the teller looked.
    stale: bool,
}

/// So often the teller looks again before it leaves that to the next one, who
/// is there at once where so much is going on.
const LOOKS: usize = 100;

impl Desk {
    fn book(&self) -> MutexGuard<'_, Book> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The handles of the present recorder.
    fn handles(&self, name: Name<'_>, gate: &'static str) -> Shared {
        let known = self.book().handles.clone();
        match known {
            Some(handles) if handles.are_current(name) => handles,
            _ => self.renew(name, gate),
        }
    }

    /// Looks the handles up; not under the lock, because that asks the recorder.
    #[cold]
    fn renew(&self, name: Name<'_>, gate: &'static str) -> Shared {
        let handles = Shared::new(Handles::resolve(name, gate));
        let mut book = self.book();
        let old = book.handles.replace(Shared::clone(&handles));
        // All is told again to what may be another recorder.
        book.told = None;
        drop(book);
        drop(old);
        handles
    }

    pub(crate) fn admitted(&self, name: Name<'_>, gate: &'static str, waited: Option<Duration>) {
        self.handles(name, gate).admitted(waited);
    }

    pub(crate) fn refused(&self, name: Name<'_>, gate: &'static str, refused: &Refused) {
        self.handles(name, gate).refused(name, gate, refused);
    }

    /// Tells how the queue stood when it was let go of; `again` looks how it
    /// stands by now.
    pub(crate) fn tell(
        &self,
        name: Name<'_>,
        gate: &'static str,
        mut now: Stats,
        again: impl Fn() -> Stats,
    ) {
        let Some(turn) = self.begin(now.number) else {
            return;
        };
        for _ in 0..LOOKS {
            let handles = self.handles(name, gate);
            let (told, counted) = turn.note(now);
            handles.tell(name, told.as_ref(), &counted, &now);
            if turn.is_done() {
                return;
            }
            now = again();
        }
    }

    /// Who tells already is told of a change, unless it is this thread, whose
    /// recorder looks at what it is told of: that would never end.
    fn begin(&self, number: u64) -> Option<Turn<'_>> {
        let mut book = self.book();
        match book.teller {
            Some(thread) => {
                book.stale |= thread != this_thread();
                None
            }
            // Somebody who let go later has told already.
            None if book.number > number => None,
            None => {
                book.teller = Some(this_thread());
                Some(Turn(self))
            }
        }
    }
}

/// One thread's turn to tell. It ends by itself, even if the recorder panics.
struct Turn<'d>(&'d Desk);

impl Turn<'_> {
    /// What was told before, now that `now` is.
    fn note(&self, now: Stats) -> (Option<Stats>, Counts) {
        let mut book = self.0.book();
        book.stale = false;
        book.number = now.number;
        let counted = std::mem::replace(&mut book.counted, now.counts);
        (book.told.replace(now), counted)
    }

    /// Ends the turn, unless something has changed meanwhile.
    fn is_done(&self) -> bool {
        let mut book = self.0.book();
        if !book.stale {
            book.teller = None;
        }
        !book.stale
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut book = self.0.book();
        if book.teller == Some(this_thread()) {
            book.teller = None;
        }
    }
}

impl std::fmt::Debug for Book {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Book")
            .field("told", &self.told)
            .finish_non_exhaustive()
    }
}

/// Tells threads apart at less cost than `ThreadId` does.
fn this_thread() -> usize {
    thread_local!(static MARK: u8 = const { 0 });
    MARK.with(|mark| std::ptr::from_ref(mark).addr())
}
