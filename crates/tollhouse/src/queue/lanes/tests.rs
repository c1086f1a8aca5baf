//! Whose turn it is, step by step and in any order.

use proptest::prelude::*;

use super::callers::NAMED;
use super::lane::SHARED;
use super::*;
use crate::charge::{Per, Unit};

/// A token is a millisecond.
fn price(charge: &Charge) -> Cost {
    Cost::of(charge.get(Unit::Tokens), Per::Second, 1_000)
}

fn caller(name: &str, weight: u32) -> Caller {
    Caller::new(name).weight(weight)
}

/// Lanes whose entries are numbers, and time that passes with each.
struct Test {
    lanes: Lanes<u32>,
    now: Moment,
}

impl Test {
    fn new() -> Self {
        Test {
            lanes: Lanes::new(),
            now: Moment::default(),
        }
    }

    fn join(&mut self, caller: &Caller, tokens: u64, item: u32) -> Key {
        self.join_again(caller, tokens, None, item)
    }

    fn join_again(
        &mut self,
        caller: &Caller,
        tokens: u64,
        first: Option<Moment>,
        item: u32,
    ) -> Key {
        self.now = self.now + std::time::Duration::from_nanos(1);
        let charge = Charge::tokens(tokens);
        let times = (first, self.now);
        self.lanes.join(caller, charge, times, item, price)
    }

    fn come_back(&mut self, caller: &Caller, number: u32, item: u32) -> Key {
        let charge = Charge::tokens(1);
        self.lanes.come_back(caller, charge, number, item, price)
    }

    fn head(&mut self) -> u32 {
        let head = self.lanes.head().expect("somebody waits");
        *self.lanes.get_mut(head)
    }

    fn passer(&mut self) -> Option<u32> {
        let passer = self.lanes.passer()?;
        Some(*self.lanes.get_mut(passer))
    }

    /// Lets this one in.
    fn launch(&mut self, key: Key) -> (u32, Tagged) {
        let tagged = self.lanes.launch(key);
        (self.lanes.remove(key, price), tagged)
    }

    fn next(&mut self) -> (u32, Tagged) {
        let head = self.lanes.head().expect("somebody waits");
        self.launch(head)
    }

    fn order(&mut self, many: usize) -> Vec<u32> {
        (0..many).map(|_| self.next().0).collect()
    }
}

#[test]
fn weights_are_turns() {
    let mut test = Test::new();
    for _ in 0..12 {
        test.join(&caller("a", 1), 100, 0);
        test.join(&caller("b", 2), 100, 1);
        test.join(&Caller::default().weight(3), 100, 2);
    }
    let order = test.order(24);
    for (who, turns) in [(0, 4), (1, 8), (2, 12)] {
        let had = order.iter().filter(|had| **had == who).count();
        assert_eq!(had, turns, "{order:?}");
    }
}

#[test]
fn whoever_was_idle_has_saved_up_nothing() {
    let mut test = Test::new();
    for n in 0..10 {
        test.join(&caller("busy", 1), 100, n);
    }
    assert_eq!(test.order(5), [0, 1, 2, 3, 4]);
    for n in 10..13 {
        test.join(&caller("late", 1), 100, n);
    }
    assert_eq!(test.order(6), [10, 5, 11, 6, 12, 7]);
}

#[test]
fn a_head_is_passed_up_to_four_times_its_cost() {
    let mut test = Test::new();
    let (large, small) = (caller("large", 1), caller("small", 8));
    test.join(&large, 1_000, 0);
    let mut passed = 0;
    for n in 1.. {
        let key = test.join(&small, 100, n);
        if test.passer().is_none() {
            break;
        }
        passed += 100;
        test.launch(key);
        assert_eq!(test.head(), 0);
    }
    assert_eq!(passed, 4_000);
    assert_eq!(test.next().0, 0);
}

/// What stands before it meanwhile, of whatever size, is passed on its account; and who
/// was set aside and is back has not been passed the less.
#[test]
fn a_head_is_passed_no_more_for_those_who_join_before_it() {
    let mut test = Test::new();
    let (large, small) = (caller("large", 1), caller("small", 8));
    let before_all = Some(test.now);
    let key = test.join(&large, 1_000, 0);
    let mut passed = 0;
    for n in 1.. {
        let before = test.join_again(&large, 10_000 - 9_000 * u64::from(n % 2), before_all, n);
        if n % 3 == 0 {
            test.lanes.remove(before, price);
        }
        let passer = test.join(&small, 100, n);
        let may_pass = test.passer().is_some();
        if n % 3 != 0 {
            test.lanes.remove(before, price);
        }
        if n % 5 == 0 {
            test.lanes.set_aside(key, price);
            test.lanes.restore(price);
        }
        if !may_pass {
            break;
        }
        assert_eq!(test.passer(), Some(n));
        passed += 100;
        test.launch(passer);
    }
    assert_eq!(passed, 4_000);
    assert_eq!(test.next().0, 0);
}

/// Those of its own caller who first came before it are let in again and again.
#[test]
fn a_head_is_passed_no_more_for_those_who_are_let_in_before_it() {
    let mut test = Test::new();
    let (large, small) = (caller("large", 1), caller("small", 50));
    let before_all = Some(test.now);
    test.join(&large, 1_000, 0);
    let mut passed = 0;
    for n in 1..1_000 {
        let passer = test.join(&small, 100, n);
        if test.passer() == Some(n) {
            passed += 100;
            test.launch(passer);
        } else {
            test.lanes.remove(passer, price);
        }
        let before = test.join_again(&large, 1, before_all, n);
        assert_eq!(test.head(), n);
        test.launch(before);
    }
    assert_eq!(passed, 4_000);
    assert_eq!(test.next().0, 0);
}

#[test]
fn nobody_passes_who_would_be_over_later() {
    let mut test = Test::new();
    test.join(&caller("a", 1), 1_000, 0);
    test.join(&caller("b", 1), 1_000, 1);
    assert_eq!(test.passer(), None);
    test.join(&caller("c", 1), 999, 2);
    assert_eq!(test.passer(), Some(2));
    let key = test.join(&caller("c", 1), 1, 3);
    assert_eq!(test.passer(), Some(2), "not before its own caller's first");
    test.lanes.remove(key, price);
}

#[test]
fn who_was_here_before_keeps_its_place() {
    let mut test = Test::new();
    let first = Some(test.now);
    let all = caller("all", 1);
    for n in 0..10 {
        test.join(&all, 1, n);
    }
    assert_eq!(test.order(2), [0, 1]);
    test.join_again(&all, 1, first, 0);
    let again = Some(Moment::default() + std::time::Duration::from_nanos(2));
    test.join_again(&all, 1, again, 1);
    assert_eq!(test.order(10), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
}

#[test]
fn who_was_set_aside_stands_where_it_stood() {
    let mut test = Test::new();
    let [one, other] = ["one", "other"].map(|name| caller(name, 1));
    let keys: Vec<_> = (0..4).map(|n| test.join(&one, 100, n)).collect();
    test.join(&other, 100, 10);
    for key in [keys[2], keys[0]] {
        test.lanes.set_aside(key, price);
    }
    assert_eq!((test.lanes.len(), test.lanes.waiting()), (3, 5));
    assert_eq!(test.order(1), [1]);
    test.join(&one, 100, 4);
    test.lanes.restore(price);
    // What one has had since counts, and nothing of the time before.
    assert_eq!(test.order(5), [10, 0, 2, 3, 4]);
    assert!(test.lanes.is_deserted());
}

#[test]
fn a_caller_of_whom_all_were_set_aside_is_known_and_has_saved_up_nothing() {
    let mut test = Test::new();
    let [one, other] = ["one", "other"].map(|name| caller(name, 1));
    let key = test.join(&one, 100, 0);
    test.lanes.set_aside(key, price);
    for n in 10..14 {
        test.join(&other, 100, n);
    }
    assert_eq!(test.order(2), [10, 11]);
    test.lanes.restore(price);
    test.join(&one, 100, 1);
    // As if it came only now.
    assert_eq!(test.order(4), [0, 12, 1, 13]);
}

#[test]
fn a_weight_that_changes_in_flight_gives_and_takes_nothing() {
    let mut test = Test::new();
    let other = caller("other", 1);
    for n in 0..10 {
        test.join(&caller("a", 1), 700, n);
        test.join(&other, 700, 100 + n);
    }
    let flying: Vec<_> = (0..6).map(|_| test.next().1).collect();
    let start = |test: &mut Test| {
        let index = test.lanes.known_lane_of(&caller("a", 1)).expect("known");
        test.lanes.lane(index).start
    };
    let before = start(&mut test);
    // It weighs a thousand times as much for a moment, in which one is let in, and
    // all of them come back.
    test.join(&caller("a", 1_000), 1, 50);
    let heavy = test.next().1;
    test.join(&caller("a", 1), 1, 51);
    test.lanes.land(heavy, Cost::NOTHING);
    assert_eq!(start(&mut test), before);
    for tagged in flying.into_iter().filter(|it| it.lane == heavy.lane) {
        test.lanes.land(tagged, Cost::NOTHING);
    }
    assert_eq!(start(&mut test), 0);
}

#[test]
fn what_is_given_back_is_had_again() {
    let mut test = Test::new();
    for n in 0..10 {
        test.join(&caller("a", 1), 100, n);
        test.join(&caller("b", 1), 100, 100 + n);
    }
    let flying: Vec<_> = (0..4).map(|_| test.next()).collect();
    assert!(flying.iter().map(|it| it.0).eq([0, 100, 1, 101]));
    for (_, tagged) in flying.into_iter().filter(|it| it.0 < 100) {
        test.lanes.land(tagged, Cost::NOTHING);
    }
    assert_eq!(test.order(4), [2, 3, 102, 4]);
}

/// In whatever order they come back, whether others wait by then or not, and however early
/// those first came who were not let in yet.
#[test]
fn who_was_let_in_stands_again_by_when_that_was() {
    for name in [Caller::default(), caller("one", 1)] {
        let mut test = Test::new();
        let early = Some(test.now);
        test.come_back(&name, 2, 2);
        test.join(&name, 1, 5);
        test.come_back(&name, 3, 3);
        test.join_again(&name, 1, early, 4);
        let first = test.come_back(&name, 1, 1);
        assert_eq!(test.lanes.let_in_as(first), Some(1));
        assert_eq!(test.order(5), [1, 2, 3, 4, 5]);
    }
}

#[test]
fn names_beyond_a_thousand_share_what_one_would_get() {
    let mut test = Test::new();
    for n in 0..5_000 {
        test.join(&Caller::new(format!("{n}")), 100, n);
    }
    let known = test.lanes.standings(0);
    assert_eq!(known.len(), 1 + NAMED + SHARED as usize);
    // Every one of the first has a turn, while the others have one together.
    let turns: Vec<_> = (0..NAMED + 64).map(|_| test.next()).collect();
    let others = turns.iter().filter(|it| it.0 >= NAMED as u32).count();
    assert!(others <= SHARED as usize, "{others}");
    assert_eq!(turns.len() - others, NAMED);
    for (_, tagged) in turns {
        test.lanes.land(tagged, tagged.cost);
    }
    while test.lanes.head().is_some() {
        let (_, tagged) = test.next();
        test.lanes.land(tagged, tagged.cost);
    }
    assert_eq!(test.lanes.standings(0).len(), 1, "all are forgotten");
}

proptest! {
    /// Whatever comes, leaves, is let in and passes: of all who wait, no tag is ahead
    /// of another by more than the largest request over the least weight; nobody is
    /// lost, and at the end everybody is forgotten.
    #[test]
    fn tags_stay_together_and_nothing_is_left(
        steps in prop::collection::vec((0u8..10, 0usize..6, 1u64..2_000), 0..400),
    ) {
        let names = ["a", "b", "c", "d", "e"];
        let who = |n: usize| names.get(n).map_or_else(Caller::default, |name| {
            caller(name, [1, 2, 5, 8, 1_000][n])
        });
        let mut test = Test::new();
        let mut waiting: Vec<Key> = Vec::new();
        let mut flying: Vec<Tagged> = Vec::new();
        let mut many = 0;
        for (step, n, tokens) in steps {
            match step {
                0..=2 => {
                    waiting.push(test.join(&who(n), tokens, 0));
                    many += 1;
                }
                3 if !waiting.is_empty() => {
                    let key = waiting.swap_remove(n % waiting.len());
                    test.lanes.remove(key, price);
                    many -= 1;
                }
                4 if !flying.is_empty() => {
                    let tagged = flying.swap_remove(n % flying.len());
                    test.lanes.land(tagged, tagged.cost);
                }
                5 => {
                    if let Some(key) = test.lanes.passer() {
                        waiting.retain(|other| *other != key);
                        flying.push(test.launch(key).1);
                        many -= 1;
                    }
                }
                6 => {
                    if let Some(key) = test.lanes.head() {
                        test.lanes.set_aside(key, price);
                    }
                }
                7 if n == 0 => test.lanes.restore(price),
                _ => {
                    if let Some(key) = test.lanes.head() {
                        waiting.retain(|other| *other != key);
                        flying.push(test.launch(key).1);
                        many -= 1;
                    }
                }
            }
            prop_assert_eq!(test.lanes.waiting(), many);
            prop_assert_eq!(test.lanes.is_deserted(), many == 0);
            // As the queue does whenever something has changed.
            test.lanes.head();
            let lanes = test.lanes.lanes_in_line();
            let tags = lanes.map(|index| test.lanes.lanes[index as usize].start);
            let tags: Vec<Tag> = tags.collect();
            let apart = tags.iter().max().zip(tags.iter().min());
            let most = Weight::of(&Caller::default()).over(Cost::nanos(2_000_000_000));
            prop_assert!(apart.is_none_or(|(max, min)| max - min <= most));
        }
        test.lanes.restore(price);
        prop_assert_eq!(test.lanes.len(), many);
        while test.lanes.head().is_some() {
            flying.push(test.next().1);
        }
        for tagged in flying {
            test.lanes.land(tagged, tagged.cost);
        }
        prop_assert_eq!(test.lanes.charge(), Total::default());
        prop_assert_eq!(test.lanes.standings(0).len(), 1);
        prop_assert!(test.lanes.lingering.is_empty());
        prop_assert!(test.lanes.heads.is_empty());
    }
}

/// In thousandths: nobody's, and the others' in the order of their coming.
fn shares(test: &Test) -> Vec<u16> {
    let all = test.lanes.standings(0).into_iter();
    all.map(|it| it.share_permille).collect()
}

#[test]
fn shares_are_of_what_stands_since_somebody_waits() {
    let mut test = Test::new();
    let (a, b) = (caller("a", 1), caller("b", 2));
    let first = test.join(&a, 100, 0);
    let second = test.join(&b, 300, 1);
    let third = test.join(&b, 300, 2);
    test.join(&a, 100, 3);
    assert_eq!(shares(&test), [0, 0, 0]);
    assert_eq!(test.lanes.charge().get(Unit::Tokens), 800);
    let (_, of_a) = test.launch(first);
    let (_, of_b) = test.launch(second);
    assert_eq!(shares(&test), [0, 250, 750]);
    let in_flight = test.lanes.standings(7).into_iter().map(|it| it.in_flight);
    assert!(
        in_flight.eq([5, 1, 1]),
        "nobody's are those that are no other's"
    );
    assert_eq!(test.lanes.weight(), 3);
    test.lanes.land(of_b, Cost::NOTHING);
    assert_eq!(shares(&test), [0, 1_000, 0], "it came back");
    let (_, of_b) = test.launch(third);
    test.lanes.land(of_b, price(&Charge::tokens(100)));
    assert_eq!(shares(&test), [0, 500, 500]);
    assert_eq!(test.next().0, 3);
    assert_eq!(test.lanes.weight(), 1, "of those that wait or fly");
    test.lanes.land(of_a, of_a.cost);
    // Somebody waits again, after nobody did.
    test.join(&b, 300, 4);
    assert_eq!(shares(&test), [0, 0, 0]);
}

#[test]
fn what_is_given_back_after_all_have_gone_gives_nobody_an_advantage() {
    let mut test = Test::new();
    let (a, b) = (caller("a", 1), caller("b", 1));
    for n in 0..2 {
        test.join(&a, 100, n);
        test.join(&b, 100, 10 + n);
    }
    let flying: Vec<_> = (0..4).map(|_| test.next().1).collect();
    // One turned out larger, when nobody waited.
    test.lanes.land(flying[0], price(&Charge::tokens(1_000)));
    for n in 2..4 {
        test.join(&b, 100, 10 + n);
        test.join(&a, 100, n);
    }
    assert_eq!(test.order(4), [12, 2, 13, 3]);
}

/// Of others those count that would be over before a newcomer, as that part of all
/// who wait there.
#[test]
fn a_newcomer_is_told_who_goes_before_it() {
    let mut test = Test::new();
    let (a, b) = (caller("a", 1), caller("b", 1));
    let ahead = |test: &Test, who: &Caller, tokens: u64| {
        let (waiting, total) = test
            .lanes
            .ahead_of(who, &Charge::tokens(tokens), false, price);
        (waiting, total.get(Unit::Tokens))
    };
    assert_eq!(ahead(&test, &a, 100), (0, 0));
    for n in 0..3 {
        test.join(&a, 100, n);
    }
    assert_eq!(ahead(&test, &a, 100), (3, 300), "all of its own");
    for (who, tokens, expected) in [
        (&b, 100, (1, 100)),
        (&b, 200, (2, 200)),
        (&b, 1_000, (3, 300)),
        (&caller("c", 2), 100, (0, 50)),
        (&caller("c", 2), 400, (2, 200)),
    ] {
        assert_eq!(ahead(&test, who, tokens), expected, "{who:?} {tokens}");
    }
    for n in 0..3 {
        test.join(&b, 100, 10 + n);
    }
    assert_eq!(ahead(&test, &b, 100), (6, 600));
    assert_eq!(ahead(&test, &caller("c", 1), 100), (2, 200));
    let waits = |test: &Test, who: &Caller| {
        let (waiting, total) = test.lanes.waiting_of(who);
        (waiting, total.get(Unit::Tokens))
    };
    assert_eq!(
        (waits(&test, &b), waits(&test, &caller("c", 1))),
        ((3, 300), (0, 0))
    );
    // Its last has gone, and it is a hundred ahead of the other's.
    let (_, first) = test.next();
    assert_eq!(ahead(&test, &a, 100), (5, 500));
    test.order(3);
    test.lanes.land(first, first.cost);
    assert_eq!(test.order(2), [2, 12]);
    assert_eq!(ahead(&test, &a, 100), (0, 0));
}

/// Who flies and does not wait begins at the present, or where it has come to.
#[test]
fn one_that_comes_again_stands_behind_what_it_had() {
    let mut test = Test::new();
    let (a, b) = (caller("a", 1), caller("b", 1));
    test.join(&a, 100, 0);
    for n in 0..8 {
        test.join(&b, 100, 10 + n);
    }
    let ahead = |test: &Test, tokens: u64| {
        let (waiting, _) = test
            .lanes
            .ahead_of(&a, &Charge::tokens(tokens), false, price);
        waiting
    };
    assert_eq!(test.next().0, 0);
    assert_eq!(
        ahead(&test, 100),
        2,
        "up to its own hundred, and the one it wants"
    );
    assert_eq!(test.order(4), [10, 11, 12, 13]);
    test.head();
    assert_eq!(ahead(&test, 100), 1, "the others have overtaken it");
}

#[test]
fn a_name_beyond_a_thousand_has_a_light_lanes_place() {
    let mut test = Test::new();
    let one_more = caller("one more", 1);
    for n in 0..NAMED as u32 {
        let ahead = test
            .lanes
            .ahead_of(&one_more, &Charge::tokens(50), false, price);
        assert_eq!(
            ahead.0, 0,
            "they are over later than half of what they want"
        );
        test.join(&Caller::new(format!("{n}")), 100, n);
    }
    let (waiting, total) = test
        .lanes
        .ahead_of(&one_more, &Charge::tokens(50), false, price);
    assert_eq!(waiting, NAMED, "of a sixty-fourth of the weight");
    assert_eq!(total.get(Unit::Tokens), 100 * NAMED as u64);
}

/// Nobody gains by it, and the head has waited.
#[test]
fn nobody_passes_who_would_be_over_at_the_same_time() {
    let mut test = Test::new();
    test.join(&caller("b", 1), 500, 0);
    test.join(&caller("b", 1), 500, 1);
    assert_eq!(test.next().0, 0);
    test.join(&caller("a", 1), 1_000, 2);
    assert_eq!((test.head(), test.passer()), (2, None));
    test.join(&caller("c", 1), 999, 3);
    assert_eq!((test.head(), test.passer()), (2, Some(3)));
}

#[test]
fn who_was_here_before_goes_before_a_newcomer_of_the_same_moment() {
    let mut test = Test::new();
    let all = caller("all", 1);
    for n in 0..2 {
        test.join(&all, 1, n);
    }
    let first = Some(Moment::default() + std::time::Duration::from_nanos(1));
    test.join_again(&all, 1, first, 2);
    let mut key = test.lanes.head().expect("somebody waits");
    let mut told = Vec::new();
    let index = test.lanes.known_lane_of(&all).expect("known");
    loop {
        told.push(*test.lanes.get_mut(key));
        match test.lanes.after(index, key) {
            Some(next) => key = next,
            None => break,
        }
    }
    assert_eq!(told, [2, 0, 1]);
    assert_eq!(test.order(3), [2, 0, 1]);
}
