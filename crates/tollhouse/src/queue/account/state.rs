//! How an account's slots stand, under their lock.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::calls::{Calls, Number, Poke};
use crate::ask::Caller;
use crate::charge::Charge;
use crate::queue::bell::Bell;
use crate::queue::lanes::{Lanes, Tagged};
use crate::rules::ledger::Share;
use crate::rules::{Cost, Key, Leases, Limited, Random, Rule, Spacing, When};
use crate::time::{Moment, Now};

/// What a slot costs in the line of pools. Any number would do; a large one loses nothing
/// when it is divided by a weight.
const SLOT: Cost = Cost::nanos(1_000_000_000);

pub(crate) struct State {
    pub(super) max: usize,
    /// The least time between two launches of all processes.
    pub(super) interval: Duration,
    /// Those that are granted and not used yet included.
    pub(super) taken: usize,
    pub(super) spacing: Spacing,
    /// Where other processes share them, too.
    pub(crate) shared: Option<Shared>,
    pub(super) members: BTreeMap<Number, Member>,
    /// Pools that stand, by number. A lane is one caller's in one pool.
    pub(super) line: Lanes<Number>,
    /// Which pool has a timer for which instant, or is called to set one.
    timer: Option<(Number, Moment)>,
}

/// What is shared with other processes.
pub(crate) struct Shared {
    pub(crate) leases: Leases,
    /// How much of the slots, and of the launches, is this process's.
    pub(crate) share: Share,
    /// Called when there is no slot that is leased.
    pub(crate) bell: Arc<dyn Bell>,
}

/// A slot that is held, with its turn to launch.
///
/// Who gave it is kept, because a pool may leave its slots for others while calls are in
/// flight.
#[derive(Debug)]
pub(crate) struct Slot {
    pub(super) member: Number,
    pub(super) turn: <Spacing as Rule>::Held,
    /// On which lease, and by which booked launch.
    lease: Option<(u32, Option<Moment>)>,
}

impl Slot {
    /// The call was handed on, and never left all the same.
    pub(crate) fn never_left(&mut self) {
        self.turn.never_launched();
    }
}

/// A pool, as its account's slots know it.
pub(super) struct Member {
    pub(super) queue: Weak<dyn Poke>,
    pub(super) place: Place,
}

/// See the [documentation of what is shared](super).
pub(super) enum Place {
    Apart,
    /// With the lane's caller, as which it stands.
    Standing(Key, Caller),
    Granted(Tagged, Slot),
}

/// What becomes of a pool that stands.
pub(crate) enum Stood {
    /// There is a slot by now.
    Granted,
    /// It is called when it is granted one, but has to look by itself at this instant.
    Waits(Option<Moment>),
}

impl State {
    pub(super) fn new(max: usize) -> Self {
        State {
            max,
            interval: Duration::ZERO,
            taken: 0,
            shared: None,
            spacing: Spacing::new(Duration::ZERO, 0.0, Random::from_entropy()),
            members: BTreeMap::new(),
            line: Lanes::new(),
            timer: None,
        }
    }

    /// When there is a slot for the next in line.
    #[inline]
    pub(super) fn when(&mut self, calls: &mut Calls, now: &mut Now) -> When {
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
            calls.add_bell(&shared.bell);
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
    pub(crate) fn space(&mut self, now: &mut Now) {
        let jitter = self.spacing.jitter();
        let interval = self.share().lengthen(self.interval);
        self.spacing.set_interval(interval, jitter, now);
    }

    /// How calls are limited, for all processes together.
    pub(crate) fn limited(&self) -> Limited {
        Limited {
            taken: self.taken as u64,
            max_slots: Some(self.max as u64),
            interval: self.interval,
        }
    }

    /// How many pools have a call that lacks nothing but a slot.
    pub(crate) fn standing(&self) -> usize {
        self.line.len()
    }

    /// How long it is until so many others and one more may have been launched.
    pub(super) fn time_until_launch(&self, others: usize, now: &mut Now) -> Duration {
        self.spacing.eta(others, now.get()) - now.get()
    }

    /// Grants what is there to those who stand, and sees to it that the next one keeps the
    /// timer where all that lacks is time.
    #[inline]
    pub(super) fn grant(&mut self, calls: &mut Calls, now: &mut Now) {
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
        calls.add(number, queue);
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
    pub(super) fn has_lapsed(&mut self, slot: &Slot, now: &mut Now) -> bool {
        if slot.turn.is_launched() {
            return false;
        }
        let shared = self.shared.as_ref().zip(slot.lease);
        shared.is_some_and(|(shared, (lease, _))| shared.leases.is_over(lease, now.get()))
            || self.spacing.has_lapsed(&slot.turn, now)
    }

    /// A turn to launch is not used.
    pub(super) fn release_turn(&mut self, slot: Slot) {
        if let Some((lease, Some(booked))) = slot.lease
            && let Some(shared) = &mut self.shared
        {
            shared.leases.give_launch_back(booked, lease);
        }
        self.spacing.release(slot.turn, &mut Now::unread());
    }

    /// Takes a slot for a member that goes at once, if there is one.
    pub(super) fn take(
        &mut self,
        number: Number,
        calls: &mut Calls,
        now: &mut Now,
    ) -> Option<Slot> {
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
        if self.has_lapsed(&slot, now) && !self.renew(&mut slot, calls, now) {
            // ===> Apart, and nobody else could use the slot now
            self.take_back(tagged, slot);
            return None;
        }
        // ===> Apart, the slot used
        self.line.land(tagged, tagged.cost);
        Some(slot)
    }

    /// Takes another turn for a slot, where there is one.
    pub(super) fn renew(&mut self, slot: &mut Slot, calls: &mut Calls, now: &mut Now) -> bool {
        let spaced = self.spacing.when(&Charge::default(), now);
        let leased = self.when_leased(self.taken - 1, calls, now);
        if spaced.and(leased) != When::Now {
            return false;
        }
        self.taken -= 1;
        *slot = self.seize(slot.member, now);
        true
    }

    /// What was granted has not been used.
    fn take_back(&mut self, tagged: Tagged, slot: Slot) {
        self.line.land(tagged, Cost::NOTHING);
        self.taken -= 1;
        self.release_turn(slot);
    }

    /// Whether a member has been granted a slot by now.
    pub(super) fn is_granted(&mut self, number: Number, calls: &mut Calls, now: &mut Now) -> bool {
        self.grant(calls, now);
        matches!(self.member(number).place, Place::Granted(..))
    }

    /// A member's next call lacks only a slot.
    pub(super) fn stand(
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
    pub(super) fn step_out(&mut self, number: Number) {
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
