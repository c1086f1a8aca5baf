//! What several queues share: an account's slots, of which each pool's calls take one,
//! and the time between their launches.
//!
//! A pool's queue asks for a slot only when all its own rules say *now*, and takes it in
//! the same step as the rest, so that whoever waits holds nothing. A slot is there when
//! one is free and the last launch of the account is long enough ago. The slots have a
//! lock of their own. **It is taken after a pool's lock, or alone; never are two pools' locks
//! held at once.** A slot thus goes from pool to pool in steps:
//!
//! - *Apart*: the pool has nobody who lacks only a slot.
//! - apart -> *Standing*: its next call lacks only a slot, and there is none. That is
//!   seen and written down under one hold of the slots' lock, so that no slot that is
//!   released meanwhile is missed.
//! - standing -> *Granted*: a slot is released (or their number raised), or the time for
//!   the next launch has come. Under the slots' lock the next pool in line is picked, and
//!   the slot is taken for it.
//! - The pool is called, once no lock is held: it looks, under its own lock, who goes.
//! - granted -> *Apart*, the slot used: by the one who goes. It need not be the one who
//!   stood: whoever of the pool's line may pass takes it.
//! - granted -> *Apart*, the slot passed on: nobody of the pool lacks only a slot any more
//!   (it left, or its tokens are gone). The next pool in line is granted it in that same
//!   step, and called.
//! - granted -> *Apart*, given up: the pool was called so late that another has been let in
//!   on its turn to launch. It stands again.
//! - standing -> *Apart*: the same, without a slot to pass on; or the pool is closed, gone
//!   or under other slots.
//!
//! Time comes without anybody's doing, so somebody must look. That is the next pool in
//! line: where a slot is free and only the time has not come, the head of its own line
//! keeps a timer for it. A pool that comes to be the next is called, to set it. Should its
//! head be slow to wake, whoever asks meanwhile looks first, and goes behind it.
//!
//! **Invariant**: whenever the lock is let go of, either nobody stands; or no slot is free;
//! or the time had not come, and the next in line has a timer no later than it, or is
//! called to set one.

mod calls;
mod seat;
mod state;

use std::fmt;
use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::sync::{Mutex, MutexGuard};
use crate::time::Now;
pub(super) use calls::{Calls, Poke};
pub(super) use seat::Seat;
use state::Place;
pub(super) use state::{Shared, Slot, State, Stood};

/// Calls in flight that several budgets share, and the time between their launches: an
/// account's, over all of its pools.
///
/// A call of a budget that was built with
/// [`account_slots`](crate::budget::TokenBudgetBuilder::account_slots) takes one of them
/// in the same step as everything else, so a call that waits, for a slot or for its
/// budget, holds nothing, and a budget that is spent delays no call of another. Where
/// budgets compete for slots, each gets them by the weight of its callers, in start-time
/// fair queueing: one slot a call, however long it lasts. Where launches are spaced
/// ([`set_interval`](Self::set_interval)), a slot is there no sooner than that after the
/// last launch of all, so who waits for the time between launches holds nothing either.
///
/// # Cloning
///
/// Clones are the same slots.
///
/// # Examples
///
/// ```
/// use tollhouse::{AccountSlots, TokenBudget};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let slots = AccountSlots::new(1);
/// let chats = TokenBudget::per_minute(30_000).account_slots(&slots).build()?;
/// let embeddings = TokenBudget::per_minute(1_000_000).account_slots(&slots).build()?;
///
/// let chat = chats.reserve(30_000).await?;
/// assert!(embeddings.try_reserve(100).is_err());
/// chat.settle(30_000);
///
/// // The next chat has to wait for its tokens, and holds no slot meanwhile.
/// let next = tokio::spawn(chats.reserve(30_000));
/// tokio::task::yield_now().await;
/// assert_eq!(slots.snapshot().in_use, 0);
/// assert!(embeddings.try_reserve(100).is_ok());
/// # next.abort();
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct AccountSlots {
    state: Arc<Mutex<State>>,
}

/// How [`AccountSlots`] stand at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct AccountSlotsSnapshot {
    /// How many there are.
    pub max: usize,
    /// How many calls hold one. More than `max` where that was lowered, until enough of
    /// them are done.
    pub in_use: usize,
    /// The budgets whose next call waits for nothing but a slot, by the
    /// [name](crate::budget::TokenBudgetBuilder::name) that they have, if any.
    pub waiting: Vec<Option<Arc<str>>>,
    /// When the next may be launched, if launches are spaced and the time has not come.
    pub next_launch: Option<Instant>,
}

impl AccountSlots {
    /// So many calls in flight at most.
    ///
    /// # Panics
    ///
    /// If `max` is 0: nobody would ever pass.
    #[track_caller]
    pub fn new(max: usize) -> Self {
        AccountSlots {
            state: Arc::new(Mutex::new(State::new(checked(max)))),
        }
    }

    /// So many from now on. Whoever waits sees more at once; where fewer are left than
    /// are in use, nobody is cancelled and nobody follows until enough of them are done.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    #[track_caller]
    pub fn set_max(&self, max: usize) {
        let max = checked(max);
        self.change(|state, _| state.max = max);
    }

    /// The least time between two launches of all budgets together, from now on; zero,
    /// as at first, switches it off. Whoever waits keeps the new distance from the last
    /// launch, at once.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::{AccountSlots, TokenBudget};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let slots = AccountSlots::new(3);
    /// slots.set_interval(Duration::from_secs(15));
    /// let chats = TokenBudget::per_minute(30_000).account_slots(&slots).build()?;
    /// let embeddings = TokenBudget::per_minute(1_000_000).account_slots(&slots).build()?;
    ///
    /// let start = Instant::now();
    /// chats.reserve(600).await?.launched();
    /// embeddings.reserve(900).await?.launched();
    /// assert_eq!(start.elapsed(), Duration::from_secs(15));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_interval(&self, interval: Duration) {
        self.change(|state, now| {
            state.interval = interval;
            state.space(now);
        });
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut State, &mut Now)) {
        let mut calls = Calls::default();
        let now = &mut Now::unread();
        let mut state = self.lock();
        change(&mut state, now);
        state.grant(&mut calls, now);
        drop(state);
        drop(calls);
    }

    pub(super) fn downgrade(&self) -> Weak<Mutex<State>> {
        Arc::downgrade(&self.state)
    }

    pub(super) fn upgrade(state: &Weak<Mutex<State>>) -> Option<Self> {
        state.upgrade().map(|state| AccountSlots { state })
    }

    /// How they stand.
    pub fn snapshot(&self) -> AccountSlotsSnapshot {
        let now = Now::unread().get();
        let (max, in_use, waiting, next_launch) = {
            let state = self.lock();
            let standing = state.members.values();
            let standing = standing.filter(|member| matches!(member.place, Place::Standing(..)));
            let waiting: Vec<_> = standing.map(|member| member.queue.clone()).collect();
            (state.max, state.taken, waiting, state.spacing.next(now))
        };
        let waiting = waiting.into_iter().filter_map(|queue| queue.upgrade());
        AccountSlotsSnapshot {
            max,
            in_use,
            waiting: waiting.map(|queue| queue.shared_name()).collect(),
            next_launch: next_launch.map(Into::into),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[track_caller]
fn checked(max: usize) -> usize {
    assert!(max > 0, "an account must have at least 1 slot, not 0");
    max
}

impl fmt::Debug for AccountSlots {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (max, in_use) = {
            let state = self.lock();
            (state.max, state.taken)
        };
        f.debug_struct("AccountSlots")
            .field("max", &max)
            .field("in_use", &in_use)
            .finish_non_exhaustive()
    }
}
