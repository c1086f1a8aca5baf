//! What a queue holds under its lock: the rule, those who wait, and what those who were let in
//! owe.
//!
//! Who comes, looks and leaves is here; how the line moves on in `advance`, what becomes of
//! those who were let in in `inside`, and how long one would wait in `outlook`.

mod advance;
mod inside;
mod outlook;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::Bounds;
use super::account::{Calls, Seat};
use super::bell::Bell;
use super::lanes::Lanes;
use super::moved::Moved;
use crate::ask::Ask;
use crate::charge::Charge;
use crate::error::Refused;
use crate::rules::stats::{Note, Stats};
use crate::rules::{Key, Line, Need, Rule, When};
use crate::time::{Moment, Now};
use inside::Due;
pub(super) use inside::{Admitted, Lapsed};
use outlook::MoveRate;

/// What a queue holds under its lock.
pub(super) struct State<R: Rule> {
    /// Whom it turns away at once.
    pub(super) bounds: Bounds,
    pub(super) rule: R,
    pub(super) lanes: Lanes<Place<R::Held>>,
    /// Who leaves the line when. Invariant: exactly those in line that have a deadline.
    deadlines: BTreeMap<(Moment, usize), Key>,
    /// Whose timer fires when. Invariant: where the rule named an instant for the
    /// head, or for whoever may pass it, the head's timer fires no later, or the head
    /// has been woken. What is noted of another one than the head is void.
    pub(super) timer: Option<(Key, Moment)>,
    /// By which of the rule's prices the lanes are ordered.
    prices: u32,
    /// Watched where somebody may be told of it.
    move_rate: Option<MoveRate>,
    /// How many were admitted and have not given back.
    pub(super) inside: usize,
    pub(super) closed: bool,
    /// Where slots, and the time between launches, are shared with other queues.
    /// Invariant: of those it holds `inside`,
    /// and at most one more that it was granted.
    pub(super) seat: Option<Seat>,
    /// What those who are inside owe.
    dues: Line<Due>,
    /// Who waits for the last one to leave: those in line have not been woken.
    pub(super) watchers: Line<Option<Waker>>,
    /// Called when the rule has a need that only somebody outside can meet.
    pub(super) bell: Option<Arc<dyn Bell>>,
    /// How often the lock was let go of, where somebody is told of it.
    unlocked: u64,
    /// How many were let in who had not waited, of whom nobody was told yet.
    pub(super) untold: usize,
    /// How many were let in, each counted once.
    let_in: u32,
}

pub(super) enum Place<H> {
    InLine { waker: Waker, until: Option<Moment> },
    Admitted(Admitted<H>),
    Refused(Refused),
}

impl<H> Place<H> {
    fn in_line(ask: &Ask, waker: Waker) -> Self {
        let until = ask.until();
        Place::InLine { waker, until }
    }
}

/// How one fares who looks.
pub(super) enum Looked<H> {
    /// It was called, and what it was given may have lapsed since.
    Called {
        place: Place<H>,
        is_late: bool,
    },
    Waits,
}

/// What is to be told once the lock is gone.
pub(super) struct News {
    /// Queues that were granted a slot.
    pub(super) calls: Calls,
    pub(super) bell: Option<(Arc<dyn Bell>, Need)>,
    pub(super) notes: Vec<Note>,
}

impl<R: Rule> State<R> {
    pub(super) fn new(rule: R, bounds: Bounds) -> Self {
        let is_watched = R::IS_TIMED || bounds.waiting < usize::MAX;
        State {
            bounds,
            prices: rule.prices(),
            rule,
            lanes: Lanes::new(),
            deadlines: BTreeMap::new(),
            timer: None,
            move_rate: is_watched.then(MoveRate::default),
            inside: 0,
            closed: false,
            seat: None,
            dues: Line::new(),
            watchers: Line::new(),
            bell: None,
            unlocked: 0,
            untold: 0,
            let_in: 0,
        }
    }

    /// How it stands as the lock is let go of.
    #[inline]
    pub(super) fn stats(&mut self) -> Stats {
        self.unlocked += 1;
        let mut stats = Stats {
            number: self.unlocked,
            waiting: self.lanes.waiting(),
            ..Stats::default()
        };
        self.rule.show(&mut stats);
        stats
    }

    /// Whether anybody is to be told of anything once the lock is gone.
    #[inline]
    pub(super) fn has_news(&self) -> bool {
        let is_calling = self.seat.as_ref().is_some_and(Seat::is_calling);
        is_calling || self.rule.calls() || self.rule.has_notes()
    }

    /// Whom to call, and what the rule has to say.
    pub(super) fn take_news(&mut self) -> News {
        let seat = self.seat.as_mut();
        let calls = seat.map(|seat| std::mem::take(&mut seat.calls));
        let bell = self.bell.clone().zip(self.rule.take_call());
        News {
            calls: calls.unwrap_or_default(),
            bell,
            notes: self.rule.take_notes(),
        }
    }

    /// Whether a newcomer may go in at once, if there is a slot for it: nobody waits, and
    /// the rule allows it.
    #[inline(always)]
    pub(super) fn is_open_to(&mut self, ask: &Ask, now: &mut Now) -> Result<bool, Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        if is_overdue(ask, now) {
            return Err(self.late(ask, now));
        }
        let is_first = self.lanes.is_empty();
        if is_first && self.rule.is_open(ask.wants(), now) {
            return Ok(true);
        }
        match self.rule.when(ask.wants(), now) {
            When::Now => Ok(is_first),
            When::Never(refused) => Err(refused),
            When::At(_) | When::OnRelease | When::OnChange => Ok(false),
        }
    }

    /// Lets a newcomer in to whom it [is open](Self::is_open_to), if there is a slot.
    #[inline(always)]
    pub(super) fn let_in(&mut self, ask: &Ask, now: &mut Now) -> Option<Admitted<R::Held>> {
        let slot = self.take_slot(now)?;
        let tagged = self.lanes.fly(ask.who());
        let number = self.next_number();
        Some(self.admit(ask.wants(), number, (tagged, slot), now))
    }

    /// Refuses a newcomer who would have to wait too long, or in vain.
    pub(super) fn check(&mut self, ask: &Ask, now: &mut Now) -> Result<(), Refused> {
        let bounds = self.bounds;
        if self.in_line_before(ask) >= bounds.waiting
            || (bounds.wait < Duration::MAX && self.expected_wait(ask, now) > bounds.wait)
        {
            return Err(self.overloaded(ask, now));
        }
        self.too_late(ask, now).map_or(Ok(()), Err)
    }

    /// Lets a newcomer in who need not wait, though others do or the slot is not his for the
    /// asking; `None` if he would have to.
    ///
    /// He stands in line for as long as it takes to look, so that he passes whom he may pass
    /// who waits, and no more pass a head for it.
    pub(super) fn pass(
        &mut self,
        ask: &Ask,
        moved: &mut Moved,
        now: &mut Now,
    ) -> Result<Option<Admitted<R::Held>>, Refused> {
        if self.rule.when(ask.wants(), now) != When::Now {
            return Ok(None);
        }
        // Nobody but this wakes him.
        let key = self.join(ask, Waker::noop().clone(), now);
        self.advance(Some(key), moved, now);
        if matches!(self.lanes.get_mut(key), Place::InLine { .. }) {
            drop(self.leave(key, moved, now));
            return Ok(None);
        }
        match self.fetch(key) {
            Place::Admitted(admitted) => Ok(Some(admitted)),
            Place::Refused(refused) => Err(refused),
            Place::InLine { .. } => unreachable!("he has left the line"),
        }
    }

    /// Puts a newcomer in line.
    pub(super) fn join(&mut self, ask: &Ask, waker: Waker, now: &mut Now) -> Key {
        let rule = &self.rule;
        let times = (ask.since(), now.get());
        let place = Place::in_line(ask, waker);
        let price = |charge: &Charge| rule.cost(charge);
        let key = self
            .lanes
            .join(ask.who(), *ask.wants(), times, place, price);
        self.note_deadline(key, ask);
        key
    }

    fn note_deadline(&mut self, key: Key, ask: &Ask) {
        if let Some(until) = ask.until() {
            self.deadlines.insert((until, key.index()), key);
        }
    }

    /// Looks how one fares who came to wait, or woke. A newcomer moves the line on for the head
    /// too, in case nobody polls the head's timer.
    pub(super) fn look(
        &mut self,
        key: Key,
        is_new: bool,
        ask: &Ask,
        moved: &mut Moved,
        now: &mut Now,
    ) -> Looked<R::Held> {
        let is_in_line = |lanes: &mut Lanes<_>| matches!(lanes.get_mut(key), Place::InLine { .. });
        // Whoever called it has moved the line on.
        let was_called = !is_in_line(&mut self.lanes);
        if !was_called && (is_new || self.lanes.is_head(key)) {
            self.advance(Some(key), moved, now);
        } else {
            // It was the head once, and gives up the timer that it had as such.
            self.forget_timer(key);
        }
        if is_in_line(&mut self.lanes)
            && let Some(until) = ask.until()
            && until <= now.get()
        {
            self.call_overdue(Some(key), moved, now);
        }
        // ===> InLine
        if is_in_line(&mut self.lanes) {
            return Looked::Waits;
        }
        let place = match self.fetch(key) {
            // ===> Refused: whom nobody keeps waiting any more may come too late all the same
            Place::Admitted(admitted) if is_overdue(ask, now) => {
                Place::Refused(self.leave_late(admitted, ask, moved, now))
            }
            // ===> Admitted, Refused: called just now, or by somebody else
            place => place,
        };
        // Who was let in by somebody else may come late to what he was given.
        let is_late = R::LAPSES && was_called && self.is_lapsed(&place, now);
        Looked::Called { place, is_late }
    }

    /// Fetches one who was called.
    fn fetch(&mut self, key: Key) -> Place<R::Held> {
        let rule = &self.rule;
        self.lanes.remove(key, |charge| rule.cost(charge))
    }

    /// Removes an entry whose owner gave up, in whatever state it is.
    ///
    /// The one behind a head that leaves must learn that it is the head now,
    /// and what an admitted one gives back is the next one's.
    pub(super) fn leave(&mut self, key: Key, moved: &mut Moved, now: &mut Now) -> Option<Waker> {
        self.forget_timer(key);
        let charge = self.lanes.charge_of(key);
        let waker = match self.fetch(key) {
            Place::InLine { waker, until } => {
                self.forget_deadline(key, until);
                Some(waker)
            }
            Place::Admitted(admitted) => {
                self.end(admitted, &charge, now, R::release);
                None
            }
            Place::Refused(_) => None,
        };
        self.advance(None, moved, now);
        waker
    }
}

/// Whether its deadline has passed.
#[inline]
pub(super) fn is_overdue(ask: &Ask, now: &mut Now) -> bool {
    ask.until().is_some_and(|until| until < now.get())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules::Slots;
    use crate::rules::stats::SlotLevels;

    #[test]
    fn each_letting_go_has_a_number_of_its_own() {
        let mut state = State::new(Slots::new(1), Bounds::NONE);
        let (ask, now) = (Ask::of(1), &mut Now::at(Moment::default()));
        assert_eq!(state.is_open_to(&ask, now), Ok(true));
        assert!(state.let_in(&ask, now).is_some());
        state.join(&ask, Waker::noop().clone(), now);
        let shown = |number| Stats {
            number,
            waiting: 1,
            slots: Some(SlotLevels { taken: 1, max: 1 }),
            ..Stats::default()
        };
        assert_eq!([state.stats(), state.stats()], [shown(1), shown(2)]);
    }
}
