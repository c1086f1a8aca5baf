//! How the line moves on.

use std::task::Waker;

use super::{Admitted, Place, State};
use crate::charge::Charge;
use crate::error::Refused;
use crate::queue::account::{Slot, Stood};
use crate::queue::moved::Moved;
use crate::rules::{Key, Rule, When};
use crate::time::{Moment, Now};

/// What one in line waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wait {
    /// For this instant.
    Until(Moment),
    /// For somebody of this queue to give something back.
    ForRelease,
    /// For nothing but a slot that is shared with other queues, or for the time that is
    /// between their launches.
    ForSlot,
}

impl Wait {
    #[inline]
    fn until(self) -> Option<Moment> {
        match self {
            Wait::Until(at) => Some(at),
            Wait::ForRelease | Wait::ForSlot => None,
        }
    }
}

/// Of two instants that may be there.
#[inline]
fn sooner(one: Option<Moment>, other: Option<Moment>) -> Option<Moment> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

impl<R: Rule> State<R> {
    /// Lets in from the head of the line as long as the rule says *now*; and while the
    /// head waits, whoever may pass it.
    ///
    /// `me` is the entry whose owner is running already: it need not be woken,
    /// and sets its own timer. Who is called is woken by `moved`, which outlives the lock.
    ///
    /// Whatever happens, one of these is true when it returns, and nobody is
    /// forgotten: the line is empty; its head has a timer no later than the
    /// instant that the rule named for it or for the one who may pass it, or has been
    /// woken to set one; the rule waits for a release, whose owner comes by here again;
    /// or the queue stands for a slot that is shared, and is called when it is granted
    /// one, with the same of the instant at which it has to look by itself.
    pub(in crate::queue) fn advance(&mut self, me: Option<Key>, moved: &mut Moved, now: &mut Now) {
        if R::IS_TIMED {
            // Whom it lets in, it lets in now, and he may come late to launch.
            now.get();
        }
        self.note_prices();
        while let Some(head) = self.lanes.head() {
            // A shared slot that was waited for goes to whoever would be over first.
            if self.is_granted(now)
                && let Some(passer) = self.lanes.passer()
                && self.try_call(passer, me, moved, now).is_ok()
            {
                continue;
            }
            let Err(first) = self.try_call(head, me, moved, now) else {
                continue;
            };
            // ===> InLine: the head waits, and may be passed meanwhile
            let second = match self.lanes.passer() {
                Some(passer) => match self.try_call(passer, me, moved, now) {
                    Ok(()) => continue,
                    Err(wait) => Some((passer, wait)),
                },
                None => None,
            };
            let Stood::Waits(slot) = self.stand_for_slot((head, first), second, now) else {
                continue;
            };
            let passes = second.and_then(|(_, wait)| wait.until());
            let alarm = sooner(sooner(first.until(), passes), slot);
            self.set_timer(head, alarm, me, moved);
            break;
        }
        self.looked_for_slots(now);
        // The last one has left, or was just turned away.
        self.call_watchers(moved);
    }

    /// Has the pool stand for a shared slot where its next one lacks nothing else.
    #[inline(always)]
    fn stand_for_slot(
        &mut self,
        head: (Key, Wait),
        passer: Option<(Key, Wait)>,
        now: &mut Now,
    ) -> Stood {
        let Some(seat) = &mut self.seat else {
            return Stood::Waits(None);
        };
        let sooner_first = passer.into_iter().chain([head]);
        let mut lacking = sooner_first.filter(|(_, wait)| *wait == Wait::ForSlot);
        match lacking.next() {
            Some((key, _)) => seat.stand(&self.lanes.caller_of(key), now),
            None => {
                seat.step_out(now);
                Stood::Waits(None)
            }
        }
    }

    /// Nobody of those who wait can go now.
    #[inline]
    fn looked_for_slots(&mut self, now: &mut Now) {
        if let Some(seat) = &mut self.seat {
            if self.lanes.is_empty() {
                seat.step_out(now);
            }
            seat.need_not_call_itself();
        }
    }

    /// Calls this one out of the line if the rule lets it in, or never will, and sets it
    /// aside if it will not for now; else says what it waits for.
    #[inline]
    fn try_call(
        &mut self,
        key: Key,
        me: Option<Key>,
        moved: &mut Moved,
        now: &mut Now,
    ) -> Result<(), Wait> {
        let charge = self.lanes.charge_of(key);
        match self.rule.is_shut(&charge) {
            // ===> InLine
            true => Err(Wait::ForRelease),
            false => self.ask_and_call(key, &charge, me, moved, now),
        }
    }

    /// The same where no glance says that it has to wait.
    fn ask_and_call(
        &mut self,
        key: Key,
        charge: &Charge,
        me: Option<Key>,
        moved: &mut Moved,
        now: &mut Now,
    ) -> Result<(), Wait> {
        let when = match self.rule.is_open(charge, now) {
            true => When::Now,
            false => self.rule.when(charge, now),
        };
        let waker = match when {
            // ===> Refused: no waiting would help
            When::Never(refused) => self.call(key, Place::Refused(refused)),
            // ===> InLine
            When::At(at) => return Err(Wait::Until(at)),
            When::OnRelease => return Err(Wait::ForRelease),
            // ===> InLine, but aside: nobody waits for it to go first
            When::OnChange => {
                self.set_aside(key);
                return Ok(());
            }
            // ===> Admitted, and the next one's turn it is
            When::Now => {
                let slot = self.take_slot(now).ok_or(Wait::ForSlot)?;
                self.inside += 1;
                let held = self.rule.take(charge, now);
                self.call_in(key, held, slot, now)
            }
        };
        moved.called(waker, me == Some(key));
        Ok(())
    }

    /// Whose turn it is goes in, and holds this.
    fn call_in(&mut self, key: Key, held: R::Held, slot: Option<Slot>, now: &mut Now) -> Waker {
        if let Some(rate) = &mut self.move_rate {
            rate.moved(now.get());
        }
        let tagged = self.lanes.launch(key);
        let before = self.lanes.let_in_as(key);
        let number = before.unwrap_or_else(|| self.next_number());
        let admitted = self.admitted(held, number, (tagged, slot));
        self.call(key, Place::Admitted(admitted))
    }

    /// An admitted request gives back what it holds. Who stands first gets it as it is where
    /// he can, and is to be woken; else it goes back to the rule.
    #[inline]
    pub(in crate::queue) fn give_back(
        &mut self,
        admitted: Admitted<R::Held>,
        charge: &Charge,
        now: &mut Now,
    ) -> Option<Waker> {
        if self.seat.is_some() || self.lanes.is_empty() || !self.rule.is_unused(&admitted.held) {
            self.end(admitted, charge, now, R::release);
            return None;
        }
        let held = self.leave_unused(admitted);
        self.note_prices();
        match self.heir(&held, now) {
            // ===> Admitted, on what was another one's
            Some(heir) => {
                self.inside += 1;
                Some(self.call_in(heir, held, None, now))
            }
            None => {
                self.rule.release(held, now);
                None
            }
        }
    }

    /// The one who stands first, if what another one held may be his as it is.
    fn heir(&mut self, held: &R::Held, now: &mut Now) -> Option<Key> {
        let head = self.lanes.head()?;
        let charge = self.lanes.charge_of(head);
        self.rule.pass_on(held, &charge, now).then_some(head)
    }

    /// The head waits for this instant, or for a release.
    fn set_timer(&mut self, head: Key, alarm: Option<Moment>, me: Option<Key>, moved: &mut Moved) {
        let set = self.timer.filter(|(whose, _)| *whose == head);
        match alarm {
            // ===> InLine, with a timer of its own, or waiting for a release
            _ if me == Some(head) => {
                self.timer = alarm.map(|at| (head, at));
                moved.alarm = alarm;
            }
            // ===> InLine, woken to set its timer. Until then it need not be woken
            // again, so its waker goes with this wake-up and it leaves another when
            // it comes; a copy would have to be made under the lock, and a waker is a
            // user's.
            Some(at) if set.is_none_or(|(_, timer)| timer > at) => {
                if let Place::InLine { waker, .. } = self.lanes.get_mut(head) {
                    moved.push(std::mem::replace(waker, Waker::noop().clone()));
                    self.timer = Some((head, at));
                }
            }
            // ===> InLine: its timer is early enough, or it waits for a release
            _ => self.timer = set,
        }
    }

    pub(super) fn forget_timer(&mut self, key: Key) {
        self.timer = self.timer.filter(|(whose, _)| *whose != key);
    }

    /// Where the rule charges other prices now, others may be first, and who was set
    /// aside may go.
    #[inline]
    fn note_prices(&mut self) {
        let prices = self.rule.prices();
        if prices != self.prices {
            self.prices = prices;
            let rule = &self.rule;
            self.lanes.reprice(|charge| rule.cost(charge));
            self.lanes.restore(|charge| rule.cost(charge));
        }
    }

    /// It cannot go for now, and the others do not wait behind it.
    fn set_aside(&mut self, key: Key) {
        self.forget_timer(key);
        let rule = &self.rule;
        self.lanes.set_aside(key, |charge| rule.cost(charge));
    }

    /// Calls one out of the line.
    fn call(&mut self, key: Key, place: Place<R::Held>) -> Waker {
        self.forget_timer(key);
        let rule = &self.rule;
        self.lanes.step_aside(key, |charge| rule.cost(charge));
        match std::mem::replace(self.lanes.get_mut(key), place) {
            Place::InLine { waker, until } => {
                self.forget_deadline(key, until);
                waker
            }
            _ => unreachable!("only those in line are called"),
        }
    }

    pub(super) fn forget_deadline(&mut self, key: Key, until: Option<Moment>) {
        if let Some(until) = until {
            self.deadlines.remove(&(until, key.index()));
        }
    }

    /// Calls all out of the line whose deadline has come, in one step: who stays is not
    /// reckoned to wait for them, nor is one of them for another.
    pub(super) fn call_overdue(&mut self, me: Option<Key>, moved: &mut Moved, now: &mut Now) {
        // ===> Admitted: who can go at the instant of his deadline is in time
        self.advance(me, moved, now);
        // ===> Refused, when all of them have left
        let mut late = Vec::new();
        while let Some((&(until, _), &key)) = self.deadlines.first_key_value()
            && until <= now.get()
        {
            late.push((key, self.lanes.caller_of(key), self.lanes.charge_of(key)));
            let waker = self.call(key, Place::Refused(Refused::Closed));
            moved.called(waker, me == Some(key));
        }
        // Before the line moves on: each is told of the turn that it would have had.
        for (key, who, wants) in late {
            let expected_wait = self.wait_of(&who, &wants, now);
            *self.lanes.get_mut(key) = Place::Refused(Refused::TooLate { expected_wait });
        }
        self.advance(None, moved, now);
    }

    /// Turns away whoever stands first, and at last those who were set aside.
    pub(in crate::queue) fn turn_away(&mut self, refused: Refused) -> Option<Waker> {
        let first = self.lanes.head().or_else(|| self.lanes.first_aside())?;
        Some(self.call(first, Place::Refused(refused)))
    }

    /// Calls all who wait for the last one to leave, once he has.
    pub(in crate::queue) fn call_watchers(&mut self, moved: &mut Moved) {
        if self.inside > 0 || !self.lanes.is_deserted() {
            return;
        }
        while let Some(key) = self.watchers.first() {
            self.watchers.step_aside(key);
            if let Some(waker) = self.watchers.get_mut(key).take() {
                moved.push(waker);
            }
        }
    }
}
