//! Random schedules of processes, against a provider and a count of everything that was
//! given.

mod dealing;
mod passing;
mod tags;

use std::collections::VecDeque;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::charge::Unit;
use crate::shared::{Amounts, MeterTerms, Seen, Told};

const SEC: u64 = 1_000_000;

fn tokens(amount: u64) -> Amounts {
    Amounts::of(Unit::Tokens, amount)
}

fn by_the_minute(limit: u64, rate: u64) -> MeterTerms {
    MeterTerms {
        unit: Unit::Tokens,
        per: Per::Minute,
        limit,
        rate,
        capacity: rate,
        windowed: false,
    }
}

/// A provider's bucket, in whole microseconds' fractions.
struct Provider {
    limit: i128,
    level: i128,
    at: u64,
}

impl Provider {
    const TOKEN: i128 = 60 * SEC as i128;

    fn new(limit: u64) -> Self {
        Provider {
            limit: i128::from(limit),
            level: i128::from(limit) * Provider::TOKEN,
            at: 0,
        }
    }

    fn refill(&mut self, now: u64) {
        let refilled = self.limit * i128::from(now - self.at);
        self.level = (self.level + refilled).min(self.limit * Provider::TOKEN);
        self.at = now;
    }

    fn takes(&mut self, amount: u64, now: u64) -> bool {
        self.refill(now);
        self.level -= i128::from(amount) * Provider::TOKEN;
        self.level >= 0
    }
}

/// A process as it should be: it spends what it has while its lease lasts.
struct Model {
    id: u128,
    number: u64,
    received: u64,
    seen: Option<Seen>,
    clock: Option<(u64, u64)>,
    lease: u64,
    idle: u64,
    in_transit: VecDeque<(u64, u64)>,
    returned: u64,
    line: VecDeque<u64>,
    /// Counts for the identity.
    spent: u64,
    drawn: u64,
    expired: u64,
}

impl Model {
    fn new(id: u128) -> Self {
        Model {
            id,
            number: 0,
            received: 0,
            seen: None,
            clock: None,
            lease: 0,
            idle: 0,
            in_transit: VecDeque::new(),
            returned: 0,
            line: VecDeque::new(),
            spent: 0,
            drawn: 0,
            expired: 0,
        }
    }

    fn report(&mut self, terms: MeterTerms, now: u64) -> Report {
        self.expire(now);
        self.number += 1;
        let mut idle = self.idle;
        let mut line = Vec::new();
        for step in self.line.iter().take(crate::shared::LINE) {
            let missing = step.saturating_sub(idle);
            idle = idle.saturating_sub(*step);
            if missing > 0 {
                line.push(tokens(missing));
            }
        }
        Report {
            process: self.id,
            number: self.number,
            received: self.received,
            seen: self.seen,
            expires: self
                .clock
                .map(|(told, at)| Stamp(told + (now - at) + SEC / 10)),
            leaving: false,
            pools: vec![PoolReport {
                meters: vec![terms],
                weight: 1,
                idle: tokens(self.idle),
                in_transit: tokens(self.in_transit.iter().map(|(_, amount)| amount).sum()),
                returned: tokens(self.returned),
                line,
                ..PoolReport::default()
            }],
        }
    }

    fn receive(&mut self, grant: &Grant, sent: u64, now: u64) {
        self.clock = Some((grant.at.0, now));
        self.seen = Some(Seen {
            life: grant.life,
            answered: grant.answered,
        });
        if !grant.taken {
            return;
        }
        self.received = self.number;
        self.lease = sent + 2 * SEC;
        let drawn = grant.pools[0].drawn.get(Unit::Tokens);
        self.drawn += drawn;
        self.idle += drawn;
    }

    fn expire(&mut self, now: u64) {
        if now > self.lease {
            self.expired += self.idle;
            self.idle = 0;
        }
    }

    /// Launches what fits; what is launched arrives within two seconds.
    fn launch(&mut self, now: u64, transit: u64) {
        self.expire(now);
        while let Some(step) = self.line.front().copied().filter(|step| *step <= self.idle) {
            self.line.pop_front();
            self.idle -= step;
            self.spent += step;
            self.in_transit.push_back((now + transit, step));
        }
    }

    fn arrive(&mut self, provider: &mut Provider, now: u64) -> bool {
        let mut good = true;
        self.in_transit.retain(|(at, amount)| {
            let arrives = *at <= now;
            good &= !arrives || provider.takes(*amount, now);
            !arrives
        });
        good
    }
}

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Ask(usize, u64),
    Exchange(usize),
    /// The reply, or the report itself, is lost.
    LoseReply(usize),
    LoseReport(usize),
    /// The report comes so much later.
    Late(usize, u64),
    Twice(usize),
    GiveBack(usize),
    Kill(usize),
    ClockBack(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let who = 0_usize..4;
    let step = prop_oneof![
        6 => (1_u64..400_000).prop_map(Step::Wait),
        1 => (1_000_000_u64..9_000_000).prop_map(Step::Wait),
        4 => (who.clone(), 1_u64..6_000).prop_map(|(who, cost)| Step::Ask(who, cost)),
        8 => who.clone().prop_map(Step::Exchange),
        1 => who.clone().prop_map(Step::LoseReply),
        1 => who.clone().prop_map(Step::LoseReport),
        1 => (who.clone(), 1_u64..600_000).prop_map(|(who, late)| Step::Late(who, late)),
        1 => who.clone().prop_map(Step::Twice),
        1 => who.clone().prop_map(Step::GiveBack),
        1 => who.prop_map(Step::Kill),
        1 => (1_u64..5_000_000).prop_map(Step::ClockBack),
    ];
    prop::collection::vec(step, 1..200)
}

#[test]
fn whoever_loses_what_when_nothing_is_refused_and_nothing_is_lost() {
    // Fewer where nothing is optimized; `.ci/release` sets the variable.
    let cases = match std::env::var("TOLLHOUSE_SCHEDULES") {
        Ok(times) => 2_000 * times.parse::<u32>().expect("a number"),
        Err(_) => 400,
    };
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let schedules = (
        steps(),
        prop_oneof![Just(10_000_u64), Just(8_500)],
        0_u64..2_000_000,
    );
    let outcome = runner.run(&schedules, |(steps, rate, transit)| {
        play(&steps, rate, transit)
    });
    outcome.unwrap();
}

fn play(steps: &[Step], rate: u64, transit: u64) -> Result<(), TestCaseError> {
    let terms = by_the_minute(10_000, rate);
    let mut bank = Bank::new(1);
    let mut provider = Provider::new(10_000);
    let mut now = 0;
    let mut machine = 1_000 * SEC;
    let mut models: Vec<_> = (0..4).map(Model::new).collect();
    let mut dead: u128 = 4;
    for step in steps {
        match *step {
            Step::Wait(time) => {
                let then = now + time;
                // Whatever happens in between happens at its own time.
                while now < then {
                    let next = models
                        .iter()
                        .flat_map(|it| it.in_transit.iter().map(|(at, _)| *at));
                    let next = next.filter(|at| *at > now).min().unwrap_or(then).min(then);
                    machine += next - now;
                    now = next;
                    for model in &mut models {
                        prop_assert!(model.arrive(&mut provider, now), "refused");
                    }
                }
            }
            Step::Ask(who, cost) => {
                models[who].line.push_back(cost.min(rate));
                models[who].launch(now, transit);
            }
            Step::Exchange(who) => {
                let report = models[who].report(terms, now);
                let grant = bank.exchange(&report, Stamp(machine));
                models[who].receive(&grant, now, now);
            }
            Step::LoseReply(who) => {
                let report = models[who].report(terms, now);
                bank.exchange(&report, Stamp(machine));
            }
            Step::LoseReport(who) => drop(models[who].report(terms, now)),
            Step::Late(who, late) => {
                let report = models[who].report(terms, now);
                bank.exchange(&report, Stamp(machine + late));
                now += late;
                machine += late;
                for model in &mut models {
                    prop_assert!(model.arrive(&mut provider, now), "refused");
                }
            }
            Step::Twice(who) => {
                let report = models[who].report(terms, now);
                let once = bank.exchange(&report, Stamp(machine));
                let again = bank.exchange(&report, Stamp(machine));
                if once.taken {
                    prop_assert_eq!(&once, &again);
                }
                models[who].receive(&once, now, now);
            }
            Step::GiveBack(who) => {
                let model = &mut models[who];
                model.expire(now);
                model.returned += std::mem::take(&mut model.idle);
            }
            Step::Kill(who) => {
                dead += 1;
                let on_its_way = std::mem::take(&mut models[who].in_transit);
                let mut born = Model::new(dead);
                // The dead one's requests arrive all the same; nobody reports them.
                born.line = std::mem::take(&mut models[who].line);
                for (at, amount) in on_its_way {
                    prop_assert!(at >= now);
                    prop_assert!(provider.takes(amount, now), "refused");
                }
                models[who] = born;
            }
            Step::ClockBack(time) => machine -= time.min(machine),
        }
        for model in &mut models {
            model.launch(now, transit);
            let Model {
                drawn,
                spent,
                returned,
                expired,
                idle,
                ..
            } = *model;
            prop_assert_eq!(drawn, spent + returned + expired + idle);
        }
        let held: u64 = models.iter().map(|model| model.idle).sum();
        provider.refill(now);
        let on_its_way: u64 = models
            .iter()
            .flat_map(|it| it.in_transit.iter().map(|(_, amount)| amount))
            .sum();
        let level = bank.level(&None, &terms);
        let could_be_sent = i128::from(level.max(0)) + i128::from(held) + i128::from(on_its_way);
        prop_assert!(
            could_be_sent * Provider::TOKEN <= provider.level,
            "{could_be_sent} of {}",
            provider.level / Provider::TOKEN
        );
    }
    Ok(())
}

/// A report on one pool, whose last grant came.
fn asking(process: u128, number: u64, now: u64, pool: PoolReport) -> Report {
    Report {
        number,
        received: number - 1,
        expires: Some(Stamp(now + SEC)),
        pools: vec![pool],
        ..Report::first(process)
    }
}

/// What grants come to in all where everybody always wants more.
fn saturated(processes: u128, weight: impl Fn(u128) -> u64, seconds: u64) -> Vec<u64> {
    let terms = by_the_minute(60_000, 60_000);
    let mut bank = Bank::new(1);
    let mut drawn = vec![0; usize::try_from(processes).unwrap()];
    for tick in 0..seconds * 4 {
        for id in 0..processes {
            let now = 1_000 * SEC + tick * SEC / 4 + u64::try_from(id).unwrap() * 1_000;
            let pool = PoolReport {
                meters: vec![terms],
                weight: weight(id),
                line: vec![tokens(500); 16],
                wanted: tokens(20_000),
                ..PoolReport::default()
            };
            let report = asking(id, tick + 1, now, pool);
            let grant = bank.exchange(&report, Stamp(now));
            drawn[usize::try_from(id).unwrap()] += grant.pools[0].drawn.get(Unit::Tokens);
        }
    }
    drawn
}

#[test]
fn what_there_is_is_shared_by_weight_and_all_of_it_is_given() {
    let drawn = saturated(8, |_| 1, 100);
    let all: u64 = drawn.iter().sum();
    // A minute's burst, and 96 seconds' refill.
    assert!(all >= 60_000 + 95_000, "{all}");
    let mean = all / 8;
    assert!(
        drawn.iter().all(|it| it.abs_diff(mean) <= 20_500),
        "{drawn:?}"
    );
    let drawn = saturated(3, |id| [1, 2, 5][usize::try_from(id).unwrap()], 240);
    let all: u64 = drawn.iter().sum();
    for (drawn, weight) in drawn.iter().zip([1, 2, 5]) {
        assert!(
            drawn.abs_diff(all * weight / 8) <= 41_000,
            "{drawn:?} of {all}, weight {weight}"
        );
    }
}

#[test]
fn a_large_request_is_never_split_and_launched_within_five_times_its_refill() {
    for large in [30_000, 57_000] {
        let terms = by_the_minute(60_000, 60_000);
        let mut bank = Bank::new(1);
        let mut got = None;
        let began = 100;
        for tick in 0..4 * 400 {
            for id in 0..8_u128 {
                let now = 1_000 * SEC + tick * SEC / 4 + u64::try_from(id).unwrap() * 1_000;
                let is_large = id == 0;
                let wants = !is_large || tick >= began && got.is_none();
                let line = match (is_large, wants) {
                    (_, false) => vec![],
                    (true, true) => vec![tokens(large)],
                    (false, true) => vec![tokens(500); 16],
                };
                // All that was drawn is sent at once, and lands before the next report.
                let pool = PoolReport {
                    meters: vec![terms],
                    weight: 1,
                    line,
                    wanted: tokens(if is_large { 0 } else { 20_000 }),
                    ..PoolReport::default()
                };
                let report = asking(id, tick + 1, now, pool);
                let grant = bank.exchange(&report, Stamp(now));
                let drawn = grant.pools[0].drawn.get(Unit::Tokens);
                if is_large && drawn > 0 {
                    assert_eq!(drawn, large, "whole or not at all");
                    got.get_or_insert(tick - began);
                }
            }
        }
        let waited =
            Duration::from_millis(250) * u32::try_from(got.expect("it was launched")).unwrap();
        let refill = Duration::from_millis(large);
        assert!(waited <= 5 * refill, "{waited:?} for {large}");
    }
}

#[test]
fn what_was_lost_is_learned_before_anything_is_given() {
    let terms = by_the_minute(60_000, 60_000);
    let mut bank = Bank::new(2);
    let wants = |number, seen, now| {
        let pool = PoolReport {
            meters: vec![terms],
            line: vec![tokens(400); 16],
            ..PoolReport::default()
        };
        Report {
            seen,
            ..asking(9, number, now, pool)
        }
    };
    let seen = Some(Seen {
        life: 1,
        answered: 77,
    });
    let start = 1_000 * SEC;
    let first = bank.exchange(&wants(50, seen, start), Stamp(start));
    assert_eq!(first.learning, LEARNING);
    assert!(first.pools[0].drawn.is_nothing());
    let mut number = 50;
    let mut after = |seconds: u64, seen| {
        number += 1;
        let now = start + seconds * SEC;
        let grant = bank.exchange(&wants(number, seen, now), Stamp(now));
        grant.pools[0].drawn.get(Unit::Tokens)
    };
    let of_this_life = Some(Seen {
        life: 2,
        answered: 1,
    });
    assert_eq!(after(2, of_this_life), 0);
    assert_eq!(after(3, of_this_life), 0);
    // Four seconds were not credited, and the level began at nothing.
    assert_eq!(after(5, of_this_life), 4_800);
    // Writes were lost: it has answered fewer than are known of.
    assert_eq!(
        after(
            6,
            Some(Seen {
                life: 2,
                answered: 500
            })
        ),
        0
    );
    assert_eq!(
        after(
            9,
            Some(Seen {
                life: 2,
                answered: 501
            })
        ),
        0
    );
    assert!(
        after(
            11,
            Some(Seen {
                life: 2,
                answered: 502
            })
        ) > 0
    );
}

/// A report that wants one step, or has so much of it in transit.
fn alone(number: u64, received: u64, now: u64, wants: u64, in_transit: u64) -> Report {
    let line = Some(tokens(wants)).filter(|it| !it.is_nothing());
    let pool = PoolReport {
        meters: vec![by_the_minute(60_000, 60_000)],
        line: line.into_iter().collect(),
        in_transit: tokens(in_transit),
        ..PoolReport::default()
    };
    Report {
        received,
        ..asking(1, number, now, pool)
    }
}

#[test]
fn what_a_lost_grant_gave_goes_back_whole() {
    let mut bank = Bank::new(1);
    let start = 1_000 * SEC;
    bank.exchange(&alone(1, 0, start, 0, 0), Stamp(start));
    let now = start + 4 * SEC;
    let level = |grant: &Grant| grant.pools[0].levels[0];
    let lost = bank.exchange(&alone(2, 1, now, 9_000, 0), Stamp(now));
    assert_eq!(lost.pools[0].drawn, tokens(9_000));
    assert_eq!(level(&lost), 51_000);
    let next = bank.exchange(&alone(3, 1, now, 0, 0), Stamp(now));
    assert_eq!(level(&next), 60_000);
    // One that came is landed by who has nothing of it any more.
    bank.exchange(&alone(4, 3, now, 9_000, 0), Stamp(now));
    let next = bank.exchange(&alone(5, 4, now, 0, 0), Stamp(now));
    assert_eq!(level(&next), 51_000);
}

#[test]
fn what_a_silent_process_holds_keeps_the_ceiling_down_until_it_has_surely_landed() {
    let mut bank = Bank::new(1);
    let start = 1_000 * SEC;
    bank.exchange(&alone(1, 0, start, 0, 0), Stamp(start));
    let now = start + 4 * SEC;
    bank.exchange(&alone(2, 1, now, 1_000, 0), Stamp(now));
    let mut watch = |number, after: u64| {
        let now = now + after;
        let report = Report {
            process: 2,
            ..alone(number, number - 1, now, 0, 0)
        };
        bank.exchange(&report, Stamp(now)).pools[0].levels[0]
    };
    // Drawn at the end of its lease and on its way for two seconds more.
    assert_eq!(watch(1, SEC), 59_000);
    assert_eq!(watch(2, 4 * SEC), 59_000);
    assert_eq!(watch(3, 4 * SEC + 1), 59_000);
    assert_eq!(watch(4, 5 * SEC + 1), 60_000);
}

#[test]
fn a_hold_holds_for_everybody_and_ends_with_nothing_saved_up() {
    let terms = by_the_minute(60_000, 60_000);
    let mut bank = Bank::new(1);
    let exchange = |bank: &mut Bank, id, number, now: u64, held| {
        let pool = PoolReport {
            meters: vec![terms],
            line: vec![tokens(1_000)],
            held,
            ..PoolReport::default()
        };
        let report = asking(id, number, now, pool);
        bank.exchange(&report, Stamp(now)).pools.remove(0)
    };
    let start = 1_000 * SEC;
    exchange(&mut bank, 1, 1, start, None);
    exchange(&mut bank, 1, 2, start + 3 * SEC, None);
    let at = start + 5 * SEC;
    assert_eq!(exchange(&mut bank, 1, 3, at, None).drawn, tokens(1_000));
    let held = Some(Duration::from_secs(3));
    assert!(exchange(&mut bank, 1, 4, at, held).drawn.is_nothing());
    let other = exchange(&mut bank, 2, 1, at + SEC, None);
    assert_eq!(other.held, Some(Duration::from_secs(2)));
    assert!(other.drawn.is_nothing());
    let at = at + 3 * SEC;
    assert!(exchange(&mut bank, 2, 2, at, None).drawn.is_nothing());
    assert_eq!(
        exchange(&mut bank, 2, 3, at + SEC, None).drawn,
        tokens(1_000)
    );
}

#[test]
fn a_count_lowers_at_once_and_raises_no_further_than_is_sure() {
    let terms = by_the_minute(60_000, 60_000);
    let mut meter = Meter::new(terms, Stamp(0));
    let now = Stamp(0);
    meter.draw(20_000, now);
    let mark = meter.mark();
    meter.correct((30_000, None), 5_000, true, now);
    // Idle ones are surely not counted; of the others no more than refills in 2.5 s.
    assert_eq!(meter.level(now), 30_000 - 5_000 - 2_500);
    meter.correct((50_000, None), 5_000, true, now);
    assert_eq!(meter.level(now), 22_500, "by whose mark?");
    meter.correct((50_000, Some(mark)), 5_000, false, now);
    assert_eq!(meter.level(now), 22_500, "soon after a hold");
    meter.correct((50_000, Some(mark)), 5_000, true, now);
    assert_eq!(meter.level(now), 30_000);
}

#[test]
fn no_count_from_before_a_refusal_raises_what_it_lowered() {
    let mut bank = Bank::new(1);
    let start = 1_000 * SEC;
    let told = |number, received, now: u64, told| {
        let mut report = alone(number, received, now, 0, 0);
        report.pools[0].told = vec![told];
        report
    };
    let meter = (Unit::Tokens, Per::Minute);
    let refused = Told::After {
        unit: meter.0,
        per: meter.1,
        amount: 1_000,
        delay: Duration::from_secs(5),
    };
    let count = |mark| Told::Remaining {
        unit: meter.0,
        per: meter.1,
        remaining: 50_000,
        mark,
    };
    bank.exchange(&alone(1, 0, start, 0, 0), Stamp(start));
    let now = start + 4 * SEC;
    let grant = bank.exchange(&alone(2, 1, now, 0, 0), Stamp(now));
    let mark = Some(grant.pools[0].marks[0]);
    let level = |grant: Grant| grant.pools[0].levels[0];
    // A thousand are there after five seconds.
    assert_eq!(
        level(bank.exchange(&told(3, 2, now, refused), Stamp(now))),
        -4_000
    );
    assert_eq!(
        level(bank.exchange(&told(4, 3, now, count(mark)), Stamp(now))),
        -4_000
    );
    let now = now + 4 * SEC;
    assert_eq!(
        level(bank.exchange(&told(5, 4, now, count(mark)), Stamp(now))),
        0
    );
    let now = now + SEC;
    assert_eq!(
        level(bank.exchange(&told(6, 5, now, count(mark)), Stamp(now))),
        50_000
    );
}

#[test]
fn slots_and_launches_are_shared() {
    let mut bank = Bank::new(1);
    let mut numbers = [0_u64; 3];
    let mut exchange = |id: usize, used, wanted, now: u64| {
        numbers[id] += 1;
        let pool = PoolReport {
            max_slots: Some(4),
            interval: Duration::from_secs(10),
            slots_used: used,
            slots_wanted: wanted,
            launches_wanted: 1,
            ..PoolReport::default()
        };
        let report = asking(id as u128, numbers[id], now, pool);
        let pool = bank.exchange(&report, Stamp(now)).pools.remove(0);
        (pool.slots, pool.launches)
    };
    let start = 1_000 * SEC;
    for now in [start, start + 3 * SEC] {
        for id in 0..3 {
            assert_eq!(exchange(id, 0, 3, now), (0, vec![]), "it is still learning");
        }
    }
    let now = start + 4 * SEC;
    let secs = Duration::from_secs;
    assert_eq!(exchange(0, 0, 3, now), (2, vec![secs(0)]));
    assert_eq!(exchange(1, 0, 3, now), (1, vec![secs(10)]));
    assert_eq!(exchange(2, 0, 3, now), (1, vec![secs(20)]));
    // A silent process's slots come back at the end of its lease.
    let now = now + 3 * SEC;
    assert_eq!(exchange(1, 1, 3, now).0, 3);
}
