//! One account's limits, shared by many processes and machines through Redis or Valkey.
//!
//! The account's one bucket lives in Redis, and every process draws leases from it:
//! [`RedisLedger`] is the [`SharedLedger`](tollhouse::shared::SharedLedger) on the other end.
//! All rules are in one script, `src/scripts/exchange.lua`, which runs as a whole or not at all,
//! by Redis's own clock. A process asks at most four times a second, never on the way of a
//! call, and waits for at most [`DEADLINE`].
//!
//! # Examples
//!
//! ```no_run
//! use tollhouse::shared::{Report, SharedLedger};
//! use tollhouse_redis::RedisLedger;
//!
//! # async fn example(report: &Report) -> Result<(), Box<dyn std::error::Error>> {
//! let ledger = RedisLedger::open("redis://:secret@10.0.0.5:6379/0", "production")?;
//! let grant = ledger.exchange(report).await?;
//! println!("one of {} processes", grant.processes);
//! # Ok(())
//! # }
//! ```
//!
//! # What Redis needs
//!
//! Redis 6.2 or newer, or Valkey. An account is one hash, `tollhouse:{ACCOUNT}`, and one channel,
//! `tollhouse:{ACCOUNT}:news`, so a cluster keeps it on one node, and several accounts are side by
//! side. It expires two days after anybody came last. A user of an access list needs
//! `~tollhouse:* resetchannels &tollhouse:* +eval +evalsha +hget +hmget +hset +hdel +exists +del
//! +expire +time +info +publish +subscribe +hello`.
//!
//! A `maxmemory-policy` that evicts keys may evict the ledger; it is then met like any other
//! loss, by four seconds in which nothing is granted. `noeviction` spares that.
//!
//! # What is lost with Redis
//!
//! Nothing that was spent: a ledger that is new, or whose server is another one than before,
//! grants nothing until every process has told what it holds, and begins with nothing.
#![doc = include_str!("scripts/LAYOUT.md")]

mod address;
mod keeper;
mod ledger;
mod link;
mod scripts;
mod status;
mod why;
mod wire;

pub use address::AddressError;
pub use ledger::{DEADLINE, RedisLedger};
pub use status::{LeaseStatus, MeterStatus, PoolStatus, ProcessStatus, Status};
