//! How many bytes of answers a run holds at once.
//!
//! How long an answer is shows only while it comes. So readers take room for
//! each piece of it, and wait where there is none; but the first of them in the
//! order of the lines never does, so that the others' turn comes. And once the
//! length of answers is known, fewer requests are taken at once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::{Duration, Instant, timeout_at};

/// Answers that share a connection may keep each other's from coming: where
/// nothing has come for so long, all are read on.
const STILL: Duration = Duration::from_secs(5);
/// Of longer answers only one is copied at a time.
const COPIED_FREELY: usize = 1024 * 1024;

/// The room for answers of one run.
#[derive(Debug)]
pub(crate) struct Room {
    most: usize,
    state: Mutex<State>,
    /// Told to all that wait, whenever room is given back or the first is done.
    freed: Notify,
    copying: Semaphore,
}

#[derive(Debug)]
struct State {
    used: usize,
    /// The lines whose answers are being read.
    reading: BTreeSet<u64>,
    /// When a reader last got room.
    moved: Instant,
    /// About the longest of the answers that came lately.
    longest: usize,
}

/// The room that one answer takes, until this is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    room: Arc<Room>,
    line: u64,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self {
            most,
            state: Mutex::new(State {
                used: 0,
                reading: BTreeSet::new(),
                moved: Instant::now(),
                longest: 0,
            }),
            freed: Notify::new(),
            copying: Semaphore::new(1),
        })
    }

    /// Whether there is room for one more answer beside those of so many
    /// requests, if all are about as long as the longest lately.
    pub(crate) fn is_for_one_more(&self, requests: usize) -> bool {
        let longest = self.lock().longest;
        requests == 0 || (requests + 1).saturating_mul(longest) <= self.most
    }

    /// Waits for the turn to copy an answer of this length.
    pub(crate) async fn turn_to_copy(&self, bytes: usize) -> Option<SemaphorePermit<'_>> {
        if bytes <= COPIED_FREELY {
            return None;
        }
        // Never closed.
        self.copying.acquire().await.ok()
    }

    /// No sum is ever half made, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Share {
    /// No room yet, for the answer to a line.
    pub(crate) fn new(room: Arc<Room>, line: u64) -> Self {
        Self {
            room,
            line,
            bytes: 0,
        }
    }

    /// The answer begins.
    pub(crate) fn begin(&mut self) {
        self.room.lock().reading.insert(self.line);
    }

    /// Waits until there is room for so many bytes more.
    pub(crate) async fn take(&mut self, bytes: usize) {
        loop {
            let room = self.room.clone();
            let freed = room.freed.notified();
            tokio::pin!(freed);
            // From here on no news is missed.
            freed.as_mut().enable();
            let Err(again) = self.try_take(bytes) else {
                return;
            };
            // Either is a reason to look again.
            let _ = timeout_at(again, freed).await;
        }
    }

    /// # Errors
    ///
    /// When to try again, if nothing has moved until then.
    fn try_take(&mut self, bytes: usize) -> Result<(), Instant> {
        let now = Instant::now();
        let mut state = self.room.lock();
        let fits = state.used.saturating_add(bytes) <= self.room.most;
        let is_first = state.reading.first() == Some(&self.line);
        if !fits && !is_first && now.saturating_duration_since(state.moved) < STILL {
            return Err(state.moved + STILL);
        }
        state.used = state.used.saturating_add(bytes);
        state.moved = now;
        self.bytes += bytes;
        Ok(())
    }

    /// The answer has been read to its end.
    pub(crate) fn is_read(&self) {
        let mut state = self.room.lock();
        state.reading.remove(&self.line);
        // Falls to half within five answers, rises at once.
        state.longest = self.bytes.max(state.longest - state.longest / 8);
        drop(state);
        self.room.freed.notify_waiters();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.room.lock();
        state.reading.remove(&self.line);
        state.used -= self.bytes;
        drop(state);
        self.room.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn begin(room: &Arc<Room>, line: u64) -> Share {
        let mut share = Share::new(room.clone(), line);
        share.begin();
        share
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_reads_on_where_the_others_wait() {
        let room = Room::new(100);
        let mut second = begin(&room, 2);
        second.take(90).await;
        let mut first = begin(&room, 1);
        first.take(200).await;
        let start = Instant::now();
        let waits = async {
            second.take(20).await;
            start.elapsed()
        };
        let over = async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            first.is_read();
        };
        // Then the second is the first.
        let (waited, ()) = tokio::join!(waits, over);
        assert_eq!(waited, Duration::from_secs(2));
        drop((first, second));
        assert_eq!(room.lock().used, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn what_holds_each_other_up_is_read_on_after_a_while() {
        let room = Room::new(100);
        let (_stands_still, mut second) = (begin(&room, 1), begin(&room, 2));
        second.take(100).await;
        let start = Instant::now();
        second.take(1).await;
        assert_eq!(start.elapsed(), STILL);
    }

    #[tokio::test(start_paused = true)]
    async fn long_answers_let_fewer_in() {
        let room = Room::new(100);
        assert!(room.is_for_one_more(1_000));
        let mut long = begin(&room, 1);
        long.take(30).await;
        long.is_read();
        drop(long);
        let let_in = || (0..1_000).take_while(|n| room.is_for_one_more(*n)).count();
        assert_eq!(let_in(), 3);
        for line in 0..40 {
            begin(&room, line).is_read();
        }
        assert_eq!(let_in(), 14, "{}", room.lock().longest);
    }
}
