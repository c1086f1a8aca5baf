//! One limit of a pool, as all processes together stand in it.

use std::collections::VecDeque;
use std::time::Duration;

use crate::charge::{Per, Unit};
use crate::rules::{Bucket, Room};
use crate::shared::{MeterTerms, Stamp};
use crate::time::Moment;

/// A window is kept in so many parts of its period.
const PARTS: u64 = 64;

/// What may be in transit and not counted yet, at most, in time of the refill: two
/// seconds from launch, and the time until it is reported.
const UNCOUNTED: Duration = Duration::from_millis(2_500);

/// A limit, its bucket, its window, and the pace of requests by the minute.
#[derive(Debug)]
pub(super) struct Meter {
    pub(super) terms: MeterTerms,
    /// In transit, for it, is all that any process holds.
    level: Bucket,
    landed: Option<Landed>,
    /// Half a second's worth of requests and one more may be idle at once, over all processes,
    /// because a limit by the minute may be enforced by the second.
    pace: Option<Bucket>,
    /// All that was ever drawn and not given back; wraps.
    drawn: u64,
}

/// The one more is for whoever's turn it is and who has not come yet: beside it, what refills
/// meanwhile has a place.
fn pace_of(rate: u64) -> u64 {
    rate.max(1).div_ceil(120).saturating_add(1)
}

impl Meter {
    /// One that refills from `from` on.
    pub(super) fn new(terms: MeterTerms, from: Stamp) -> Self {
        let from = moment(from);
        let pace =
            is_paced(&terms).then(|| Bucket::new(terms.rate, terms.per, pace_of(terms.rate), from));
        Meter {
            level: Bucket::new(terms.rate, terms.per, terms.capacity, from),
            landed: terms.windowed.then(|| Landed::new(&terms)),
            pace,
            drawn: 0,
            terms,
        }
    }

    pub(super) fn is_of(&self, terms: &MeterTerms) -> bool {
        (self.terms.unit, self.terms.per) == (terms.unit, terms.per)
    }

    /// Takes over other numbers; a raised limit adds rate and no level.
    pub(super) fn resize(&mut self, terms: MeterTerms, now: Stamp) {
        if terms == self.terms {
            return;
        }
        self.level.resize(terms.rate, terms.capacity, moment(now));
        if let Some(pace) = &mut self.pace {
            pace.resize(terms.rate, pace_of(terms.rate), moment(now));
        }
        match (&self.landed, terms.windowed) {
            (Some(_), true) | (None, false) => {}
            (Some(_), false) => self.landed = None,
            // Whatever is missing of the level, it may have been spent just now.
            (None, true) => {
                let mut landed = Landed::new(&terms);
                let missing = signed(terms.capacity).saturating_sub(self.level.level(moment(now)));
                let held = signed(self.level.in_transit());
                landed.add(missing.saturating_sub(held).max(0).unsigned_abs(), now);
                self.landed = Some(landed);
            }
        }
        self.terms = terms;
    }

    /// Nothing is refilled before `then`.
    pub(super) fn rest_until(&mut self, then: Stamp) {
        self.level.rest_until(moment(then));
    }

    pub(super) fn level(&mut self, now: Stamp) -> i64 {
        self.level.level(moment(now))
    }

    pub(super) fn lower_to(&mut self, most: i64, now: Stamp) {
        self.level.lower_to(most, moment(now));
    }

    pub(super) fn raise_to(&mut self, least: u64, now: Stamp) {
        self.level.raise_to(least, moment(now));
    }

    pub(super) fn fill(&mut self, now: Stamp) {
        self.raise_to(self.terms.capacity, now);
    }

    pub(super) fn mark(&self) -> u64 {
        self.drawn.wrapping_sub(self.level.in_transit())
    }

    pub(super) fn room(&mut self, now: Stamp) -> i64 {
        self.level.room(moment(now)).whole(self.terms.per)
    }

    /// One waits for so many requests at once: where the pace never has as many, they are collected.
    pub(super) fn widen(&mut self, requests: u64, now: Stamp) {
        if let Some(pace) = &mut self.pace {
            let widest = requests.min(self.terms.capacity);
            let most = pace_of(self.terms.rate).max(widest);
            pace.resize(self.terms.rate, most, moment(now));
        }
    }

    /// What may be drawn now, while `resting` requests are drawn and nobody's.
    pub(super) fn left(&mut self, resting: u64, now: Stamp) -> u64 {
        let mut left = self.level.level(moment(now));
        if let Some(landed) = &mut self.landed {
            let held = self.level.in_transit();
            left = left.min(landed.left(&self.terms, held, now));
        }
        if let Some(pace) = &mut self.pace {
            left = left.min(pace.level(moment(now)).saturating_sub(signed(resting)));
        }
        left.max(0).unsigned_abs()
    }

    pub(super) fn draw(&mut self, amount: u64, now: Stamp) {
        self.drawn = self.drawn.wrapping_add(amount);
        self.level.reserve(amount);
        if let Some(pace) = &mut self.pace {
            pace.spend(amount, moment(now));
        }
    }

    /// What was drawn was never sent.
    pub(super) fn give_back(&mut self, amount: u64, now: Stamp) {
        self.drawn = self.drawn.wrapping_sub(amount);
        self.level.refund(amount, moment(now));
        if let Some(pace) = &mut self.pace {
            pace.credit(amount, moment(now));
        }
    }

    /// The provider has counted it.
    pub(super) fn land(&mut self, amount: u64, now: Stamp) {
        self.level.land(amount, moment(now));
        if let Some(landed) = &mut self.landed {
            landed.add(amount, now);
        }
    }

    /// A process holds more than was known.
    pub(super) fn adopt(&mut self, amount: u64, now: Stamp) {
        self.level.adopt(amount, moment(now));
    }

    pub(super) fn owe(&mut self, amount: u64, now: Stamp) {
        self.drawn = self.drawn.wrapping_add(amount);
        self.level.spend(amount, moment(now));
        if let Some(landed) = &mut self.landed {
            landed.add(amount, now);
        }
    }

    pub(super) fn credit(&mut self, amount: u64, room: i64, now: Stamp) {
        let room = Room::of_whole(room, self.terms.per);
        self.level.credit_late(amount, room, moment(now));
        // What landed stays in the window: nobody knows any more in which part it is.
    }

    /// The provider says that so much is left.
    pub(super) fn correct(
        &mut self,
        told: (u64, Option<u64>),
        idle: u64,
        may_rise: bool,
        now: Stamp,
    ) {
        let (remaining, mark) = told;
        let on_its_way = self.level.in_transit().saturating_sub(idle);
        let uncounted = on_its_way.min(self.level.refill_in(UNCOUNTED));
        let most = signed(remaining).saturating_sub_unsigned(uncounted.saturating_add(idle));
        if most < self.level.level(moment(now)) {
            self.level.lower_to(most, moment(now));
            return;
        }
        let Some(mark) = mark.filter(|_| may_rise) else {
            return;
        };
        let kept = self.terms.limit.saturating_sub(self.terms.rate);
        let since = self.drawn.wrapping_sub(mark);
        let least = remaining.saturating_sub(kept.saturating_add(since));
        self.level.raise_to(least, moment(now));
    }

    pub(super) fn wait_for(&mut self, amount: u64, delay: Duration, now: Stamp) {
        self.level.wait_for(amount, delay, moment(now));
    }

    /// In seconds of it.
    pub(super) fn cost(&self, amount: u64) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
        let share = amount as f64 / self.terms.limit.max(1) as f64;
        share * self.terms.per.duration().as_secs_f64()
    }
}

fn is_paced(terms: &MeterTerms) -> bool {
    (terms.unit, terms.per) == (Unit::Requests, Per::Minute)
}

/// What landed lately, in parts of a period, each counted until its end is a whole period
/// ago.
#[derive(Debug)]
struct Landed {
    part: u64,
    period: u64,
    parts: VecDeque<(u64, u64)>,
    sum: u64,
}

impl Landed {
    fn new(terms: &MeterTerms) -> Self {
        let period = micros(terms.per.duration());
        Landed {
            part: period / PARTS,
            period,
            parts: VecDeque::new(),
            sum: 0,
        }
    }

    fn add(&mut self, amount: u64, now: Stamp) {
        if amount == 0 {
            return;
        }
        self.sum = self.sum.saturating_add(amount);
        let part = now.0 / self.part;
        match self.parts.back_mut() {
            Some((last, sum)) if *last == part => *sum = sum.saturating_add(amount),
            _ => self.parts.push_back((part, amount)),
        }
    }

    fn left(&mut self, terms: &MeterTerms, held: u64, now: Stamp) -> i64 {
        while let Some(&(part, amount)) = self.parts.front() {
            if (part + 1) * self.part + self.period > now.0 {
                break;
            }
            self.sum -= amount;
            self.parts.pop_front();
        }
        signed(terms.limit).saturating_sub_unsigned(self.sum.saturating_add(held))
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

fn signed(amount: u64) -> i64 {
    i64::try_from(amount).unwrap_or(i64::MAX)
}

/// The ledger's clock as the rules count time.
fn moment(at: Stamp) -> Moment {
    Moment::default() + Duration::from_micros(at.0)
}
