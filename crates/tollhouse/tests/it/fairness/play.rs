//! Plays a schedule against a budget in virtual time, and asks the oracle about every
//! step of it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tollhouse::budget::Reserve;
use tollhouse::{
    Accounting, Arrival, Ask, Caller, Deadline, Refused, Reservation, TokenBudget,
    TokenBudgetBuilder, Window,
};

use super::oracle::{Oracle, Prices};
use crate::ledger_proof::schedule::{Event, Fate, Happened, Plan};
use crate::support::agenda::Agenda;
use crate::support::bell::Bell;

/// One request's life, and whose it is; all times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) plan: Plan,
    pub(super) caller: usize,
    /// So long after it asks it is of no use any more.
    pub(super) patience: Option<u64>,
    /// It was here before, then.
    pub(super) since: Option<u64>,
}

/// What a budget is told from an instant on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) tokens: u64,
    pub(super) requests: Option<u64>,
    pub(super) slots: Option<usize>,
    /// In milliseconds.
    pub(super) interval: u64,
    pub(super) headroom: f64,
    pub(super) window: Window,
    pub(super) accounting: Accounting,
}

impl Limits {
    pub(super) fn builder(&self) -> TokenBudgetBuilder {
        let mut builder = TokenBudget::per_minute(self.tokens)
            .headroom(self.headroom)
            .window(self.window)
            .accounting(self.accounting)
            .stagger(Duration::from_millis(self.interval));
        if let Some(requests) = self.requests {
            builder = builder.requests_per_minute(requests);
        }
        if let Some(slots) = self.slots {
            builder = builder.max_concurrency(slots);
        }
        builder
    }

    fn prices(&self) -> Prices {
        Prices {
            tokens_per_minute: self.tokens,
            requests_per_minute: self.requests,
            interval: self.interval,
        }
    }

    fn stands(&self, plan: &Plan) -> u64 {
        match self.accounting {
            Accounting::AsUsed => plan.uses,
            _ => plan.uses.max(plan.cost),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    Weight(usize, u32),
    Limits(Limits),
}

/// A whole schedule.
#[derive(Clone, Debug)]
pub(super) struct Schedule {
    pub(super) weights: Vec<u32>,
    pub(super) limits: Limits,
    pub(super) calls: Vec<Call>,
    /// At these instants.
    pub(super) changes: Vec<(u64, Change)>,
}

/// What is due at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Change,
    Ask,
    LeaveQueue,
    Launch,
    Leave,
    Settle,
}

pub(super) struct Play<'a> {
    schedule: &'a Schedule,
    pub(super) budget: TokenBudget,
    oracle: Oracle,
    limits: Limits,
    weights: Vec<u32>,
    due: Agenda<Step>,
    waiting: Vec<Option<Reserve>>,
    held: Vec<Option<Reservation>>,
    launched: Vec<bool>,
    bell: Arc<Bell>,
    pub(super) events: Vec<Event>,
    /// How often it was looked whether somebody waits in vain who does wait.
    pub(super) looks: u64,
    /// How many were refused.
    pub(super) refused: usize,
}

impl<'a> Play<'a> {
    pub(super) fn new(schedule: &'a Schedule) -> Self {
        let asks = schedule.calls.iter().enumerate();
        let asks = asks.map(|(id, call)| (call.plan.asks, id, Step::Ask));
        let changes = schedule.changes.iter().enumerate();
        let changes = changes.map(|(n, change)| (change.0, n, Step::Change));
        let none = || schedule.calls.iter();
        Play {
            budget: schedule.limits.builder().build().expect("valid"),
            oracle: Oracle::new(schedule.limits.prices(), &schedule.weights),
            limits: schedule.limits,
            weights: schedule.weights.clone(),
            due: Agenda::new(asks.chain(changes)),
            waiting: none().map(|_| None).collect(),
            held: none().map(|_| None).collect(),
            launched: none().map(|_| false).collect(),
            bell: Arc::default(),
            events: Vec::new(),
            looks: 0,
            refused: 0,
            schedule,
        }
    }

    /// Plays it to the end.
    pub(super) async fn run(&mut self) {
        std::future::poll_fn(|cx| self.poll(cx)).await;
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.answer_to(cx.waker());
        loop {
            // After every step, whoever was admitted by it takes note first.
            if let Some(id) = self.bell.next() {
                self.poll_waiting(id, self.due.now());
                continue;
            }
            self.assert_nobody_waits_in_vain();
            match ready!(self.due.poll_next(cx)) {
                Some((id, step)) => self.step(id, step, self.due.now()),
                None if self.waiting.iter().any(Option::is_some) => return Poll::Pending,
                None => return Poll::Ready(()),
            }
        }
    }

    fn step(&mut self, id: usize, step: Step, now: u64) {
        match step {
            Step::Change => self.change(self.schedule.changes[id].1),
            Step::Ask => self.ask(id, now),
            Step::LeaveQueue => {
                if self.waiting[id].is_some() {
                    self.oracle.leave(id);
                    self.waiting[id] = None;
                }
            }
            Step::Launch => self.launch(id, now),
            Step::Leave => {
                let what = match self.launched[id] {
                    true => Happened::Abandoned,
                    false => Happened::Refunded,
                };
                let held = self.held[id].take().expect("held until now");
                let cost = held.cost();
                let stands = self.launched[id].then_some(cost);
                // By the time that anybody is told, it is over.
                self.oracle.land(id, cost, stands);
                drop(held);
                self.note(id, what, now);
            }
            Step::Settle => {
                let held = self.held[id].take().expect("held until now");
                let plan = &self.schedule.calls[id].plan;
                let stands = Some(self.limits.stands(plan));
                self.oracle.land(id, plan.cost, stands);
                held.settle(plan.uses);
                self.note(id, Happened::Settled, now);
            }
        }
    }

    fn change(&mut self, change: Change) {
        match change {
            Change::Weight(caller, weight) => {
                self.weights[caller] = weight;
                self.oracle.weigh(caller, weight);
                self.budget.set_caller(&self.caller(caller));
            }
            Change::Limits(limits) => {
                self.limits = limits;
                self.oracle.set_prices(limits.prices());
                self.budget.set_limits(limits.builder()).expect("valid");
            }
        }
    }

    fn caller(&self, caller: usize) -> Caller {
        Caller::new(format!("{caller}")).weight(self.weights[caller])
    }

    fn ask(&mut self, id: usize, now: u64) {
        let Call {
            plan,
            caller,
            patience,
            since,
        } = self.schedule.calls[id];
        let mut ask = Ask::of(plan.cost).caller(self.caller(caller));
        if let Some(patience) = patience {
            ask = ask.deadline(Deadline::within(Duration::from_millis(patience)));
        }
        if let Some(since) = since {
            ask = ask.arrived(Arrival::at(self.due.at(since)));
        }
        if let Fate::LeavesQueue(after) = plan.fate {
            self.due.push((now + after, id, Step::LeaveQueue));
        }
        let mut reserve = self.budget.reserve(ask);
        let waker = self.bell.waker(id);
        let was_empty = self.oracle.is_empty();
        let mut join = || {
            self.oracle
                .join(id, caller, plan.cost, since.unwrap_or(now))
        };
        match Pin::new(&mut reserve).poll(&mut Context::from_waker(&waker)) {
            Poll::Pending => {
                join();
                self.waiting[id] = Some(reserve);
            }
            Poll::Ready(Ok(held)) if was_empty => self.admitted(id, held, now),
            Poll::Ready(Ok(held)) => {
                join();
                self.let_in(id, held, now);
            }
            Poll::Ready(Err(refused)) => self.refused(id, &refused, now),
        }
    }

    fn poll_waiting(&mut self, id: usize, now: u64) {
        let Some(reserve) = &mut self.waiting[id] else {
            return; // A late ring for one that left.
        };
        let waker = self.bell.waker(id);
        let Poll::Ready(result) = Pin::new(reserve).poll(&mut Context::from_waker(&waker)) else {
            return;
        };
        self.waiting[id] = None;
        match result {
            Ok(held) => self.let_in(id, held, now),
            Err(refused) => {
                self.oracle.leave(id);
                self.refused(id, &refused, now);
            }
        }
    }

    fn refused(&mut self, id: usize, refused: &Refused, now: u64) {
        let Call { plan, patience, .. } = self.schedule.calls[id];
        match refused {
            Refused::TooLarge { .. } => assert!(plan.cost > self.budget.snapshot().capacity),
            Refused::TooLate { expected_wait } => {
                let patience = patience.expect("it has a deadline");
                let is_over = now >= plan.asks + patience;
                let wait = now + expected_wait.as_millis() as u64;
                assert!(is_over || wait >= plan.asks + patience, "{id} at {now}");
            }
            other => panic!("{id} at {now}: {other}"),
        }
        self.refused += 1;
    }

    /// One that stood in line has been let in.
    fn let_in(&mut self, id: usize, held: Reservation, now: u64) {
        let turn = self.oracle.launch(id);
        turn.unwrap_or_else(|fault| panic!("at {now}: {fault}"));
        self.admitted(id, held, now);
    }

    fn admitted(&mut self, id: usize, held: Reservation, now: u64) {
        let Call { plan, patience, .. } = self.schedule.calls[id];
        assert!(patience.is_none_or(|patience| now <= plan.asks + patience));
        self.held[id] = Some(held);
        self.note(id, Happened::Reserved, now);
        let next = match plan.fate {
            Fate::LeavesUnsent(after) => (now + after, id, Step::Leave),
            _ => (now + plan.dawdles, id, Step::Launch),
        };
        self.due.push(next);
    }

    fn launch(&mut self, id: usize, now: u64) {
        let Some(held) = &self.held[id] else {
            return; // Its caller left.
        };
        held.launched();
        self.launched[id] = true;
        self.note(id, Happened::Launched, now);
        let plan = self.schedule.calls[id].plan;
        let next = match plan.fate {
            Fate::LeavesSent(after) => (now + after, id, Step::Leave),
            _ => {
                let takes = plan.travels + plan.works + plan.returns;
                (now + takes, id, Step::Settle)
            }
        };
        self.due.push(next);
    }

    fn note(&mut self, id: usize, what: Happened, at: u64) {
        self.events.push(Event { at, id, what });
    }

    /// Whoever waits holds nothing; and the head, or who may pass it, could not be let
    /// in now. A window does not show in the levels, nor how requests are spread over a
    /// second, nor a turn that was given and is not taken: then only the first is told.
    fn assert_nobody_waits_in_vain(&mut self) {
        let now = self.budget.snapshot();
        let waiting = self.waiting.iter().flatten().count();
        let held = || self.held.iter().flatten();
        assert_eq!((now.waiting, now.in_flight), (waiting, held().count()));
        assert_eq!(now.outstanding, held().map(Reservation::cost).sum::<u64>());
        let is_full = now
            .max_concurrency
            .is_some_and(|most| now.in_flight >= most);
        let is_paced = now.windowed || now.requests_limit.is_some() || self.limits.interval > 0;
        if is_full || is_paced || self.oracle.is_close_call() {
            return;
        }
        let next = [self.oracle.head(), self.oracle.passer()];
        for (id, tokens) in next.into_iter().flatten() {
            self.looks += 1;
            let fits = now.level >= i64::try_from(tokens).expect("not so many");
            assert!(!fits, "{id} waits in vain: {now:?}");
        }
    }
}
