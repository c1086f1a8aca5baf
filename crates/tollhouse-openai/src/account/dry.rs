//! What a dry run would have met.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tollhouse::Refused;

use crate::policy::budget::Watch;

/// Counts and tells what would have waited or been refused.
#[derive(Debug, Default)]
pub(super) struct DryRuns {
    waits: AtomicU64,
    refusals: AtomicU64,
}

impl DryRuns {
    pub(super) fn waits(&self) -> u64 {
        self.waits.load(Ordering::Relaxed)
    }

    pub(super) fn refusals(&self) -> u64 {
        self.refusals.load(Ordering::Relaxed)
    }
}

impl Watch for DryRuns {
    fn passed(&self, pool: &Arc<str>, met: Result<Duration, Refused>) {
        match met {
            Ok(wait) => {
                self.waits.fetch_add(1, Ordering::Relaxed);
                let seconds = wait.as_secs_f64();
                tracing::info!(pool = &**pool, seconds, "a dry run: would have waited");
            }
            Err(refused) => {
                self.refusals.fetch_add(1, Ordering::Relaxed);
                tracing::info!(pool = &**pool, %refused, "a dry run: would have been refused");
            }
        }
    }
}
