//! What one process has of a pool, and what it wants.

use std::time::Duration;

use super::advance::Advance;
use super::passed::Passed;
use crate::shared::{Amounts, MeterTerms, PoolReport, Stamp};

/// As of its last report, less what it was granted then.
#[derive(Debug)]
pub(super) struct Share {
    /// When it reported last.
    pub(super) came: Stamp,
    /// What of its limits it knows.
    pub(super) meters: Vec<MeterTerms>,
    pub(super) max_slots: Option<u64>,
    pub(super) interval: Duration,
    /// Drawn, and neither given back nor surely counted.
    pub(super) held: Amounts,
    /// What of that no request had taken.
    pub(super) idle: Amounts,
    /// The requests of that for which nobody waits. Those granted to a line are sent when they
    /// come, and were counted by the pace as they were drawn.
    pub(super) resting: u64,
    pub(super) slots: u64,
    /// The start tag of its next step.
    pub(super) tag: f64,
    pub(super) weight: f64,
    pub(super) advance: Advance,
    pub(super) wants: Wants,
    /// What others were granted while a step of its line was the head.
    pub(super) passed: Passed,
    /// What the last grant gave, for as long as it is not known to have come.
    pub(super) last: Last,
    /// The sums as they were last reported.
    pub(super) sums: Sums,
}

/// What a process could use.
#[derive(Debug, Default)]
pub(super) struct Wants {
    pub(super) line: Vec<Amounts>,
    pub(super) beside: Amounts,
    pub(super) slots: u64,
    pub(super) launches: u64,
    /// Booked launches that it has.
    pub(super) launches_idle: u64,
}

impl Wants {
    pub(super) fn of(report: &PoolReport) -> Self {
        Wants {
            line: report.line.clone(),
            beside: report.wanted,
            slots: report.slots_wanted,
            launches: report.launches_wanted,
            launches_idle: report.launches_idle,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        self.line.is_empty() && self.beside.is_nothing()
    }
}

/// See [`Share::last`].
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Last {
    pub(super) number: u64,
    pub(super) drawn: Amounts,
    pub(super) slots: u64,
    pub(super) launches: u64,
}

/// Running sums of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    pub(super) returned: Amounts,
    pub(super) owed: Amounts,
    pub(super) unused: Amounts,
    pub(super) launches_returned: u64,
    /// This one goes both ways.
    pub(super) dominant: Amounts,
}

impl Sums {
    pub(super) fn of(report: &PoolReport) -> Self {
        Sums {
            returned: report.returned,
            owed: report.owed,
            unused: report.unused,
            launches_returned: report.launches_returned,
            dominant: report.dominant,
        }
    }

    /// What came to them since they were `before`.
    pub(super) fn since(&self, before: &Sums) -> Self {
        Sums {
            returned: self.returned.minus(&before.returned),
            owed: self.owed.minus(&before.owed),
            unused: self.unused.minus(&before.unused),
            launches_returned: self
                .launches_returned
                .saturating_sub(before.launches_returned),
            dominant: self.dominant.minus(&before.dominant),
        }
    }
}

impl Share {
    /// Of a process that was not known here: what it did before, nobody knows.
    pub(super) fn new(report: &PoolReport, now: Stamp) -> Self {
        Share {
            came: now,
            meters: Vec::new(),
            max_slots: None,
            interval: Duration::ZERO,
            held: Amounts::NOTHING,
            idle: Amounts::NOTHING,
            resting: 0,
            slots: 0,
            tag: 0.0,
            weight: 1.0,
            advance: Advance::default(),
            wants: Wants::default(),
            passed: Passed::default(),
            last: Last::default(),
            sums: Sums {
                // Its debts are taken over, and cost it something; what it gave back was never
                // charged here.
                owed: Amounts::NOTHING,
                dominant: report.dominant.minus(&report.owed),
                ..Sums::of(report)
            },
        }
    }
}
