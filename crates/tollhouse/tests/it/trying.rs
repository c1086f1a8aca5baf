//! Taking without waiting: as waiting does it whose first poll lets it in.

use std::task::Poll;
use std::time::Duration;

use futures_util::FutureExt;
use tokio::time::{Instant, sleep};
use tollhouse::budget::Reserve;
use tollhouse::{
    Accounting, Arrival, Ask, Caller, Reservation, TokenBudget, TokenBudgetBuilder, Window,
};

use crate::support::counting::Polled;
use crate::support::random::{Random, schedules};

const SEC: Duration = Duration::from_secs(1);

/// How one comes who does not want to wait.
#[derive(Clone, Copy, Debug)]
enum Comes {
    Tries,
    LeavesAfterOnePoll,
}

/// A budget, and all who wait for it or hold of it.
struct Life {
    budget: TokenBudget,
    comes: Comes,
    waiting: Vec<Polled<Reserve>>,
    held: Vec<Reservation>,
    /// How often one did not wait though others did.
    passed: usize,
}

/// What happens next, by number.
#[derive(Clone, Debug)]
enum Step {
    Sleeps(u64),
    Waits(Ask),
    Leaves(usize),
    Settles(usize, u64),
    Comes(Ask),
}

impl Step {
    fn any(random: &mut Random, began: Instant) -> Step {
        match random.within(0..6) {
            0 => Step::Sleeps(random.within(0..5)),
            1 | 2 => Step::Waits(ask(random, began)),
            3 => Step::Leaves(random.within(0..8) as usize),
            4 => Step::Settles(random.within(0..8) as usize, random.within(0..200)),
            _ => Step::Comes(ask(random, began)),
        }
    }
}

/// No two have come at the same instant: who goes first of those is not said.
fn ask(random: &mut Random, began: Instant) -> Ask {
    let n = random.within(0..3) as usize;
    let caller = Caller::new(["a", "b", "c"][n]).weight([1, 2, 7][n]);
    let ask = Ask::of(random.within(1..200)).caller(caller);
    match random.within(0..4) {
        0 => ask.arrived(Arrival::at(began - Instant::now().duration_since(began))),
        _ => ask,
    }
}

impl Life {
    fn new(limits: TokenBudgetBuilder, comes: Comes) -> Self {
        Life {
            budget: limits.build().unwrap(),
            comes,
            waiting: Vec::new(),
            held: Vec::new(),
            passed: 0,
        }
    }

    /// Says whether one who came did not have to wait.
    fn step(&mut self, step: &Step) -> bool {
        let is_let_in = match step {
            Step::Waits(ask) => {
                let waits = self.budget.reserve(ask.clone());
                self.waiting.push(Polled::new(waits));
                false
            }
            Step::Leaves(n) if *n < self.waiting.len() => {
                drop(self.waiting.swap_remove(*n));
                false
            }
            Step::Settles(n, used) if *n < self.held.len() => {
                let over = self.held.swap_remove(*n);
                over.launched();
                over.settle(*used);
                false
            }
            Step::Comes(ask) => self.come(ask.clone()),
            Step::Sleeps(_) | Step::Leaves(_) | Step::Settles(..) => false,
        };
        self.poll_all();
        is_let_in
    }

    fn come(&mut self, ask: Ask) -> bool {
        let is_behind = !self.waiting.is_empty();
        let first_poll = || {
            let first_poll = self.budget.reserve(ask.clone()).now_or_never();
            first_poll.and_then(Result::ok)
        };
        let let_in = match self.comes {
            Comes::Tries => self.budget.try_reserve(ask.clone()).ok(),
            Comes::LeavesAfterOnePoll => first_poll(),
        };
        if let_in.is_none() {
            // Who waits begins where the virtual time is, and stays there when he leaves.
            assert!(first_poll().is_none());
        }
        let is_let_in = let_in.is_some();
        self.passed += usize::from(is_behind && is_let_in);
        self.held.extend(let_in);
        is_let_in
    }

    fn poll_all(&mut self) {
        let held = &mut self.held;
        self.waiting.retain_mut(|one| match one.poll() {
            Poll::Ready(let_in) => {
                held.extend(let_in);
                false
            }
            Poll::Pending => true,
        });
    }
}

/// Plays the same to several; says how often one passed.
async fn play(seed: u64, lives: &mut [Life]) -> usize {
    let mut random = Random::seeded(seed);
    let began = Instant::now();
    for n in 0..150 {
        let step = Step::any(&mut random, began);
        if let Step::Sleeps(seconds) = step {
            sleep(SEC * u32::try_from(seconds).unwrap()).await;
        }
        sleep(Duration::from_millis(1)).await;
        let told = lives.iter_mut().map(|life| {
            let is_let_in = life.step(&step);
            (is_let_in, life.budget.snapshot())
        });
        let told: Vec<_> = told.collect();
        for (one, other) in told.iter().zip(&told[1..]) {
            assert_eq!(one, other, "{seed}, {n}: {step:?}");
        }
    }
    lives[0].passed
}

fn limits() -> TokenBudgetBuilder {
    TokenBudget::per_minute(600)
        .window(Window::Off)
        .accounting(Accounting::AsUsed)
        .max_concurrency(4)
}

/// Of two budgets that live the same life, one is tried and one is waited for.
#[tokio::test(start_paused = true)]
async fn to_try_is_to_wait_for_one_poll() {
    let mut passed = 0;
    for seed in 0..schedules(600) {
        let mut lives = [Comes::Tries, Comes::LeavesAfterOnePoll].map(|it| Life::new(limits(), it));
        passed += play(seed, &mut lives).await;
    }
    assert!(passed > 40, "{passed}");
}
