//! A pool's place among those that share slots.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::AccountSlots;
use super::calls::{Calls, Number, Poke};
use super::state::{Member, Place, Slot, Stood};
use crate::ask::Caller;
use crate::rules::{Ahead, Charged, Launch, Rule};
use crate::time::Now;

/// Tells members apart, those of other slots included.
static MEMBERS: AtomicU64 = AtomicU64::new(1);

/// A pool's membership at its account's slots; kept under the pool's lock.
pub(crate) struct Seat {
    slots: AccountSlots,
    number: Number,
    /// The caller as whom it stood last, and what that one is called in the line of pools.
    known_as: Option<(Caller, Caller)>,
    /// Whether it may stand, or have been granted a slot: it does so only by itself.
    may_stand: bool,
    /// Those who are to be called once the pool's lock is gone.
    pub(crate) calls: Calls,
}

impl Seat {
    /// A seat for a queue that has so many inside.
    pub(crate) fn new(slots: &AccountSlots, queue: Weak<dyn Poke>, inside: usize) -> Self {
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

    pub(crate) fn is_at(&self, slots: &AccountSlots) -> bool {
        Arc::ptr_eq(&self.slots.state, &slots.state)
    }

    /// Takes a slot, if there is one.
    #[inline]
    pub(crate) fn take(&mut self, now: &mut Now) -> Option<Slot> {
        let mut state = self.slots.lock();
        let slot = state.take(self.number, &mut self.calls, now);
        // Where there was none, it stands on if it did.
        self.may_stand &= slot.is_none();
        slot
    }

    /// How long the newcomer behind these of its pool waits for a slot, as far as can be
    /// told.
    pub(crate) fn expected_wait(&self, ahead: Ahead, now: &mut Now) -> Duration {
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
    pub(crate) fn least_wait(&self, waiting: usize, now: &mut Now) -> Duration {
        self.slots.lock().time_until_launch(waiting, now)
    }

    /// Whether others are to be called.
    #[inline]
    pub(crate) fn is_calling(&self) -> bool {
        !self.calls.is_empty()
    }

    /// Whether a slot was granted and has not been used.
    pub(crate) fn is_granted(&mut self, now: &mut Now) -> bool {
        self.may_stand && {
            let mut state = self.slots.lock();
            state.is_granted(self.number, &mut self.calls, now)
        }
    }

    /// Stands in the line of pools as this caller of the pool, at the place where it
    /// stands already if it does.
    pub(crate) fn stand(&mut self, caller: &Caller, now: &mut Now) -> Stood {
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
    pub(crate) fn step_out(&mut self, now: &mut Now) {
        if !std::mem::take(&mut self.may_stand) {
            return;
        }
        let mut state = self.slots.lock();
        state.step_out(self.number);
        state.grant(&mut self.calls, now);
    }

    /// A call is handed on.
    pub(crate) fn launch(&self, slot: &Slot, now: &mut Now) {
        if slot.member == self.number {
            let mut state = self.slots.lock();
            state.spacing.launch(&slot.turn, Launch::ToWire, now);
        }
    }

    /// Whether a call has not been launched for so long that somebody else was let in on
    /// its turn.
    pub(crate) fn has_lapsed(&self, slot: &Slot, now: &mut Now) -> bool {
        slot.member == self.number && self.slots.lock().has_lapsed(slot, now)
    }

    /// Whether a call may be launched on its slot: its turn has not lapsed, or there is another
    /// one, which it takes.
    pub(crate) fn renew(&mut self, slot: &mut Slot, now: &mut Now) -> bool {
        slot.member == self.number && {
            let mut state = self.slots.lock();
            !state.has_lapsed(slot, now) || state.renew(slot, &mut self.calls, now)
        }
    }

    /// A slot comes back, and with it the turn to launch where the call never was:
    /// nobody said so, and it was not charged.
    #[inline]
    pub(crate) fn give_back(&mut self, slot: Option<Slot>, charged: Charged, now: &mut Now) {
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
    pub(crate) fn leave(&mut self, inside: usize, now: &mut Now) {
        let mut state = self.slots.lock();
        state.taken -= inside;
        state.grant(&mut self.calls, now);
    }

    /// The pool has looked who goes, so it need not be called for what it was granted
    /// before.
    pub(crate) fn need_not_call_itself(&mut self) {
        self.calls.leave_out(self.number);
    }
}

impl Drop for Seat {
    /// The pool is gone, or under other slots. This runs under no lock.
    fn drop(&mut self) {
        self.step_out(&mut Now::unread());
        self.slots.lock().members.remove(&self.number);
    }
}
