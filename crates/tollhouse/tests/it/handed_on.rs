//! What is given back unused goes on to the first in line as it is, where he asks for the
//! same: nobody sees it.

use std::task::Poll;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollhouse::budget::Reserve;
use tollhouse::gate::{Launch, Now};
use tollhouse::{
    Accounting, Ask, Caller, Charge, Denial, Gate, Observation, Pass, PassFor, RateLimits,
    Reservation, Scope, TokenBudget, TokenBudgetBuilder, TpmBudgetLayer, Unit, Window,
};

use crate::support::counting::Polled;
use crate::support::random::{Random, schedules};

const SEC: Duration = Duration::from_secs(1);

/// A budget, and all who wait for it or hold of it, by number.
struct Life {
    budget: TokenBudget,
    /// Whether no two ask for the same, so that nothing goes on as it is: each asks for
    /// pictures of its own number, too, which nothing limits.
    apart: bool,
    waiting: Vec<(u64, Polled<Reserve>)>,
    held: Vec<(u64, Reservation)>,
}

/// What happens next; who leaves or ends is told by place.
#[derive(Clone, Copy, Debug)]
enum Step {
    Comes {
        tokens: u64,
        who: usize,
    },
    Leaves(usize),
    GivesBack(usize),
    Launches(usize),
    Settles(usize, u64),
    Holds,
    Learns(u64),
    Changes {
        slots: usize,
        tokens: u64,
        stagger: Duration,
    },
    Sleeps(u64),
}

impl Step {
    fn any(random: &mut Random) -> Step {
        let mut place = || random.within(0..6) as usize;
        let (one, other) = (place(), place());
        match random.within(0..32) {
            0..10 => Step::Comes {
                tokens: [100, 100, 100, 200][one % 4],
                who: other % 3,
            },
            10 => Step::Leaves(one),
            11..22 => Step::GivesBack(one),
            22..24 => Step::Launches(one),
            24..26 => Step::Settles(one, random.within(0..300)),
            26 => Step::Holds,
            27..29 => Step::Learns(random.within(0..600)),
            29 => Step::Changes {
                slots: one + 1,
                tokens: [600, 300][other % 2],
                stagger: SEC * [0, 0, 2][other % 3],
            },
            _ => Step::Sleeps(random.within(0..20)),
        }
    }
}

fn limits(tokens: u64, slots: usize, window: Window) -> TokenBudgetBuilder {
    TokenBudget::per_minute(tokens)
        .burst(200)
        .window(window)
        .accounting(Accounting::AsUsed)
        .max_concurrency(slots)
}

impl Life {
    fn new(window: Window, apart: bool) -> Self {
        Life {
            budget: limits(600, 3, window).build().expect("valid limits"),
            apart,
            waiting: Vec::new(),
            held: Vec::new(),
        }
    }

    fn step(&mut self, number: u64, step: Step, window: Window) {
        match step {
            Step::Comes { tokens, who } => {
                let caller = [Caller::default(), Caller::new("a"), Caller::new("b")];
                let charge = match self.apart {
                    true => Charge::tokens(tokens).and(Unit::Images, number),
                    false => Charge::tokens(tokens),
                };
                let ask = Ask::of(charge).caller(caller[who].clone());
                let waits = Polled::new(self.budget.reserve(ask));
                self.waiting.push((number, waits));
            }
            Step::Leaves(n) if n < self.waiting.len() => drop(self.waiting.remove(n)),
            Step::GivesBack(n) if n < self.held.len() => drop(self.held.remove(n)),
            Step::Launches(n) if n < self.held.len() => self.held[n].1.launched(),
            Step::Settles(n, used) if n < self.held.len() => self.held.remove(n).1.settle(used),
            Step::Holds => self.budget.hold(Instant::now() + SEC),
            Step::Learns(remaining) => self.budget.observe(&RateLimits {
                remaining_tokens: Some(remaining),
                ..RateLimits::default()
            }),
            Step::Changes {
                slots,
                tokens,
                stagger,
            } => {
                let changed = limits(tokens, slots, window).stagger(stagger);
                self.budget.set_limits(changed).expect("valid limits");
            }
            _ => {}
        }
        let held = &mut self.held;
        self.waiting.retain_mut(|(number, one)| match one.poll() {
            Poll::Ready(let_in) => {
                held.extend(let_in.map(|let_in| (*number, let_in)));
                false
            }
            Poll::Pending => true,
        });
    }

    /// All that can be seen of it.
    fn looks(&self) -> String {
        let held: Vec<_> = self.held.iter().map(|(number, _)| number).collect();
        let waiting = self.waiting.iter();
        let waiting: Vec<_> = waiting.map(|(n, one)| (n, one.woken())).collect();
        let eta = self.budget.eta(100);
        let snapshot = self.budget.snapshot();
        format!("{held:?} {waiting:?} {eta:?} {snapshot:?}")
    }
}

/// Of two budgets that live the same life, one hands nothing on as it is.
#[tokio::test(start_paused = true)]
async fn nobody_sees_whether_a_reservation_was_made_anew() {
    for seed in 0..schedules(1_500) {
        let mut random = Random::seeded(seed);
        let window = [Window::Off, Window::On][seed as usize % 2];
        let mut lives = [false, true].map(|apart| Life::new(window, apart));
        for number in 0..150 {
            let step = Step::any(&mut random);
            if let Step::Sleeps(seconds) = step {
                sleep(SEC * u32::try_from(seconds).expect("a few")).await;
            }
            sleep(Duration::from_millis(1)).await;
            let looks = lives.each_mut().map(|life| {
                life.step(number, step, window);
                life.looks()
            });
            assert_eq!(looks[0], looks[1], "{seed}, {number}: {step:?}");
        }
    }
}

/// The heir was let in last, so whoever follows keeps his distance from him.
#[tokio::test(start_paused = true)]
async fn who_was_let_in_last_is_spaced_from() {
    let limits = || limits(6_000, 2, Window::Off);
    let budget = limits().build().expect("valid limits");
    let [old, other] = [100, 100].map(|n| budget.try_reserve(n).expect("a free slot"));
    other.launched();
    let mut heir = Polled::new(budget.reserve(100));
    assert!(heir.poll().is_pending());
    sleep(100 * SEC).await;
    drop(old);
    let Poll::Ready(Ok(heir)) = heir.poll() else {
        panic!("what was given back is his")
    };
    other.settle(100);
    let spaced = limits().stagger(10 * SEC);
    budget.set_limits(spaced).expect("valid limits");
    assert!(budget.try_reserve(100).is_err(), "at the same instant");
    heir.launched();
}

/// It dates from when it was handed on, so a refusal is not taken for one of an older herd.
#[tokio::test(start_paused = true)]
async fn a_refusal_of_what_was_handed_on_slows_the_pace() {
    let refused = Observation {
        denial: Some(Denial {
            scope: Scope::Tokens,
            after: Some(SEC),
        }),
        ..Observation::default()
    };
    let budget = limits(6_000, 2, Window::Off).build().expect("valid limits");
    let gate = TpmBudgetLayer::new(budget.clone(), |cost: &u64| *cost)
        .observe(|answer: &Observation| *answer);
    let old = budget.try_reserve(100).expect("a free slot");
    let mut first = Gate::<u64, Observation>::pass(&gate, &100);
    first.admitted().await.expect("a free slot");
    first.launched(Launch::ToWire, &mut Now::unread());
    sleep(SEC).await;
    first.answered(&refused, &mut Now::unread());
    drop(first);
    sleep(30 * SEC).await;
    let _blocks = budget.try_reserve(7).expect("a free slot");
    let mut second = Box::pin(Gate::<u64, Observation>::pass(&gate, &100));
    {
        let mut waits = Polled::new(second.admitted());
        assert!(waits.poll().is_pending());
        drop(old);
        assert!(waits.poll().is_ready());
    }
    second.launched(Launch::ToWire, &mut Now::unread());
    sleep(SEC).await;
    second.answered(&refused, &mut Now::unread());
    assert_eq!(budget.snapshot().pace_percent, 70);
}
