//! What a process goes on with while the shared ledger is away.

use crate::rules::ledger::Share;

/// What a process does while the shared ledger is away, from the end of its lease on.
///
/// # Examples
///
/// ```
/// use tollhouse::shared::Fallback;
///
/// assert_eq!(Fallback::default(), Fallback::Share { floor: 0.05 });
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Fallback {
    /// Goes on with its share of all limits: one part of as many as there were processes at
    /// most in the last minute in which the ledger answered, and no less than `floor`. Nothing is there of it at
    /// first. A request that does not fit into the share waits until the ledger is back,
    /// and holds up nobody meanwhile.
    Share {
        /// The least share, from 0 to 1; what a process has that has never been told how
        /// many there are.
        floor: f64,
    },
    /// Lets nobody in.
    Closed,
    /// Goes on as if there were no other process.
    Open,
}

/// A share, no less than a twentieth.
impl Default for Fallback {
    fn default() -> Self {
        Fallback::Share { floor: 0.05 }
    }
}

impl Fallback {
    /// What is let in by the pools' own rules, if anything.
    pub(super) fn share(self, processes: Option<u32>) -> Option<Share> {
        match self {
            Fallback::Share { floor } => {
                let part = processes.map_or(0.0, |many| 1.0 / f64::from(many.max(1)));
                Some(Share::Part(part.max(floor).clamp(f64::MIN_POSITIVE, 1.0)))
            }
            Fallback::Closed => None,
            Fallback::Open => Some(Share::Drawn),
        }
    }
}
