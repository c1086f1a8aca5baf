//! What one report draws beside others that wait, to the token.

use super::*;
use crate::shared::PoolGrant;

/// A thousand tokens are a second.
const LIMIT: u64 = 60_000;

/// Spends all that there is, and is heard of no more.
const SPENDS: u128 = 9;

/// One limit, and reports one after another; what is drawn is sent at once, and has landed by
/// the next report.
struct Table {
    bank: Bank,
    now: u64,
    numbers: BTreeMap<u128, u64>,
    meters: Vec<MeterTerms>,
}

impl Table {
    /// It is known how much there is: all.
    fn full(meters: Vec<MeterTerms>) -> Self {
        let mut table = Table {
            bank: Bank::new(1),
            now: 1_000 * SEC,
            numbers: BTreeMap::new(),
            meters,
        };
        table.ask(SPENDS, 1, &[]);
        table.now += 4 * SEC;
        table
    }

    /// Nothing is left of a minute's tokens, and nobody is ahead of anybody.
    fn empty() -> Self {
        let mut table = Table::full(vec![by_the_minute(LIMIT, LIMIT)]);
        assert_eq!(table.ask(SPENDS, 1, &[LIMIT]), LIMIT);
        table.ask(SPENDS, 1, &[]);
        table
    }

    fn report(&mut self, process: u128, weight: u64, line: Vec<Amounts>) -> PoolGrant {
        let number = self.numbers.entry(process).or_default();
        *number += 1;
        let pool = PoolReport {
            meters: self.meters.clone(),
            weight,
            line,
            ..PoolReport::default()
        };
        let report = asking(process, *number, self.now, pool);
        self.bank.exchange(&report, Stamp(self.now)).pools.remove(0)
    }

    /// Says how many tokens were drawn.
    fn ask(&mut self, process: u128, weight: u64, line: &[u64]) -> u64 {
        let line = line.iter().copied().map(tokens).collect();
        self.report(process, weight, line).drawn.get(Unit::Tokens)
    }

    /// As many tokens refill.
    fn refill(&mut self, tokens: u64) {
        self.now += tokens * SEC / 1_000;
    }
}

#[test]
fn leases_are_called_back_for_another_ones_head_that_takes_more_than_a_second() {
    for (collected, is_large) in [(900, false), (1_000, false), (1_001, true), (30_000, true)] {
        let mut table = Table::empty();
        let mut asks = |process, line| {
            let line = vec![tokens(line)];
            let grant = table.report(process, 1, line);
            assert!(grant.drawn.is_nothing());
            grant.recalled
        };
        assert!(!asks(1, collected), "it has no lease but its own");
        assert_eq!(asks(2, 500), is_large, "{collected}");
    }
}

/// By its weight its turn is soon over.
#[test]
fn a_heavy_head_is_not_passed_by_what_would_be_over_later() {
    let mut table = Table::empty();
    let mut passed = 0;
    for _ in 0..4 * 60 {
        table.refill(250);
        if table.ask(1, 50, &[30_000]) > 0 {
            break;
        }
        passed += table.ask(2, 1, &[500; 16]);
    }
    assert_eq!(passed, 500, "its first would be over sooner");
}

#[test]
fn nobody_passes_a_head_who_would_be_over_at_the_same_time() {
    let mut table = Table::empty();
    table.refill(1_000);
    assert_eq!(table.ask(1, 2, &[2_000]), 0);
    assert_eq!(table.ask(2, 1, &[1_000]), 0);
    assert_eq!(table.ask(2, 1, &[999]), 999);
}

/// It waits for requests, of which five are five seconds' worth; tokens there are enough.
#[test]
fn one_report_passes_a_head_no_more_than_many_do() {
    let requests = MeterTerms {
        unit: Unit::Requests,
        ..by_the_minute(60, 60)
    };
    let mut table = Table::full(vec![by_the_minute(LIMIT, LIMIT), requests]);
    let head = table.report(1, 1, vec![Amounts::of(Unit::Requests, 5)]);
    assert!(head.drawn.is_nothing());
    // Four times its cost, but for the four seconds that are spared.
    assert_eq!(table.ask(2, 50, &[1_000; 20]), 16_000);
    assert_eq!(table.ask(2, 50, &[1_000; 20]), 0);
}

/// What passes this head until it is granted, by somebody so heavy that he would be over sooner.
fn passed(table: &mut Table, head: u64) -> u64 {
    let mut passed = 0;
    for _ in 0..4 * 600 {
        table.refill(250);
        if table.ask(3, 1, &[head]) > 0 {
            return passed;
        }
        passed += table.ask(4, 50, &[500; 16]);
    }
    panic!("it is never launched");
}

#[test]
fn what_was_granted_before_a_large_head_in_its_turn_counts_as_passing_it() {
    for (head, most) in [(1_000, 3_000), (1_001, 2_500)] {
        let mut table = Table::empty();
        table.refill(500);
        assert_eq!(table.ask(3, 1, &[head]), 0);
        assert_eq!(table.ask(2, 1, &[500]), 500);
        assert_eq!(passed(&mut table, head), most, "{head}");
    }
}

/// It leaves when it was passed by a minute's worth; two small ones of its process are granted
/// and pay for it four times, and then it is there again.
#[test]
fn what_passed_a_head_that_left_is_paid_off_by_what_others_of_its_process_are_granted() {
    const HEAD: u64 = 30_000;
    let all = |lines: &[&[u64]]| {
        let mut table = Table::empty();
        let mut before = 0;
        while before < 60_000 {
            table.refill(250);
            assert_eq!(table.ask(3, 1, &[HEAD]), 0);
            before += table.ask(4, 50, &[500; 16]);
        }
        for line in lines {
            table.refill(500);
            assert_eq!(table.ask(3, 1, line), 500);
        }
        before + passed(&mut table, HEAD)
    };
    assert_eq!(all(&[]), 4 * HEAD - 4_000);
    let small: [&[u64]; 2] = [&[500, 500, 5_000], &[500, 5_000]];
    assert_eq!(all(&small), 4 * HEAD - 4_000 + 4 * 1_000);
}

/// What it is granted itself passes nothing of its own.
#[test]
fn a_large_head_is_passed_no_less_for_those_of_its_process_that_are_granted_before_it() {
    let mut table = Table::empty();
    table.refill(500);
    // It is so heavy that its turn is next all the same.
    assert_eq!(table.ask(3, 1_000_000, &[500, 30_000]), 500);
    assert_eq!(passed(&mut table, 30_000), 116_000);
}

#[test]
fn what_passed_a_small_head_ends_with_it_though_a_large_one_waits_that_nothing_passed() {
    let mut table = Table::empty();
    let mut before = 0;
    while before < 3_000 {
        table.refill(250);
        assert_eq!(table.ask(3, 1, &[1_000]), 0);
        before += table.ask(4, 50, &[500; 16]);
    }
    assert_eq!(table.ask(3, 1, &[30_000]), 0);
    assert_eq!(table.ask(5, 1, &[]), 0);
    table.refill(1_000);
    assert_eq!(table.ask(3, 1_000_000, &[1_000, 30_000]), 1_000);
    assert_eq!(passed(&mut table, 30_000), 116_000);
}
