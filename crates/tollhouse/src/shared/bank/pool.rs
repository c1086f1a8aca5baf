//! One pool's bucket, and those who draw from it.

use std::collections::BTreeMap;
use std::time::Duration;

use super::advance::Outcome;
use super::deal::deal;
use super::meter::Meter;
use super::passed::{Passed, Served};
use super::prices::Prices;
use super::share::{Last, Share, Sums, Wants};
use super::{LEASE, Opening, TRANSIT};
use crate::charge::{Per, Unit};
use crate::shared::{Amounts, MeterTerms, PoolGrant, PoolReport, Stamp, Told};

/// No launch is booked further ahead, but the next one.
const AHEAD: Duration = Duration::from_secs(1);

/// Nothing raises a level for so long after a hold.
const STEADY: Duration = Duration::from_secs(60);

/// A hold that grows by more than this is news; one that is only told once more is not.
const NEWS: Duration = Duration::from_millis(250);

/// By then every process has told what was counted before a refusal.
const STALE: Duration = Duration::from_secs(3);

#[derive(Debug, Default)]
pub(super) struct Pool {
    meters: Vec<Meter>,
    shares: BTreeMap<u128, Share>,
    virtual_time: f64,
    held_until: Stamp,
    /// No count raises a level before: it may be of before a refusal.
    rises_from: Stamp,
    /// Whether the level is to fall to nothing when the hold ends.
    drains: bool,
    /// Whether a hold began that nobody else has heard of.
    has_news: bool,
    launches: Launches,
    /// Levels wait to be told whether the ledger was lost.
    opening: bool,
}

/// What of a grant is not kept.
#[derive(Debug, Default)]
pub(super) struct Granted {
    recalled: bool,
    launches: Vec<Duration>,
}

/// The instants of launches, one after another.
#[derive(Debug, Default)]
struct Launches {
    /// The next that nobody has.
    next: Stamp,
    /// Whose the last ones are, and how many.
    last: Option<(u128, u64)>,
}

impl Pool {
    /// One that begins while levels are not known yet.
    pub(super) fn opening() -> Self {
        Pool {
            opening: true,
            ..Pool::default()
        }
    }

    /// Nothing refills before.
    pub(super) fn rest_until(&mut self, now: Stamp, then: Stamp) {
        for meter in &mut self.meters {
            meter.level(now);
            meter.rest_until(then);
        }
    }

    /// It is known now how to begin.
    pub(super) fn open(&mut self, opening: Opening, now: Stamp) {
        if std::mem::take(&mut self.opening) {
            for meter in &mut self.meters {
                opening.begin(meter, now);
            }
        }
    }

    /// Whether something was told that the other processes should hear at once; once.
    pub(super) fn take_news(&mut self) -> bool {
        std::mem::take(&mut self.has_news)
    }

    /// Lands what silent processes held.
    pub(super) fn bury(&mut self, now: Stamp) {
        let silent = |share: &Share| now.since(share.came) > LEASE + TRANSIT;
        let gone = self.shares.values_mut().filter(|share| silent(share));
        for share in gone {
            land(&mut self.meters, &share.held, now);
            share.held = Amounts::NOTHING;
            share.idle = Amounts::NOTHING;
            share.resting = 0;
            share.passed = Passed::default();
            share.last = Last::default();
        }
        for share in self.shares.values_mut() {
            if !is_there(share, now) {
                share.slots = 0;
                share.wants = Wants::default();
            }
        }
    }

    /// Forgets a process; what it held, in a pool that nobody came to since, has landed.
    pub(super) fn forget(&mut self, process: u128, now: Stamp) {
        if let Some(share) = self.shares.remove(&process) {
            land(&mut self.meters, &share.held, now);
        }
    }

    /// Takes in what a process says of itself.
    pub(super) fn take_in(
        &mut self,
        (process, received): (u128, u64),
        report: &PoolReport,
        opening: Opening,
        now: Stamp,
    ) {
        let mut share = match self.shares.remove(&process) {
            Some(share) => share,
            None => Share::new(report, now),
        };
        share.came = now;
        share.meters.clone_from(&report.meters);
        share.max_slots = report.max_slots;
        share.interval = report.interval;
        self.shares.insert(process, share);
        self.agree(opening, now);
        self.undo_what_never_came(process, received, now);
        self.count(process, report, now);
        self.listen(report, now);
        self.line_up(process, report, now);
    }

    /// Of everybody's limits the lowest hold.
    fn agree(&mut self, opening: Opening, now: Stamp) {
        let mut agreed: Vec<MeterTerms> = Vec::new();
        for terms in self.there(now).flat_map(|share| &share.meters) {
            let of = |it: &&mut MeterTerms| (it.unit, it.per) == (terms.unit, terms.per);
            match agreed.iter_mut().find(of) {
                Some(lowest) => {
                    lowest.limit = lowest.limit.min(terms.limit);
                    lowest.rate = lowest.rate.min(terms.rate);
                    lowest.capacity = lowest.capacity.min(terms.capacity);
                    lowest.windowed |= terms.windowed;
                }
                None => agreed.push(*terms),
            }
        }
        self.meters
            .retain(|meter| agreed.iter().any(|it| meter.is_of(it)));
        for terms in agreed {
            match self.meters.iter_mut().find(|meter| meter.is_of(&terms)) {
                Some(meter) => meter.resize(terms, now),
                None => {
                    let mut meter = self.joining(terms, now);
                    if !self.opening {
                        opening.begin(&mut meter, now);
                    }
                    self.meters.push(meter);
                }
            }
        }
        self.meters.sort_by_key(|it| (it.terms.unit, it.terms.per));
    }

    /// One that begins empty, beside what everybody holds.
    fn joining(&self, terms: MeterTerms, now: Stamp) -> Meter {
        let mut meter = Meter::new(terms, now);
        meter.lower_to(0, now);
        for share in self.shares.values() {
            meter.adopt(share.held.get(terms.unit), now);
        }
        meter
    }

    /// What the last grant gave was never had.
    fn undo_what_never_came(&mut self, process: u128, received: u64, now: Stamp) {
        let Some(share) = self.shares.get_mut(&process) else {
            return;
        };
        let last = std::mem::take(&mut share.last);
        if last.number <= received {
            return;
        }
        share.held = share.held.minus(&last.drawn);
        share.slots = share.slots.saturating_sub(last.slots);
        share.advance.undo(&last.drawn);
        for meter in &mut self.meters {
            meter.give_back(last.drawn.get(meter.terms.unit), now);
        }
        self.launches
            .give_back(process, last.launches, self.interval(now));
    }

    /// What it has now, against what it had: rules 3 and 4.
    fn count(&mut self, process: u128, report: &PoolReport, now: Stamp) {
        let interval = self.interval(now);
        let share = self.shares.get_mut(&process).expect("it was there");
        let sums = Sums::of(report);
        let (new, undone) = (sums.since(&share.sums), share.sums.since(&sums));
        share.sums = sums;
        let holds = report.idle.plus(&report.in_transit);
        let had = share.held;
        // Of what was taken for landed meanwhile, nothing comes back.
        let returned = new.returned.min(&had);
        let rest = had.minus(&returned);
        share.held = holds;
        share.idle = report.idle;
        share.resting = report.idle.get(Unit::Requests);
        share.slots = report.slots_used.saturating_add(report.slots_idle);
        let told = Outcome {
            idle: &report.idle,
            returned: &returned,
            owed: &new.owed,
            unused: &new.unused,
            more: &new.dominant,
            less: &undone.dominant,
        };
        let moved = share
            .advance
            .settle(&told, Prices::new(&self.meters, interval));
        share.tag += moved / share.weight;
        for (at, meter) in self.meters.iter_mut().enumerate() {
            let unit = meter.terms.unit;
            meter.give_back(returned.get(unit), now);
            meter.land(rest.minus(&holds).get(unit), now);
            meter.adopt(holds.minus(&rest).get(unit), now);
            if new.owed.get(unit) > 0 {
                meter.owe(new.owed.get(unit), now);
            }
            if let (1.., Some(room)) = (new.unused.get(unit), report.unused_rooms.get(at)) {
                meter.credit(new.unused.get(unit), *room, now);
            }
        }
        self.launches
            .give_back(process, new.launches_returned, interval);
    }

    /// The provider's word: rule 7.
    fn listen(&mut self, report: &PoolReport, now: Stamp) {
        let idle = self.idle();
        let is_steady = now >= self.held_until.after(STEADY) || self.held_until == Stamp(0);
        let may_rise = is_steady && now >= self.rises_from;
        for told in &report.told {
            match *told {
                Told::Remaining {
                    unit,
                    per,
                    remaining,
                    mark,
                } => {
                    if let Some(meter) = self.meter(unit, per) {
                        meter.correct((remaining, mark), idle.get(unit), may_rise, now);
                    }
                }
                Told::After {
                    unit,
                    per,
                    amount,
                    delay,
                } => {
                    if let Some(meter) = self.meter(unit, per) {
                        meter.wait_for(amount, delay, now);
                        let later = now.after(delay.max(STALE));
                        self.rises_from = self.rises_from.max(later);
                    }
                }
            }
        }
        if let Some(held) = report.held {
            let until = now.after(held);
            self.has_news |= until > self.held_until.max(now).after(NEWS);
            self.held_until = self.held_until.max(until);
            self.drains = true;
        }
    }

    #[cfg(test)]
    pub(super) fn level(&mut self, terms: &MeterTerms, now: Stamp) -> i64 {
        let meter = self.meter(terms.unit, terms.per);
        meter.map_or(0, |meter| meter.level(now))
    }

    fn meter(&mut self, unit: Unit, per: Per) -> Option<&mut Meter> {
        let mut meters = self.meters.iter_mut();
        meters.find(|it| (it.terms.unit, it.terms.per) == (unit, per))
    }

    fn line_up(&mut self, process: u128, report: &PoolReport, now: Stamp) {
        let interval = self.interval(now);
        let anybody = self
            .shares
            .iter()
            .any(|(id, share)| *id != process && !share.wants.is_nothing());
        let share = self.shares.get_mut(&process).expect("it was there");
        #[expect(clippy::cast_precision_loss, reason = "weights are small")]
        let weight = report.weight.max(1) as f64;
        let is_new = share.wants.is_nothing();
        if weight != share.weight {
            // What it has in advance is charged, and is settled, at one weight.
            let price = share.advance.price(Prices::new(&self.meters, interval));
            share.tag += price / weight - price / share.weight;
        }
        share.weight = weight;
        share.wants = Wants::of(report);
        if is_new && !share.wants.is_nothing() {
            share.tag = share.tag.max(self.virtual_time);
        }
        if share.wants.line.is_empty() {
            share.passed = Passed::default();
        }
        if !anybody && share.wants.is_nothing() {
            let tags = self.shares.values().map(|share| share.tag);
            self.virtual_time = tags.fold(self.virtual_time, f64::max);
        }
    }

    /// What falls to this process: rules 8 to 10.
    pub(super) fn grant(&mut self, process: u128, number: u64, now: Stamp) -> Granted {
        if self.held_until > now {
            return Granted::default();
        }
        if std::mem::take(&mut self.drains) {
            for meter in &mut self.meters {
                meter.lower_to(0, now);
            }
        }
        let (left, most) = (self.left(now), self.most());
        let interval = self.interval(now);
        let prices = Prices::new(&self.meters, interval);
        let there = |share: &Share| is_there(share, now);
        let dealt = deal(process, &self.shares, there, (left, &most), prices);
        let rest = self.shares[&process].wants.line.iter().skip(dealt.steps);
        let served = Served {
            rest: rest.map(|it| prices.of(it)).fold(0.0, f64::max),
            ..dealt.served
        };
        for passing in &dealt.passed {
            if let Some(head) = self.shares.get_mut(&passing.process) {
                head.passed.count(passing.cost, passing.price);
            }
        }
        for meter in &mut self.meters {
            meter.draw(dealt.drawn.get(meter.terms.unit), now);
        }
        self.virtual_time = self.virtual_time.max(dealt.virtual_time);
        let slots = self.slots_for(process, now);
        let share = self.shares.get_mut(&process).expect("it has just reported");
        let launches = self.launches.book(process, &share.wants, interval, now);
        share.slots = share.slots.saturating_add(slots);
        share.wants.slots -= slots;
        share.wants.launches = 0;
        share.held = share.held.plus(&dealt.drawn);
        share.idle = share.idle.plus(&dealt.drawn);
        share.tag = dealt.tag;
        share.advance.draw(&dealt.drawn, &dealt.dominant);
        if dealt.steps > 0 {
            share.passed.serve(&served);
        }
        let in_line: Vec<_> = share.wants.line.drain(..dealt.steps).collect();
        let in_line = in_line
            .iter()
            .fold(Amounts::NOTHING, |sum, it| sum.plus(it));
        let beside = dealt.drawn.minus(&in_line);
        share.resting = share.resting.saturating_add(beside.get(Unit::Requests));
        share.wants.beside = share.wants.beside.minus(&beside);
        share.last = Last {
            number,
            drawn: dealt.drawn,
            slots,
            launches: launches.len() as u64,
        };
        Granted {
            recalled: dealt.recalled,
            launches,
        }
    }

    /// What the last grant says of this pool.
    pub(super) fn tell(
        &mut self,
        report: &PoolReport,
        process: u128,
        granted: Granted,
        now: Stamp,
    ) -> PoolGrant {
        let Granted { recalled, launches } = granted;
        let last = self
            .shares
            .get(&process)
            .map_or(Last::default(), |it| it.last);
        PoolGrant {
            name: report.name.clone(),
            drawn: last.drawn,
            slots: last.slots,
            launches,
            recalled,
            held: Some(self.held_until.since(now)).filter(|held| !held.is_zero()),
            marks: self.meters.iter().map(Meter::mark).collect(),
            rooms: self.meters.iter_mut().map(|it| it.room(now)).collect(),
            meters: self.meters.iter().map(|it| it.terms).collect(),
            levels: self.meters.iter_mut().map(|it| it.level(now)).collect(),
            max_slots: self.max_slots(now),
            slots_leased: self.shares.values().map(|it| it.slots).sum(),
        }
    }

    /// What may be drawn of each unit.
    fn left(&mut self, now: Stamp) -> Amounts {
        let resting = self.shares.values().map(|share| share.resting);
        let resting = resting.fold(0, u64::saturating_add);
        let widest = self.widest();
        let mut left = everything();
        for meter in &mut self.meters {
            let unit = meter.terms.unit;
            meter.widen(widest, now);
            let least = left.get(unit).min(meter.left(resting, now));
            left = left.and(unit, least);
        }
        left
    }

    /// The most requests that a first one in line takes at once.
    fn widest(&self) -> u64 {
        let firsts = self.shares.values().filter_map(|it| it.wants.line.first());
        firsts.map(|it| it.get(Unit::Requests)).max().unwrap_or(0)
    }

    /// What may ever be drawn of each unit at once.
    fn most(&self) -> Amounts {
        let mut most = everything();
        for Meter { terms, .. } in &self.meters {
            let least = most.get(terms.unit).min(terms.capacity);
            most = most.and(terms.unit, least);
        }
        most
    }

    /// Those who came within a lease.
    fn there(&self, now: Stamp) -> impl Iterator<Item = &Share> {
        let all = self.shares.values();
        all.filter(move |share| is_there(share, now))
    }

    fn idle(&self) -> Amounts {
        let all = self.shares.values();
        all.fold(Amounts::NOTHING, |sum, share| sum.plus(&share.idle))
    }

    fn interval(&self, now: Stamp) -> Duration {
        let there = self.there(now);
        there.map(|share| share.interval).max().unwrap_or_default()
    }

    fn max_slots(&self, now: Stamp) -> Option<u64> {
        self.there(now).filter_map(|share| share.max_slots).min()
    }

    /// Free slots go one by one to whoever has least for its weight.
    fn slots_for(&self, process: u128, now: Stamp) -> u64 {
        let wanted = self.shares[&process].wants.slots;
        let Some(max) = self.max_slots(now) else {
            return wanted;
        };
        let mut free = max.saturating_sub(self.shares.values().map(|it| it.slots).sum());
        let there = self.shares.iter().filter(|(_, share)| is_there(share, now));
        let mut hands: Vec<_> = there
            .map(|(id, share)| (*id, share.slots, share.wants.slots, share.weight))
            .collect();
        if hands
            .iter()
            .map(|(_, _, wants, _)| *wants)
            .fold(0, u64::saturating_add)
            <= free
        {
            return wanted;
        }
        let mut given = 0;
        while free > 0 {
            hands.retain(|(_, _, wants, _)| *wants > 0);
            #[expect(clippy::cast_precision_loss, reason = "slots are few")]
            let load = |&(_, slots, _, weight): &(u128, u64, u64, f64)| slots as f64 / weight;
            let least = hands.iter_mut().min_by(|one, other| {
                let loads = load(one).total_cmp(&load(other));
                loads.then(one.0.cmp(&other.0))
            });
            let Some((id, slots, wants, _)) = least else {
                break;
            };
            free -= 1;
            *slots += 1;
            *wants -= 1;
            given += u64::from(*id == process);
        }
        given
    }
}

impl Launches {
    /// Books launches of a process, as far ahead as is right, and says how far they are.
    fn book(
        &mut self,
        process: u128,
        wants: &Wants,
        interval: Duration,
        now: Stamp,
    ) -> Vec<Duration> {
        let mut booked = Vec::new();
        if interval.is_zero() {
            return booked;
        }
        while (booked.len() as u64) < wants.launches {
            let at = self.next.max(now);
            let has_one = wants.launches_idle > 0 || !booked.is_empty();
            if has_one && at > now.after(AHEAD) {
                break;
            }
            booked.push(at.since(now));
            self.next = at.after(interval);
        }
        if !booked.is_empty() {
            self.last = Some((process, booked.len() as u64));
        }
        booked
    }

    fn give_back(&mut self, process: u128, launches: u64, interval: Duration) {
        if launches == 0 || interval.is_zero() {
            return;
        }
        if let Some((last, booked)) = self.last
            && last == process
        {
            let back = launches.min(booked);
            let micros = u64::try_from(interval.as_micros()).unwrap_or(u64::MAX);
            self.next = Stamp(self.next.0.saturating_sub(micros.saturating_mul(back)));
            self.last = Some((process, booked - back)).filter(|(_, booked)| *booked > 0);
        }
    }
}

fn everything() -> Amounts {
    let units = Unit::ALL.into_iter();
    units.fold(Amounts::NOTHING, |sum, unit| sum.and(unit, u64::MAX))
}

fn is_there(share: &Share, now: Stamp) -> bool {
    now.since(share.came) <= LEASE
}

fn land(meters: &mut [Meter], held: &Amounts, now: Stamp) {
    for meter in meters {
        meter.land(held.get(meter.terms.unit), now);
    }
}
