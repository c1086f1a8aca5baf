//! Those who were let in: what they hold, and what they owe.

use std::task::Waker;

use super::{Place, State};
use crate::ask::Ask;
use crate::charge::Charge;
use crate::error::Refused;
use crate::queue::account::Slot;
use crate::queue::lanes::Tagged;
use crate::queue::moved::Moved;
use crate::rules::{Charged, Cost, Key, Launch, Rule, When};
use crate::time::Now;

/// What was given to one who was let in.
pub(in crate::queue) struct Admitted<H> {
    pub(in crate::queue) held: H,
    /// Mostly there is nothing else.
    due: Option<Key>,
    /// Of those who were let in, by when each was for the first time.
    number: u32,
}

/// What becomes of one for whom what he was given has lapsed.
pub(in crate::queue) enum Lapsed<H> {
    Stands(Key),
    /// With the waker that he does not need.
    GoesAnew(Admitted<H>, Waker),
}

/// What one who was let in owes to others than the rule.
///
/// Most owe nothing, so it is kept apart: what was given is moved some times on its way,
/// and each who waits has room for it.
pub(super) struct Due {
    /// To its lane.
    tagged: Tagged,
    /// Of those that were shared with other queues, when it was let in.
    slot: Option<Slot>,
}

impl<R: Rule> State<R> {
    #[inline]
    pub(super) fn next_number(&mut self) -> u32 {
        self.let_in = self.let_in.wrapping_add(1);
        self.let_in
    }

    #[inline]
    pub(super) fn admit(
        &mut self,
        charge: &Charge,
        number: u32,
        owed: (Tagged, Option<Slot>),
        now: &mut Now,
    ) -> Admitted<R::Held> {
        self.inside += 1;
        let held = self.rule.take(charge, now);
        self.admitted(held, number, owed)
    }

    #[inline]
    pub(super) fn admitted(
        &mut self,
        held: R::Held,
        number: u32,
        (tagged, slot): (Tagged, Option<Slot>),
    ) -> Admitted<R::Held> {
        let owes = !tagged.is_not() || slot.is_some();
        let due = owes.then(|| self.dues.insert(Due { tagged, slot }));
        Admitted { held, due, number }
    }

    fn slot_of(&self, admitted: &Admitted<R::Held>) -> Option<&Slot> {
        self.dues.get(admitted.due?).slot.as_ref()
    }

    /// What one owes who is over.
    fn take_due(&mut self, due: Option<Key>) -> Due {
        let nothing = Due {
            tagged: Tagged::NOT,
            slot: None,
        };
        due.map_or(nothing, |key| self.dues.remove(key))
    }

    /// Whether a shared slot was granted that nobody has used yet.
    #[inline]
    pub(super) fn is_granted(&mut self, now: &mut Now) -> bool {
        let seat = self.seat.as_mut();
        seat.is_some_and(|seat| seat.is_granted(now))
    }

    /// Takes one of the slots that are shared with other queues: none is needed where
    /// none are shared, and `None` says that there is none to be had.
    #[inline]
    pub(super) fn take_slot(&mut self, now: &mut Now) -> Option<Option<Slot>> {
        match &mut self.seat {
            Some(seat) => seat.take(now).map(Some),
            None => Some(None),
        }
    }

    /// Whoever is over or has lapsed gives back his.
    #[inline]
    fn give_back_slot(&mut self, slot: Option<Slot>, charged: Charged, now: &mut Now) {
        if let Some(seat) = &mut self.seat {
            seat.give_back(slot, charged, now);
        }
    }

    /// The request is handed on.
    #[inline]
    pub(in crate::queue) fn launch(
        &mut self,
        admitted: &Admitted<R::Held>,
        to: Launch,
        now: &mut Now,
    ) {
        self.rule.launch(&admitted.held, to, now);
        if let Some(seat) = &self.seat
            && let Some(slot) = self.slot_of(admitted)
        {
            seat.launch(slot, now);
        }
    }

    /// It was launched, and never left all the same.
    pub(in crate::queue) fn never_left(&mut self, admitted: &Admitted<R::Held>) {
        if let Some(key) = admitted.due
            && let Some(slot) = &mut self.dues.get_mut(key).slot
        {
            slot.never_left();
        }
    }

    /// Whether what an admitted request holds has lapsed.
    pub(in crate::queue) fn has_lapsed(
        &mut self,
        admitted: &Admitted<R::Held>,
        now: &mut Now,
    ) -> bool {
        let has_lapsed = self.rule.has_lapsed(&admitted.held, now);
        let slot = self.seat.as_ref().zip(self.slot_of(admitted));
        has_lapsed || slot.is_some_and(|(seat, slot)| seat.has_lapsed(slot, now))
    }

    /// The same of one who was called.
    pub(super) fn is_lapsed(&mut self, place: &Place<R::Held>, now: &mut Now) -> bool {
        match place {
            Place::Admitted(admitted) => self.has_lapsed(admitted, now),
            Place::InLine { .. } | Place::Refused(_) => false,
        }
    }

    /// What an admitted request holds has lapsed: all of it goes back, and its
    /// owner stands in line again, where he stood: before all others of its caller but those
    /// who were let in before him and whose has lapsed, too.
    /// He comes to wait, whose waker this is, as any other does.
    ///
    /// Who was called and comes late to what he was given is let in anew at once instead, if
    /// he can be. Otherwise the calls of several queues that all come late would hand one slot
    /// from queue to queue, and none of them would be launched.
    pub(in crate::queue) fn lapse(
        &mut self,
        admitted: Admitted<R::Held>,
        ask: &Ask,
        (waker, was_called): (Waker, bool),
        now: &mut Now,
    ) -> Lapsed<R::Held> {
        let Admitted { held, due, number } = admitted;
        self.rule.release(held, now);
        if was_called && self.may_go_anew(ask, due, number, now) {
            let held = self.rule.take(ask.wants(), now);
            return Lapsed::GoesAnew(Admitted { held, due, number }, waker);
        }
        let Due { tagged, slot } = self.take_due(due);
        self.inside -= 1;
        self.give_back_slot(slot, Charged::Nothing, now);
        self.lanes.land(tagged, Cost::NOTHING);
        let rule = &self.rule;
        let place = Place::in_line(ask, waker);
        let price = |charge: &Charge| rule.cost(charge);
        let key = self
            .lanes
            .come_back(ask.who(), *ask.wants(), number, place, price);
        self.note_deadline(key, ask);
        Lapsed::Stands(key)
    }

    /// Whether one who was let in as this number, and whose has gone back but for a shared
    /// slot, can be let in anew: nobody stands before him who was let in before him.
    fn may_go_anew(&mut self, ask: &Ask, due: Option<Key>, number: u32, now: &mut Now) -> bool {
        if self.lanes.comes_after_one(ask.who(), number)
            || self.rule.when(ask.wants(), now) != When::Now
        {
            return false;
        }
        let slot = due.and_then(|due| self.dues.get_mut(due).slot.as_mut());
        match (&mut self.seat, slot) {
            (None, None) => true,
            (Some(seat), Some(slot)) => seat.renew(slot, now),
            // The account's slots are others than they were.
            _ => false,
        }
    }

    /// One who was let in comes too late to be launched: he leaves, and is told so.
    pub(in crate::queue) fn leave_late(
        &mut self,
        admitted: Admitted<R::Held>,
        ask: &Ask,
        moved: &mut Moved,
        now: &mut Now,
    ) -> Refused {
        self.end(admitted, ask.wants(), now, R::release);
        self.call_overdue(None, moved, now);
        self.late(ask, now)
    }

    /// An admitted request is over, and `end` says what stands of its charge.
    #[inline]
    pub(in crate::queue) fn end(
        &mut self,
        admitted: Admitted<R::Held>,
        charge: &Charge,
        now: &mut Now,
        end: impl FnOnce(&mut R, R::Held, &mut Now) -> Charged,
    ) {
        let Admitted { held, due, .. } = admitted;
        self.inside -= 1;
        let charged = end(&mut self.rule, held, now);
        if due.is_some() || self.seat.is_some() {
            self.pay(due, charge, charged, now);
        }
    }

    /// An admitted request is over, and was never launched: where no slots are shared it owes
    /// nothing, and leaves what it holds.
    pub(super) fn leave_unused(&mut self, admitted: Admitted<R::Held>) -> R::Held {
        let Admitted { held, due, .. } = admitted;
        self.inside -= 1;
        if due.is_some() {
            let Due { tagged, .. } = self.take_due(due);
            self.lanes.land(tagged, Cost::NOTHING);
        }
        held
    }

    /// One who is over pays what it owes, so much of its charge standing.
    fn pay(&mut self, due: Option<Key>, charge: &Charge, charged: Charged, now: &mut Now) {
        let Due { tagged, slot } = self.take_due(due);
        self.give_back_slot(slot, charged, now);
        if tagged.is_not() {
            return;
        }
        let stands = match charged {
            Charged::Whole => tagged.cost,
            Charged::Nothing => Cost::NOTHING,
            // In the proportion of today's prices, so that a price that has changed
            // since gives and takes nothing.
            Charged::Used(used) if used != *charge => {
                let (used, reserved) = (self.rule.cost(&used), self.rule.cost(charge));
                tagged.cost.scaled(used, reserved)
            }
            Charged::Used(_) => tagged.cost,
        };
        self.lanes.land(tagged, stands);
    }
}
