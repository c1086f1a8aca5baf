//! What all processes keep to, and what one is granted of it.

use std::time::Duration;

use super::SECOND;
use crate::charge::{Amounts, Per, Unit};
use crate::time::Moment;

/// A limit of all processes together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Common {
    pub(crate) unit: Unit,
    pub(crate) per: Per,
    /// What of it is used in a period.
    pub(crate) rate: u64,
    /// The most that may be drawn at once.
    pub(crate) capacity: u64,
    /// What nobody had drawn yet, when the last grant was given.
    pub(crate) level: i64,
}

/// What all processes keep to.
#[derive(Clone, Debug)]
pub(crate) struct Agreed {
    pub(crate) meters: Vec<Common>,
    /// How many calls may be in flight.
    pub(crate) max_slots: Option<u64>,
    /// Whether some of those are nobody's.
    pub(crate) has_free_slots: bool,
    /// How many processes there are.
    pub(crate) processes: u32,
}

impl Common {
    /// How long so much takes to refill for one of so many processes, if that has an even share, or
    /// as much in a second as it had lately.
    pub(super) fn time_for(&self, amount: u64, processes: u32, lately: u64) -> Duration {
        let all = u128::from(amount) * u128::from(self.per.nanos());
        let even = all * u128::from(processes) / u128::from(self.rate.max(1));
        let lately = u128::from(amount) * SECOND.as_nanos() / u128::from(lately.max(1));
        u64::try_from(even.min(lately)).map_or(Duration::MAX, Duration::from_nanos)
    }
}

impl Default for Agreed {
    /// As long as nothing is known.
    fn default() -> Self {
        Agreed {
            meters: Vec::new(),
            max_slots: None,
            has_free_slots: true,
            processes: 1,
        }
    }
}

/// What a grant gives.
#[derive(Clone, Debug, Default)]
pub(crate) struct Granted {
    pub(crate) drawn: Amounts,
    pub(crate) slots: u64,
    pub(crate) launches: Vec<Moment>,
    pub(crate) recalled: bool,
    pub(crate) agreed: Agreed,
}

/// How calls are limited beside what they are charged.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limited {
    /// How many are in flight.
    pub(crate) taken: u64,
    pub(crate) max_slots: Option<u64>,
    /// Zero: launches are not spaced.
    pub(crate) interval: Duration,
}
