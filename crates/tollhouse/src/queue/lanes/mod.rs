//! Whose turn it is: start-time fair queueing between callers, first come, first
//! served within one.
//!
//! Every caller who waits has a *lane*, with a start tag: how much it has been given
//! so far, over its weight. The lane of the least tag is the head's. Tags are kept
//! lazily: a request that waits carries none, and its lane's tag moves when it is
//! launched. The virtual time is the tag of the latest head; who comes from doing
//! nothing begins there, so that nobody saves up turns while idle.
//!
//! A head that waits may be passed by another caller's first request if that would
//! be over sooner: if its finish tag is smaller. What has passed a head comes to no
//! more than [`PASSING`] times its own cost, so that a large request is not starved
//! by small ones. That is counted until it is let in, and of all who stand before the one
//! that passes and were heads: otherwise those who were here before, of its own caller or
//! of another, could join in front of it and be let in or leave again and again, and each
//! time it would be passed anew.
//!
//! Who cannot go for as long as the limits are what they are is set aside: it holds up
//! nobody, and so is passed by nobody. When they change it stands where it stood.
//!
//! Where nobody was ever named there is one lane, and nothing is reckoned at all.
//!
//! What is charged while nobody waits moves no tag: the virtual time would follow at
//! once, so that nobody is ahead of anybody; and what is given back of it later gives
//! nobody an advantage.

mod ahead;
mod callers;
mod follow;
mod lane;
mod order;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::RandomState;
use std::sync::Arc;

use crate::ask::Caller;
use crate::charge::{Charge, Kept, Total};
use crate::rules::{Cost, Key, Line};
use crate::time::Moment;
pub(super) use lane::Tagged;
use lane::{Lane, Owner, Tag, Weight};
use order::Order;

/// What has passed a head comes to at most so many times its own cost.
const PASSING: u64 = 4;

/// The lane of the caller that nobody named; it is always there.
const NOBODY: u32 = 0;

/// One that waits, or was called and has not been fetched.
struct Entry<T> {
    charge: Kept,
    arrival: Moment,
    lane: u32,
    serial: u32,
    item: T,
}

/// See the [module's documentation](self).
pub(super) struct Lanes<T> {
    entries: Line<Entry<T>>,
    lanes: Vec<Lane>,
    /// Lanes that are nobody's any more.
    free: Vec<u32>,
    names: HashMap<Arc<str>, u32>,
    shared: BTreeMap<u64, u32>,
    hasher: RandomState,
    /// Lanes in which somebody waits, by start tag. Of no meaning while there is but the
    /// one lane.
    starts: Order,
    /// The same, by the finish tag of the first.
    finishes: Order,
    /// Lanes in which somebody waits, in line or aside, and whose the head was since one
    /// of them was let in. Mostly it is the one whose the head is.
    heads: Vec<u32>,
    /// Idle lanes whose tag is ahead of the virtual time.
    lingering: BTreeSet<(Tag, u32)>,
    virtual_time: Tag,
    /// No tag is larger, or ever was.
    latest: Tag,
    /// How many stand in line.
    waiting: usize,
    charge: Total,
    /// Those who were set aside, by their place in the slab.
    aside: BTreeMap<usize, Key>,
    serial: u32,
    /// Counts the times of waiting: a new one begins where somebody waits again after
    /// nobody did.
    spell: u32,
}

impl<T> Lanes<T> {
    pub(super) fn new() -> Self {
        Lanes {
            entries: Line::new(),
            lanes: vec![Lane::new(Owner::Nobody, Weight::of(&Caller::default()), 0)],
            free: Vec::new(),
            names: HashMap::new(),
            shared: BTreeMap::new(),
            hasher: RandomState::new(),
            starts: Order::default(),
            finishes: Order::default(),
            heads: Vec::new(),
            lingering: BTreeSet::new(),
            virtual_time: 0,
            latest: 0,
            waiting: 0,
            charge: Total::default(),
            aside: BTreeMap::new(),
            serial: 0,
            spell: 0,
        }
    }

    /// How many stand in line.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.waiting
    }

    /// Whether nobody stands in line.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting == 0
    }

    /// How many wait, in line or aside.
    #[inline]
    pub(super) fn waiting(&self) -> usize {
        self.waiting + self.aside.len()
    }

    /// Whether nobody waits, in line or aside.
    #[inline]
    pub(super) fn is_deserted(&self) -> bool {
        self.waiting == 0 && self.aside.is_empty()
    }

    /// What those in line are charged together.
    #[inline]
    pub(super) fn charge(&self) -> Total {
        self.charge
    }

    /// Whether there is nobody but the one that nobody named: then there is nothing
    /// to be fair about.
    #[inline]
    fn is_plain(&self) -> bool {
        self.lanes.len() - self.free.len() == 1
    }

    /// The one whose turn it is. The virtual time follows it.
    #[inline(always)]
    pub(super) fn head(&mut self) -> Option<Key> {
        let lane = self.head_lane()?;
        self.lead(lane);
        let start = self.lane(lane).start;
        if start > self.virtual_time {
            self.virtual_time = start;
            self.forget_those_behind();
        }
        self.first_of(lane)
    }

    #[inline]
    fn head_lane(&self) -> Option<u32> {
        match self.is_plain() {
            true => (self.waiting > 0).then_some(NOBODY),
            false => self.starts.first(),
        }
    }

    /// Lanes in which somebody waits, in no order.
    fn lanes_in_line(&self) -> impl Iterator<Item = u32> {
        let alone = self.head_lane().filter(|_| self.is_plain());
        let several = (!self.is_plain()).then(|| self.starts.lanes());
        alone.into_iter().chain(several.into_iter().flatten())
    }

    /// The one who may go before the head as long as that waits.
    #[inline]
    pub(super) fn passer(&mut self) -> Option<Key> {
        match self.is_plain() {
            true => None,
            false => self.passer_of_several(),
        }
    }

    fn passer_of_several(&mut self) -> Option<Key> {
        let (head, passer) = (self.starts.first()?, self.finishes.first()?);
        if head == passer {
            return None;
        }
        self.lead(head);
        let (ahead, after) = (&self.lanes[head as usize], &self.lanes[passer as usize]);
        let is_sooner = after.finish() < ahead.finish();
        let fits = |passed: u32| self.lanes[passed as usize].may_be_passed_by(after.price);
        let may_pass = is_sooner && self.heads_before(passer).all(fits);
        may_pass.then(|| self.first_of(passer)).flatten()
    }

    /// The head is this lane's: from now on it is counted what passes it.
    #[inline]
    fn lead(&mut self, index: u32) {
        if !self.is_plain() && !std::mem::replace(&mut self.lane(index).leads, true) {
            self.heads.push(index);
        }
    }

    /// Those whose the head was, and who wait and stand before this one still.
    fn heads_before(&self, index: u32) -> impl Iterator<Item = u32> {
        let heads = self.heads.iter().copied();
        heads.filter(move |head| self.starts.is_before(*head, index))
    }

    /// Whoever waits in this lane next has been passed by nobody.
    #[inline]
    fn forgive_if_deserted(&mut self, index: u32) {
        let lane = self.lane(index);
        if lane.waiting == 0 && lane.aside == 0 {
            self.forgive(index);
        }
    }

    /// Nothing has passed this lane's first.
    #[inline]
    fn forgive(&mut self, index: u32) {
        let lane = self.lane(index);
        (lane.passed, lane.most) = (Cost::NOTHING, Cost::MOST);
        lane.counted_for = None;
        if std::mem::take(&mut lane.leads) {
            self.heads.retain(|head| *head != index);
        }
    }

    /// Whether it is this one's turn.
    #[inline]
    pub(super) fn is_head(&mut self, key: Key) -> bool {
        let head = self.head_lane();
        head.and_then(|lane| self.first_of(lane)) == Some(key)
    }

    /// A request joins its caller's lane, at the place of its first arrival if it had
    /// come before.
    pub(super) fn join(
        &mut self,
        caller: &Caller,
        charge: Charge,
        (first, now): (Option<Moment>, Moment),
        item: T,
        price: impl Fn(&Charge) -> Cost,
    ) -> Key {
        let index = self.lane_for(caller, &price);
        let last = self.lane(index).newcomers.last();
        let last = last.map(|last| self.entries.get(last).arrival);
        let arrival = match first {
            Some(first) => first,
            // Readings from two threads may come in the wrong order.
            None => last.map_or(now, |last| last.max(now)),
        };
        self.serial = self.serial.wrapping_add(1);
        let entry = Entry {
            charge: Kept::new(&charge),
            arrival,
            lane: index,
            serial: self.serial,
            item,
        };
        let is_last = last.is_none_or(|last| last <= arrival);
        self.stand(entry, is_last, price)
    }

    /// A request that was let in, as that number, and was not launched, stands again: before
    /// all of its caller that were not let in, and among those that were, in the order of
    /// their numbers. It may come here again and again, and others meanwhile, so that the
    /// order of their return would say nothing of who came first.
    pub(super) fn come_back(
        &mut self,
        caller: &Caller,
        charge: Charge,
        number: u32,
        item: T,
        price: impl Fn(&Charge) -> Cost,
    ) -> Key {
        let entry = Entry {
            charge: Kept::new(&charge),
            arrival: Moment::BEFORE_ALL,
            lane: self.lane_for(caller, &price),
            serial: number,
            item,
        };
        self.stand(entry, false, price)
    }

    /// As which number it was let in before; `None` if it was not.
    #[inline]
    pub(super) fn let_in_as(&self, key: Key) -> Option<u32> {
        let entry = self.entries.get(key);
        (entry.arrival == Moment::BEFORE_ALL).then_some(entry.serial)
    }

    /// Whether one of this caller waits who was let in before that number, and not launched.
    pub(super) fn comes_after_one(&self, caller: &Caller, number: u32) -> bool {
        let lane = self.known_lane_of(caller);
        let returned = lane.map(|index| &self.lanes[index as usize].returned);
        let first = returned.and_then(|returned| returned.first_key_value());
        first.is_some_and(|((since, first), _)| *since == Moment::BEFORE_ALL && *first < number)
    }

    /// The lane in which one of this caller is about to stand.
    fn lane_for(&mut self, caller: &Caller, price: &impl Fn(&Charge) -> Cost) -> u32 {
        let was_plain = self.is_plain();
        let index = self.lane_of(caller);
        if was_plain && !self.is_plain() {
            // Nothing was reckoned until now.
            self.price_first(NOBODY, price);
            self.rank(NOBODY);
        }
        self.make_way(index);
        index
    }

    /// One stands in its lane, behind all newcomers or among those who were here before.
    fn stand(&mut self, entry: Entry<T>, is_last: bool, price: impl Fn(&Charge) -> Cost) -> Key {
        let (index, charge) = (entry.lane, entry.charge.get());
        let place = (entry.arrival, entry.serial);
        let was_first = self.first_of(index);
        let key = self.entries.insert(entry);
        let lane = &mut self.lanes[index as usize];
        match is_last {
            true => self.entries.append(&mut lane.newcomers, key),
            false => drop(lane.returned.insert(place, key)),
        }
        self.count_in(index, &charge);
        self.joined(index, was_first, price);
        key
    }

    /// One has joined this lane, in which that one stood first.
    fn joined(&mut self, index: u32, was_first: Option<Key>, price: impl Fn(&Charge) -> Cost) {
        if self.first_of(index) == was_first {
            return;
        }
        if was_first.is_some() && !self.is_plain() {
            // Who stood first waits behind it now, and is passed by no more for that.
            let lane = self.lane(index);
            lane.most = lane.most_may_pass();
        }
        self.first_changed(index, price);
    }

    /// One is about to stand in this lane.
    fn make_way(&mut self, index: u32) {
        if self.waiting == 0 {
            self.spell = self.spell.wrapping_add(1);
        }
        if self.lane(index).waiting == 0 {
            self.begin(index);
        }
    }

    /// One more stands in this lane.
    fn count_in(&mut self, index: u32, charge: &Charge) {
        let lane = self.lane(index);
        lane.waiting += 1;
        lane.charge.add(charge);
        self.waiting += 1;
        self.charge.add(charge);
    }

    /// The one whose turn it is, or who passes it, is let in; what it costs is its
    /// lane's from now on. Whoever lets it in takes it out of the line next.
    #[inline]
    pub(super) fn launch(&mut self, key: Key) -> Tagged {
        if self.is_plain() {
            self.forgive(NOBODY);
            return Tagged::NOT;
        }
        let index = self.entries.get(key).lane;
        self.count_passing(index);
        let counted_for = self.lanes[index as usize].counted_for;
        if counted_for.is_none_or(|first| first == key) {
            self.forgive(index);
        }
        let spell = self.spell;
        let lane = &mut self.lanes[index as usize];
        let tagged = Tagged {
            lane: index,
            weight: lane.weight,
            cost: lane.price,
        };
        lane.start = lane.start.saturating_add(tagged.weight.over(tagged.cost));
        lane.in_flight += 1;
        lane.note_charged(spell, |charged| charged.plus(tagged.cost));
        self.latest = self.latest.max(lane.start);
        tagged
    }

    /// The first of this lane goes before all heads that stand before it.
    fn count_passing(&mut self, index: u32) {
        let cost = self.lanes[index as usize].price;
        for n in 0..self.heads.len() {
            let head = self.heads[n];
            if self.starts.is_before(head, index) {
                let first = self.first_of(head);
                let head = self.lane(head);
                head.passed = head.passed.plus(cost);
                head.counted_for = head.counted_for.or(first);
            }
        }
    }

    /// One is let in while nobody waits.
    #[inline]
    pub(super) fn fly(&mut self, caller: &Caller) -> Tagged {
        if caller.name().is_none() {
            return Tagged::NOT;
        }
        let index = self.lane_of(caller);
        let lane = self.lane(index);
        lane.in_flight += 1;
        Tagged {
            lane: index,
            weight: lane.weight,
            cost: Cost::NOTHING,
        }
    }

    /// One that was let in is over, and so much of its cost stands: the tag follows,
    /// up or down.
    pub(super) fn land(&mut self, tagged: Tagged, stands: Cost) {
        if tagged.is_not() {
            return;
        }
        let index = tagged.lane;
        let spell = self.spell;
        let lane = self.lane(index);
        lane.in_flight -= 1;
        if tagged.cost != stands {
            let taken = tagged.weight.over(tagged.cost);
            let stays = tagged.weight.over(stands);
            lane.start = lane.start.saturating_add(stays).saturating_sub(taken);
            lane.note_charged(spell, |charged| charged.plus(stands).minus(tagged.cost));
            let start = lane.start;
            self.latest = self.latest.max(start);
            match self.waiting {
                0 => self.virtual_time = self.virtual_time.max(self.latest),
                _ => self.rank(index),
            }
        }
        if self.lane(index).is_idle() {
            self.rest(index);
        }
    }

    /// Takes one out of the line that cannot go for now.
    pub(super) fn set_aside(&mut self, key: Key, price: impl Fn(&Charge) -> Cost) {
        let index = self.entries.get(key).lane;
        // Before it steps out: its lane is not to be forgotten.
        self.lane(index).aside += 1;
        self.step_aside(key, price);
        self.aside.insert(key.index(), key);
    }

    /// One of those who were set aside.
    pub(super) fn first_aside(&self) -> Option<Key> {
        self.aside.first_key_value().map(|(_, key)| *key)
    }

    /// Puts those who were set aside where they would stand now.
    pub(super) fn restore(&mut self, price: impl Fn(&Charge) -> Cost) {
        for key in std::mem::take(&mut self.aside).into_values() {
            let entry = self.entries.get(key);
            let (index, place, charge) = (
                entry.lane,
                (entry.arrival, entry.serial),
                entry.charge.get(),
            );
            self.lane(index).aside -= 1;
            self.make_way(index);
            let was_first = self.first_of(index);
            self.lane(index).returned.insert(place, key);
            self.count_in(index, &charge);
            self.joined(index, was_first, &price);
        }
    }

    /// Takes one out of the line, if it stands there, and keeps it.
    pub(super) fn step_aside(&mut self, key: Key, price: impl Fn(&Charge) -> Cost) {
        let index = self.entries.get(key).lane;
        if !self.aside.is_empty() && self.aside.remove(&key.index()).is_some() {
            self.lane(index).aside -= 1;
            self.forgive_if_deserted(index);
            if self.lane(index).is_idle() {
                self.rest(index);
            }
            return;
        }
        if !self.entries.is_standing(key) && self.lanes[index as usize].returned.is_empty() {
            return;
        }
        let was_first = self.first_of(index) == Some(key);
        let lane = &mut self.lanes[index as usize];
        let was_newcomer = self.entries.unlink(&mut lane.newcomers, key);
        let entry = self.entries.get(key);
        let place = (entry.arrival, entry.serial);
        if !was_newcomer && lane.returned.remove(&place).is_none() {
            return;
        }
        let charge = entry.charge.get();
        if lane.counted_for == Some(key) {
            lane.counted_for = None;
        }
        lane.waiting -= 1;
        lane.charge.subtract(&charge);
        self.waiting -= 1;
        self.charge.subtract(&charge);
        self.forgive_if_deserted(index);
        if was_first {
            self.first_changed(index, price);
        }
    }

    /// Takes one out of the line and gives it out.
    pub(super) fn remove(&mut self, key: Key, price: impl Fn(&Charge) -> Cost) -> T {
        self.step_aside(key, price);
        self.entries.remove(key).item
    }

    #[inline]
    pub(super) fn get_mut(&mut self, key: Key) -> &mut T {
        &mut self.entries.get_mut(key).item
    }

    #[inline]
    pub(super) fn charge_of(&self, key: Key) -> Charge {
        self.entries.get(key).charge.get()
    }

    /// What requests cost has changed.
    pub(super) fn reprice(&mut self, price: impl Fn(&Charge) -> Cost) {
        let waiting: Vec<u32> = self.starts.lanes().collect();
        for index in waiting {
            self.price_first(index, &price);
            self.rank(index);
        }
    }

    fn lane(&mut self, index: u32) -> &mut Lane {
        &mut self.lanes[index as usize]
    }

    /// The first of a lane: who came first, of newcomers and of those who are here
    /// again.
    #[inline]
    pub(super) fn first_of(&self, index: u32) -> Option<Key> {
        let lane = &self.lanes[index as usize];
        let newcomer = lane.newcomers.first();
        let Some((&(since, _), &returned)) = lane.returned.first_key_value() else {
            return newcomer;
        };
        match newcomer {
            Some(newcomer) if self.entries.get(newcomer).arrival < since => Some(newcomer),
            _ => Some(returned),
        }
    }

    /// A lane in which nobody waited is about to be joined.
    fn begin(&mut self, index: u32) {
        let virtual_time = self.virtual_time;
        let lane = self.lane(index);
        let before = lane.start;
        lane.start = before.max(virtual_time);
        self.lingering.remove(&(before, index));
    }

    /// Another one is the first of its lane, or nobody.
    #[inline]
    fn first_changed(&mut self, index: u32, price: impl Fn(&Charge) -> Cost) {
        if !self.is_plain() {
            self.rank_anew(index, price);
        }
    }

    fn rank_anew(&mut self, index: u32, price: impl Fn(&Charge) -> Cost) {
        if self.lane(index).waiting > 0 {
            self.price_first(index, &price);
            return self.rank(index);
        }
        self.leave_out(index);
        if self.waiting == 0 {
            // Nobody is ahead of anybody where nobody waits.
            self.virtual_time = self.virtual_time.max(self.latest);
            self.forget_those_behind();
        }
        if self.lane(index).is_idle() {
            self.rest(index);
        }
    }

    fn price_first(&mut self, index: u32, price: &impl Fn(&Charge) -> Cost) {
        if self.is_plain() {
            return;
        }
        if let Some(first) = self.first_of(index) {
            let price = price(&self.entries.get(first).charge.get());
            self.lane(index).price = price;
        }
    }

    fn leave_out(&mut self, index: u32) {
        self.starts.remove(index);
        self.finishes.remove(index);
    }

    /// Puts a lane in which somebody waits where its tags belong.
    fn rank(&mut self, index: u32) {
        if self.is_plain() {
            return;
        }
        let Some(first) = self.first_of(index) else {
            return;
        };
        let arrival = self.entries.get(first).arrival;
        let lane = &self.lanes[index as usize];
        self.starts.set(index, (lane.start, arrival));
        self.finishes.set(index, (lane.finish(), arrival));
    }

    /// Nothing of a lane waits or flies any more.
    fn rest(&mut self, index: u32) {
        let start = self.lane(index).start;
        match start <= self.virtual_time {
            true => self.forget(index),
            false => drop(self.lingering.insert((start, index))),
        }
    }

    fn forget_those_behind(&mut self) {
        while let Some((start, index)) = self.lingering.first().copied()
            && start <= self.virtual_time
        {
            self.lingering.pop_first();
            self.forget(index);
        }
    }
}

impl<T> std::fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("waiting", &self.waiting)
            .field("callers", &self.lanes_in_line().count())
            .finish_non_exhaustive()
    }
}
