//! What a process tells the shared ledger.

use std::sync::Arc;
use std::time::Duration;

use super::{Amounts, Stamp};
use crate::charge::{Per, Unit};

/// The most requests at the head of a line that a report lists one by one.
pub const LINE: usize = 16;

/// One round trip of one process, for all of its pools at once.
///
/// It says how the process stands, not what has changed: what it has and what is on
/// its way as they are, and what is only ever added to (given back, owed) as the sum since
/// the process began. So a report that was lost, or came twice, is made up for by the next.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// Whose it is: a random number, another one for each start of a process.
    pub process: u128,
    /// Counts this process's reports, from 1.
    pub number: u64,
    /// The number of the last report whose grant came back; 0 where none has yet. What
    /// a later one gave was never had, and never will be.
    pub received: u64,
    /// What it was told last of the ledger itself; `None` before any grant. A ledger that
    /// is another one, or behind that, has lost something.
    pub seen: Option<Seen>,
    /// After this instant by the ledger's clock the report changes nothing: nobody waits
    /// for its grant any more. A report without it (the first one, which knows no clock)
    /// is granted nothing.
    pub expires: Option<Stamp>,
    /// It is the last one: everything that is not on its way comes back.
    pub leaving: bool,
    /// Those that are in use, and the account itself where it has limits of its own.
    pub pools: Vec<PoolReport>,
}

impl Report {
    /// The first one of a process, which only asks for the clock.
    pub fn first(process: u128) -> Self {
        Report {
            process,
            number: 1,
            received: 0,
            seen: None,
            expires: None,
            leaving: false,
            pools: Vec::new(),
        }
    }
}

/// See [`Report::seen`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which life of the ledger: another one after it was lost.
    pub life: u64,
    /// How many reports it had answered, of all processes. One that has answered fewer
    /// has lost some.
    pub answered: u64,
}

/// How a process stands in one pool.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PoolReport {
    /// `None`: the account itself, which has slots and spacing over all pools.
    pub name: Option<Arc<str>>,
    /// What this process knows of the pool's limits. Of several processes' the lowest
    /// holds.
    pub meters: Vec<MeterTerms>,
    /// The most calls in flight, if limited.
    pub max_slots: Option<u64>,
    /// The least time between two launches; zero where they are not spaced.
    pub interval: Duration,
    /// The weights of the callers that wait or were served lately, together: at least 1.
    pub weight: u64,
    /// Drawn, and not taken by any request.
    pub idle: Amounts,
    /// Taken by requests, and not surely counted by the provider yet.
    pub in_transit: Amounts,
    /// All that was ever drawn and is given back: not idle any more, and never sent.
    pub returned: Amounts,
    /// All that was ever used beyond what was drawn for it: usage above a reservation,
    /// and what was spent while the ledger was away.
    pub owed: Amounts,
    /// All that the provider ever gave back because less was used than reserved.
    pub unused: Amounts,
    /// For each of the last grant's meters the smallest [room](super::PoolGrant::rooms) among
    /// the grants before which the requests landed whose `unused` is new in this report. Nothing
    /// is given back where it is missing.
    pub unused_rooms: Vec<i64>,
    /// What all requests that there ever were cost: of each so much of the unit that was scarcest, by
    /// the last grant's limits and the interval, and of no other. What a request costs changes with
    /// what it used: this follows, up with what is `owed` and down with what is `unused`; and down
    /// where one never left, whose charge is idle again or `returned`. Between processes it is
    /// fair in this.
    pub dominant: Amounts,
    /// The charges of the first in line, in their order, as far as what is idle does not
    /// already cover them: at most [`LINE`]. A grant has each of them whole or not at all.
    pub line: Vec<Amounts>,
    /// What is wanted beside the line: for those who wait behind it, and for those who are
    /// expected within about a second.
    pub wanted: Amounts,
    /// Slots that calls hold.
    pub slots_used: u64,
    /// Slots that it has and no call holds.
    pub slots_idle: u64,
    /// How many more it could use.
    pub slots_wanted: u64,
    /// How many booked launches are to come.
    pub launches_idle: u64,
    /// All the booked launches that it ever gave back, the latest first.
    pub launches_returned: u64,
    /// How many more it could use.
    pub launches_wanted: u64,
    /// What answers told since the last report.
    pub told: Vec<Told>,
    /// For how long yet the provider has closed the pool, as far as this process knows.
    pub held: Option<Duration>,
}

/// One limit of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MeterTerms {
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
    /// Whether no stretch as long as the period may hold more than the limit, beside the
    /// bucket.
    pub windowed: bool,
}

/// What an answer told of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// So much is left.
    Remaining {
        /// What the meter counts.
        unit: Unit,
        /// Over which period.
        per: Per,
        /// What is left, by the provider's count.
        remaining: u64,
        /// The [mark](super::PoolGrant::marks) of the last grant before its request was let
        /// in; all that was drawn since may not be in the count. `None` where it is not
        /// known any more: then the level is only ever lowered by it.
        mark: Option<u64>,
    },
    /// A charge of so much fits after this time, not sooner.
    After {
        /// What the meter counts.
        unit: Unit,
        /// Over which period.
        per: Per,
        /// What was refused.
        amount: u64,
        /// As the refusal told it.
        delay: Duration,
    },
}
