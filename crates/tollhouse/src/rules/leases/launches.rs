//! Launches that are booked.

use std::collections::VecDeque;
use std::time::Duration;

use super::SECOND;
use crate::time::Moment;

/// Instants at which one may be launched each.
#[derive(Debug, Default)]
pub(super) struct Launches {
    /// In their order.
    pub(super) booked: VecDeque<Moment>,
    /// All that were ever given back.
    pub(super) returned: u64,
}

impl Launches {
    /// The next one that may be used. One that is older than the interval is the turn
    /// of somebody else by now.
    pub(super) fn next(&mut self, interval: Duration, now: Moment) -> Option<Moment> {
        while let Some(at) = self.booked.front()
            && *at + interval <= now
        {
            self.booked.pop_front();
        }
        self.booked.front().copied()
    }

    pub(super) fn take(&mut self, interval: Duration, now: Moment) -> Option<Moment> {
        self.next(interval, now).filter(|at| *at <= now)?;
        self.booked.pop_front()
    }

    pub(super) fn book(&mut self, launches: Vec<Moment>) {
        self.booked.extend(launches);
        self.booked.make_contiguous().sort_unstable();
    }

    pub(super) fn give_back(&mut self, booked: Moment) {
        self.book(vec![booked]);
    }

    pub(super) fn lose(&mut self, many: u64) {
        self.returned = self.returned.saturating_add(many);
    }

    pub(super) fn lose_all(&mut self) {
        self.lose(self.booked.len() as u64);
        self.booked.clear();
    }
}

/// How many launches begin within a second, the first one now.
pub(super) fn in_a_second(interval: Duration) -> u64 {
    let others = SECOND.as_nanos() / interval.as_nanos().max(1);
    u64::try_from(others).unwrap_or(u64::MAX).saturating_add(1)
}
