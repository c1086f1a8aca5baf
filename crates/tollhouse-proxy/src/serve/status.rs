//! What there is to look at.

use std::sync::atomic::Ordering;

use serde::Serialize;
use tollhouse_openai::account::AccountSnapshot;

use crate::counts::Counts;
use crate::page::Process;

/// All of it at one moment, as `GET /tollhouse/status` tells it.
#[derive(Debug, Serialize)]
pub(crate) struct Status {
    version: &'static str,
    up_seconds: f64,
    closing: bool,
    connections: usize,
    calls_in_flight: usize,
    calls: u64,
    held_bytes: usize,
    accounts: Vec<AccountSnapshot>,
    /// All that share the account, where there are several and somebody can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) processes: Option<Vec<Process>>,
}

impl Status {
    pub(crate) fn of(counts: &Counts, held_bytes: usize, accounts: Vec<AccountSnapshot>) -> Self {
        Status {
            version: env!("CARGO_PKG_VERSION"),
            up_seconds: counts.since.elapsed().as_secs_f64(),
            closing: counts.is_closing(),
            connections: counts.connections.load(Ordering::Relaxed),
            calls_in_flight: counts.in_flight(),
            calls: counts.calls.load(Ordering::Relaxed),
            held_bytes,
            accounts,
            processes: None,
        }
    }
}
