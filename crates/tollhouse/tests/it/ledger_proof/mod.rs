//! Whether the ledger keeps its promise: thousands of random schedules in
//! virtual time against an independent model of the provider, and against an
//! independent reference for the instant at which each request passes.

mod changing;
mod layers;
mod many;
mod naive;
pub(crate) mod provider;
mod reference;
pub(crate) mod schedule;
mod told;

use std::panic::AssertUnwindSafe;

use crate::support::random::{Random, schedules};
use provider::{Arrival, Counting, Provider, What};
use reference::Rules;
use schedule::{Event, Happened, Plan, Shape, Uses, pick};
use tollhouse::{Accounting, TokenBudget, Window};

/// A budget, the load on it, and the account that it mirrors.
#[derive(Clone, Copy, Debug)]
struct Case {
    limit: u64,
    requests: Option<u64>,
    headroom: f64,
    /// The burst as a share of the limit.
    burst: Option<f64>,
    window: Window,
    accounting: Accounting,
    shape: Shape,
}

impl Case {
    fn draw(random: &mut Random, window: Window, uses: Uses) -> Case {
        let limit = pick(random, &[600, 6_000, 30_000, 125_000]);
        let headroom = pick(random, &[0.0, 0.15]);
        let burst = pick(random, &[None, None, Some(0.2), Some(0.5)]);
        let capacity = limit as f64 * f64::min(1.0 - headroom, burst.unwrap_or(1.0));
        let share = pick(random, &[0.05, 0.3, 1.0]);
        Case {
            limit,
            headroom,
            burst,
            window,
            accounting: match uses {
                Uses::Less => Accounting::AsUsed,
                Uses::Exact => Accounting::AsRequested,
                Uses::Debt => pick(random, &[Accounting::AsUsed, Accounting::AsRequested]),
            },
            requests: None,
            shape: Shape {
                limit,
                largest: (capacity * share) as u64,
                load: pick(random, &[60, 150, 400]),
                uses,
            },
        }
    }

    fn budget(&self) -> TokenBudget {
        let mut builder = TokenBudget::per_minute(self.limit)
            .headroom(self.headroom)
            .window(self.window)
            .accounting(self.accounting);
        if let Some(requests) = self.requests {
            builder = builder.requests_per_minute(requests);
        }
        if let Some(burst) = self.burst {
            builder = builder.burst((self.limit as f64 * burst) as u64);
        }
        builder.build().expect("a valid budget")
    }

    fn rules(&self, budget: &TokenBudget) -> Rules {
        Rules {
            limit: self.limit,
            rate: (self.limit as f64 * (1.0 - self.headroom)).round() as u64,
            capacity: budget.snapshot().capacity,
            windowed: budget.snapshot().windowed,
            refunds: self.accounting == Accounting::AsUsed,
        }
    }

    /// What reaches the provider, if it charges as the budget believes.
    fn arrivals(&self, events: &[Event], plans: &[Plan]) -> Vec<Arrival> {
        let reached = schedule::reached(events, |id| plans[id]).into_iter();
        let arrivals = reached.map(|it| {
            let plan = plans[it.id];
            let uses = match self.accounting {
                Accounting::AsUsed => plan.uses,
                _ => plan.uses.max(plan.cost),
            };
            Arrival {
                at: it.at,
                id: it.id,
                what: match it.is_done {
                    true => What::Done(uses),
                    false => What::Request(plan.cost),
                },
            }
        });
        arrivals.collect()
    }
}

/// A rejection that nobody could have prevented: the request was on its way, or
/// as good as, when the provider charged another one more than was reserved
/// for it.
fn overtaken_by_debt(rejected: &Arrival, events: &[Event], plans: &[Plan]) -> bool {
    let at = |id: usize, what: Happened| {
        let found = events
            .iter()
            .find(|event| event.id == id && event.what == what);
        found.map(|event| event.at)
    };
    let reserved = at(rejected.id, Happened::Reserved).expect("it was sent");
    (0..plans.len()).any(|id| {
        let plan = plans[id];
        plan.uses > plan.cost
            && at(id, Happened::Settled)
                .is_some_and(|settled| reserved <= settled && settled - plan.returns <= rejected.at)
    })
}

pub(crate) const ALL: [Counting; 5] = [
    Counting::Continuous,
    Counting::Sliding,
    Counting::Fixed { phase: 0 },
    Counting::Fixed { phase: 17_003 },
    Counting::Fixed { phase: 42_500 },
];

/// Plays one schedule for each seed, as many as [a run](schedules) has time for, and names
/// the seed that fails.
pub(crate) fn for_seeds(seeds: u64, mut each: impl AsyncFnMut(Random)) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    for seed in 0..schedules(seeds) {
        let played = AssertUnwindSafe(|| runtime.block_on(each(Random::seeded(seed))));
        if let Err(panic) = std::panic::catch_unwind(played) {
            eprintln!("the schedule of seed {seed} failed");
            std::panic::resume_unwind(panic);
        }
    }
}

/// Plays a schedule of `count` requests on a budget, and returns what each of
/// the providers rejected that could have been prevented.
async fn rejections(
    mut random: Random,
    case: Case,
    count: usize,
    providers: &[Counting],
) -> Vec<(Counting, Vec<Arrival>)> {
    let plans = schedule::draw(&mut random, case.shape, count);
    let events = schedule::play(&case.budget(), &plans).await;
    let arrivals = case.arrivals(&events, &plans);
    let by = |&counting: &Counting| {
        let provider = Provider::new(counting, case.limit, case.requests);
        let mut rejected = provider.rejections(arrivals.clone());
        rejected.retain(|arrival| !overtaken_by_debt(arrival, &events, &plans));
        (counting, rejected)
    };
    providers.iter().map(by).collect()
}

/// Plays schedules of `count` requests and expects no rejection.
fn prove(seeds: u64, count: usize, providers: &[Counting], draw: impl Fn(&mut Random) -> Case) {
    for_seeds(seeds, async |mut random| {
        let case = draw(&mut random);
        for (counting, rejected) in rejections(random, case, count, providers).await {
            assert!(rejected.is_empty(), "{counting:?}, {case:?}: {rejected:?}");
        }
    });
}

#[test]
fn no_provider_rejects_what_the_ledger_admits() {
    prove(300, 60, &ALL, |random| {
        Case::draw(random, Window::On, Uses::Exact)
    });
}

#[test]
fn no_provider_that_refunds_rejects_what_the_ledger_admits() {
    prove(300, 60, &ALL, |random| {
        Case::draw(random, Window::On, Uses::Less)
    });
}

#[test]
fn debt_is_waited_off_before_anything_else_is_sent() {
    prove(250, 60, &ALL, |random| {
        Case::draw(random, Window::On, Uses::Debt)
    });
}

#[test]
fn without_its_window_the_ledger_still_suits_a_continuous_refill() {
    prove(250, 60, &[Counting::Continuous], |random| Case {
        accounting: Accounting::AsRequested,
        ..Case::draw(random, Window::Off, Uses::Debt)
    });
}

#[test]
fn without_its_window_the_ledger_still_suits_a_continuous_refill_that_refunds() {
    prove(300, 60, &[Counting::Continuous], |random| {
        Case::draw(random, Window::Off, Uses::Less)
    });
}

/// Requests that are so small that only their number counts.
fn by_number(random: &mut Random, window: Window, fewest: u64) -> Case {
    let requests = pick(random, &[fewest, fewest + 1, 10, 60, 63, 500, 3_000]);
    Case {
        limit: 1_000_000,
        requests: Some(requests.max(fewest)),
        burst: None,
        shape: Shape {
            limit: requests.max(fewest) * 50,
            largest: 300,
            load: 200,
            uses: Uses::Exact,
        },
        ..Case::draw(random, window, Uses::Exact)
    }
}

#[test]
fn no_provider_rejects_for_the_number_of_requests() {
    prove(150, 60, &ALL, |random| by_number(random, Window::On, 1));
}

#[test]
fn without_its_window_the_number_of_requests_still_suits_a_continuous_refill() {
    prove(150, 60, &[Counting::Continuous], |random| {
        by_number(random, Window::Off, 1)
    });
}

/// Long schedules under a load that never lets up, as in the design's table.
#[test]
fn long_schedules_are_not_rejected_either() {
    prove(6, 400, &ALL, |random| Case {
        limit: 30_000,
        burst: None,
        shape: Shape {
            limit: 30_000,
            largest: 6_000,
            load: 150,
            uses: Uses::Exact,
        },
        ..Case::draw(random, Window::On, Uses::Exact)
    });
}

/// The model would notice: it rejects what is sent without a budget, what a
/// bucket admits that does not mind its transit, and what a ledger admits
/// whose window is off.
#[test]
fn the_model_rejects_what_is_admitted_naively() {
    let shape = Shape {
        limit: 30_000,
        largest: 6_000,
        load: 150,
        uses: Uses::Exact,
    };
    let mut rejected = [0; 4];
    for_seeds(90, async |mut random| {
        let plans = schedule::draw(&mut random, shape, 200);
        let continuous = |arrivals| {
            Provider::new(Counting::Continuous, 30_000, None)
                .rejections(arrivals)
                .len()
        };
        rejected[0] += continuous(naive::sent_at_once(&plans));
        rejected[1] += continuous(naive::through_a_bucket(&plans, 30_000));
        let case = Case {
            limit: 30_000,
            headroom: 0.0,
            burst: None,
            shape,
            ..Case::draw(&mut random, Window::Off, Uses::Exact)
        };
        let providers = [Counting::Sliding, Counting::Fixed { phase: 17_003 }];
        let by = rejections(random, case, 200, &providers).await;
        rejected[2] += by[0].1.len();
        rejected[3] += by[1].1.len();
    });
    assert!(
        rejected.iter().all(|rejected| *rejected > 5),
        "{rejected:?}"
    );
}

#[test]
fn the_head_passes_at_the_first_instant_that_the_rules_allow() {
    for_seeds(150, async |mut random| {
        let window = pick(&mut random, &[Window::On, Window::Off]);
        let uses = pick(&mut random, &[Uses::Exact, Uses::Less, Uses::Debt]);
        let case = Case::draw(&mut random, window, uses);
        let plans = schedule::draw(&mut random, case.shape, 30);
        let budget = case.budget();
        let rules = case.rules(&budget);
        let events = schedule::play(&budget, &plans).await;
        if let Err(fault) = reference::check(&rules, &events, &plans) {
            panic!("{fault}; {case:?}");
        }
    });
}

#[test]
fn after_every_schedule_the_budget_is_as_it_was() {
    for_seeds(100, async |mut random| {
        let case = Case::draw(&mut random, Window::On, Uses::Less);
        let plans = schedule::draw(&mut random, case.shape, 40);
        let budget = case.budget();
        let before = budget.snapshot();
        schedule::play(&budget, &plans).await;
        tokio::time::advance(std::time::Duration::from_secs(200)).await;
        assert_eq!(budget.snapshot(), before, "{case:?}");
    });
}
