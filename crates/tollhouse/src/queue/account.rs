//! Slots that several queues share: an account's, of which each pool's calls take one.
//!
//! A pool's queue asks for a slot only when all its own rules say *now*, and takes it in
//! the same step as the rest, so that whoever waits holds nothing. The slots have a lock
//! of their own. **It is taken after a pool's lock, or alone; never are two pools' locks
//! held at once.** A slot thus goes from pool to pool in steps:
//!
//! - *Apart*: the pool has nobody who lacks only a slot.
//! - apart -> *Standing*: its next call lacks only a slot, and there is none. That is
//!   seen and written down under one hold of the slots' lock, so that no slot that is
//!   released meanwhile is missed.
//! - standing -> *Granted*: a slot is released (or their number raised). Under the slots'
//!   lock the next pool in line is picked, and the slot is taken for it.
//! - The pool is called, once no lock is held: it looks, under its own lock, who goes.
//! - granted -> *Apart*, the slot used: by the one who goes. It need not be the one who
//!   stood: whoever of the pool's line may pass takes it.
//! - granted -> *Apart*, the slot passed on: nobody of the pool lacks only a slot any more
//!   (it left, or its tokens are gone). The next pool in line is granted it in that same
//!   step, and called.
//! - standing -> *Apart*: the same, without a slot to pass on; or the pool is closed, gone
//!   or under other slots.
//!
//! **Invariant**: while a slot is free nobody stands. So a pool that asks while one is free
//! goes before nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, PoisonError, Weak};

use super::Queue;
use super::lanes::{Lanes, Tagged};
use super::sync::{Mutex, MutexGuard};
use crate::ask::Caller;
use crate::charge::Charge;
use crate::rules::{Cost, Key, Rule};
use crate::time::Now;

/// What a slot costs in the line of pools. Any number would do; a large one loses nothing
/// when it is divided by a weight.
const SLOT: Cost = Cost::nanos(1_000_000_000);

/// Calls in flight that several budgets share: an account's, over all of its pools.
///
/// A call of a budget that was built with
/// [`account_slots`](crate::budget::TokenBudgetBuilder::account_slots) takes one of them
/// in the same step as everything else, so a call that waits, for a slot or for its
/// budget, holds nothing, and a budget that is spent delays no call of another. Where
/// budgets compete for slots, each gets them by the weight of its callers, in start-time
/// fair queueing: one slot a call, however long it lasts.
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
}

struct State {
    max: usize,
    /// Those that are granted and not used yet included.
    taken: usize,
    members: BTreeMap<u64, Member>,
    /// Pools that stand, by number. A lane is one caller's in one pool.
    line: Lanes<u64>,
    /// How many members there ever were.
    numbers: u64,
}

/// A pool, as its account's slots know it.
struct Member {
    queue: Weak<dyn Poke>,
    place: Place,
}

/// See the [module's documentation](self).
enum Place {
    Apart,
    /// With the lane's caller, as which it stands.
    Standing(Key, Caller),
    Granted(Tagged),
}

/// What a queue is to the slots that it shares.
pub(super) trait Poke: Send + Sync {
    /// Lets in all that now fit; whom that lets call on, it adds to `calls`.
    fn poke(&self, calls: &mut Vec<Call>);

    fn shared_name(&self) -> Option<Arc<str>>;
}

impl<R> Poke for Queue<R>
where
    R: Rule + Send,
    R::Held: Send,
{
    fn poke(&self, calls: &mut Vec<Call>) {
        let moved;
        let mut state = self.lock();
        moved = state.advance(None, &mut Now::unread());
        if let Some(seat) = &mut state.seat {
            calls.append(&mut seat.calls.0);
        }
        drop(state);
        moved.wake();
    }

    fn shared_name(&self) -> Option<Arc<str>> {
        self.name().cloned()
    }
}

/// A pool that was granted a slot.
pub(super) struct Call {
    member: u64,
    queue: Weak<dyn Poke>,
}

/// Pools that are to be called once no lock is held.
///
/// That is done when this is dropped, one after the other and whatever a waker of theirs
/// does: a slot that was granted must be used or passed on.
#[derive(Default)]
pub(super) struct Calls(Vec<Call>);

impl Drop for Calls {
    #[inline]
    fn drop(&mut self) {
        if !self.0.is_empty() {
            self.ring();
        }
    }
}

impl Calls {
    #[cold]
    fn ring(&mut self) {
        let mut panic = None;
        while let Some(call) = self.0.pop() {
            let Some(queue) = call.queue.upgrade() else {
                continue;
            };
            // The queue may be dropped here, which may call others.
            let poked = catch_unwind(AssertUnwindSafe(|| {
                queue.poke(&mut self.0);
                drop(queue);
            }));
            panic = panic.or(poked.err());
        }
        match panic {
            Some(panic) if !std::thread::panicking() => resume_unwind(panic),
            _ => {}
        }
    }
}

// ===== impl AccountSlots =====

impl AccountSlots {
    /// So many calls in flight at most.
    ///
    /// # Panics
    ///
    /// If `max` is 0: nobody would ever pass.
    pub fn new(max: usize) -> Self {
        AccountSlots {
            state: Arc::new(Mutex::new(State {
                max: checked(max),
                taken: 0,
                members: BTreeMap::new(),
                line: Lanes::new(),
                numbers: 0,
            })),
        }
    }

    /// So many from now on. Whoever waits sees more at once; where fewer are left than
    /// are in use, nobody is cancelled and nobody follows until enough of them are done.
    ///
    /// # Panics
    ///
    /// If `max` is 0.
    pub fn set_max(&self, max: usize) {
        let max = checked(max);
        let mut calls = Calls::default();
        let mut state = self.lock();
        state.max = max;
        state.grant(&mut calls);
        drop(state);
        drop(calls);
    }

    /// How they stand.
    pub fn snapshot(&self) -> AccountSlotsSnapshot {
        let (max, in_use, waiting) = {
            let state = self.lock();
            let standing = state.members.values();
            let standing = standing.filter(|member| matches!(member.place, Place::Standing(..)));
            let waiting: Vec<_> = standing.map(|member| member.queue.clone()).collect();
            (state.max, state.taken, waiting)
        };
        let waiting = waiting.into_iter().filter_map(|queue| queue.upgrade());
        AccountSlotsSnapshot {
            max,
            in_use,
            waiting: waiting.map(|queue| queue.shared_name()).collect(),
        }
    }

    /// A panic under the lock can only be a broken invariant of ours; the others had
    /// better go on than follow it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

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

// ===== impl State =====

impl State {
    /// Grants what is free to those who stand.
    fn grant(&mut self, calls: &mut Calls) {
        while self.taken < self.max {
            // A light one that would be over sooner goes first, as in any line.
            let head = self.line.head();
            let Some(key) = self.line.passer().or(head) else {
                return;
            };
            let tagged = self.line.launch(key, |_| SLOT);
            let number = self.line.remove(key, |_| SLOT);
            self.taken += 1;
            let member = self.member(number);
            // ===> Granted
            member.place = Place::Granted(tagged);
            let queue = member.queue.clone();
            calls.0.push(Call {
                member: number,
                queue,
            });
        }
    }

    fn member(&mut self, number: u64) -> &mut Member {
        let member = self.members.get_mut(&number);
        member.expect("a seat is a member's until it is dropped")
    }

    /// Takes a slot for a member that goes at once, if there is one.
    fn take(&mut self, number: u64) -> bool {
        let member = self.member(number);
        if let Place::Granted(tagged) = member.place {
            // ===> Apart, the slot used
            member.place = Place::Apart;
            self.line.land(tagged, tagged.cost);
            return true;
        }
        let is_free = self.taken < self.max;
        self.taken += usize::from(is_free);
        is_free
    }

    /// A member's next call lacks only a slot. Whether it has been granted one since.
    fn stand(&mut self, number: u64, caller: &Caller, now: &mut Now) -> bool {
        let is_free = self.taken < self.max;
        let member = self.member(number);
        match &member.place {
            Place::Granted(_) => return true,
            Place::Apart if is_free => {
                // ===> Granted, before nobody
                member.place = Place::Granted(Tagged::NOT);
                self.taken += 1;
                return true;
            }
            Place::Standing(_, before) if before == caller => return false,
            Place::Apart | Place::Standing(..) => {}
        }
        self.step_out(number);
        // ===> Standing
        let times = (None, now.get());
        let charge = Charge::default();
        let key = self.line.join(caller, charge, times, number, |_| SLOT);
        self.member(number).place = Place::Standing(key, caller.clone());
        false
    }

    /// Nobody of a member lacks only a slot. Whether one is to be passed on.
    fn step_out(&mut self, number: u64) -> bool {
        let member = self.member(number);
        // ===> Apart
        match std::mem::replace(&mut member.place, Place::Apart) {
            Place::Apart => false,
            Place::Standing(key, _) => {
                self.line.remove(key, |_| SLOT);
                false
            }
            Place::Granted(tagged) => {
                self.line.land(tagged, Cost::NOTHING);
                self.taken -= 1;
                true
            }
        }
    }
}

// ===== impl Seat =====

/// A pool's membership at its account's slots; kept under the pool's lock.
pub(super) struct Seat {
    slots: AccountSlots,
    number: u64,
    /// The caller as whom it stood last, and what that one is called in the line of pools.
    known_as: Option<(Caller, Caller)>,
    /// Whether it may stand, or have been granted a slot: it does so only by itself.
    may_stand: bool,
    /// Those who are to be called once the pool's lock is gone.
    pub(super) calls: Calls,
}

impl Seat {
    /// A seat for a queue that has so many inside.
    pub(super) fn new(slots: &AccountSlots, queue: Weak<dyn Poke>, inside: usize) -> Self {
        let mut state = slots.lock();
        let number = state.numbers;
        state.numbers += 1;
        state.taken += inside;
        let place = Place::Apart;
        state.members.insert(number, Member { queue, place });
        drop(state);
        Seat {
            slots: slots.clone(),
            number,
            known_as: None,
            may_stand: false,
            calls: Calls::default(),
        }
    }

    pub(super) fn is_at(&self, slots: &AccountSlots) -> bool {
        Arc::ptr_eq(&self.slots.state, &slots.state)
    }

    /// Takes a slot, if there is one.
    #[inline]
    pub(super) fn take(&mut self) -> bool {
        let is_there = self.slots.lock().take(self.number);
        // Where there was none, it stands on if it did.
        self.may_stand &= !is_there;
        is_there
    }

    pub(super) fn is_full(&self) -> bool {
        let state = self.slots.lock();
        state.taken >= state.max
    }

    /// Whether others are to be called.
    #[inline]
    pub(super) fn is_calling(&self) -> bool {
        !self.calls.0.is_empty()
    }

    /// Whether a slot was granted and has not been used.
    pub(super) fn is_granted(&self) -> bool {
        if !self.may_stand {
            return false;
        }
        let mut state = self.slots.lock();
        matches!(state.member(self.number).place, Place::Granted(_))
    }

    /// Stands in the line of pools as this caller of the pool, at the place where it
    /// stands already if it does. True if a slot is there by now.
    pub(super) fn stand(&mut self, caller: &Caller, now: &mut Now) -> bool {
        let alias = match &self.known_as {
            Some((before, alias)) if before == caller => alias,
            _ => {
                let alias = self.alias(caller);
                &self.known_as.insert((caller.clone(), alias)).1
            }
        };
        self.may_stand = true;
        self.slots.lock().stand(self.number, alias, now)
    }

    /// A caller of one pool has a lane of its own, whatever callers of others are called.
    fn alias(&self, caller: &Caller) -> Caller {
        let name = caller.name().unwrap_or_default();
        Caller::new(format!("{}/{name}", self.number)).weight(caller.get_weight())
    }

    /// Leaves the line of pools; what was granted is passed on.
    pub(super) fn step_out(&mut self) {
        if !std::mem::take(&mut self.may_stand) {
            return;
        }
        let mut state = self.slots.lock();
        if state.step_out(self.number) {
            state.grant(&mut self.calls);
        }
    }

    /// So many slots come back.
    #[inline]
    pub(super) fn give_back(&mut self, slots: usize) {
        let mut state = self.slots.lock();
        state.taken -= slots;
        state.grant(&mut self.calls);
    }

    /// The pool has looked who goes, so it need not be called for what it was granted
    /// before.
    pub(super) fn need_not_call_itself(&mut self) {
        self.calls.0.retain(|call| call.member != self.number);
    }
}

impl Drop for Seat {
    /// The pool is gone, or under other slots. This runs under no lock.
    fn drop(&mut self) {
        self.step_out();
        self.slots.lock().members.remove(&self.number);
    }
}
