//! Any number of meters at once: random sets of them, random charges, a provider
//! that counts each in one of its three ways.

use tollhouse::{Accounting, Charge, Per, TokenBudget, Unit, Window};

use super::provider::{Counting, Meter};
use super::schedule::{self, Event, Happened, Plan, Reached, pick};
use super::{ALL, for_seeds};
use crate::support::random::Random;

const UNITS: [Unit; 5] = [
    Unit::Requests,
    Unit::Tokens,
    Unit::Input,
    Unit::Output,
    Unit::Images,
];

/// One of the account's limits.
#[derive(Clone, Copy, Debug)]
struct Limit {
    unit: Unit,
    per: Per,
    amount: u64,
}

#[derive(Clone, Debug)]
struct Case {
    limits: Vec<Limit>,
    headroom: f64,
    window: Window,
    accounting: Accounting,
    /// Uses may be above what was reserved.
    debt: bool,
}

impl Case {
    fn draw(random: &mut Random, window: Window, debt: bool) -> Case {
        let count = random.within(1..6);
        let mut limits: Vec<Limit> = Vec::new();
        for _ in 0..count {
            let (unit, per) = (
                pick(random, &UNITS),
                pick(random, &[Per::Second, Per::Minute, Per::Minute, Per::Day]),
            );
            let amount = match unit {
                Unit::Requests => pick(random, &[2, 10, 60, 63, 500]),
                Unit::Images => pick(random, &[1, 5, 50]),
                _ => pick(random, &[600, 6_000, 125_000]),
            };
            if limits.iter().all(|it| (it.unit, it.per) != (unit, per)) {
                limits.push(Limit { unit, per, amount });
            }
        }
        Case {
            limits,
            headroom: pick(random, &[0.0, 0.15]),
            window,
            accounting: pick(random, &[Accounting::AsUsed, Accounting::AsRequested]),
            debt,
        }
    }

    fn budget(&self) -> TokenBudget {
        let builder = TokenBudget::unlimited()
            .headroom(self.headroom)
            .window(self.window)
            .accounting(self.accounting);
        let with = |builder: tollhouse::TokenBudgetBuilder, limit: &Limit| {
            builder.meter(limit.unit, limit.per, limit.amount)
        };
        let builder = self.limits.iter().fold(builder, with);
        builder.build().expect("a valid budget")
    }

    /// The most of a unit that one request may ask for.
    fn most(&self, unit: Unit, budget: &TokenBudget) -> u64 {
        let meters = budget.snapshot().meters;
        let of_unit = meters.iter().filter(|meter| meter.unit == unit);
        of_unit.map(|meter| meter.capacity).min().unwrap_or(1_000)
    }

    /// Gives each request amounts of all units, some of them 0.
    fn charge(&self, random: &mut Random, plan: &mut Plan, budget: &TokenBudget) {
        let (mut reserved, mut used) = (Charge::default(), Charge::default());
        for unit in UNITS.into_iter().skip(1) {
            let share = pick(random, &[0, 1, 5, 20, 100]);
            let amount = random.within(0..self.most(unit, budget) * share / 100 + 1);
            reserved = reserved.and(unit, amount);
            let uses = match random.within(0..4) {
                0 => amount,
                1 if self.debt => amount + random.within(0..amount + 2),
                _ => random.within(0..amount + 1),
            };
            // Tokens that are not named would be what went in and came out, far
            // beyond what was reserved and so not believed.
            if unit == Unit::Tokens || random.within(0..8) > 0 {
                used = used.and(unit, uses);
            }
        }
        plan.units = Some((reserved, used));
    }
}

fn millis(per: Per) -> u64 {
    per.duration().as_millis() as u64
}

/// What of a unit a request really took in the end, or `None` where it is as it was
/// reserved.
fn used(plan: &Plan, unit: Unit) -> u64 {
    let (reserved, used) = plan.charges();
    let told = plan.units.is_some() && format!("{used}").contains(unit.name());
    match told {
        true => used.get(unit),
        false => reserved.get(unit),
    }
}

/// The provider's side of it: every arrival in order, every meter asked; returns
/// what it rejected.
fn rejections(
    case: &Case,
    counting: Counting,
    events: &[Event],
    plans: &[Plan],
) -> Vec<(u64, usize)> {
    let mut meters: Vec<(Limit, Meter)> = case
        .limits
        .iter()
        .map(|limit| {
            (
                *limit,
                Meter::new(limit.amount, millis(limit.per), counting),
            )
        })
        .collect();
    let mut admitted = vec![None; plans.len()];
    let mut rejected = Vec::new();
    for Reached {
        at, id, is_done, ..
    } in schedule::reached(events, |id| plans[id])
    {
        let (charge, _) = plans[id].charges();
        match (is_done, admitted[id]) {
            (false, _) => {
                let fits = meters.iter_mut().all(|(limit, meter)| {
                    let amount = charge.get(limit.unit);
                    amount == 0 || meter.left(at) >= i128::from(amount)
                });
                if !fits {
                    rejected.push((at, id));
                    continue;
                }
                for (limit, meter) in &mut meters {
                    meter.charge(id, charge.get(limit.unit), at);
                }
                admitted[id] = Some(at);
            }
            (true, Some(since)) => {
                for (limit, meter) in &mut meters {
                    let reserved = charge.get(limit.unit);
                    let mut actual = used(&plans[id], limit.unit);
                    if case.accounting == Accounting::AsRequested {
                        actual = actual.max(reserved);
                    }
                    if limit.unit != Unit::Requests {
                        meter.true_up(id, since, reserved, actual, at);
                    }
                }
            }
            (true, None) => {}
        }
    }
    rejected
}

/// Nobody could have prevented it: the request was on its way when the provider
/// charged another one more than was reserved.
fn overtaken_by_debt((at, id): (u64, usize), events: &[Event], plans: &[Plan]) -> bool {
    let when = |id: usize, what: Happened| {
        let mut events = events.iter();
        let found = events.find(|event| event.id == id && event.what == what);
        found.map(|event| event.at)
    };
    let reserved = when(id, Happened::Reserved).expect("it was sent");
    (0..plans.len()).any(|other| {
        let plan = plans[other];
        let owes = UNITS
            .into_iter()
            .any(|unit| used(&plan, unit) > plan.charges().0.get(unit));
        owes && when(other, Happened::Settled)
            .is_some_and(|settled| reserved <= settled && settled - plan.returns <= at)
    })
}

fn prove(
    seeds: u64,
    count: usize,
    providers: &[Counting],
    draw: impl Fn(&mut Random) -> Case,
    stretch: u64,
) {
    for_seeds(seeds, async |mut random| {
        let case = draw(&mut random);
        let budget = case.budget();
        let shape = schedule::Shape {
            limit: 6_000,
            largest: 600,
            load: pick(&mut random, &[60, 400]),
            uses: schedule::Uses::Exact,
        };
        let mut plans = schedule::draw(&mut random, shape, count);
        for plan in &mut plans {
            plan.asks *= stretch;
            case.charge(&mut random, plan, &budget);
        }
        let events = schedule::play(&budget, &plans).await;
        for &counting in providers {
            let mut rejected = rejections(&case, counting, &events, &plans);
            rejected.retain(|it| !overtaken_by_debt(*it, &events, &plans));
            assert!(rejected.is_empty(), "{counting:?}, {case:?}: {rejected:?}");
        }
    });
}

#[test]
fn no_provider_rejects_what_many_meters_admit() {
    prove(
        300,
        40,
        &ALL,
        |random| Case::draw(random, Window::On, false),
        1,
    );
}

#[test]
fn debt_on_any_of_many_meters_is_waited_off() {
    prove(
        200,
        40,
        &ALL,
        |random| Case::draw(random, Window::On, true),
        1,
    );
}

#[test]
fn without_their_windows_many_meters_still_suit_a_continuous_refill() {
    prove(
        250,
        40,
        &[Counting::Continuous],
        |random| Case::draw(random, Window::Off, false),
        1,
    );
}

/// Requests, tokens and images by the day, asked for over three days and longer.
#[test]
fn limits_by_the_day_hold_over_three_days() {
    const HOUR: u64 = 3_600_000;
    let providers = [
        Counting::Continuous,
        Counting::Sliding,
        Counting::Fixed { phase: 0 },
        Counting::Fixed { phase: 7 * HOUR },
        Counting::Fixed { phase: 23 * HOUR },
    ];
    let draw = |random: &mut Random| {
        let mut limits = vec![Limit {
            unit: pick(random, &[Unit::Requests, Unit::Tokens, Unit::Images]),
            per: Per::Day,
            amount: pick(random, &[20, 50, 600]),
        }];
        if random.within(0..2) == 0 {
            limits.push(Limit {
                unit: Unit::Tokens,
                per: Per::Minute,
                amount: 6_000,
            });
        }
        Case {
            limits,
            headroom: pick(random, &[0.0, 0.15]),
            window: Window::On,
            accounting: pick(random, &[Accounting::AsUsed, Accounting::AsRequested]),
            debt: false,
        }
    };
    prove(100, 150, &providers, draw, 600);
}

/// The model would notice: it rejects what is admitted by another budget, from
/// which one of the account's limits was left out.
#[test]
fn the_model_rejects_where_one_meter_is_missing() {
    let mut rejected = 0;
    for_seeds(180, async |mut random| {
        let mut case = Case::draw(&mut random, Window::On, false);
        case.limits = vec![
            Limit {
                unit: Unit::Input,
                per: Per::Minute,
                amount: 600,
            },
            Limit {
                unit: Unit::Output,
                per: Per::Minute,
                amount: 600,
            },
        ];
        let short = Case {
            limits: case.limits[..1].to_vec(),
            ..case.clone()
        };
        let (whole, budget) = (case.budget(), short.budget());
        let shape = schedule::Shape {
            limit: 6_000,
            largest: 600,
            load: 400,
            uses: schedule::Uses::Exact,
        };
        let mut plans = schedule::draw(&mut random, shape, 40);
        for plan in &mut plans {
            case.charge(&mut random, plan, &whole);
        }
        let events = schedule::play(&budget, &plans).await;
        rejected += rejections(&case, Counting::Continuous, &events, &plans).len();
    });
    assert!(rejected > 50, "{rejected}");
}
