//! A shared ledger within one process.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::Instant;

use super::bank::Bank;
use super::{Away, Grant, Report, SharedLedger, Stamp};

/// A shared ledger in memory, for tests: several accounts of one process that share it
/// behave as several processes do.
///
/// Its clock is tokio's, so it may be paused. It has all the rules of the one in Redis, and
/// is what that is compared with.
///
/// # Cloning
///
/// Clones are the same ledger.
///
/// # Examples
///
/// ```
/// use tollhouse::shared::{InMemory, Report, SharedLedger};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ledger = InMemory::new();
/// let hello = Report::first(7);
/// let grant = ledger.exchange(&hello).await?;
/// assert_eq!(grant.processes, 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct InMemory {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    bank: Bank,
    lives: u64,
    began: Instant,
}

impl InMemory {
    /// One that knows nothing of anybody yet.
    ///
    /// # Panics
    ///
    /// Never; it reads tokio's clock, which needs no runtime.
    pub fn new() -> Self {
        let state = State {
            bank: Bank::new(1),
            lives: 1,
            began: Instant::now(),
        };
        InMemory {
            state: Arc::new(Mutex::new(state)),
        }
    }

    /// Loses everything, as a database does that is restarted empty.
    pub fn lose(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.lives += 1;
        state.bank = Bank::new(state.lives);
    }

    /// One exchange, while the ledger's machine shows this clock: for who compares another
    /// ledger with this one.
    pub fn exchange_at(&self, report: &Report, clock: Stamp) -> Grant {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.bank.exchange(report, clock)
    }

    fn clock(&self) -> Stamp {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        // Some hours, so that nothing is before its beginning.
        Stamp(10_000_000_000).after(state.began.elapsed())
    }
}

impl Default for InMemory {
    fn default() -> Self {
        InMemory::new()
    }
}

impl SharedLedger for InMemory {
    fn exchange(&self, report: &Report) -> impl Future<Output = Result<Grant, Away>> + Send {
        let grant = self.exchange_at(report, self.clock());
        async move { Ok(grant) }
    }
}
