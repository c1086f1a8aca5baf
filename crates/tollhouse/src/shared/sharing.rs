//! A process's part in a shared ledger, as others see it.

use std::fmt;
use std::sync::Arc;

use tokio::time::Instant;

use super::agent::Agent;
use super::fallback::Fallback;
use super::member::{PoolMember, SlotsMember};
use super::part::{Inner, Phase};
use super::{Away, SharedLedger};
use crate::queue::{AccountSlots, Queue};
use crate::rules::Pool;

/// How a process stands with the shared ledger.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Status {
    /// Whether it spends from the shared ledger. If not, it is on its
    /// [`Fallback`], or has not been answered yet, or has left.
    pub is_up: bool,
    /// Since when that has been so.
    pub since: Instant,
    /// Why the ledger could not be asked, if it could not.
    pub why: Option<Away>,
    /// How many processes there were when it answered last; 0 where it never has.
    pub processes: u32,
    /// Until when what is leased may be spent, without another answer.
    pub lease: Option<Instant>,
}

/// A process's part in a ledger that other processes spend from, too.
///
/// Pools come under it with
/// [`TokenBudgetBuilder::shared`](crate::TokenBudgetBuilder::shared), each by a name
/// that is the same in all processes. The [`Agent`] that was made with it must run, or
/// everything waits for 100 ms and goes on with the [`Fallback`].
///
/// # Cloning
///
/// Cheap; clones are the same part. The agent ends when the last one, and the last pool, is
/// dropped.
///
/// # Examples
///
/// Two processes, here in one, that share 30,000 tokens a minute:
///
/// ```
/// use std::time::Duration;
/// use tollhouse::TokenBudget;
/// use tollhouse::shared::{Fallback, InMemory, Sharing};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let ledger = InMemory::new();
/// let mut budgets = Vec::new();
/// for _ in 0..2 {
///     let (sharing, agent) = Sharing::new(ledger.clone(), Fallback::default());
///     tokio::spawn(agent);
///     let budget = TokenBudget::per_minute(30_000).shared(&sharing, "chat").build()?;
///     budgets.push(budget);
/// }
///
/// // Neither has a part of its own: together they have all of it.
/// let first = budgets[0].reserve(20_000).await?;
/// let second = budgets[1].reserve(10_000).await?;
/// assert!(tokio::time::timeout(Duration::from_secs(1), budgets[0].reserve(1_000)).await.is_err());
/// # drop((first, second));
/// # Ok(())
/// # }
/// ```
pub struct Sharing {
    inner: Arc<Inner>,
}

impl Sharing {
    /// A process's part in this ledger, and what must run for it: spawn the agent, or poll
    /// it otherwise.
    ///
    /// # Panics
    ///
    /// If a share's floor is not from 0 to 1.
    #[track_caller]
    pub fn new<L: SharedLedger>(ledger: L, fallback: Fallback) -> (Sharing, Agent) {
        if let Fallback::Share { floor } = fallback {
            let fine = (0.0..=1.0).contains(&floor);
            assert!(fine, "a floor must be a share from 0 to 1, not {floor}");
        }
        let inner = Arc::new(Inner::new(fallback));
        let agent = Agent::new(ledger, Arc::clone(&inner));
        (Sharing { inner }, agent)
    }

    /// What it goes on with while the ledger is away.
    pub fn fallback(&self) -> Fallback {
        self.inner.fallback
    }

    /// What tells this process from the others of the ledger: drawn at random for each part.
    pub fn process(&self) -> u128 {
        self.inner.process
    }

    /// How it stands.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::shared::{Fallback, InMemory, Sharing};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// let (sharing, agent) = Sharing::new(InMemory::new(), Fallback::default());
    /// assert!(!sharing.status().is_up);
    /// tokio::spawn(agent);
    /// tokio::time::sleep(Duration::from_millis(1)).await;
    /// assert!(sharing.status().is_up);
    /// assert_eq!(sharing.status().processes, 1);
    /// # }
    /// ```
    pub fn status(&self) -> Status {
        let state = self.inner.lock();
        let lease = match state.phase {
            Phase::Up(until) => Some(until.into()),
            _ => None,
        };
        Status {
            is_up: lease.is_some(),
            since: state.since,
            why: state.why.clone(),
            processes: state.processes.unwrap_or(0),
            lease,
        }
    }

    /// Leaves: no pool under it lets anybody in any more
    /// ([`Refused::Closed`](crate::Refused::Closed)), and what is leased and not on its
    /// way goes back to the others at once, not only when the lease ends. Call it last, when
    /// the calls in flight are over as far as they are waited for.
    ///
    /// # Cancellation
    ///
    /// Dropped, it goes on without being waited for.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::shared::{Fallback, InMemory, Sharing};
    /// use tollhouse::{Refused, TokenBudget};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let (sharing, agent) = Sharing::new(InMemory::new(), Fallback::default());
    /// let agent = tokio::spawn(agent);
    /// let budget = TokenBudget::per_minute(30_000).shared(&sharing, "chat").build()?;
    /// budget.reserve(100).await?.settle(100);
    ///
    /// sharing.leave().await;
    /// agent.await?;
    /// assert_eq!(budget.reserve(100).await.unwrap_err(), Refused::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub async fn leave(&self) {
        let left = self.inner.left.notified();
        let is_over = {
            let mut state = self.inner.lock();
            state.is_leaving = true;
            state.phase == Phase::Left
        };
        self.inner.bell.notify_one();
        if !is_over {
            left.await;
        }
    }

    /// A pool comes under it.
    pub(crate) fn join(&self, name: &Arc<str>, queue: &Arc<Queue<Pool>>) {
        let member = Arc::new(PoolMember::new(Arc::clone(name), queue));
        self.inner.admit(member, || {
            queue.call(Arc::<Inner>::clone(&self.inner));
        });
    }

    /// An account's slots come under it.
    fn join_slots(&self, slots: &AccountSlots) {
        let member = Arc::new(SlotsMember::new(slots));
        self.inner.admit(member, || {
            slots.lease(Arc::<Inner>::clone(&self.inner));
        });
    }
}

impl Clone for Sharing {
    fn clone(&self) -> Self {
        Sharing {
            inner: Arc::clone(&self.inner),
        }
    }
}

impl Drop for Sharing {
    /// The agent looks whether that was the last.
    fn drop(&mut self) {
        self.inner.bell.notify_one();
    }
}

impl fmt::Debug for Sharing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sharing")
            .field("fallback", &self.inner.fallback)
            .field("status", &self.status())
            .finish_non_exhaustive()
    }
}

impl AccountSlots {
    /// From now on other processes have a part in these slots, and in the time between
    /// launches: this one has as many as it is leased, none at first. The number and the
    /// interval that are set are those of all processes together.
    ///
    /// Of several that are under one sharing, the first have what is leased until they are
    /// dropped, and the others nothing until then.
    ///
    /// # Examples
    ///
    /// Two processes, here in one, whose account allows one call at a time:
    ///
    /// ```
    /// use tollhouse::shared::{Fallback, InMemory, Sharing};
    /// use tollhouse::{AccountSlots, TokenBudget};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ledger = InMemory::new();
    /// let mut budgets = Vec::new();
    /// for _ in 0..2 {
    ///     let (sharing, agent) = Sharing::new(ledger.clone(), Fallback::default());
    ///     tokio::spawn(agent);
    ///     let slots = AccountSlots::new(1);
    ///     slots.share(&sharing);
    ///     let budget = TokenBudget::per_minute(30_000)
    ///         .account_slots(&slots)
    ///         .shared(&sharing, "chat")
    ///         .build()?;
    ///     budgets.push(budget);
    /// }
    /// let first = budgets[0].reserve(100).await?;
    /// let second = tokio::spawn(budgets[1].reserve(100));
    /// tokio::time::sleep(std::time::Duration::from_secs(5)).await;
    /// assert!(!second.is_finished());
    /// drop(first);
    /// second.await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn share(&self, sharing: &Sharing) {
        sharing.join_slots(self);
    }
}
