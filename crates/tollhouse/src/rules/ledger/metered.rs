//! One of the ledger's meters with what is known of it: what stands in it, and
//! what the provider says of it.

use super::belief::{Belief, Verdict};
use super::correction::{Correction, Mark};
use super::terms::{Accounting, Terms};
use super::{Entry, Limit, MeterSnapshot, Sent, Stage, Told};
use crate::charge::{Charge, Unit};
use crate::rules::{Allowed, Beside, Key, Meter, Room};
use crate::time::Moment;

/// Whose answer it is that tells something.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    pub(super) key: Key,
    pub(super) charge: Charge,
    pub(super) sent: Sent,
    /// Whether it was let in.
    pub(super) good: bool,
}

/// The longest answer that any model writes, in tokens.
const LONGEST_ANSWER: u64 = 128_000;

/// By how much an estimate may be wrong, whatever it is an estimate of.
const UNDERESTIMATED: u64 = 16;

/// A meter, its correction by the provider's word, and what each reservation
/// needs remembered for this meter alone.
#[derive(Debug)]
#[cfg_attr(test, derive(Clone, Hash))]
pub(super) struct Metered {
    pub(super) meter: Meter,
    pub(super) correction: Correction,
    pub(super) belief: Belief,
    /// Reserved and not settled.
    pub(super) outstanding: u64,
    /// Of each of the ledger's entries. Kept apart from them, so that an entry needs no list
    /// of its own.
    parts: Beside<Part>,
}

/// What is remembered of one reservation.
#[derive(Clone, Copy, Debug, Default)]
#[cfg_attr(test, derive(Hash))]
struct Part {
    /// What had been charged when it was taken.
    mark: Mark,
    /// The room there was for a refund when it landed.
    room: Room,
}

impl Metered {
    pub(super) fn new(meter: Meter) -> Self {
        Metered {
            meter,
            correction: Correction::default(),
            belief: Belief::default(),
            outstanding: 0,
            parts: Beside::new(),
        }
    }

    /// One that joins while so much of its unit is `outstanding`. What answers to
    /// older requests tell is not reckoned from: their charges were not marked.
    pub(super) fn joining(meter: Meter, outstanding: u64, now: Moment) -> Self {
        let mut metered = Metered {
            outstanding,
            ..Metered::new(meter)
        };
        metered.correction.distrust_before(now);
        metered
    }

    #[inline]
    pub(super) fn reserve(&mut self, key: Key, amount: u64, now: Option<Moment>) {
        let before = self.meter.in_transit();
        self.meter.reserve(amount, now);
        self.outstanding = self.outstanding.saturating_add(amount);
        self.correction.charged(amount);
        let mark = self.correction.mark(before);
        *self.parts.of(key) = Part {
            mark,
            room: Room::default(),
        };
    }

    /// What was reserved is another one's from now on.
    #[inline]
    pub(super) fn pass_on(&mut self, key: Key, amount: u64) {
        let before = self.meter.in_transit() - amount;
        self.parts.of(key).mark = self.correction.mark(before);
    }

    #[inline(always)]
    pub(super) fn land(&mut self, key: Key, amount: u64, at: Moment) {
        self.meter.land(amount, at);
        if let Some(room) = self.meter.room(at) {
            self.parts.of(key).room = room;
        }
    }

    /// What landed turns out never to have left, or not so much of it.
    pub(super) fn raise(&mut self, key: Key, amount: u64, landed: Moment, now: Moment) {
        self.stand(amount);
        self.correction.spared(amount);
        let room = self.parts.of(key).room;
        self.meter.give_back(amount, landed, room, now);
    }

    /// It never left.
    pub(super) fn refund(&mut self, amount: u64, dated: Moment, now: Moment) {
        self.outstanding = self.outstanding.saturating_sub(amount);
        self.correction.refunded(amount);
        self.meter.refund(amount, dated, now);
    }

    /// A reservation turns out to be less by `amount`.
    pub(super) fn lessen(&mut self, key: Key, amount: u64, entry: &Entry, now: Moment) {
        if entry.stage == Stage::Landed {
            return self.raise(key, amount, entry.at, now);
        }
        if !entry.is_orphan() {
            self.stand(amount);
        }
        self.correction.refunded(amount);
        self.meter.refund(amount, entry.dated, now);
    }

    /// It ends as it was reserved.
    #[inline]
    pub(super) fn stand(&mut self, amount: u64) {
        self.outstanding = self.outstanding.saturating_sub(amount);
    }

    /// It ends with what was really used, having landed at `landed`.
    pub(super) fn settle(
        &mut self,
        key: Key,
        (reserved, used): (u64, u64),
        landed: Moment,
        terms: &Terms,
        now: Moment,
    ) {
        self.stand(reserved);
        if used > reserved {
            self.correction.charged(used - reserved);
            self.meter.owe(used - reserved, now);
        } else if terms.accounting == Accounting::AsUsed {
            let unused = self.correction.settled(reserved - used, self.outstanding);
            let room = self.parts.of(key).room;
            self.meter.give_back(unused, landed, room, now);
        }
    }

    pub(super) fn is_of(&self, limit: &Limit) -> bool {
        let of = self.meter.allowed();
        (of.unit, of.per) == (limit.unit, limit.per)
    }

    /// What is believed of the usage that an answer tells.
    ///
    /// A request that was let in fitted into the limit, and no model writes more tokens
    /// than [`LONGEST_ANSWER`] beyond that; or its estimate was
    /// [`UNDERESTIMATED`]. More is no usage but a broken number, and a debt that
    /// nothing would ever correct.
    pub(super) fn believable(&self, reserved: u64) -> u64 {
        let Allowed { unit, limit, .. } = *self.meter.allowed();
        let beyond = match unit {
            Unit::Tokens | Unit::Input | Unit::Output => LONGEST_ANSWER,
            Unit::Requests | Unit::Images => 0,
        };
        let estimated = reserved.saturating_mul(UNDERESTIMATED);
        estimated.max(limit.saturating_add(beyond))
    }

    /// The provider told how this meter stands, in an answer or in nobody's in
    /// particular; says whether its count is not believed from here on.
    pub(super) fn learn(
        &mut self,
        told: &Told,
        from: Option<Answered>,
        terms: &Terms,
        now: Moment,
    ) -> bool {
        let mut told = *told;
        // Only an admitted request contradicts what was said before.
        let admitted = from.filter(|from| from.good);
        let verdict = match (told.remaining, admitted) {
            (Some(remaining), Some(from)) => {
                let amount = from.charge.get(self.meter.unit());
                self.belief
                    .admitted(remaining, amount, from.sent.reserved, now)
            }
            _ => Verdict::Believed,
        };
        if verdict == Verdict::Lost {
            self.forget_others(now);
        }
        if verdict != Verdict::Believed {
            told.remaining = None;
        }
        let sent = from.map(|from| (self.parts.of(from.key).mark, from.sent));
        self.correction
            .learn(&told, sent, terms, &mut self.meter, now);
        verdict == Verdict::Lost
    }

    /// When the request of an answer was let in whose count may raise the level: what it
    /// says is no older than what is known to be worse.
    pub(super) fn trusted_since(&self, from: Option<Answered>) -> Option<Moment> {
        let reserved = from.filter(|from| from.good)?.sent.reserved;
        self.correction.is_newer(reserved).then_some(reserved)
    }

    /// Nobody else spends from this account, as far as can be told.
    pub(super) fn forget_others(&mut self, now: Moment) {
        self.correction.forget_others();
        self.meter.forget_others(now);
    }

    pub(super) fn snapshot(&mut self, now: Moment) -> MeterSnapshot {
        let allowed = self.meter.allowed();
        MeterSnapshot {
            unit: allowed.unit,
            per: allowed.per,
            limit: allowed.limit,
            rate: allowed.rate,
            capacity: allowed.capacity,
            level: self.meter.left(now),
            in_transit: self.meter.in_transit(),
            outstanding: self.outstanding,
            windowed: self.meter.is_windowed(),
        }
    }

    pub(super) fn resize(&mut self, allowed: Allowed, now: Moment) {
        self.meter.resize(allowed, now);
        self.correction.leave_others(&mut self.meter, now);
    }

    /// From now on the provider is taken to give back what it did not before, or no
    /// more. What its counts have in them of that already is not given twice.
    pub(super) fn account_anew(&mut self) {
        self.correction.account_anew(self.outstanding);
    }
}
