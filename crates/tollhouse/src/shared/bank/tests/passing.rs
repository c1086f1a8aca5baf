//! What passes a large request that waits without pause, whoever else comes and goes.

use super::super::passed::{Passed, Served};
use super::*;

/// A minute's worth; a thousand are a second.
const LIMIT: u64 = 60_000;

const LARGE: u64 = 30_000;

const LARGER: u64 = 45_000;

/// What passes a head comes to so many times its cost.
const PASSING: u64 = 4;

/// The weight of who passes, and each of its steps.
const HEAVY: u64 = 50;
const STEP: u64 = 500;

/// Whose large request waits, at a weight of 1.
const WAITS: u128 = 5;

/// Four reports a second of everybody, one after another. What is drawn is sent at once and
/// has landed by the next report.
struct Scene {
    bank: Bank,
    now: u64,
    numbers: BTreeMap<u128, u64>,
}

impl Scene {
    fn new() -> Self {
        Scene {
            bank: Bank::new(1),
            now: 1_000 * SEC,
            numbers: BTreeMap::new(),
        }
    }

    /// One that others spent all of a minute's worth of.
    fn saturated() -> Self {
        let mut scene = Scene::new();
        for _ in 0..8 * 4 {
            scene.tick();
            scene.press(9);
        }
        scene
    }

    /// On to the next quarter of a second.
    fn tick(&mut self) {
        self.now += SEC / 4;
    }

    /// One report; says what was drawn.
    fn report(&mut self, process: u128, pool: PoolReport) -> u64 {
        let number = self.numbers.entry(process).or_default();
        *number += 1;
        self.now += 1_000;
        let pool = PoolReport {
            meters: vec![by_the_minute(LIMIT, LIMIT)],
            ..pool
        };
        let report = asking(process, *number, self.now, pool);
        let grant = self.bank.exchange(&report, Stamp(self.now));
        grant.pools[0].drawn.get(Unit::Tokens)
    }

    /// Of a process of weight 1.
    fn ask(&mut self, process: u128, line: &[u64]) -> u64 {
        let line = line.iter().copied().map(tokens).collect();
        self.report(
            process,
            PoolReport {
                line,
                weight: 1,
                ..PoolReport::default()
            },
        )
    }

    /// Of one that always wants more, and is heavy: by its tag it may pass others for half an hour.
    fn press(&mut self, process: u128) -> u64 {
        self.report(
            process,
            PoolReport {
                line: vec![tokens(STEP); 16],
                weight: HEAVY,
                ..PoolReport::default()
            },
        )
    }
}

/// Plays until the large request is granted, for half an hour at most, and says what others
/// were granted meanwhile, in its own charges.
fn passed(mut others: impl FnMut(&mut Scene, u64) -> u64, line: impl Fn(u64) -> Vec<u64>) -> f64 {
    let mut scene = Scene::saturated();
    let mut passed = 0;
    for tick in 0..1_800 * 4 {
        scene.tick();
        if scene.ask(WAITS, &line(tick)) >= LARGE {
            break;
        }
        passed += others(&mut scene, tick);
    }
    #[expect(clippy::cast_precision_loss, reason = "small")]
    let charges = passed as f64 / LARGE as f64;
    charges
}

fn pressed(scene: &mut Scene, _: u64) -> u64 {
    scene.press(9)
}

#[test]
fn a_large_request_is_passed_up_to_four_times_its_charge() {
    let passed = passed(pressed, |_| vec![LARGE]);
    assert!((3.5..=4.0).contains(&passed), "{passed}");
}

/// Those of its own process that stand before it, and are granted or leave.
#[test]
fn a_large_request_is_passed_no_more_for_those_who_are_granted_before_it() {
    for (every, small) in [(4, 10), (20, 50), (40, 100), (400, 1_000)] {
        let passed = passed(pressed, |tick| match tick % every {
            0 => vec![small, LARGE],
            _ => vec![LARGE],
        });
        assert!(passed <= 4.0, "{passed} where {small} come every {every}");
    }
}

/// One larger than it, which joins before it and leaves again and again.
#[test]
fn a_large_request_is_passed_no_more_for_a_larger_one_that_joins_before_it_and_leaves() {
    let passed = passed(pressed, |tick| match tick / 200 % 2 {
        0 => vec![LARGE],
        _ => vec![LARGER, LARGE],
    });
    // As often as the larger one may be, once.
    assert!(passed <= 6.0, "{passed}");
}

/// Another process's requests come to stand before it again and again, since what that one is
/// granted costs it no turn: the provider gives it back.
#[test]
fn a_large_request_is_passed_no_more_for_heads_of_another_process_that_come_before_it() {
    const BEFORE: u128 = 1;
    let mut unused = 0;
    let passed = passed(
        |scene, _| {
            let pool = PoolReport {
                line: vec![tokens(6_000); 2],
                unused: tokens(unused),
                weight: 1,
                ..PoolReport::default()
            };
            unused += scene.report(BEFORE, pool);
            scene.press(9)
        },
        |_| vec![LARGE],
    );
    assert!(passed <= 4.0, "{passed}");
}

/// For who is silent for a moment only, what passed it before counts still.
#[test]
fn a_large_request_is_passed_no_more_for_a_lease_that_ends_now_and_then() {
    let mut scene = Scene::saturated();
    let is_granted = (0..1_800 * 4).any(|tick| {
        scene.tick();
        scene.press(9);
        // Gone for three seconds of each hundred.
        tick % 400 >= 12 && scene.ask(WAITS, &[LARGE]) > 0
    });
    assert!(is_granted, "not in half an hour");
}

#[test]
fn what_no_level_could_ever_cover_holds_up_nobody() {
    let mut scene = Scene::saturated();
    let mut granted = 0;
    for _ in 0..600 * 4 {
        scene.tick();
        assert_eq!(scene.ask(WAITS, &[LIMIT + 1]), 0);
        granted += scene.press(9);
    }
    assert!(granted >= 590_000, "{granted}");
}

/// More requests at once than half a second has are collected, as anything large is.
#[test]
fn many_requests_at_once_wait_for_the_pace_and_hold_up_nobody_for_good() {
    let mut bank = Bank::new(1);
    let mut drawn = [0; 2];
    for tick in 0..300 * 4 {
        for (id, line) in [(0, vec![5]), (1, vec![1; 8])] {
            let now = 1_000 * SEC + tick * SEC / 4 + id * 1_000;
            let requests = |many| Amounts::of(Unit::Requests, many);
            let pool = PoolReport {
                meters: vec![MeterTerms {
                    unit: Unit::Requests,
                    ..by_the_minute(60, 60)
                }],
                weight: 1,
                line: line.into_iter().map(requests).collect(),
                ..PoolReport::default()
            };
            let report = asking(id.into(), tick + 1, now, pool);
            let grant = bank.exchange(&report, Stamp(now));
            drawn[usize::try_from(id).unwrap()] += grant.pools[0].drawn.get(Unit::Requests);
        }
    }
    let [many, single] = drawn;
    assert!(
        many + single >= 290 && many.abs_diff(single) <= 30,
        "{drawn:?}"
    );
}

/// Who comes and goes beside one that waits.
#[derive(Clone, Debug)]
enum Other {
    Nobody,
    /// A small one of its own process stands before it.
    Small(u64),
    /// A larger one does, and leaves.
    Larger,
    /// Another process collects for one of its own, which comes back unused.
    Head(u64),
    /// Another process wants nothing any more.
    Rest,
    /// Who passes it dies, and comes again as another one.
    Death,
}

fn others() -> impl Strategy<Value = Vec<Other>> {
    let other = prop_oneof![
        40 => Just(Other::Nobody),
        10 => (1_u64..20).prop_map(Other::Small),
        2 => Just(Other::Larger),
        6 => (1_000_u64..20_000).prop_map(Other::Head),
        2 => Just(Other::Rest),
        2 => Just(Other::Death),
    ];
    prop::collection::vec(other, 10..200)
}

/// What passed one that waits, and what has a right to.
#[derive(Debug)]
struct Beside {
    passed: u64,
    /// The largest of its process that was ever first.
    own: u64,
    /// What small ones of its process were granted.
    smalls: u64,
    /// The largest that another process collected for until this one was first for once: what
    /// passes that one first is counted for that one alone.
    head: u64,
    /// How often who passes it came as another one.
    deaths: u64,
}

impl Beside {
    /// As often as the largest that ever stood first there, and as that of the other process; what
    /// others have a right to for what was granted before it, by their weight; and a step of each
    /// who comes newly, since a newcomer begins where the last step of the others began.
    fn is_within_bounds(&self) -> bool {
        let of_heads = PASSING * (self.own + self.head);
        self.passed <= of_heads + HEAVY * self.smalls + STEP * (self.deaths + 4)
    }
}

fn play_beside(others: &[Other]) -> Beside {
    let mut scene = Scene::saturated();
    let mut beside = Beside {
        passed: 0,
        own: LARGE,
        smalls: 0,
        head: 0,
        deaths: 0,
    };
    let (mut unused, mut passing, mut head) = (0, 9, 0);
    let mut was_first = false;
    for other in others.iter().cycle().take(600 * 4) {
        let mut line = vec![LARGE];
        match *other {
            Other::Small(cost) => line.insert(0, cost),
            Other::Larger => line.insert(0, LARGER),
            Other::Head(cost) => head = cost,
            Other::Rest => head = 0,
            Other::Death => {
                passing += 1;
                beside.deaths += 1;
            }
            Other::Nobody => {}
        }
        scene.tick();
        beside.own = beside.own.max(line[0]);
        let drawn = scene.ask(WAITS, &line);
        if drawn >= LARGE {
            break;
        }
        beside.smalls += drawn;
        let line = if head > 0 {
            vec![tokens(head); 2]
        } else {
            Vec::new()
        };
        let pool = PoolReport {
            line,
            unused: tokens(unused),
            weight: 1,
            ..PoolReport::default()
        };
        let collected = scene.report(1, pool);
        unused += collected;
        // Behind what the other process is granted, it is the head.
        was_first |= collected > 0;
        if !was_first {
            beside.head = beside.head.max(head);
        }
        let pressed = scene.press(passing);
        was_first |= pressed > 0 && head == 0;
        beside.passed += pressed;
    }
    beside
}

/// Another process's head that stands before it from the beginning, and what passes that one.
#[test]
fn what_passes_another_head_first_is_counted_for_that_one_alone() {
    let nobody = std::iter::repeat_n(Other::Nobody, 6);
    let others = [
        Other::Larger,
        Other::Head(13_056),
        Other::Nobody,
        Other::Larger,
    ];
    let others: Vec<Other> = others.into_iter().chain(nobody).collect();
    let beside = play_beside(&others);
    assert_eq!(beside.head, 13_056);
    assert!(beside.is_within_bounds(), "{beside:?}");
    let alone = Beside { head: 0, ..beside };
    assert!(!alone.is_within_bounds(), "{alone:?}");
}

/// As the one above, where that head grows before it is granted, and what may pass it with it.
#[test]
fn what_passes_another_head_that_grows_is_counted_for_that_one_alone() {
    let nobody = |many| std::iter::repeat_n(Other::Nobody, many);
    let others: Vec<Other> = std::iter::once(Other::Head(5_000))
        .chain(nobody(9))
        .chain([Other::Head(16_000)])
        .chain(nobody(2))
        .collect();
    let beside = play_beside(&others);
    assert_eq!(beside.head, 16_000);
    assert!(beside.is_within_bounds(), "{beside:?}");
    let at_first = Beside {
        head: 5_000,
        ..beside
    };
    assert!(!at_first.is_within_bounds(), "{at_first:?}");
}

#[test]
fn a_large_request_is_passed_within_a_bound_whoever_joins_and_leaves() {
    let cases = match std::env::var("TOLLHOUSE_SCHEDULES") {
        Ok(times) => 60 * times.parse::<u32>().expect("a number"),
        Err(_) => 60,
    };
    let mut runner = TestRunner::new(ProptestConfig::with_cases(cases));
    let outcome = runner.run(&others(), |others| {
        let beside = play_beside(&others);
        prop_assert!(beside.is_within_bounds(), "{beside:?}");
        Ok(())
    });
    outcome.unwrap();
}

#[test]
fn what_passed_a_head_that_left_is_paid_off_by_who_waits_on() {
    let mut passed = Passed::default();
    // What others were granted in their turn counts no further than it matters.
    passed.count(500.0, 30.0);
    let served = |all, rest| Served {
        all,
        largest: 1.0,
        rest,
    };
    passed.serve(&served(20.0, 30.0));
    assert_eq!(
        passed.allowance(40.0),
        160.0 - 4.0 - 120.0,
        "it waits still"
    );
    passed.serve(&served(20.0, 29.0));
    assert_eq!(passed.allowance(40.0), 160.0 - 4.0 - 40.0);
    passed.serve(&served(20.0, 29.0));
    assert!(passed.is_nothing());
}
