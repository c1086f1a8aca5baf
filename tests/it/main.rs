//! The whole stack: what other people compile against, and what it promises.

mod assumptions;
mod clients;
mod docs;
mod empty;
mod face;
mod failures;
mod forgotten;
mod imports;
mod job;
mod metrics;
mod outage;
mod pace;
mod promise;
mod published;
mod storm;
mod support;
mod traces;
mod two_processes;
mod unreachable;

// The job of `benches/job`, in virtual time.
#[path = "../../benches/job/load.rs"]
mod load;
#[allow(dead_code, reason = "the bench uses the rest")]
#[path = "../../benches/job/rows.rs"]
mod rows;
#[allow(dead_code, reason = "the bench uses the rest")]
#[path = "../../benches/job/run.rs"]
mod run;
#[path = "../../benches/job/verdict.rs"]
mod verdict;
