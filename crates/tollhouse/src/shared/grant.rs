//! What the shared ledger answers.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::{Amounts, MeterTerms};

/// An instant by the ledger's clock: microseconds since whenever it began. It never goes
/// back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// So much later.
    #[must_use]
    pub fn after(self, time: Duration) -> Stamp {
        let micros = u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
        Stamp(self.0.saturating_add(micros))
    }

    /// The time since `earlier`; zero if that is later.
    pub fn since(self, earlier: Stamp) -> Duration {
        Duration::from_micros(self.0.saturating_sub(earlier.0))
    }
}

/// The answer to a [`Report`](super::Report).
#[derive(Clone, Debug, PartialEq)]
pub struct Grant {
    /// Which life of the ledger: another one after it was lost.
    pub life: u64,
    /// How many reports it has answered, this one included.
    pub answered: u64,
    /// Whether the report was taken in. If not, it came after its
    /// [`expires`](super::Report::expires): this tells the clock and grants nothing, does not
    /// count as received, and begins no lease anew.
    pub taken: bool,
    /// Its clock.
    pub at: Stamp,
    /// How long all that the process has may be spent, counted from when it sent its
    /// report. Each report begins it anew.
    pub lease: Duration,
    /// How many processes there are, this one included.
    pub processes: u32,
    /// As long as this, nothing is granted: the ledger was lost, or nobody had come to it
    /// for long, and it waits until every process must have noticed.
    pub learning: Duration,
    /// In the order of the report's.
    pub pools: Vec<PoolGrant>,
}

/// What a process may spend of one pool from now on, beside what it had.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolGrant {
    /// Of which pool; `None`: of the account itself.
    pub name: Option<Arc<str>>,
    /// To be added to what is idle.
    pub drawn: Amounts,
    /// Slots to be added to the idle ones.
    pub slots: u64,
    /// Launches, by how far they are from the grant's clock.
    pub launches: Vec<Duration>,
    /// Everything idle that nobody in line takes at once is to come back with the next
    /// report: somebody collects for a large request.
    pub recalled: bool,
    /// For how long yet the provider has closed the pool.
    pub held: Option<Duration>,
    /// To be told with what answers say of requests that are let in before the next
    /// grant: all that was ever drawn, less what is on its way, for each of `meters`.
    pub marks: Vec<u64>,
    /// How much room each of `meters` has for what the provider gives back later, in a coin of
    /// the ledger's own: see [`unused_rooms`](super::PoolReport::unused_rooms).
    pub rooms: Vec<i64>,
    /// The limits that hold: the lowest of all processes'.
    pub meters: Vec<MeterTerms>,
    /// How each of `meters` stands; below zero is debt.
    pub levels: Vec<i64>,
    /// The most calls in flight of all processes, if limited.
    pub max_slots: Option<u64>,
    /// How many of them all processes have.
    pub slots_leased: u64,
}

/// The shared ledger could not be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Away {
    why: Arc<str>,
}

impl Away {
    /// For this reason, in one line and without a password in it.
    pub fn because(why: impl fmt::Display) -> Self {
        Away {
            why: why.to_string().into(),
        }
    }
}

impl fmt::Display for Away {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the shared ledger is away: {}", self.why)
    }
}

impl std::error::Error for Away {}
