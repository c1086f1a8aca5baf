//! Sliding minutes: an exact log of everything the last minute used.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::meter::Count;

/// What was used in the minute before now. An entry counts until exactly one
/// minute after it was made, and no longer at that instant.
#[derive(Debug)]
pub(super) struct MinuteLog {
    limit: u64,
    /// What others used in the last minute, always the same.
    others: u64,
    minute: Duration,
    initial: u64,
    /// In order of time; nothing older than a minute once pruned.
    entries: VecDeque<(Instant, u64)>,
    /// The sum of the entries.
    sum: u64,
}

impl MinuteLog {
    /// Begins at `now` with an entry of `initial`.
    pub(super) fn begin(
        limit: u64,
        others: u64,
        minute: Duration,
        now: Instant,
        initial: u64,
    ) -> Self {
        let mut log = Self {
            limit,
            others,
            minute,
            initial,
            entries: VecDeque::new(),
            sum: 0,
        };
        log.take(now, initial);
        log
    }

    fn prune(&mut self, now: Instant) {
        while let Some(&(made, amount)) = self.entries.front() {
            if made + self.minute > now {
                break;
            }
            self.entries.pop_front();
            self.sum -= amount;
        }
    }

    /// When the oldest entries that make up `excess` no longer count.
    fn freed_at(&self, excess: u64) -> Option<Instant> {
        let mut freed = 0;
        self.entries.iter().find_map(|&(made, amount)| {
            freed += amount;
            (freed >= excess).then_some(made + self.minute)
        })
    }
}

impl Count for MinuteLog {
    fn capacity(&self) -> u64 {
        self.limit
    }

    fn used(&mut self, now: Instant) -> u64 {
        self.prune(now);
        self.sum.saturating_add(self.others)
    }

    fn wait(&mut self, now: Instant, amount: u64) -> Duration {
        let after = self.used(now).saturating_add(amount);
        match after.saturating_sub(self.limit) {
            0 => Duration::ZERO,
            // What others use never ends; the whole minute is the best guess.
            excess => self
                .freed_at(excess)
                .map_or(self.minute, |at| at.duration_since(now)),
        }
    }

    fn take(&mut self, now: Instant, amount: u64) {
        self.prune(now);
        if amount > 0 {
            self.entries.push_back((now, amount));
            self.sum = self.sum.saturating_add(amount);
        }
    }

    fn give_back(&mut self, now: Instant, taken: Instant, mut amount: u64) {
        self.prune(now);
        let from = self.entries.partition_point(|&(made, _)| made < taken);
        for (_, entry) in self.entries.range_mut(from..).take_while(|e| e.0 == taken) {
            let back = amount.min(*entry);
            *entry -= back;
            self.sum -= back;
            amount -= back;
        }
    }

    fn take_refused(&mut self, now: Instant) {
        self.take(now, 1);
    }

    fn until_full(&mut self, now: Instant) -> Duration {
        self.prune(now);
        self.entries
            .back()
            .map_or(Duration::ZERO, |&(made, _)| (made + self.minute) - now)
    }

    fn allowance(&self, first: Instant, last: Instant) -> u64 {
        let elapsed = last.saturating_duration_since(first).as_nanos();
        let minutes = elapsed / self.minute.as_nanos() + 1;
        let minutes = u64::try_from(minutes).unwrap_or(u64::MAX);
        (self.limit - self.others)
            .saturating_mul(minutes)
            .saturating_sub(self.initial)
    }
}
