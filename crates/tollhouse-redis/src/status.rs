//! How all processes of an account stand.

use std::time::Duration;

use tollhouse::shared::{Amounts, Stamp};
use tollhouse::{Per, Unit};

/// A look at the ledger.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Which life of the ledger: its first instant, by Redis's clock.
    pub life: u64,
    /// How many reports it has answered.
    pub answered: u64,
    /// Its clock.
    pub at: Stamp,
    /// As long as this, nothing is granted: the ledger was lost, and waits until every process
    /// must have noticed.
    pub learning: Duration,
    /// Those that came within the last four seconds.
    pub processes: Vec<ProcessStatus>,
    /// In the order in which they came.
    pub pools: Vec<PoolStatus>,
}

/// One process.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProcessStatus {
    /// Its random number, in hexadecimal digits.
    pub process: String,
    /// How long ago it reported.
    pub silent: Duration,
    /// How many times it has reported.
    pub reports: u64,
    /// Whether it has said goodbye.
    pub left: bool,
}

/// One pool.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct PoolStatus {
    /// `None`: the account itself.
    pub name: Option<String>,
    /// Its limits.
    pub meters: Vec<MeterStatus>,
    /// For how long yet the provider has closed it.
    pub held: Option<Duration>,
    /// The most calls in flight of all processes, if limited.
    pub max_slots: Option<u64>,
    /// What each process has of it.
    pub leases: Vec<LeaseStatus>,
}

/// One limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeterStatus {
    /// What it counts.
    pub unit: Unit,
    /// Over which period.
    pub per: Per,
    /// What the provider allows in the period.
    pub limit: u64,
    /// What of it is used: less the headroom.
    pub rate: u64,
    /// The most that may be spent at once.
    pub capacity: u64,
    /// What is left, beside what is leased; below zero is debt.
    pub level: i64,
    /// What all processes hold: leased, or on its way.
    pub held: u64,
}

/// What a process has of a pool, and what it wants.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LeaseStatus {
    /// Whose.
    pub process: String,
    /// How long ago it spoke of this pool.
    pub silent: Duration,
    /// Its weight among the others.
    pub weight: u64,
    /// Leased, or on its way.
    pub held: Amounts,
    /// What of that no request has taken.
    pub idle: Amounts,
    /// What it wants beside that.
    pub wanted: Amounts,
    /// How many stand in its line, up to 16.
    pub waiting: u64,
    /// Slots that it has.
    pub slots: u64,
}
