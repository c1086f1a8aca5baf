//! What a pool's one queue stands over.

use std::time::Duration;

use super::ledger::{Ledger, Snapshot, Terms};
use super::stats::{Note, Stats};
use super::{Ahead, Charged, Cost, Key, Launch, Rule, Slots, Spacing, When};
use crate::answer::Observation;
use crate::charge::Charge;
use crate::time::{Moment, Now};

/// Calls in flight, what the meters have, and the time between launches: one rule,
/// so that one queue under one lock admits to all three.
#[derive(Debug)]
pub(crate) struct Pool {
    rule: Parts,
}

/// All are there, whether they limit anything or not: they count, so that a limit
/// may come while requests are on their way.
type Parts = (Slots, Ledger, Spacing);

/// What a pool allows; valid, as far as that can be told.
#[derive(Clone, Debug)]
pub(crate) struct Limits {
    pub(crate) slots: Option<usize>,
    pub(crate) terms: Terms,
    /// Zero: launches are not spaced.
    pub(crate) interval: Duration,
    pub(crate) jitter: f64,
}

/// What an admitted request holds of each.
pub(crate) type Held = <Parts as Rule>::Held;

impl Pool {
    pub(crate) fn new(slots: Slots, ledger: Ledger, spacing: Spacing) -> Self {
        Pool {
            rule: (slots, ledger, spacing),
        }
    }

    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        &mut self.rule.1
    }

    /// Goes on under other limits; what is held stays held.
    pub(crate) fn set_limits(&mut self, limits: Limits, now: &mut Now) {
        let (slots, ledger, spacing) = &mut self.rule;
        slots.set_max(limits.slots);
        ledger.set_terms(limits.terms, now.get());
        spacing.set_interval(limits.interval, limits.jitter, now);
    }

    /// The head of an answer is here. Where nobody said that its request was
    /// launched, it was launched at this very instant.
    #[inline]
    pub(crate) fn answered(&mut self, held: &Held, told: &Observation, now: &mut Now) {
        if !held.2.is_launched() {
            self.rule.2.launch(&held.2, Launch::ToWire, now);
        }
        let key: Key = held.1;
        self.rule.1.observe_answer(key, told, now.get());
    }

    /// The request is over: with what its body told, if it told a refusal, and what
    /// it really used, where that is known.
    #[inline]
    pub(crate) fn end(
        &mut self,
        held: Held,
        told: Option<&Observation>,
        used: Option<Charge>,
        now: &mut Now,
    ) -> Charged {
        let (slot, key, turn) = held;
        let (slots, ledger, spacing) = &mut self.rule;
        if let Some(told) = told {
            ledger.observe_answer(key, told, now.get());
        }
        let charged = ledger.close(key, used, now.get());
        slots.release(slot, now);
        spacing.release(turn, now);
        charged
    }

    pub(crate) fn is_at_rest(&mut self, now: Moment) -> bool {
        let (_, ledger, spacing) = &mut self.rule;
        spacing.next(now).is_none() && ledger.is_at_rest(now)
    }

    pub(crate) fn snapshot(&mut self, ahead: Ahead, now: &mut Now) -> Snapshot {
        let (slots, ledger, spacing) = &mut self.rule;
        let now = now.get();
        let mut snapshot = ledger.snapshot(ahead.waiting, now);
        snapshot.in_flight = ahead.in_flight;
        snapshot.max_concurrency = slots.max();
        snapshot.next_launch = spacing.next(now).map(Into::into);
        snapshot
    }
}

impl Rule for Pool {
    const NAME: &'static str = "budget";
    const IS_TIMED: bool = true;
    const LAPSES: bool = Parts::LAPSES;
    type Held = Held;

    #[inline]
    fn when(&mut self, charge: &Charge, now: &mut Now) -> When {
        self.rule.when(charge, now)
    }

    #[inline]
    fn is_open(&mut self, charge: &Charge, now: &mut Now) -> bool {
        self.rule.is_open(charge, now)
    }

    #[inline]
    fn take(&mut self, charge: &Charge, now: &mut Now) -> Held {
        self.rule.take(charge, now)
    }

    #[inline]
    fn launch(&mut self, held: &Held, to: Launch, now: &mut Now) {
        self.rule.launch(held, to, now);
    }

    #[inline]
    fn release(&mut self, held: Held, now: &mut Now) -> Charged {
        self.end(held, None, None, now)
    }

    /// Whether it is charged, the ledger knows.
    fn unsend(&mut self, held: Held, now: &mut Now) -> Charged {
        let (slot, key, turn) = held;
        let (slots, ledger, spacing) = &mut self.rule;
        slots.unsend(slot, now);
        spacing.unsend(turn, now);
        ledger.unsend(key, now)
    }

    #[inline]
    fn cost(&self, charge: &Charge) -> Cost {
        self.rule.cost(charge)
    }

    #[inline]
    fn prices(&self) -> u32 {
        self.rule.prices()
    }

    #[inline]
    fn has_lapsed(&mut self, held: &Held, now: &mut Now) -> bool {
        self.rule.has_lapsed(held, now)
    }

    fn expected_wait(&mut self, charge: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
        self.rule.expected_wait(charge, ahead, now)
    }

    #[inline]
    fn show(&mut self, stats: &mut Stats) {
        self.rule.show(stats);
    }

    #[inline]
    fn has_notes(&self) -> bool {
        self.rule.has_notes()
    }

    fn take_notes(&mut self) -> Vec<Note> {
        self.rule.take_notes()
    }
}
