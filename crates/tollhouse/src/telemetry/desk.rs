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
    /// How often they were used, so that the clock is read now and then only.
    uses: u32,
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
        let known = self.book().current(name);
        known.unwrap_or_else(|| self.renew(name, gate))
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
        let mut book = self.book();
        if !book.may_tell(now.number) {
            return;
        }
        let known = book.current(name);
        let (mut told, mut counted) = book.note(now);
        drop(book);
        let mut turn = Turn(Some(self));
        let handles = known.unwrap_or_else(|| {
            told = None;
            self.renew(name, gate)
        });
        for _ in 0..LOOKS {
            handles.tell(name, told.as_ref(), &counted, &now);
            if turn.is_over() {
                return;
            }
            now = again();
            (told, counted) = self.book().note(now);
        }
    }
}

impl Book {
    /// Who tells already is told of a change, unless it is this thread, whose
    /// recorder looks at what it is told of: that would never end.
    fn may_tell(&mut self, number: u64) -> bool {
        match self.teller {
            Some(thread) => {
                self.stale |= thread != this_thread();
                false
            }
            // Else somebody who let go later has told already.
            None => self.number <= number,
        }
    }

    /// What was told before, now that this thread tells `now`.
    fn note(&mut self, now: Stats) -> (Option<Stats>, Counts) {
        self.teller = Some(this_thread());
        self.stale = false;
        self.number = now.number;
        let counted = std::mem::replace(&mut self.counted, now.counts);
        (self.told.replace(now), counted)
    }

    /// The handles, where the present recorder still listens to them.
    fn current(&mut self, name: Name<'_>) -> Option<Shared> {
        self.uses = self.uses.wrapping_add(1);
        let reads_clock = self.uses.is_multiple_of(LOOKS_AT_CLOCK);
        let known = self.handles.as_ref();
        known
            .filter(|handles| handles.are_current(name, reads_clock))
            .cloned()
    }
}

/// One use in so many reads the clock, which costs more than all the rest.
const LOOKS_AT_CLOCK: u32 = 16;

/// One thread's turn to tell. It ends by itself, even if the recorder panics.
struct Turn<'d>(Option<&'d Desk>);

impl Turn<'_> {
    /// Ends the turn, unless something has changed meanwhile.
    fn is_over(&mut self) -> bool {
        let Some(desk) = self.0 else { return true };
        let mut book = desk.book();
        if !book.stale {
            book.teller = None;
            self.0 = None;
        }
        !book.stale
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        if let Some(desk) = self.0 {
            desk.book().teller = None;
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
