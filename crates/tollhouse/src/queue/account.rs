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

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, Weak};
use std::time::Duration;

use tokio::time::Instant;

use super::Queue;
use super::bell::Bell;
use super::lanes::{Lanes, Tagged};
use super::sync::{Mutex, MutexGuard};
use crate::ask::Caller;
use crate::charge::Charge;
use crate::rules::ledger::Share;
use crate::rules::{
    Ahead, Charged, Cost, Key, Launch, Leases, Limited, Need, Random, Rule, Spacing, When,
};
use crate::time::{Moment, Now};

/// What a slot costs in the line of pools. Any number would do; a large one loses nothing
/// when it is divided by a weight.
const SLOT: Cost = Cost::nanos(1_000_000_000);

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

pub(super) struct State {
    max: usize,
    /// The least time between two launches of all processes.
    interval: Duration,
    /// Those that are granted and not used yet included.
    taken: usize,
    spacing: Spacing,
    /// Where other processes share them, too.
    pub(super) shared: Option<Shared>,
    members: BTreeMap<Number, Member>,
    /// Pools that stand, by number. A lane is one caller's in one pool.
    line: Lanes<Number>,
    /// Which pool has a timer for which instant, or is called to set one.
    timer: Option<(Number, Moment)>,
}

/// What is shared with other processes.
pub(super) struct Shared {
    pub(super) leases: Leases,
    /// How much of the slots, and of the launches, is this process's.
    pub(super) share: Share,
    /// Called when there is no slot that is leased.
    pub(super) bell: Arc<dyn Bell>,
}

/// Tells members apart, those of other slots included.
static MEMBERS: AtomicU64 = AtomicU64::new(1);

/// A member's. It is never 0, so that a slot that may be missing is no larger than one
/// that is there: each who waits has room for one.
type Number = NonZeroU64;

/// A slot that is held, with its turn to launch.
///
/// Who gave it is kept, because a pool may leave its slots for others while calls are in
/// flight.
#[derive(Debug)]
pub(super) struct Slot {
    member: Number,
    turn: <Spacing as Rule>::Held,
    /// On which lease, and by which booked launch.
    lease: Option<(u32, Option<Moment>)>,
}

impl Slot {
    /// The call was handed on, and never left all the same.
    pub(super) fn never_left(&mut self) {
        self.turn.never_launched();
    }
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
    Granted(Tagged, Slot),
}

/// What becomes of a pool that stands.
pub(super) enum Stood {
    /// There is a slot by now.
    Granted,
    /// It is called when it is granted one, but has to look by itself at this instant.
    Waits(Option<Moment>),
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
        let names = self.name()?;
        names.pool.clone().or_else(|| names.policy.clone())
    }
}

/// A pool that was granted a slot.
pub(super) struct Call {
    member: Number,
    queue: Weak<dyn Poke>,
}

/// Pools that are to be called once no lock is held.
///
/// That is done when this is dropped, one after the other and whatever a waker of theirs
/// does: a slot that was granted must be used or passed on.
#[derive(Default)]
pub(super) struct Calls(Vec<Call>, Option<Arc<dyn Bell>>);

impl Drop for Calls {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.ring();
        }
    }
}

impl Calls {
    fn is_empty(&self) -> bool {
        self.0.is_empty() && self.1.is_none()
    }

    #[cold]
    fn ring(&mut self) {
        let mut panic = None;
        if let Some(bell) = self.1.take() {
            bell.ring(Need::More);
        }
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
                interval: Duration::ZERO,
                taken: 0,
                shared: None,
                spacing: Spacing::new(Duration::ZERO, 0.0, Random::from_entropy()),
                members: BTreeMap::new(),
                line: Lanes::new(),
                timer: None,
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

    /// A panic under the lock can only be a broken invariant of ours; the others had
    /// better go on than follow it.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
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
    /// When there is a slot for the next in line.
    #[inline]
    fn when(&mut self, calls: &mut Calls, now: &mut Now) -> When {
        let own = match self.taken < self.max() {
            true => self.spacing.when(&Charge::default(), now),
            false => return When::OnRelease,
        };
        match self.shared {
            Some(_) => own.and(self.when_leased(self.taken, calls, now)),
            None => own,
        }
    }

    /// The same, as far as leases go, while so many are taken.
    fn when_leased(&mut self, taken: usize, calls: &mut Calls, now: &mut Now) -> When {
        let limited = Limited {
            taken: taken as u64,
            ..self.limited()
        };
        let Some(shared) = &mut self.shared else {
            return When::Now;
        };
        let when = shared.leases.when_launched(&limited, now.get());
        if shared.leases.take_call() {
            calls.1 = Some(Arc::clone(&shared.bell));
        }
        when
    }

    /// How many there are for this process: a part of them while it is alone.
    fn max(&self) -> usize {
        self.share().of_slots(self.max)
    }

    fn share(&self) -> Share {
        self.shared.as_ref().map_or(Share::Whole, |it| it.share)
    }

    /// Spaces launches as is right for this process.
    pub(super) fn space(&mut self, now: &mut Now) {
        let jitter = self.spacing.jitter();
        let interval = self.share().lengthen(self.interval);
        self.spacing.set_interval(interval, jitter, now);
    }

    /// How calls are limited, for all processes together.
    pub(super) fn limited(&self) -> Limited {
        Limited {
            taken: self.taken as u64,
            max_slots: Some(self.max as u64),
            interval: self.interval,
        }
    }

    /// How many pools have a call that lacks nothing but a slot.
    pub(super) fn standing(&self) -> usize {
        self.line.len()
    }

    /// How long it is until so many others and one more may have been launched.
    fn time_until_launch(&self, others: usize, now: &mut Now) -> Duration {
        self.spacing.eta(others, now.get()) - now.get()
    }

    /// Grants what is there to those who stand, and sees to it that the next one keeps the
    /// timer where all that lacks is time.
    #[inline]
    fn grant(&mut self, calls: &mut Calls, now: &mut Now) {
        while !self.line.is_empty() {
            match self.when(calls, now) {
                When::Now => self.grant_next(calls, now),
                When::At(at) => return self.set_timer(at, calls),
                When::OnRelease | When::OnChange | When::Never(_) => return,
            }
        }
    }

    /// Whose turn it is in the line of pools: a light one that would be over sooner goes
    /// first, as in any line.
    fn next(&mut self) -> Option<Key> {
        let head = self.line.head();
        self.line.passer().or(head)
    }

    fn grant_next(&mut self, calls: &mut Calls, now: &mut Now) {
        let Some(key) = self.next() else { return };
        let tagged = self.line.launch(key);
        let number = self.line.remove(key, |_| SLOT);
        let slot = self.seize(number, now);
        self.forget_timer(number);
        // ===> Granted
        self.member(number).place = Place::Granted(tagged, slot);
        self.call(number, calls);
    }

    /// The next in line has to look at this instant.
    fn set_timer(&mut self, at: Moment, calls: &mut Calls) {
        let Some(key) = self.next() else { return };
        let number = *self.line.get_mut(key);
        let is_set = |(whose, set): (Number, Moment)| whose == number && set <= at;
        if !self.timer.is_some_and(is_set) {
            self.timer = Some((number, at));
            self.call(number, calls);
        }
    }

    fn forget_timer(&mut self, number: Number) {
        self.timer = self.timer.filter(|(whose, _)| *whose != number);
    }

    fn call(&mut self, number: Number, calls: &mut Calls) {
        let queue = self.member(number).queue.clone();
        calls.0.push(Call {
            member: number,
            queue,
        });
    }

    fn member(&mut self, number: Number) -> &mut Member {
        let member = self.members.get_mut(&number);
        member.expect("a seat is a member's until it is dropped")
    }

    /// Takes a slot that is there.
    fn seize(&mut self, member: Number, now: &mut Now) -> Slot {
        let turn = self.spacing.take(&Charge::default(), now);
        let limited = self.limited();
        self.taken += 1;
        let shared = self.shared.as_mut();
        let lease = shared.map(|shared| shared.leases.take_slot(&limited, now.get()));
        Slot {
            member,
            turn,
            lease,
        }
    }

    /// Whether one that has not been launched may be no more.
    fn has_lapsed(&mut self, slot: &Slot, now: &mut Now) -> bool {
        if slot.turn.is_launched() {
            return false;
        }
        let shared = self.shared.as_ref().zip(slot.lease);
        shared.is_some_and(|(shared, (lease, _))| shared.leases.is_over(lease, now.get()))
            || self.spacing.has_lapsed(&slot.turn, now)
    }

    /// A turn to launch is not used.
    fn release_turn(&mut self, slot: Slot) {
        if let Some((lease, Some(booked))) = slot.lease
            && let Some(shared) = &mut self.shared
        {
            shared.leases.give_launch_back(booked, lease);
        }
        self.spacing.release(slot.turn, &mut Now::unread());
    }

    /// Takes a slot for a member that goes at once, if there is one.
    fn take(&mut self, number: Number, calls: &mut Calls, now: &mut Now) -> Option<Slot> {
        // Those who stand go first, should the time have come for them.
        self.grant(calls, now);
        let place = &mut self.member(number).place;
        if let Place::Granted(..) = place
            && let Place::Granted(tagged, slot) = std::mem::replace(place, Place::Apart)
        {
            return self.use_granted((tagged, slot), calls, now);
        }
        let is_there = self.line.is_empty() && self.when(calls, now) == When::Now;
        is_there.then(|| self.seize(number, now))
    }

    /// A pool comes for what it was granted. If it comes so late that another may have been
    /// let in on its turn, it takes another turn, where there is one.
    fn use_granted(
        &mut self,
        (tagged, mut slot): (Tagged, Slot),
        calls: &mut Calls,
        now: &mut Now,
    ) -> Option<Slot> {
        if self.has_lapsed(&slot, now) {
            let spaced = self.spacing.when(&Charge::default(), now);
            let leased = self.when_leased(self.taken - 1, calls, now);
            if spaced.and(leased) != When::Now {
                // ===> Apart, and nobody else could use the slot now
                self.take_back(tagged, slot);
                return None;
            }
            self.taken -= 1;
            slot = self.seize(slot.member, now);
        }
        // ===> Apart, the slot used
        self.line.land(tagged, tagged.cost);
        Some(slot)
    }

    /// What was granted has not been used.
    fn take_back(&mut self, tagged: Tagged, slot: Slot) {
        self.line.land(tagged, Cost::NOTHING);
        self.taken -= 1;
        self.release_turn(slot);
    }

    /// Whether a member has been granted a slot by now.
    fn is_granted(&mut self, number: Number, calls: &mut Calls, now: &mut Now) -> bool {
        self.grant(calls, now);
        matches!(self.member(number).place, Place::Granted(..))
    }

    /// A member's next call lacks only a slot.
    fn stand(
        &mut self,
        number: Number,
        caller: &Caller,
        calls: &mut Calls,
        now: &mut Now,
    ) -> Stood {
        match &self.member(number).place {
            Place::Granted(..) => return Stood::Granted,
            Place::Standing(_, before) if before == caller => {}
            Place::Apart | Place::Standing(..) => {
                self.step_out(number);
                // ===> Standing
                let times = (None, now.get());
                let charge = Charge::default();
                let key = self.line.join(caller, charge, times, number, |_| SLOT);
                self.member(number).place = Place::Standing(key, caller.clone());
            }
        }
        if self.is_granted(number, calls, now) {
            return Stood::Granted;
        }
        let is_mine = self.timer.is_some_and(|(whose, _)| whose == number);
        let alarm = match self.when(calls, now) {
            When::At(at) if is_mine => Some(at),
            _ => None,
        };
        if is_mine {
            // As its queue will have it.
            self.timer = alarm.map(|at| (number, at));
        }
        Stood::Waits(alarm)
    }

    /// Nobody of a member lacks only a slot. What it was granted goes back.
    fn step_out(&mut self, number: Number) {
        let member = self.member(number);
        // ===> Apart
        match std::mem::replace(&mut member.place, Place::Apart) {
            Place::Apart => {}
            Place::Standing(key, _) => {
                self.line.remove(key, |_| SLOT);
                self.forget_timer(number);
            }
            Place::Granted(tagged, slot) => self.take_back(tagged, slot),
        }
    }
}

// ===== impl Seat =====

/// A pool's membership at its account's slots; kept under the pool's lock.
pub(super) struct Seat {
    slots: AccountSlots,
    number: Number,
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
        let number = Number::new(MEMBERS.fetch_add(1, Ordering::Relaxed));
        let number = number.expect("not so many were ever made");
        let mut state = slots.lock();
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
    pub(super) fn take(&mut self, now: &mut Now) -> Option<Slot> {
        let mut state = self.slots.lock();
        let slot = state.take(self.number, &mut self.calls, now);
        // Where there was none, it stands on if it did.
        self.may_stand &= slot.is_none();
        slot
    }

    /// How long the newcomer behind these of its pool waits for a slot, as far as can be
    /// told.
    pub(super) fn expected_wait(&self, ahead: Ahead, now: &mut Now) -> Duration {
        let state = self.slots.lock();
        let own = state.members.get(&self.number);
        let stands = own.is_some_and(|member| matches!(member.place, Place::Standing(..)));
        let others = state.line.len() - usize::from(stands);
        let spaced = state.time_until_launch(ahead.waiting + others, now);
        let line = u32::try_from(ahead.waiting).unwrap_or(u32::MAX);
        let released = match state.taken < state.max {
            true => Duration::ZERO,
            false => ahead.pace.saturating_mul(line.saturating_add(1)),
        };
        spaced.max(released)
    }

    /// The least that the newcomer behind so many of its pool waits, whatever is released
    /// and even if no other pool wants a slot.
    pub(super) fn least_wait(&self, waiting: usize, now: &mut Now) -> Duration {
        self.slots.lock().time_until_launch(waiting, now)
    }

    /// Whether others are to be called.
    #[inline]
    pub(super) fn is_calling(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether a slot was granted and has not been used.
    pub(super) fn is_granted(&mut self, now: &mut Now) -> bool {
        self.may_stand && {
            let mut state = self.slots.lock();
            state.is_granted(self.number, &mut self.calls, now)
        }
    }

    /// Stands in the line of pools as this caller of the pool, at the place where it
    /// stands already if it does.
    pub(super) fn stand(&mut self, caller: &Caller, now: &mut Now) -> Stood {
        let alias = match &self.known_as {
            Some((before, alias)) if before == caller => alias,
            _ => {
                let alias = self.alias(caller);
                &self.known_as.insert((caller.clone(), alias)).1
            }
        };
        self.may_stand = true;
        let mut state = self.slots.lock();
        state.stand(self.number, alias, &mut self.calls, now)
    }

    /// A caller of one pool has a lane of its own, whatever callers of others are called.
    fn alias(&self, caller: &Caller) -> Caller {
        let name = caller.name().unwrap_or_default();
        Caller::new(format!("{}/{name}", self.number)).weight(caller.get_weight())
    }

    /// Leaves the line of pools; what was granted is passed on.
    pub(super) fn step_out(&mut self, now: &mut Now) {
        if !std::mem::take(&mut self.may_stand) {
            return;
        }
        let mut state = self.slots.lock();
        state.step_out(self.number);
        state.grant(&mut self.calls, now);
    }

    /// A call is handed on.
    pub(super) fn launch(&self, slot: &Slot, now: &mut Now) {
        if slot.member == self.number {
            let mut state = self.slots.lock();
            state.spacing.launch(&slot.turn, Launch::ToWire, now);
        }
    }

    /// Whether a call has not been launched for so long that somebody else was let in on
    /// its turn.
    pub(super) fn has_lapsed(&self, slot: &Slot, now: &mut Now) -> bool {
        slot.member == self.number && self.slots.lock().has_lapsed(slot, now)
    }

    /// A slot comes back, and with it the turn to launch where the call never was:
    /// nobody said so, and it was not charged.
    #[inline]
    pub(super) fn give_back(&mut self, slot: Option<Slot>, charged: Charged, now: &mut Now) {
        let mut state = self.slots.lock();
        state.taken -= 1;
        let own = slot.filter(|slot| slot.member == self.number);
        if let Some(slot) = own
            && charged == Charged::Nothing
        {
            state.release_turn(slot);
        }
        state.grant(&mut self.calls, now);
    }

    /// The pool shares other slots from now on, and with so many inside.
    pub(super) fn leave(&mut self, inside: usize, now: &mut Now) {
        let mut state = self.slots.lock();
        state.taken -= inside;
        state.grant(&mut self.calls, now);
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
        self.step_out(&mut Now::unread());
        self.slots.lock().members.remove(&self.number);
    }
}
