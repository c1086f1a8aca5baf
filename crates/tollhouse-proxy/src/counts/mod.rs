//! What is counted: of all calls and connections; of what they hold, against a
//! bound; and of what came of them, by token.

mod held;
mod tally;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::time::Instant;

pub(crate) use held::{Counted, Full, Held, Share};
pub(crate) use tally::{Tallies, Tally};

/// What is counted of all calls.
#[derive(Debug)]
pub(crate) struct Counts {
    pub(crate) since: Instant,
    pub(crate) connections: AtomicUsize,
    in_flight: AtomicUsize,
    pub(crate) calls: AtomicU64,
    is_closing: AtomicBool,
}

/// A call that is not over.
#[derive(Debug)]
pub(crate) struct InFlight(Arc<Counts>);

/// A connection that is open.
#[derive(Debug)]
pub(crate) struct Connected(Arc<Counts>);

impl Counts {
    pub(crate) fn from_now() -> Arc<Self> {
        Arc::new(Counts {
            since: Instant::now(),
            connections: AtomicUsize::new(0),
            in_flight: AtomicUsize::new(0),
            calls: AtomicU64::new(0),
            is_closing: AtomicBool::new(false),
        })
    }

    pub(crate) fn begin(self: &Arc<Self>) -> InFlight {
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.in_flight.fetch_add(1, Ordering::Relaxed);
        InFlight(Arc::clone(self))
    }

    pub(crate) fn connect(self: &Arc<Self>) -> Connected {
        self.connections.fetch_add(1, Ordering::Relaxed);
        Connected(Arc::clone(self))
    }

    pub(crate) fn in_flight(&self) -> usize {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.is_closing.load(Ordering::Relaxed)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}
