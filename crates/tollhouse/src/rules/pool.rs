//! What a pool's one queue stands over.

use std::time::Duration;

use super::ledger::{Dealings, Ledger, Share, Snapshot, Terms};
use super::spacing::Turn;
use super::stats::{Note, Stats};
use super::{
    Ahead, Beside, Charged, Cost, Key, Launch, Leases, Limited, Need, Rule, Slots, Spacing, When,
};
use crate::answer::Observation;
use crate::charge::{Charge, Unit};
use crate::time::{Moment, Now};

/// Calls in flight, what the meters have, and the time between launches: one rule,
/// so that one queue under one lock admits to all three.
#[derive(Debug)]
pub(crate) struct Pool {
    rule: Parts,
    /// Each request's turn to launch. Kept apart, so that what a request holds is a number.
    turns: Beside<Turn>,
    /// Where the limits are shared with other processes: then the parts above stand for
    /// the whole account, or for this process's part of it while the shared ledger is away.
    leases: Option<Box<Shared>>,
}

#[derive(Debug)]
struct Shared {
    leases: Leases,
    /// As they are where nobody is away.
    limits: Limits,
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

impl Pool {
    pub(crate) fn new(slots: Slots, ledger: Ledger, spacing: Spacing) -> Self {
        Pool {
            rule: (slots, ledger, spacing),
            turns: Beside::new(),
            leases: None,
        }
    }

    pub(crate) fn ledger(&mut self) -> &mut Ledger {
        &mut self.rule.1
    }

    /// Goes on under other limits; what is held stays held.
    pub(crate) fn set_limits(&mut self, limits: Limits, now: &mut Now) {
        let (_, ledger, _) = &mut self.rule;
        ledger.set_terms(limits.terms.clone(), now.get());
        if let Some(shared) = &mut self.leases {
            shared.limits = limits.clone();
        }
        self.limit_calls(&limits, now);
    }

    fn limit_calls(&mut self, limits: &Limits, now: &mut Now) {
        let (slots, ledger, spacing) = &mut self.rule;
        let share = ledger.share();
        slots.set_max(limits.slots.map(|slots| share.of_slots(slots)));
        spacing.set_interval(share.lengthen(limits.interval), limits.jitter, now);
    }

    /// From now on others spend from the same limits, and nothing is let in here but on a
    /// lease.
    pub(crate) fn share(&mut self, limits: Limits, now: &mut Now) {
        let now = now.get();
        let leases = Leases::new(now);
        self.leases = Some(Box::new(Shared { leases, limits }));
        self.rule.1.deal();
        self.set_share(Share::Drawn, now);
    }

    fn set_share(&mut self, share: Share, now: Moment) {
        self.rule.1.set_share(share, now);
        if let Some(shared) = &self.leases {
            let limits = shared.limits.clone();
            self.limit_calls(&limits, &mut Now::at(now));
        }
    }

    /// What is leased, where the limits are shared.
    pub(crate) fn leases(&mut self) -> Option<&mut Leases> {
        self.leases.as_deref_mut().map(|shared| &mut shared.leases)
    }

    /// All that was leased may be spent until then, and the whole is shared again.
    pub(crate) fn renew(&mut self, until: Moment, now: &mut Now) {
        let Some(shared) = &mut self.leases else {
            return;
        };
        shared.leases.renew(until);
        self.set_share(Share::Drawn, now.get());
    }

    /// The shared ledger is away: nothing that was leased may be spent any more, only this
    /// share of the limits; without any, nothing.
    pub(crate) fn go_alone(&mut self, share: Option<Share>, now: &mut Now) {
        let Some(shared) = &mut self.leases else {
            return;
        };
        shared.leases.lose(share.is_some());
        self.set_share(share.unwrap_or(Share::Drawn), now.get());
    }

    /// How calls are limited beside what they are charged, for all processes together.
    pub(crate) fn limited(&self) -> Limited {
        let (slots, _, spacing) = &self.rule;
        let whole = self.leases.as_deref().map(|shared| &shared.limits);
        Limited {
            taken: slots.taken() as u64,
            max_slots: whole.and_then(|limits| limits.slots).map(|max| max as u64),
            interval: whole.map_or(spacing.interval(), |limits| limits.interval),
        }
    }

    /// A request is handed on, for the first time perhaps.
    #[inline]
    fn leaves(&mut self, key: Key, now: &mut Now) {
        if self.leases.is_some() && !self.turns.of(key).is_launched() {
            self.owe(key, None, now);
        }
    }

    /// What leaves without a lease is owed, and costs what stands of it, if that is less.
    fn owe(&mut self, key: Key, stands: Option<&Charge>, now: &mut Now) {
        if let Some(shared) = &mut self.leases
            && let Some(owed) = shared.leases.owes(key, now.get())
            && let Some(dealings) = self.rule.1.dealings()
        {
            dealings.owe(&owed);
            dealings.price(key, &stands.map_or(owed, |stands| (*stands).into()));
        }
    }

    /// A request is over.
    #[inline]
    fn settle_lease(&mut self, key: Key, was_launched: bool, charged: &Charged, now: &mut Now) {
        if self.leases.is_some() {
            self.settle_leased(key, was_launched, charged, now);
        }
    }

    /// What it took comes back if it never left, and is owed if it did.
    fn settle_leased(&mut self, key: Key, was_launched: bool, charged: &Charged, now: &mut Now) {
        let Some(dealings) = self.rule.1.dealings() else {
            return;
        };
        let came_back = dealings.take_refunded();
        if came_back {
            if let Some(shared) = &mut self.leases
                && shared.leases.refund(key)
            {
                dealings.unprice(key);
            }
        } else if !was_launched {
            let stands = match charged {
                Charged::Used(used) => Some(used),
                Charged::Whole | Charged::Nothing => None,
            };
            self.owe(key, stands, now);
        }
        if let Some(dealings) = self.rule.1.dealings() {
            dealings.forget(key);
        }
    }

    /// The head of an answer is here. Where nobody said that its request was
    /// launched, it was launched at this very instant.
    #[inline(always)]
    pub(crate) fn answered(&mut self, key: Key, told: Option<&Observation>, now: &mut Now) {
        if !self.turns.of(key).is_launched() {
            self.leaves(key, now);
            self.rule.2.launch(self.turns.of(key), Launch::ToWire, now);
        }
        self.rule.1.observe_answer(key, told, now.get());
    }

    /// The whole answer is here: as [`answered`](Self::answered) and [`end`](Self::end) in
    /// one.
    #[inline]
    pub(crate) fn completed(
        &mut self,
        key: Key,
        told: Option<&Observation>,
        used: Option<&Charge>,
        now: &mut Now,
    ) -> Charged {
        self.answered(key, told, now);
        self.end(key, None, used, now)
    }

    /// The request is over: with what its body told, if it told a refusal, and what
    /// it really used, where that is known.
    #[inline(always)]
    pub(crate) fn end(
        &mut self,
        key: Key,
        told: Option<&Observation>,
        used: Option<&Charge>,
        now: &mut Now,
    ) -> Charged {
        let (slots, ledger, spacing) = &mut self.rule;
        if told.is_some() {
            ledger.observe_answer(key, told, now.get());
        }
        let charged = ledger.close(key, used, now.get());
        slots.release((), now);
        let turn = std::mem::take(self.turns.of(key));
        let was_launched = turn.is_launched();
        spacing.release(turn, now);
        self.settle_lease(key, was_launched, &charged, now);
        charged
    }

    fn when_leased(&mut self, charge: &Charge, now: &mut Now) -> When {
        let limited = self.limited();
        let leases = self.leases();
        leases.map_or(When::Now, |it| it.when(charge, &limited, now.get()))
    }

    #[inline]
    fn take_unleased(&mut self, charge: &Charge, now: &mut Now) -> Key {
        let ((), key, turn) = self.rule.take(charge, now);
        *self.turns.of(key) = turn;
        key
    }

    fn take_leased(&mut self, charge: &Charge, now: &mut Now) -> Key {
        let limited = self.limited();
        let key = self.take_unleased(charge, now);
        if let Some(shared) = &mut self.leases
            && shared.leases.take(key, charge, &limited, now.get())
            && let Some(dealings) = self.rule.1.dealings()
        {
            dealings.price(key, &(*charge).into());
        }
        key
    }

    /// Whether what it was let in on is over, and it has not been launched.
    fn has_lease_lapsed(&mut self, key: Key, now: &mut Now) -> bool {
        let is_shared = self.leases.is_some() && !self.turns.of(key).is_launched();
        is_shared
            && self
                .leases()
                .is_some_and(|it| it.has_lapsed(key, now.get()))
    }

    pub(crate) fn has_learned(&self) -> bool {
        let (_, ledger, _) = &self.rule;
        ledger.has_learned()
    }

    pub(crate) fn is_at_rest(&mut self, now: Moment) -> bool {
        let (_, ledger, spacing) = &mut self.rule;
        let nothing_leased = self.leases.as_ref().is_none_or(|it| it.leases.is_nothing());
        nothing_leased && spacing.next(now).is_none() && ledger.is_at_rest(now)
    }

    pub(crate) fn most(&mut self, unit: Unit, now: Moment) -> Option<u64> {
        let (_, ledger, _) = &mut self.rule;
        ledger.most(unit, now)
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
    type Held = Key;

    #[inline]
    fn when(&mut self, charge: &Charge, now: &mut Now) -> When {
        let own = self.rule.when(charge, now);
        match (own, &self.leases) {
            (_, None) | (When::OnRelease | When::OnChange | When::Never(_), _) => own,
            (When::Now | When::At(_), Some(_)) => own.and(self.when_leased(charge, now)),
        }
    }

    #[inline]
    fn is_open(&mut self, charge: &Charge, now: &mut Now) -> bool {
        // Leases are looked at in any case.
        self.leases.is_none() && self.rule.is_open(charge, now)
    }

    #[inline]
    fn is_shut(&self, charge: &Charge) -> bool {
        let (slots, ledger, _) = &self.rule;
        match slots.is_shut(charge) {
            true => ledger.fits(charge),
            false => ledger.is_shut(charge),
        }
    }

    #[inline]
    fn take(&mut self, charge: &Charge, now: &mut Now) -> Key {
        if self.leases.is_some() {
            return self.take_leased(charge, now);
        }
        self.take_unleased(charge, now)
    }

    #[inline]
    fn launch(&mut self, key: &Key, to: Launch, now: &mut Now) {
        self.leaves(*key, now);
        let (_, ledger, spacing) = &mut self.rule;
        ledger.launch(key, to, now);
        spacing.launch(self.turns.of(*key), to, now);
    }

    /// A lease is for the one who has taken it, and so is a launch that is spaced.
    #[inline]
    fn is_unused(&self, key: &Key) -> bool {
        let (_, ledger, spacing) = &self.rule;
        self.leases.is_none() && spacing.is_off() && ledger.is_unused(key)
    }

    #[inline]
    fn pass_on(&mut self, key: &Key, charge: &Charge, now: &mut Now) -> bool {
        let (slots, ledger, spacing) = &mut self.rule;
        let passes = !slots.is_overrun() && ledger.pass_on(key, charge, now);
        if passes {
            spacing.pass_on(self.turns.of(*key));
        }
        passes
    }

    #[inline]
    fn release(&mut self, key: Key, now: &mut Now) -> Charged {
        self.end(key, None, None, now)
    }

    /// Whether it is charged, the ledger knows.
    fn unsend(&mut self, key: Key, now: &mut Now) -> Charged {
        let (slots, ledger, spacing) = &mut self.rule;
        slots.unsend((), now);
        let turn = std::mem::take(self.turns.of(key));
        let was_launched = turn.is_launched();
        spacing.unsend(turn, now);
        let charged = ledger.unsend(key, now);
        self.settle_lease(key, was_launched, &charged, now);
        charged
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
    fn has_lapsed(&mut self, key: &Key, now: &mut Now) -> bool {
        let (_, ledger, spacing) = &mut self.rule;
        ledger.has_lapsed(key, now)
            || spacing.has_lapsed(self.turns.of(*key), now)
            || self.has_lease_lapsed(*key, now)
    }

    fn expected_wait(&mut self, charge: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
        let own = self.rule.expected_wait(charge, ahead, now);
        let leases = self.leases.as_ref();
        leases.map_or(own, |shared| {
            let drawn = shared.leases.expected_wait(charge, &ahead, now.get());
            own.max(drawn)
        })
    }

    /// How much of the refill falls to this process, nobody knows for sure.
    fn least_wait(&mut self, charge: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
        self.rule.expected_wait(charge, ahead, now)
    }

    #[inline]
    fn show(&mut self, stats: &mut Stats) {
        self.rule.show(stats);
    }

    #[inline]
    fn calls(&self) -> bool {
        self.leases.as_ref().is_some_and(|it| it.leases.calls()) || self.rule.1.presses()
    }

    fn take_call(&mut self) -> Option<Need> {
        let lacks = self.leases().is_some_and(Leases::take_call);
        let presses = self.rule.1.dealings().is_some_and(Dealings::take_press);
        let word = presses.then_some(Need::Word);
        word.or(lacks.then_some(Need::More))
    }

    #[inline]
    fn has_notes(&self) -> bool {
        self.rule.has_notes()
    }

    fn take_notes(&mut self) -> Vec<Note> {
        self.rule.take_notes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::ledger::{Limit, TOKENS};
    use super::super::{Granted, Random};
    use super::*;
    use crate::charge::{Amounts, Unit};

    fn at(millis: u64) -> Moment {
        Moment::default() + Duration::from_millis(millis)
    }

    fn amounts(tokens: u64, requests: u64) -> Amounts {
        Amounts::of(Unit::Tokens, tokens).and(Unit::Requests, requests)
    }

    /// With 500 tokens and five requests on a lease, until the second second.
    fn on_a_lease() -> Pool {
        let (unit, per) = TOKENS;
        let amount = 600;
        let terms = Terms::plain(&[Limit { unit, per, amount }]);
        let limits = Limits {
            slots: None,
            terms: terms.clone(),
            interval: Duration::ZERO,
            jitter: 0.0,
        };
        let spacing = Spacing::new(Duration::ZERO, 0.0, Random::seeded(1));
        let mut pool = Pool::new(Slots::unlimited(), Ledger::new(terms, at(0)), spacing);
        let now = &mut Now::at(at(0));
        pool.share(limits, now);
        pool.renew(at(2_000), now);
        let leases = pool.leases().expect("they are shared");
        leases.grant(Granted {
            drawn: amounts(500, 5),
            ..Granted::default()
        });
        pool
    }

    impl Pool {
        fn taken(&mut self, tokens: u64) -> Key {
            self.take(&Charge::tokens(tokens), &mut Now::at(at(0)))
        }

        fn dominant(&mut self, now: Moment) -> u64 {
            self.ledger().collect(now).dominant.get(Unit::Tokens)
        }

        fn owes(&mut self, now: Moment) -> Amounts {
            self.ledger().collect(now).owed
        }
    }

    #[test]
    fn somebody_is_called_for_what_is_lacking_and_for_what_cannot_wait() {
        let mut pool = on_a_lease();
        assert_eq!((pool.calls(), pool.take_call()), (false, None));
        let when = pool.when(&Charge::tokens(501), &mut Now::at(at(0)));
        assert_eq!(when, When::OnRelease);
        assert!(pool.calls());
        assert_eq!(pool.take_call(), Some(Need::More));
        assert_eq!((pool.calls(), pool.take_call()), (false, None), "once");
        pool.ledger().hold(at(1_000), at(0));
        assert!(pool.calls());
        assert_eq!(pool.take_call(), Some(Need::Word));
        assert!(!pool.calls());
    }

    #[test]
    fn who_was_let_in_lapses_with_its_lease_until_it_is_launched() {
        let mut pool = on_a_lease();
        let (waits, goes) = (pool.taken(100), pool.taken(100));
        pool.launch(&goes, Launch::ToWire, &mut Now::at(at(1_000)));
        for (millis, has_lapsed) in [(1_999, false), (2_000, true)] {
            let now = &mut Now::at(at(millis));
            assert_eq!(pool.has_lapsed(&waits, now), has_lapsed);
            assert!(!pool.has_lapsed(&goes, now), "it is on its way");
        }
    }

    #[test]
    fn what_leaves_after_its_lease_is_owed_once() {
        let mut pool = on_a_lease();
        let (in_time, late, answered) = (pool.taken(10), pool.taken(20), pool.taken(40));
        let after = at(3_000);
        pool.launch(&in_time, Launch::ToWire, &mut Now::at(at(1_000)));
        pool.launch(&in_time, Launch::ToWire, &mut Now::at(after));
        assert_eq!(pool.owes(after), Amounts::NOTHING);
        pool.launch(&late, Launch::ToWire, &mut Now::at(after));
        assert_eq!(pool.owes(after), amounts(20, 1));
        // Nobody said that it was launched, and its answer is here.
        pool.answered(answered, None, &mut Now::at(after));
        assert_eq!(pool.owes(after), amounts(60, 2));
        for held in [in_time, late, answered] {
            pool.release(held, &mut Now::at(after));
        }
        assert_eq!(pool.owes(after), amounts(60, 2));
    }

    /// Only tokens are limited, so they are what costs.
    #[test]
    fn what_a_request_costs_is_told_as_it_is_taken_comes_back_and_is_settled() {
        let mut pool = on_a_lease();
        let now = &mut Now::at(at(1_000));
        let (stays, leaves, beyond) = (pool.taken(10), pool.taken(20), pool.taken(40));
        assert_eq!(pool.dominant(at(1_000)), 70);
        pool.release(stays, now);
        assert_eq!(pool.dominant(at(1_000)), 60, "it never left");
        pool.launch(&leaves, Launch::ToWire, now);
        pool.release(leaves, now);
        assert_eq!(pool.dominant(at(1_000)), 60);
        pool.end(beyond, None, Some(&Charge::tokens(50)), now);
        assert_eq!(pool.dominant(at(1_000)), 70);
    }

    #[test]
    fn what_is_spent_without_a_lease_costs_once_it_is_owed() {
        let mut pool = on_a_lease();
        let late = pool.taken(10);
        let now = &mut Now::at(at(3_000));
        pool.go_alone(Some(Share::Whole), now);
        let [leaves, stays, ends] = [20, 40, 80].map(|tokens| pool.taken(tokens));
        assert_eq!(pool.dominant(at(3_000)), 10);
        for key in [late, leaves] {
            pool.launch(&key, Launch::ToWire, now);
        }
        assert_eq!(pool.dominant(at(3_000)), 30, "what was drawn costs once");
        pool.release(stays, now);
        assert_eq!(pool.dominant(at(3_000)), 30);
        // Nobody said that it left.
        pool.end(ends, None, Some(&Charge::tokens(90)), now);
        assert_eq!(pool.dominant(at(3_000)), 120);
        assert_eq!(pool.owes(at(3_000)).get(Unit::Tokens), 10 + 20 + 90);
    }
}
