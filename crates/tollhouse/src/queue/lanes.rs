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
//! by small ones.
//!
//! Who cannot go for as long as the limits are what they are is set aside: it holds up
//! nobody, and so is passed by nobody. When they change it stands where it stood.
//!
//! Where nobody was ever named there is one lane, and nothing is reckoned at all.
//!
//! What is charged while nobody waits moves no tag: the virtual time would follow at
//! once, so that nobody is ahead of anybody; and what is given back of it later gives
//! nobody an advantage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

use super::order::{Order, Rank};
use crate::ask::Caller;
use crate::charge::{Charge, Kept, Total};
use crate::rules::ledger::CallerSnapshot;
use crate::rules::{Cost, Ends, Key, Line};
use crate::time::Moment;

/// How many callers have a lane of their own at once.
const NAMED: usize = 1_024;

/// How many lanes the others share. Together they weigh as much as one caller, so
/// that each of the first has at least its share among one more.
const SHARED: u32 = 64;

/// What has passed a head comes to at most so many times its own cost.
const PASSING: u64 = 4;

/// The lane of the caller that nobody named; it is always there.
const NOBODY: u32 = 0;

/// "No lane".
const NONE: u32 = u32::MAX;

/// What was given, over the weight: picoseconds in 2^32 parts.
type Tag = u128;

/// A caller's weight, in parts of which [`SHARED`] are one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Weight(u32);

impl Weight {
    const SHARED: Weight = Weight(1);

    fn of(caller: &Caller) -> Weight {
        Weight(caller.get_weight() * SHARED)
    }

    /// For people: of those who share a lane, 1.
    fn rounded(self) -> u32 {
        self.0.div_ceil(SHARED)
    }

    /// How far a cost moves a tag.
    #[inline]
    fn over(self, cost: Cost) -> Tag {
        (Tag::from(cost.get()) << 32) / Tag::from(self.0)
    }
}

/// By what a launch moved its lane's tag: the cost and the weight of that moment, kept
/// so that what is given back is what was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tagged {
    lane: u32,
    weight: Weight,
    pub(super) cost: Cost,
}

impl Tagged {
    /// No lane knows of it.
    pub(super) const NOT: Tagged = Tagged {
        lane: NONE,
        weight: Weight(1),
        cost: Cost::NOTHING,
    };

    /// Whether there is nothing to be told of its end.
    #[inline]
    pub(super) fn is_not(self) -> bool {
        self.lane == NONE
    }
}

/// Whose a lane is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Owner {
    Nobody,
    Named(Arc<str>),
    /// One of those that the callers beyond the first [`NAMED`] share.
    Shared(u64),
}

/// One caller's part of the line.
///
/// - a request joins: from idle it begins at the virtual time; *waiting*
/// - its last waiting request is launched or leaves: *flying*, if any is in flight
/// - nothing waits and nothing flies: *lingering* as long as its tag is ahead of the
///   virtual time, since that is what it owes the others; then it is forgotten
#[derive(Debug)]
struct Lane {
    owner: Owner,
    weight: Weight,
    start: Tag,
    /// In the order of first arrival.
    newcomers: Ends,
    /// Those who were here before, and so have come earlier than others in line: by
    /// first arrival, then in the order of their return.
    returned: BTreeMap<(Moment, u32), Key>,
    /// How many stand in line.
    waiting: usize,
    /// What those are charged together.
    charge: Total,
    /// How many were set aside.
    aside: usize,
    in_flight: usize,
    /// What the first one costs.
    price: Cost,
    /// What has passed the first one.
    passed: Cost,
    /// What was charged in [`Lanes::spell`] number so and so.
    charged: (u32, Cost),
}

impl Lane {
    fn new(owner: Owner, weight: Weight, start: Tag) -> Self {
        Lane {
            owner,
            weight,
            start,
            newcomers: Ends::EMPTY,
            returned: BTreeMap::new(),
            waiting: 0,
            charge: Total::default(),
            aside: 0,
            in_flight: 0,
            price: Cost::NOTHING,
            passed: Cost::NOTHING,
            charged: (0, Cost::NOTHING),
        }
    }

    fn finish(&self) -> Tag {
        self.start.saturating_add(self.weight.over(self.price))
    }

    fn is_idle(&self) -> bool {
        self.waiting == 0 && self.aside == 0 && self.in_flight == 0
    }

    /// Of all who wait here, adds to `total` that part which would be over before a tag;
    /// says how many they are.
    fn add_part_up_to(
        &self,
        tag: Tag,
        total: &mut Total,
        prices: &Prices<impl Fn(&Charge) -> Cost>,
    ) -> usize {
        let all = self.weight.over(prices.of(&self.charge, self.waiting));
        let all = all.max(1);
        let part = tag.saturating_sub(self.start).min(all);
        total.add_part(&self.charge, |amount| part_of(amount, part, all));
        let many = part_of(self.waiting as u128, part, all);
        many.try_into().unwrap_or(usize::MAX)
    }

    /// What was charged since somebody last began to wait.
    fn charged_in(&self, spell: u32) -> Cost {
        match self.charged {
            (noted, charged) if noted == spell => charged,
            _ => Cost::NOTHING,
        }
    }

    fn note_charged(&mut self, spell: u32, change: impl FnOnce(Cost) -> Cost) {
        self.charged = (spell, change(self.charged_in(spell)));
    }
}

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
    #[inline]
    pub(super) fn head(&mut self) -> Option<Key> {
        let lane = self.head_lane()?;
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
        if self.is_plain() {
            return None;
        }
        let (head, passer) = (self.starts.first()?, self.finishes.first()?);
        if head == passer {
            return None;
        }
        let (ahead, after) = (&self.lanes[head as usize], &self.lanes[passer as usize]);
        let is_sooner = after.finish() < ahead.finish();
        let fits = ahead.passed.plus(after.price) <= ahead.price.times(PASSING);
        (is_sooner && fits).then(|| self.first_of(passer)).flatten()
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
        let was_plain = self.is_plain();
        let index = self.lane_of(caller);
        if was_plain && !self.is_plain() {
            // Nothing was reckoned until now.
            self.price_first(NOBODY, &price);
            self.rank(NOBODY);
        }
        self.make_way(index);
        let last = self.lane(index).newcomers.last();
        let last = last.map(|last| self.entries.get(last).arrival);
        let arrival = match first {
            Some(first) => first,
            // Readings from two threads may come in the wrong order.
            None => last.map_or(now, |last| last.max(now)),
        };
        self.serial = self.serial.wrapping_add(1);
        let serial = self.serial;
        let key = self.entries.insert(Entry {
            charge: Kept::new(&charge),
            arrival,
            lane: index,
            serial,
            item,
        });
        let was_first = self.first_of(index);
        let lane = &mut self.lanes[index as usize];
        match last {
            Some(last) if last > arrival => {
                lane.returned.insert((arrival, serial), key);
            }
            _ => self.entries.append(&mut lane.newcomers, key),
        }
        self.count_in(index, &charge);
        if self.first_of(index) != was_first {
            self.first_changed(index, price);
        }
        key
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
            return Tagged::NOT;
        }
        let index = self.entries.get(key).lane;
        let head = self.starts.first();
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
        if let Some(head) = head.filter(|head| *head != index) {
            let head = self.lane(head);
            head.passed = head.passed.plus(tagged.cost);
        }
        tagged
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
            if self.first_of(index) != was_first {
                self.first_changed(index, &price);
            }
        }
    }

    /// Takes one out of the line, if it stands there, and keeps it.
    pub(super) fn step_aside(&mut self, key: Key, price: impl Fn(&Charge) -> Cost) {
        let index = self.entries.get(key).lane;
        if !self.aside.is_empty() && self.aside.remove(&key.index()).is_some() {
            self.lane(index).aside -= 1;
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
        lane.waiting -= 1;
        lane.charge.subtract(&charge);
        self.waiting -= 1;
        self.charge.subtract(&charge);
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

    /// Whose one is. Those beyond the first [`NAMED`] have no name any more.
    pub(super) fn caller_of(&self, key: Key) -> Caller {
        let index = self.entries.get(key).lane;
        let lane = &self.lanes[index as usize];
        match &lane.owner {
            Owner::Named(name) => Caller::new(Arc::clone(name)).weight(lane.weight.rounded()),
            Owner::Nobody | Owner::Shared(_) => Caller::default(),
        }
    }

    /// What requests cost has changed.
    pub(super) fn reprice(&mut self, price: impl Fn(&Charge) -> Cost) {
        let waiting: Vec<u32> = self.starts.lanes().collect();
        for index in waiting {
            self.price_first(index, &price);
            self.rank(index);
        }
    }

    /// How many stand before a newcomer of this caller, and what they are charged.
    ///
    /// All of its own lane, and of every other one those that would be over sooner;
    /// they are reckoned as that part of all who wait there.
    pub(super) fn ahead_of(
        &self,
        caller: &Caller,
        charge: &Charge,
        price: impl Fn(&Charge) -> Cost,
    ) -> (usize, Total) {
        let index = self.known_lane_of(caller);
        let mine = index.map(|index| &self.lanes[index as usize]);
        if mine.is_some_and(|mine| mine.waiting == self.waiting) {
            return (self.waiting, self.charge);
        }
        let (start, weight) = match mine {
            Some(mine) if mine.waiting > 0 => (mine.start, mine.weight),
            Some(mine) => (mine.start.max(self.virtual_time), mine.weight),
            None if self.names.len() < NAMED => (self.virtual_time, Weight::of(caller)),
            None => (self.virtual_time, Weight::SHARED),
        };
        let (mut waiting, mut total) =
            mine.map_or_else(Default::default, |mine| (mine.waiting, mine.charge));
        let prices = Prices::new(price);
        let own = prices.of(&total, waiting).plus((prices.price)(charge));
        let finish = start.saturating_add(weight.over(own));
        for other in self.lanes_in_line().filter(|other| Some(*other) != index) {
            waiting += self.lanes[other as usize].add_part_up_to(finish, &mut total, &prices);
        }
        (waiting, total)
    }

    /// Those of this caller who wait: nobody else is surely served before its next
    /// newcomer, since a head of another lane may be passed.
    pub(super) fn waiting_of(&self, caller: &Caller) -> (usize, Total) {
        let mine = self.known_lane_of(caller);
        mine.map_or_else(Default::default, |index| {
            let mine = &self.lanes[index as usize];
            (mine.waiting, mine.charge)
        })
    }

    /// What the first of this caller's that waits is charged, and how many stand before
    /// it with what charge, as the tags are now; `None` where none of its own waits.
    ///
    /// Of every other lane, those before it are reckoned as that part of all who wait
    /// there.
    pub(super) fn before_first_of(
        &mut self,
        caller: &Caller,
        price: impl Fn(&Charge) -> Cost,
    ) -> Option<(Charge, usize, Total)> {
        let index = self.known_lane_of(caller)?;
        let first = self.first_of(index)?;
        let entry = self.entries.get(first);
        let charge = entry.charge.get();
        let mine = (self.lanes[index as usize].start, entry.arrival);
        if self.is_plain() {
            return Some((charge, 0, Total::default()));
        }
        let prices = Prices::new(price);
        let (mut waiting, mut total) = (0_usize, Total::default());
        for (rank, other) in self.starts.ranked() {
            if other != index && rank < mine {
                let lane = &self.lanes[other as usize];
                let before = lane.add_part_up_to(mine.0, &mut total, &prices);
                waiting = waiting.saturating_add(before.max(1));
            }
        }
        Some((charge, waiting, total))
    }

    /// Lanes in which somebody waits, with their ranks.
    pub(super) fn ranked(&self) -> impl Iterator<Item = (Rank, u32)> {
        // One that is alone has no rank among others.
        let alone = self.head_lane().filter(|_| self.is_plain());
        let alone = alone.map(|lane| ((self.lanes[lane as usize].start, Moment::default()), lane));
        let several = (!self.is_plain()).then(|| self.starts.ranked());
        alone.into_iter().chain(several.into_iter().flatten())
    }

    /// Who comes after one that waits, in the same lane.
    pub(super) fn after(&mut self, index: u32, key: Key) -> Option<Key> {
        let Entry {
            arrival, serial, ..
        } = *self.entries.get_mut(key);
        let lane = &self.lanes[index as usize];
        let mine = (arrival, serial);
        let returned = match lane.returned.contains_key(&mine) {
            true => lane.returned.range((Excluded(mine), Unbounded)).next(),
            // Newcomers of its own arrival go after who was here before.
            false => lane.returned.range((arrival, u32::MAX)..).next(),
        };
        let returned = returned.map(|((since, _), key)| (*since, *key));
        let newcomer = match lane.returned.contains_key(&mine) {
            true => self.newcomer_since(index, arrival),
            false => self.entries.next(key),
        };
        match (newcomer, returned) {
            (Some(newcomer), Some((since, returned))) => {
                let is_first = self.entries.get_mut(newcomer).arrival < since;
                Some(if is_first { newcomer } else { returned })
            }
            (newcomer, returned) => newcomer.or(returned.map(|(_, key)| key)),
        }
    }

    /// The first newcomer of a lane who did not come before.
    fn newcomer_since(&mut self, index: u32, arrival: Moment) -> Option<Key> {
        let mut next = self.lanes[index as usize].newcomers.first();
        while let Some(key) = next
            && self.entries.get_mut(key).arrival < arrival
        {
            next = self.entries.next(key);
        }
        next
    }

    pub(super) fn arrival_of(&mut self, key: Key) -> Moment {
        self.entries.get_mut(key).arrival
    }

    /// Where a lane's tag is after a request of this cost.
    pub(super) fn moved(&self, index: u32, start: Tag, cost: Cost) -> Tag {
        let weight = self.lanes[index as usize].weight;
        start.saturating_add(weight.over(cost))
    }

    /// The weights of all who wait or have something in flight, together.
    pub(super) fn weight(&self) -> u64 {
        let busy = self.lanes.iter().filter(|lane| !lane.is_idle());
        busy.map(|lane| u64::from(lane.weight.rounded())).sum()
    }

    /// Every caller that is known, `inside` being in flight of all together.
    pub(super) fn standings(&self, inside: usize) -> Vec<CallerSnapshot> {
        let known = || {
            let lanes = (0u32..).zip(&self.lanes);
            lanes.filter(|(index, lane)| *index == NOBODY || lane.owner != Owner::Nobody)
        };
        let named: usize = known().skip(1).map(|(_, lane)| lane.in_flight).sum();
        let charged = |lane: &Lane| u128::from(lane.charged_in(self.spell).get());
        let all = known().map(|(_, lane)| charged(lane)).sum::<u128>().max(1);
        known()
            .map(|(index, lane)| CallerSnapshot {
                name: match &lane.owner {
                    Owner::Named(name) => Some(Arc::clone(name)),
                    Owner::Nobody | Owner::Shared(_) => None,
                },
                is_shared: matches!(lane.owner, Owner::Shared(_)),
                weight: lane.weight.rounded(),
                waiting: lane.waiting + lane.aside,
                in_flight: match index {
                    NOBODY => inside.saturating_sub(named),
                    _ => lane.in_flight,
                },
                share_permille: u16::try_from(charged(lane) * 1_000 / all).unwrap_or(1_000),
            })
            .collect()
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

    /// The lane of a caller, made where there is none, with the weight that is said
    /// of it now.
    fn lane_of(&mut self, caller: &Caller) -> u32 {
        let index = match self.known_lane_of(caller) {
            Some(index) => index,
            None => self.make_lane(caller),
        };
        let weight = Weight::of(caller);
        let lane = self.lane(index);
        if lane.weight != weight && !matches!(lane.owner, Owner::Shared(_)) {
            lane.weight = weight;
            if lane.waiting > 0 {
                self.rank(index);
            }
        }
        index
    }

    /// A caller has another weight from now on; nothing where nobody knows it.
    pub(super) fn weigh(&mut self, caller: &Caller) {
        if self.known_lane_of(caller).is_some() {
            self.lane_of(caller);
        }
    }

    fn known_lane_of(&self, caller: &Caller) -> Option<u32> {
        let Some(name) = caller.name() else {
            return Some(NOBODY);
        };
        match self.names.get(name) {
            Some(index) => Some(*index),
            None if self.names.len() < NAMED => None,
            None => self.shared.get(&self.number_of(name)).copied(),
        }
    }

    /// Which of the shared lanes is a name's. Nobody outside can tell which names go
    /// together.
    fn number_of(&self, name: &str) -> u64 {
        self.hasher.hash_one(name) % u64::from(SHARED)
    }

    fn make_lane(&mut self, caller: &Caller) -> u32 {
        let Some(name) = caller.shared_name() else {
            return NOBODY;
        };
        if self.is_plain() {
            // The one lane stands where it last did while there were others; whoever
            // joins puts it where it belongs if anybody waits there.
            self.leave_out(NOBODY);
        }
        let is_named = self.names.len() < NAMED;
        let (owner, weight) = match is_named {
            true => (Owner::Named(Arc::clone(name)), Weight::of(caller)),
            false => (Owner::Shared(self.number_of(name)), Weight::SHARED),
        };
        let lane = Lane::new(owner.clone(), weight, self.virtual_time);
        let index = match self.free.pop() {
            Some(index) => {
                self.lanes[index as usize] = lane;
                index
            }
            None => {
                self.lanes.push(lane);
                u32::try_from(self.lanes.len() - 1).expect("lanes are bounded")
            }
        };
        match owner {
            Owner::Named(name) => drop(self.names.insert(name, index)),
            Owner::Shared(number) => drop(self.shared.insert(number, index)),
            Owner::Nobody => unreachable!("it has a name"),
        }
        index
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
        self.lane(index).passed = Cost::NOTHING;
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

    fn forget(&mut self, index: u32) {
        if index == NOBODY {
            return;
        }
        let owner = std::mem::replace(&mut self.lane(index).owner, Owner::Nobody);
        match owner {
            Owner::Named(name) => drop(self.names.remove(&name)),
            Owner::Shared(number) => drop(self.shared.remove(&number)),
            Owner::Nobody => return,
        }
        self.free.push(index);
    }
}

/// What requests cost at today's prices.
struct Prices<F> {
    price: F,
    /// Of one, at least.
    each: Cost,
}

impl<F: Fn(&Charge) -> Cost> Prices<F> {
    fn new(price: F) -> Self {
        let each = price(&Charge::default());
        Prices { price, each }
    }

    /// Of `many` that are charged `all` together. None cost nothing, though one that asks
    /// for nothing would.
    fn of(&self, all: &Total, many: usize) -> Cost {
        if many == 0 {
            return Cost::NOTHING;
        }
        let many = u64::try_from(many).unwrap_or(u64::MAX);
        (self.price)(&all.as_charge()).max(self.each.times(many))
    }
}

/// As much of `amount` as `part` is of `all`.
fn part_of(amount: u128, part: Tag, all: Tag) -> u128 {
    if part == all {
        return amount;
    }
    // Some bits less, so that nothing overflows.
    let (part, all) = (part >> 32, (all >> 32).max(1));
    let (whole, rest) = (amount / all, amount % all);
    let most = whole.saturating_mul(part);
    most.saturating_add(rest.saturating_mul(part) / all)
        .min(amount)
}

impl<T> std::fmt::Debug for Lanes<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lanes")
            .field("waiting", &self.waiting)
            .field("callers", &self.lanes_in_line().count())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::charge::{Per, Unit};

    /// A token is a millisecond.
    fn price(charge: &Charge) -> Cost {
        Cost::of(charge.get(Unit::Tokens), Per::Second, 1_000)
    }

    fn caller(name: &str, weight: u32) -> Caller {
        Caller::new(name).weight(weight)
    }

    /// Lanes whose entries are numbers, and time that passes with each.
    struct Test {
        lanes: Lanes<u32>,
        now: Moment,
    }

    impl Test {
        fn new() -> Self {
            Test {
                lanes: Lanes::new(),
                now: Moment::default(),
            }
        }

        fn join(&mut self, caller: &Caller, tokens: u64, item: u32) -> Key {
            self.join_again(caller, tokens, None, item)
        }

        fn join_again(
            &mut self,
            caller: &Caller,
            tokens: u64,
            first: Option<Moment>,
            item: u32,
        ) -> Key {
            self.now = self.now + std::time::Duration::from_nanos(1);
            let charge = Charge::tokens(tokens);
            let times = (first, self.now);
            self.lanes.join(caller, charge, times, item, price)
        }

        fn head(&mut self) -> u32 {
            let head = self.lanes.head().expect("somebody waits");
            *self.lanes.get_mut(head)
        }

        fn passer(&mut self) -> Option<u32> {
            let passer = self.lanes.passer()?;
            Some(*self.lanes.get_mut(passer))
        }

        /// Lets this one in.
        fn launch(&mut self, key: Key) -> (u32, Tagged) {
            let tagged = self.lanes.launch(key);
            (self.lanes.remove(key, price), tagged)
        }

        fn next(&mut self) -> (u32, Tagged) {
            let head = self.lanes.head().expect("somebody waits");
            self.launch(head)
        }

        fn order(&mut self, many: usize) -> Vec<u32> {
            (0..many).map(|_| self.next().0).collect()
        }
    }

    #[test]
    fn weights_are_turns() {
        let mut test = Test::new();
        for _ in 0..12 {
            test.join(&caller("a", 1), 100, 0);
            test.join(&caller("b", 2), 100, 1);
            test.join(&Caller::default().weight(3), 100, 2);
        }
        let order = test.order(24);
        for (who, turns) in [(0, 4), (1, 8), (2, 12)] {
            let had = order.iter().filter(|had| **had == who).count();
            assert_eq!(had, turns, "{order:?}");
        }
    }

    #[test]
    fn whoever_was_idle_has_saved_up_nothing() {
        let mut test = Test::new();
        for n in 0..10 {
            test.join(&caller("busy", 1), 100, n);
        }
        assert_eq!(test.order(5), [0, 1, 2, 3, 4]);
        for n in 10..13 {
            test.join(&caller("late", 1), 100, n);
        }
        assert_eq!(test.order(6), [10, 5, 11, 6, 12, 7]);
    }

    #[test]
    fn a_head_is_passed_up_to_four_times_its_cost() {
        let mut test = Test::new();
        let (large, small) = (caller("large", 1), caller("small", 8));
        test.join(&large, 1_000, 0);
        let mut passed = 0;
        for n in 1.. {
            let key = test.join(&small, 100, n);
            if test.passer().is_none() {
                break;
            }
            passed += 100;
            test.launch(key);
            assert_eq!(test.head(), 0);
        }
        assert_eq!(passed, 4_000);
        assert_eq!(test.next().0, 0);
    }

    #[test]
    fn nobody_passes_who_would_be_over_later() {
        let mut test = Test::new();
        test.join(&caller("a", 1), 1_000, 0);
        test.join(&caller("b", 1), 1_000, 1);
        assert_eq!(test.passer(), None);
        test.join(&caller("c", 1), 999, 2);
        assert_eq!(test.passer(), Some(2));
        let key = test.join(&caller("c", 1), 1, 3);
        assert_eq!(test.passer(), Some(2), "not before its own caller's first");
        test.lanes.remove(key, price);
    }

    #[test]
    fn who_was_here_before_keeps_its_place() {
        let mut test = Test::new();
        let first = Some(test.now);
        let all = caller("all", 1);
        for n in 0..10 {
            test.join(&all, 1, n);
        }
        assert_eq!(test.order(2), [0, 1]);
        test.join_again(&all, 1, first, 0);
        let again = Some(Moment::default() + std::time::Duration::from_nanos(2));
        test.join_again(&all, 1, again, 1);
        assert_eq!(test.order(10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    }

    #[test]
    fn who_was_set_aside_stands_where_it_stood() {
        let mut test = Test::new();
        let [one, other] = ["one", "other"].map(|name| caller(name, 1));
        let keys: Vec<_> = (0..4).map(|n| test.join(&one, 100, n)).collect();
        test.join(&other, 100, 10);
        for key in [keys[2], keys[0]] {
            test.lanes.set_aside(key, price);
        }
        assert_eq!((test.lanes.len(), test.lanes.waiting()), (3, 5));
        assert_eq!(test.order(1), [1]);
        test.join(&one, 100, 4);
        test.lanes.restore(price);
        // What one has had since counts, and nothing of the time before.
        assert_eq!(test.order(5), [10, 0, 2, 3, 4]);
        assert!(test.lanes.is_deserted());
    }

    #[test]
    fn a_caller_of_whom_all_were_set_aside_is_known_and_has_saved_up_nothing() {
        let mut test = Test::new();
        let [one, other] = ["one", "other"].map(|name| caller(name, 1));
        let key = test.join(&one, 100, 0);
        test.lanes.set_aside(key, price);
        for n in 10..14 {
            test.join(&other, 100, n);
        }
        assert_eq!(test.order(2), [10, 11]);
        test.lanes.restore(price);
        test.join(&one, 100, 1);
        // As if it came only now.
        assert_eq!(test.order(4), [0, 12, 1, 13]);
    }

    #[test]
    fn a_weight_that_changes_in_flight_gives_and_takes_nothing() {
        let mut test = Test::new();
        let other = caller("other", 1);
        for n in 0..10 {
            test.join(&caller("a", 1), 700, n);
            test.join(&other, 700, 100 + n);
        }
        let flying: Vec<_> = (0..6).map(|_| test.next().1).collect();
        let start = |test: &mut Test| {
            let index = test.lanes.known_lane_of(&caller("a", 1)).expect("known");
            test.lanes.lane(index).start
        };
        let before = start(&mut test);
        // It weighs a thousand times as much for a moment, in which one is let in, and
        // all of them come back.
        test.join(&caller("a", 1_000), 1, 50);
        let heavy = test.next().1;
        test.join(&caller("a", 1), 1, 51);
        test.lanes.land(heavy, Cost::NOTHING);
        assert_eq!(start(&mut test), before);
        for tagged in flying.into_iter().filter(|it| it.lane == heavy.lane) {
            test.lanes.land(tagged, Cost::NOTHING);
        }
        assert_eq!(start(&mut test), 0);
    }

    #[test]
    fn what_is_given_back_is_had_again() {
        let mut test = Test::new();
        for n in 0..10 {
            test.join(&caller("a", 1), 100, n);
            test.join(&caller("b", 1), 100, 100 + n);
        }
        let flying: Vec<_> = (0..4).map(|_| test.next()).collect();
        assert!(flying.iter().map(|it| it.0).eq([0, 100, 1, 101]));
        for (_, tagged) in flying.into_iter().filter(|it| it.0 < 100) {
            test.lanes.land(tagged, Cost::NOTHING);
        }
        assert_eq!(test.order(4), [2, 3, 102, 4]);
    }

    #[test]
    fn names_beyond_a_thousand_share_what_one_would_get() {
        let mut test = Test::new();
        for n in 0..5_000 {
            test.join(&Caller::new(format!("{n}")), 100, n);
        }
        let known = test.lanes.standings(0);
        assert_eq!(known.len(), 1 + NAMED + SHARED as usize);
        // Every one of the first has a turn, while the others have one together.
        let turns: Vec<_> = (0..NAMED + 64).map(|_| test.next()).collect();
        let others = turns.iter().filter(|it| it.0 >= NAMED as u32).count();
        assert!(others <= SHARED as usize, "{others}");
        assert_eq!(turns.len() - others, NAMED);
        for (_, tagged) in turns {
            test.lanes.land(tagged, tagged.cost);
        }
        while test.lanes.head().is_some() {
            let (_, tagged) = test.next();
            test.lanes.land(tagged, tagged.cost);
        }
        assert_eq!(test.lanes.standings(0).len(), 1, "all are forgotten");
    }

    proptest! {
        /// Whatever comes, leaves, is let in and passes: of all who wait, no tag is ahead
        /// of another by more than the largest request over the least weight; nobody is
        /// lost, and at the end everybody is forgotten.
        #[test]
        fn tags_stay_together_and_nothing_is_left(
            steps in prop::collection::vec((0u8..10, 0usize..6, 1u64..2_000), 0..400),
        ) {
            let names = ["a", "b", "c", "d", "e"];
            let who = |n: usize| names.get(n).map_or_else(Caller::default, |name| {
                caller(name, [1, 2, 5, 8, 1_000][n])
            });
            let mut test = Test::new();
            let mut waiting: Vec<Key> = Vec::new();
            let mut flying: Vec<Tagged> = Vec::new();
            let mut many = 0;
            for (step, n, tokens) in steps {
                match step {
                    0..=2 => {
                        waiting.push(test.join(&who(n), tokens, 0));
                        many += 1;
                    }
                    3 if !waiting.is_empty() => {
                        let key = waiting.swap_remove(n % waiting.len());
                        test.lanes.remove(key, price);
                        many -= 1;
                    }
                    4 if !flying.is_empty() => {
                        let tagged = flying.swap_remove(n % flying.len());
                        test.lanes.land(tagged, tagged.cost);
                    }
                    5 => {
                        if let Some(key) = test.lanes.passer() {
                            waiting.retain(|other| *other != key);
                            flying.push(test.launch(key).1);
                            many -= 1;
                        }
                    }
                    6 => {
                        if let Some(key) = test.lanes.head() {
                            test.lanes.set_aside(key, price);
                        }
                    }
                    7 if n == 0 => test.lanes.restore(price),
                    _ => {
                        if let Some(key) = test.lanes.head() {
                            waiting.retain(|other| *other != key);
                            flying.push(test.launch(key).1);
                            many -= 1;
                        }
                    }
                }
                prop_assert_eq!(test.lanes.waiting(), many);
                prop_assert_eq!(test.lanes.is_deserted(), many == 0);
                // As the queue does whenever something has changed.
                test.lanes.head();
                let lanes = test.lanes.lanes_in_line();
                let tags = lanes.map(|index| test.lanes.lanes[index as usize].start);
                let tags: Vec<Tag> = tags.collect();
                let apart = tags.iter().max().zip(tags.iter().min());
                let most = Weight::of(&Caller::default()).over(Cost::nanos(2_000_000_000));
                prop_assert!(apart.is_none_or(|(max, min)| max - min <= most));
            }
            test.lanes.restore(price);
            prop_assert_eq!(test.lanes.len(), many);
            while test.lanes.head().is_some() {
                flying.push(test.next().1);
            }
            for tagged in flying {
                test.lanes.land(tagged, tagged.cost);
            }
            prop_assert_eq!(test.lanes.charge(), Total::default());
            prop_assert_eq!(test.lanes.standings(0).len(), 1);
            prop_assert!(test.lanes.lingering.is_empty());
        }
    }

    /// In thousandths: nobody's, and the others' in the order of their coming.
    fn shares(test: &Test) -> Vec<u16> {
        let all = test.lanes.standings(0).into_iter();
        all.map(|it| it.share_permille).collect()
    }

    #[test]
    fn shares_are_of_what_stands_since_somebody_waits() {
        let mut test = Test::new();
        let (a, b) = (caller("a", 1), caller("b", 2));
        let first = test.join(&a, 100, 0);
        let second = test.join(&b, 300, 1);
        let third = test.join(&b, 300, 2);
        test.join(&a, 100, 3);
        assert_eq!(shares(&test), [0, 0, 0]);
        assert_eq!(test.lanes.charge().get(Unit::Tokens), 800);
        let (_, of_a) = test.launch(first);
        let (_, of_b) = test.launch(second);
        assert_eq!(shares(&test), [0, 250, 750]);
        let in_flight = test.lanes.standings(7).into_iter().map(|it| it.in_flight);
        assert!(
            in_flight.eq([5, 1, 1]),
            "nobody's are those that are no other's"
        );
        assert_eq!(test.lanes.weight(), 3);
        test.lanes.land(of_b, Cost::NOTHING);
        assert_eq!(shares(&test), [0, 1_000, 0], "it came back");
        let (_, of_b) = test.launch(third);
        test.lanes.land(of_b, price(&Charge::tokens(100)));
        assert_eq!(shares(&test), [0, 500, 500]);
        assert_eq!(test.next().0, 3);
        assert_eq!(test.lanes.weight(), 1, "of those that wait or fly");
        test.lanes.land(of_a, of_a.cost);
        // Somebody waits again, after nobody did.
        test.join(&b, 300, 4);
        assert_eq!(shares(&test), [0, 0, 0]);
    }

    #[test]
    fn what_is_given_back_after_all_have_gone_gives_nobody_an_advantage() {
        let mut test = Test::new();
        let (a, b) = (caller("a", 1), caller("b", 1));
        for n in 0..2 {
            test.join(&a, 100, n);
            test.join(&b, 100, 10 + n);
        }
        let flying: Vec<_> = (0..4).map(|_| test.next().1).collect();
        // One turned out larger, when nobody waited.
        test.lanes.land(flying[0], price(&Charge::tokens(1_000)));
        for n in 2..4 {
            test.join(&b, 100, 10 + n);
            test.join(&a, 100, n);
        }
        assert_eq!(test.order(4), [12, 2, 13, 3]);
    }

    /// Of others those count that would be over before a newcomer, as that part of all
    /// who wait there.
    #[test]
    fn a_newcomer_is_told_who_goes_before_it() {
        let mut test = Test::new();
        let (a, b) = (caller("a", 1), caller("b", 1));
        let ahead = |test: &Test, who: &Caller, tokens: u64| {
            let (waiting, total) = test.lanes.ahead_of(who, &Charge::tokens(tokens), price);
            (waiting, total.get(Unit::Tokens))
        };
        assert_eq!(ahead(&test, &a, 100), (0, 0));
        for n in 0..3 {
            test.join(&a, 100, n);
        }
        assert_eq!(ahead(&test, &a, 100), (3, 300), "all of its own");
        for (who, tokens, expected) in [
            (&b, 100, (1, 100)),
            (&b, 200, (2, 200)),
            (&b, 1_000, (3, 300)),
            (&caller("c", 2), 100, (0, 50)),
            (&caller("c", 2), 400, (2, 200)),
        ] {
            assert_eq!(ahead(&test, who, tokens), expected, "{who:?} {tokens}");
        }
        for n in 0..3 {
            test.join(&b, 100, 10 + n);
        }
        assert_eq!(ahead(&test, &b, 100), (6, 600));
        assert_eq!(ahead(&test, &caller("c", 1), 100), (2, 200));
        let waits = |test: &Test, who: &Caller| {
            let (waiting, total) = test.lanes.waiting_of(who);
            (waiting, total.get(Unit::Tokens))
        };
        assert_eq!(
            (waits(&test, &b), waits(&test, &caller("c", 1))),
            ((3, 300), (0, 0))
        );
        // Its last has gone, and it is a hundred ahead of the other's.
        let (_, first) = test.next();
        assert_eq!(ahead(&test, &a, 100), (5, 500));
        test.order(3);
        test.lanes.land(first, first.cost);
        assert_eq!(test.order(2), [2, 12]);
        assert_eq!(ahead(&test, &a, 100), (0, 0));
    }

    /// Who flies and does not wait begins at the present, or where it has come to.
    #[test]
    fn one_that_comes_again_stands_behind_what_it_had() {
        let mut test = Test::new();
        let (a, b) = (caller("a", 1), caller("b", 1));
        test.join(&a, 100, 0);
        for n in 0..8 {
            test.join(&b, 100, 10 + n);
        }
        let ahead = |test: &Test, tokens: u64| {
            let (waiting, _) = test.lanes.ahead_of(&a, &Charge::tokens(tokens), price);
            waiting
        };
        assert_eq!(test.next().0, 0);
        assert_eq!(
            ahead(&test, 100),
            2,
            "up to its own hundred, and the one it wants"
        );
        assert_eq!(test.order(4), [10, 11, 12, 13]);
        test.head();
        assert_eq!(ahead(&test, 100), 1, "the others have overtaken it");
    }

    #[test]
    fn a_name_beyond_a_thousand_has_a_light_lanes_place() {
        let mut test = Test::new();
        let one_more = caller("one more", 1);
        for n in 0..NAMED as u32 {
            let ahead = test.lanes.ahead_of(&one_more, &Charge::tokens(50), price);
            assert_eq!(
                ahead.0, 0,
                "they are over later than half of what they want"
            );
            test.join(&Caller::new(format!("{n}")), 100, n);
        }
        let (waiting, total) = test.lanes.ahead_of(&one_more, &Charge::tokens(50), price);
        assert_eq!(waiting, NAMED, "of a sixty-fourth of the weight");
        assert_eq!(total.get(Unit::Tokens), 100 * NAMED as u64);
    }

    /// Nobody gains by it, and the head has waited.
    #[test]
    fn nobody_passes_who_would_be_over_at_the_same_time() {
        let mut test = Test::new();
        test.join(&caller("b", 1), 500, 0);
        test.join(&caller("b", 1), 500, 1);
        assert_eq!(test.next().0, 0);
        test.join(&caller("a", 1), 1_000, 2);
        assert_eq!((test.head(), test.passer()), (2, None));
        test.join(&caller("c", 1), 999, 3);
        assert_eq!((test.head(), test.passer()), (2, Some(3)));
    }

    #[test]
    fn who_was_here_before_goes_before_a_newcomer_of_the_same_moment() {
        let mut test = Test::new();
        let all = caller("all", 1);
        for n in 0..2 {
            test.join(&all, 1, n);
        }
        let first = Some(Moment::default() + std::time::Duration::from_nanos(1));
        test.join_again(&all, 1, first, 2);
        let mut key = test.lanes.head().expect("somebody waits");
        let mut told = Vec::new();
        let index = test.lanes.known_lane_of(&all).expect("known");
        loop {
            told.push(*test.lanes.get_mut(key));
            match test.lanes.after(index, key) {
                Some(next) => key = next,
                None => break,
            }
        }
        assert_eq!(told, [2, 0, 1]);
        assert_eq!(test.order(3), [2, 0, 1]);
    }
}
