//! Random schedules, and a small executor that plays them against a budget in
//! virtual time.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tollhouse::budget::Reserve;
use tollhouse::{Charge, Reservation, TokenBudget};

use crate::support::agenda::Agenda;
use crate::support::bell::Bell;
use crate::support::random::Random;

/// One request's life; all times in milliseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    /// When it asks for its reservation.
    pub(crate) asks: u64,
    pub(crate) cost: u64,
    /// From its reservation to its launch.
    pub(crate) dawdles: u64,
    /// From its launch to the provider.
    pub(crate) travels: u64,
    /// From there to the end of the provider's work.
    pub(crate) works: u64,
    /// From there back to us.
    pub(crate) returns: u64,
    /// What it really uses.
    pub(crate) uses: u64,
    /// Both by unit, where there is more than tokens to it.
    pub(crate) units: Option<(Charge, Charge)>,
    pub(crate) fate: Fate,
}

impl Plan {
    /// What it reserves, and what it uses.
    pub(crate) fn charges(&self) -> (Charge, Charge) {
        self.units.unwrap_or((self.cost.into(), self.uses.into()))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// Is answered, and settled.
    Settled,
    /// Its caller leaves the queue after so long.
    LeavesQueue(u64),
    /// Its caller leaves between reservation and launch.
    LeavesUnsent(u64),
    /// Its caller leaves so long after the launch.
    LeavesSent(u64),
}

/// What is drawn from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape {
    pub(crate) limit: u64,
    pub(crate) largest: u64,
    /// The share of the limit that is asked for, roughly, in percent.
    pub(crate) load: u64,
    /// Uses are below the cost, equal to it, or a few above.
    pub(crate) uses: Uses,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Uses {
    Exact,
    Less,
    Debt,
}

/// Draws `count` requests.
pub(crate) fn draw(random: &mut Random, shape: Shape, count: usize) -> Vec<Plan> {
    let mean_cost = shape.largest / 6;
    let mean_gap = mean_cost * 60_000 * 100 / (shape.limit * shape.load).max(1);
    let mut now = 0;
    (0..count)
        .map(|_| {
            // A third comes together with the one before, and now and then
            // everybody is away.
            now += match random.within(0..24) {
                0..8 => 0,
                8 => random.within(0..60_000),
                _ => random.within(0..3 * mean_gap + 2),
            };
            request(random, shape, now)
        })
        .collect()
}

fn request(random: &mut Random, shape: Shape, asks: u64) -> Plan {
    let largest = if random.within(0..8) == 0 {
        shape.largest
    } else {
        shape.largest.div_ceil(4)
    };
    let cost = random.within(1..largest + 1);
    let longest = pick(random, &[1, 200, 5_000, 120_000]);
    Plan {
        asks,
        cost,
        dawdles: up_to(random, 30_000),
        travels: up_to(random, 1_900),
        works: random.within(0..longest),
        returns: up_to(random, 1_900),
        uses: match shape.uses {
            Uses::Debt if random.within(0..6) == 0 => cost + random.within(0..2 * cost + 1),
            Uses::Exact => cost,
            _ => random.within(0..cost + 1),
        },
        units: None,
        fate: match random.within(0..12) {
            0 => Fate::LeavesQueue(up_to(random, 60_000)),
            1 => Fate::LeavesUnsent(up_to(random, 30_000)),
            2 => Fate::LeavesSent(up_to(random, 4_000)),
            _ => Fate::Settled,
        },
    }
}

/// One of `choices`.
pub(crate) fn pick<T: Copy>(random: &mut Random, choices: &[T]) -> T {
    choices[random.within(0..choices.len() as u64) as usize]
}

/// Half of the time none, or very little.
fn up_to(random: &mut Random, most: u64) -> u64 {
    match random.within(0..4) {
        0 => 0,
        1 => random.within(0..most / 20 + 1),
        _ => random.within(0..most + 1),
    }
}

/// What happened, in the order in which it did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) at: u64,
    pub(crate) id: usize,
    pub(crate) what: Happened,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Happened {
    Asked,
    LeftQueue,
    Reserved,
    /// Dropped before the launch.
    Refunded,
    Launched,
    Settled,
    /// Dropped after the launch.
    Abandoned,
}

/// What reaches the provider, or happens there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Reached {
    pub(crate) at: u64,
    /// The event of that instant without which it would not have come.
    cause: Option<usize>,
    pub(crate) id: usize,
    /// The end of a request's work, and not the request.
    pub(crate) is_done: bool,
}

/// All that reaches the provider, in order. Of one instant, what came of something else comes after
/// it: the end of one's work before whoever was launched on what that gave back.
pub(crate) fn reached(events: &[Event], plan: impl Fn(usize) -> Plan) -> Vec<Reached> {
    let mut reached = Vec::new();
    for (number, event) in events.iter().enumerate() {
        if event.what != Happened::Launched {
            continue;
        }
        let (id, plan) = (event.id, plan(event.id));
        let request = Reached {
            at: event.at + plan.travels,
            cause: (plan.travels == 0).then_some(number),
            id,
            is_done: false,
        };
        reached.push(request);
        if matches!(plan.fate, Fate::Settled | Fate::LeavesQueue(_)) {
            reached.push(Reached {
                at: request.at + plan.works,
                cause: request.cause.filter(|_| plan.works == 0),
                is_done: true,
                ..request
            });
        }
    }
    reached.sort_unstable();
    reached
}

/// What is due at some instant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    Ask,
    LeaveQueue,
    Launch,
    Leave,
    Settle,
}

/// One played schedule.
struct Play<'a> {
    budget: &'a TokenBudget,
    plans: &'a [Plan],
    due: Agenda<Step>,
    waiting: Vec<Option<Reserve>>,
    held: Vec<Option<Reservation>>,
    bell: Arc<Bell>,
    events: Vec<Event>,
}

/// Plays `plans` to the end and returns what happened.
pub(crate) async fn play(budget: &TokenBudget, plans: &[Plan]) -> Vec<Event> {
    let asks = plans.iter().enumerate();
    let mut play = Play {
        budget,
        plans,
        due: Agenda::new(asks.map(|(id, plan)| (plan.asks, id, Step::Ask))),
        waiting: plans.iter().map(|_| None).collect(),
        held: plans.iter().map(|_| None).collect(),
        bell: Arc::default(),
        events: Vec::new(),
    };
    std::future::poll_fn(|cx| play.poll(cx)).await;
    play.events
}

impl Play<'_> {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.bell.answer_to(cx.waker());
        loop {
            // After every step, whoever was admitted by it takes note first.
            if let Some(id) = self.bell.next() {
                self.poll_waiting(id, self.due.now());
                continue;
            }
            match ready!(self.due.poll_next(cx)) {
                Some((id, step)) => self.step(id, step, self.due.now()),
                None if self.waiting.iter().any(Option::is_some) => return Poll::Pending,
                None => return Poll::Ready(()),
            }
        }
    }

    fn step(&mut self, id: usize, step: Step, now: u64) {
        let plan = self.plans[id];
        match step {
            Step::Ask => {
                self.note(id, Happened::Asked, now);
                self.waiting[id] = Some(self.budget.reserve(plan.charges().0));
                if let Fate::LeavesQueue(after) = plan.fate {
                    self.due.push((now + after, id, Step::LeaveQueue));
                }
                self.poll_waiting(id, now);
            }
            Step::LeaveQueue => {
                if self.waiting[id].take().is_some() {
                    self.note(id, Happened::LeftQueue, now);
                }
            }
            Step::Launch => self.launch(id, now),
            Step::Leave => {
                let launched = self.launched(id);
                drop(self.held[id].take().expect("held until now"));
                let what = if launched {
                    Happened::Abandoned
                } else {
                    Happened::Refunded
                };
                self.note(id, what, now);
            }
            Step::Settle => {
                let held = self.held[id].take().expect("held until now");
                held.settle(plan.charges().1);
                self.note(id, Happened::Settled, now);
            }
        }
    }

    fn launch(&mut self, id: usize, now: u64) {
        let Some(held) = &self.held[id] else {
            return; // Its caller left.
        };
        held.launched();
        self.note(id, Happened::Launched, now);
        let plan = self.plans[id];
        let next = match plan.fate {
            Fate::LeavesSent(after) => (now + after, id, Step::Leave),
            _ => (
                now + plan.travels + plan.works + plan.returns,
                id,
                Step::Settle,
            ),
        };
        self.due.push(next);
    }

    fn launched(&self, id: usize) -> bool {
        let launch = |event: &Event| event.id == id && event.what == Happened::Launched;
        self.events.iter().any(launch)
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
        self.held[id] = Some(result.expect("nothing here is refused"));
        self.note(id, Happened::Reserved, now);
        let plan = self.plans[id];
        let next = match plan.fate {
            Fate::LeavesUnsent(after) => (now + after, id, Step::Leave),
            _ => (now + plan.dawdles, id, Step::Launch),
        };
        self.due.push(next);
    }

    fn note(&mut self, id: usize, what: Happened, at: u64) {
        self.events.push(Event { at, id, what });
    }
}
