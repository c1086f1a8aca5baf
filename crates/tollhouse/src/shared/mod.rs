//! The seam for a ledger that others spend, too: other processes, other machines.
//!
//! The account's one bucket is elsewhere (in Redis: `tollhouse-redis`; in memory:
//! for tests). A process never asks it on the way of a call. It *draws leases*: tokens,
//! requests, slots and launch instants that it may spend by itself for a while, about a
//! second's worth ahead. Its own queue and rules have nothing but leases; a draw that
//! arrives lets in whom it can, as a release does. Never is a lock held across an await.
//!
//! What is drawn is charged when it is drawn, and counts as in transit until the process
//! reports that it landed or came back, or until its lease has ended and its transit
//! has passed. So the shared level, plus all that any process could still send, never
//! exceeds the provider's level, whoever dies when. `docs/decisions/0066-leases.md` has the
//! rules, one by one.

mod agent;
mod bank;
mod books;
mod fallback;
mod grant;
mod member;
mod memory;
mod part;
mod report;
mod sharing;

use std::future::{Future, pending};

pub use crate::charge::Amounts;
pub use agent::Agent;
pub use fallback::Fallback;
pub use grant::{Away, Grant, PoolGrant, Stamp};
pub use memory::InMemory;
pub use report::{LINE, MeterTerms, PoolReport, Report, Seen, Told};
pub use sharing::{Sharing, Status};

/// A ledger that several processes spend from.
pub trait SharedLedger: Send + Sync + 'static {
    /// One round trip: what this process did, against what it may do next.
    ///
    /// # Errors
    ///
    /// [`Away`], soon: who implements it gives up before a caller would notice (100 ms for
    /// Redis). Whether the report was taken in is not known then; sent again as it is,
    /// it counts once.
    ///
    /// # Cancellation
    ///
    /// May be dropped at any time, with the same uncertainty.
    fn exchange(&self, report: &Report) -> impl Future<Output = Result<Grant, Away>> + Send;

    /// Comes when another process told something that cannot wait for the next report,
    /// such as a hold.
    ///
    /// # Cancellation
    ///
    /// Nothing is lost: what came meanwhile is there when it is asked for again.
    fn news(&self) -> impl Future<Output = ()> + Send {
        pending()
    }
}
