//! A shared ledger within one process.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;
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
/// Clones are the same ledger. Each hears all [news](SharedLedger::news) once: give each process its
/// own.
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
#[derive(Debug)]
pub struct InMemory {
    state: Arc<Mutex<State>>,
    news: watch::Sender<u64>,
    /// The news that were heard.
    heard: AtomicU64,
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
            news: watch::Sender::new(0),
            heard: AtomicU64::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loses everything, as a database does that is restarted empty.
    pub fn lose(&self) {
        let mut state = self.lock();
        state.lives += 1;
        state.bank = Bank::new(state.lives);
    }

    /// One exchange, while the ledger's machine shows this clock: for who compares another
    /// ledger with this one.
    pub fn exchange_at(&self, report: &Report, clock: Stamp) -> Grant {
        let (grant, is_news) = {
            let bank = &mut self.lock().bank;
            let before = bank.news();
            let grant = bank.exchange(report, clock);
            (grant, bank.news() > before)
        };
        if is_news {
            self.news.send_modify(|count| *count += 1);
        }
        grant
    }

    fn clock(&self) -> Stamp {
        let state = self.lock();
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

    async fn news(&self) {
        let mut news = self.news.subscribe();
        let is_new = |count: &u64| *count != self.heard.load(Ordering::Relaxed);
        // It ends with the ledger, not before.
        if let Ok(count) = news.wait_for(is_new).await {
            self.heard.store(*count, Ordering::Relaxed);
        }
    }
}

impl Clone for InMemory {
    fn clone(&self) -> Self {
        InMemory {
            state: Arc::clone(&self.state),
            news: self.news.clone(),
            heard: AtomicU64::new(*self.news.borrow()),
        }
    }
}
