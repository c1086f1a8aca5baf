//! What a queue holds under its lock.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::task::Waker;
use std::time::Duration;

use super::Bounds;
use super::account::{Calls, Seat, Slot, Stood};
use super::bell::Bell;
use super::lanes::{Lanes, Tagged};
use super::moved::Moved;
use crate::ask::{Ask, Caller};
use crate::charge::Charge;
use crate::error::Refused;
use crate::rules::stats::{Note, Stats};
use crate::rules::{Ahead, Charged, Cost, Key, Launch, Line, Need, Rule, When};
use crate::time::{Moment, Now};

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
    fn until(self) -> Option<Moment> {
        match self {
            Wait::Until(at) => Some(at),
            Wait::ForRelease | Wait::ForSlot => None,
        }
    }
}

/// What was given to one who was let in.
pub(super) struct Admitted<H> {
    pub(super) held: H,
    /// Mostly there is nothing else.
    due: Option<Key>,
    /// Of those who were let in, by when each was for the first time.
    number: u32,
}

/// What one who was let in owes to others than the rule.
///
/// Most owe nothing, so it is kept apart: what was given is moved some times on its way,
/// and each who waits has room for it.
struct Due {
    /// To its lane.
    tagged: Tagged,
    /// Of those that were shared with other queues, when it was let in.
    slot: Option<Slot>,
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

    /// Everybody who waits.
    pub(super) fn ahead(&self) -> Ahead {
        Ahead {
            waiting: self.lanes.waiting(),
            charge: self.lanes.charge(),
            pace: self
                .move_rate
                .as_ref()
                .map_or(Duration::ZERO, |rate| Duration::from_nanos(rate.mean)),
            in_flight: self.inside,
        }
    }

    /// Those who would go before this one, if it came now.
    pub(super) fn ahead_of(&self, who: &Caller, wants: &Charge) -> Ahead {
        let rule = &self.rule;
        let price = |charge: &Charge| rule.cost(charge);
        let (waiting, charge) = self.lanes.ahead_of(who, wants, price);
        Ahead {
            waiting,
            charge,
            ..self.ahead()
        }
    }

    /// How long this one would wait, if it came now.
    pub(super) fn expected_wait(&mut self, ask: &Ask, now: &mut Now) -> Duration {
        self.wait_of(ask.who(), ask.wants(), now)
    }

    fn wait_of(&mut self, who: &Caller, wants: &Charge, now: &mut Now) -> Duration {
        self.wait_behind(wants, self.ahead_of(who, wants), now)
    }

    fn wait_behind(&mut self, wants: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
        let wait = self.rule.expected_wait(wants, ahead, now);
        match &self.seat {
            Some(seat) => wait.max(seat.expected_wait(ahead, now)),
            None => wait,
        }
    }

    /// Where the first of this caller's that waits stands: how many are before it, and
    /// how long it is expected to wait from now on.
    pub(super) fn next_of(&mut self, caller: &Caller, now: &mut Now) -> Option<(usize, Duration)> {
        let rule = &self.rule;
        let price = |charge: &Charge| rule.cost(charge);
        let (wants, waiting, charge) = self.lanes.before_first_of(caller, price)?;
        let ahead = Ahead {
            waiting,
            charge,
            ..self.ahead()
        };
        Some((waiting, self.wait_behind(&wants, ahead, now)))
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

    pub(super) fn overloaded(&mut self, ask: &Ask, now: &mut Now) -> Refused {
        Refused::Overloaded {
            waiting: self.lanes.waiting(),
            expected_wait: self.expected_wait(ask, now),
        }
    }

    /// The refusal of one who cannot be launched before its deadline, whatever slots are
    /// released meanwhile and even if nobody else comes; `None` if it can be.
    pub(super) fn too_late(&mut self, ask: &Ask, now: &mut Now) -> Option<Refused> {
        let until = ask.until()?;
        let least = self.least_wait(ask, now);
        let can_be = now.get() + least <= until;
        (!can_be).then(|| Refused::TooLate {
            expected_wait: self.expected_wait(ask, now).max(least),
        })
    }

    /// One who was let in comes too late to be launched: he leaves, and is told so.
    pub(super) fn leave_late(
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

    /// The refusal of one whose deadline has passed, and who has nothing here any more: how
    /// long he would wait if he came again now.
    pub(super) fn late(&mut self, ask: &Ask, now: &mut Now) -> Refused {
        Refused::TooLate {
            expected_wait: self.expected_wait(ask, now),
        }
    }

    /// How long this one would wait at least, if it came now and might pass all that wait
    /// but those of its own caller.
    fn least_wait(&mut self, ask: &Ask, now: &mut Now) -> Duration {
        // Who was here before stands before others of its caller, too.
        let (waiting, charge) = match ask.since() {
            None => self.lanes.waiting_of(ask.who()),
            Some(_) => Default::default(),
        };
        let ahead = Ahead {
            waiting,
            charge,
            // How fast slots come back is not known for sure.
            pace: Duration::ZERO,
            ..self.ahead()
        };
        let wait = self.rule.least_wait(ask.wants(), ahead, now);
        match &self.seat {
            Some(seat) => wait.max(seat.least_wait(ahead.waiting, now)),
            None => wait,
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

    #[inline]
    fn next_number(&mut self) -> u32 {
        self.let_in = self.let_in.wrapping_add(1);
        self.let_in
    }

    #[inline]
    fn admit(
        &mut self,
        charge: &Charge,
        number: u32,
        (tagged, slot): (Tagged, Option<Slot>),
        now: &mut Now,
    ) -> Admitted<R::Held> {
        self.inside += 1;
        let held = self.rule.take(charge, now);
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
    fn is_granted(&mut self, now: &mut Now) -> bool {
        let seat = self.seat.as_mut();
        seat.is_some_and(|seat| seat.is_granted(now))
    }

    /// Takes one of the slots that are shared with other queues: none is needed where
    /// none are shared, and `None` says that there is none to be had.
    #[inline]
    fn take_slot(&mut self, now: &mut Now) -> Option<Option<Slot>> {
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
    pub(super) fn launch(&mut self, admitted: &Admitted<R::Held>, to: Launch, now: &mut Now) {
        self.rule.launch(&admitted.held, to, now);
        if let Some(seat) = &self.seat
            && let Some(slot) = self.slot_of(admitted)
        {
            seat.launch(slot, now);
        }
    }

    /// It was launched, and never left all the same.
    pub(super) fn never_left(&mut self, admitted: &Admitted<R::Held>) {
        if let Some(key) = admitted.due
            && let Some(slot) = &mut self.dues.get_mut(key).slot
        {
            slot.never_left();
        }
    }

    /// Whether what an admitted request holds has lapsed.
    pub(super) fn has_lapsed(&mut self, admitted: &Admitted<R::Held>, now: &mut Now) -> bool {
        let has_lapsed = self.rule.has_lapsed(&admitted.held, now);
        let slot = self.seat.as_ref().zip(self.slot_of(admitted));
        has_lapsed || slot.is_some_and(|(seat, slot)| seat.has_lapsed(slot, now))
    }

    /// The same of one who was called.
    fn is_lapsed(&mut self, place: &Place<R::Held>, now: &mut Now) -> bool {
        match place {
            Place::Admitted(admitted) => self.has_lapsed(admitted, now),
            Place::InLine { .. } | Place::Refused(_) => false,
        }
    }

    /// Refuses a newcomer who would have to wait too long, or in vain.
    pub(super) fn check(&mut self, ask: &Ask, now: &mut Now) -> Result<(), Refused> {
        let bounds = self.bounds;
        if self.lanes.waiting() >= bounds.waiting
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

    /// What an admitted request holds has lapsed: all of it goes back, and its
    /// owner stands in line again, where he stood: before all others of its caller but those
    /// who were let in before him and whose has lapsed, too.
    /// He comes to wait, whose waker this is, as any other does.
    pub(super) fn lapse(
        &mut self,
        admitted: Admitted<R::Held>,
        ask: &Ask,
        waker: Waker,
        now: &mut Now,
    ) -> Key {
        let Admitted { held, due, number } = admitted;
        let Due { tagged, slot } = self.take_due(due);
        self.inside -= 1;
        self.rule.release(held, now);
        self.give_back_slot(slot, Charged::Nothing, now);
        self.lanes.land(tagged, Cost::NOTHING);
        let rule = &self.rule;
        let place = Place::in_line(ask, waker);
        let price = |charge: &Charge| rule.cost(charge);
        let key = self
            .lanes
            .come_back(ask.who(), *ask.wants(), number, place, price);
        self.note_deadline(key, ask);
        key
    }

    /// An admitted request is over, and `end` says what stands of its charge.
    #[inline]
    pub(super) fn end(
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
    pub(super) fn advance(&mut self, me: Option<Key>, moved: &mut Moved, now: &mut Now) {
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
            let sooner = second.and_then(|(_, wait)| wait.until());
            let alarm = [first.until(), sooner, slot].into_iter().flatten().min();
            self.set_timer(head, alarm, me, moved);
            break;
        }
        self.looked_for_slots(now);
        // The last one has left, or was just turned away.
        self.call_watchers(moved);
    }

    /// Has the pool stand for a shared slot where its next one lacks nothing else.
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
    fn try_call(
        &mut self,
        key: Key,
        me: Option<Key>,
        moved: &mut Moved,
        now: &mut Now,
    ) -> Result<(), Wait> {
        let charge = self.lanes.charge_of(key);
        let when = match self.rule.is_open(&charge, now) {
            true => When::Now,
            false => self.rule.when(&charge, now),
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
                if let Some(rate) = &mut self.move_rate {
                    rate.moved(now.get());
                }
                let tagged = self.lanes.launch(key);
                let before = self.lanes.let_in_as(key);
                let number = before.unwrap_or_else(|| self.next_number());
                let admitted = self.admit(&charge, number, (tagged, slot), now);
                self.call(key, Place::Admitted(admitted))
            }
        };
        moved.called(waker, me == Some(key));
        Ok(())
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

    /// Calls all who wait for the last one to leave, once he has.
    pub(super) fn call_watchers(&mut self, moved: &mut Moved) {
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

    fn forget_deadline(&mut self, key: Key, until: Option<Moment>) {
        if let Some(until) = until {
            self.deadlines.remove(&(until, key.index()));
        }
    }

    /// Calls all out of the line whose deadline has come, in one step: who stays is not
    /// reckoned to wait for them, nor is one of them for another.
    fn call_overdue(&mut self, me: Option<Key>, moved: &mut Moved, now: &mut Now) {
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
    pub(super) fn turn_away(&mut self, refused: Refused) -> Option<Waker> {
        let first = self.lanes.head().or_else(|| self.lanes.first_aside())?;
        Some(self.call(first, Place::Refused(refused)))
    }

    fn forget_timer(&mut self, key: Key) {
        self.timer = self.timer.filter(|(whose, _)| *whose != key);
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

/// How fast the line has been moving, to tell a newcomer what to expect where
/// the rule itself cannot know.
#[derive(Default)]
pub(super) struct MoveRate {
    last: Option<Moment>,
    /// In nanoseconds.
    mean: u64,
}

impl MoveRate {
    /// A moving mean over some eight moves.
    fn moved(&mut self, now: Moment) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let gap = now.nanos_since(last);
        self.mean = match self.mean {
            0 => gap,
            mean => mean.saturating_mul(7).saturating_add(gap) / 8,
        };
    }
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
