//! Each way to count, against numbers worked out by hand.

use std::time::Duration;

use tokio::time::Instant;

use super::*;
use crate::config::{Enforcement, Limits, RequestEnforcement};

/// An account, and the moment it was opened.
struct Bench {
    account: Account,
    start: Instant,
}

const NO_LIMITS: Limits = Limits {
    tokens_per_minute: None,
    requests_per_minute: None,
};

fn tokens(limit: u64) -> Limits {
    Limits {
        tokens_per_minute: Some(limit),
        ..NO_LIMITS
    }
}

fn requests(limit: u64) -> Limits {
    Limits {
        requests_per_minute: Some(limit),
        ..NO_LIMITS
    }
}

fn rules(enforcement: Enforcement) -> Rules {
    Rules {
        enforcement,
        ..Rules::default()
    }
}

fn millis(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// How a request at a time is expected to fare.
enum Fares {
    Admitted,
    /// Refused with so much used, and so many milliseconds to wait.
    Refused(u64, u64),
    TooLarge,
}
use Fares::{Admitted, Refused, TooLarge};

impl Bench {
    fn open(limits: Limits, rules: &Rules) -> Self {
        let start = Instant::now();
        Self {
            account: Account::new(limits, rules, start, start),
            start,
        }
    }

    fn at(&self, at_millis: u64) -> Instant {
        self.start + millis(at_millis)
    }

    /// Asks at a time (in milliseconds) for so many tokens.
    fn ask(&mut self, at_millis: u64, tokens: u64) -> Result<Charge, Rejection> {
        let now = self.at(at_millis);
        self.account.admit(now, tokens)
    }

    /// Runs a table of (milliseconds, tokens, outcome).
    fn run(&mut self, table: &[(u64, u64, Fares)]) {
        for (at, tokens, fares) in table {
            let result = self.ask(*at, *tokens);
            let place = format!("{tokens} tokens at {at} ms: {result:?}");
            match (fares, result) {
                (Admitted, result) => assert!(result.is_ok(), "{place}"),
                (TooLarge, Err(Rejection::TooLarge { requested, .. })) => {
                    assert_eq!(requested, *tokens, "{place}");
                }
                (
                    Refused(used, wait),
                    Err(Rejection::Tokens(short) | Rejection::Requests(short)),
                ) => {
                    assert_eq!((short.used, short.wait), (*used, millis(*wait)), "{place}");
                }
                _ => panic!("{place}"),
            }
        }
    }

    fn tokens_left(&mut self, at_millis: u64) -> (u64, Duration) {
        let now = self.at(at_millis);
        let level = self.account.levels(now).tokens.expect("a token limit");
        (level.remaining, level.reset)
    }
}

#[test]
fn bucket_regains_its_limit_each_minute() {
    // 60,000 a minute is one each millisecond.
    Bench::open(tokens(60_000), &rules(Enforcement::Continuous)).run(&[
        (0, 60_000, Admitted),
        (0, 1, Refused(60_000, 1)),
        (999, 1_000, Refused(59_001, 1)),
        (1_000, 1_000, Admitted),
        (31_000, 30_001, Refused(30_000, 1)),
        (31_000, 30_000, Admitted),
        // Two minutes fill it once, not twice.
        (151_000, 60_001, TooLarge),
        (151_000, 60_000, Admitted),
        (151_000, 60_000, Refused(60_000, 60_000)),
    ]);
}

#[test]
fn bucket_tells_the_recorded_delays() {
    // From fixtures of real answers: used, requested, limit, delay.
    let table = [
        (29_937, 385, 30_000, 644),
        (14_567, 24_754, 30_000, 18_642),
        (22_999, 12_528, 30_000, 11_054),
    ];
    for (used, requested, limit, delay) in table {
        Bench::open(tokens(limit), &Rules::default())
            .run(&[(0, used, Admitted), (0, requested, Refused(used, delay))]);
    }
}

#[test]
fn bucket_of_requests_tells_20_s_at_3_a_minute() {
    Bench::open(requests(3), &Rules::default()).run(&[
        (0, 9, Admitted),
        (0, 9, Admitted),
        (0, 9, Admitted),
        (0, 9, Refused(3, 20_000)),
    ]);
}

#[test]
fn fixed_minute_starts_again_at_the_boundary() {
    let phase = Duration::from_secs(45);
    Bench::open(tokens(1_000), &rules(Enforcement::FixedMinute { phase })).run(&[
        (0, 600, Admitted),
        (0, 500, Refused(600, 15_000)),
        (14_999, 401, Refused(600, 1)),
        (14_999, 400, Admitted),
        // The boundary: 15 s after the start, with 45 s of its minute gone.
        (15_000, 1_000, Admitted),
        (16_000, 1, Refused(1_000, 59_000)),
        (74_999, 1, Refused(1_000, 1)),
        (75_000, 1_000, Admitted),
        (75_000, 1_001, TooLarge),
    ]);
}

#[test]
fn sliding_minute_counts_each_charge_for_exactly_a_minute() {
    Bench::open(tokens(1_000), &rules(Enforcement::SlidingMinute)).run(&[
        (0, 300, Admitted),
        (10_000, 300, Admitted),
        (20_000, 400, Admitted),
        (30_000, 300, Refused(1_000, 30_000)),
        (30_000, 301, Refused(1_000, 40_000)),
        (30_000, 601, Refused(1_000, 50_000)),
        (59_999, 1, Refused(1_000, 1)),
        (60_000, 300, Admitted),
        (69_999, 1, Refused(1_000, 1)),
        (70_000, 300, Admitted),
    ]);
}

#[test]
fn requests_by_the_second_are_a_bucket_of_one_second() {
    // 600 a minute: 10 at once, one more each 100 ms.
    let quantised = Rules {
        requests: RequestEnforcement::PerSecond,
        count_refused: false,
        ..Rules::default()
    };
    let mut bench = Bench::open(requests(600), &quantised);
    for _ in 0..10 {
        bench.ask(0, 5).expect("one second's worth");
    }
    // The text speaks of the minute: used + requested - limit is one request.
    bench.run(&[
        (0, 5, Refused(600, 100)),
        (99, 5, Refused(600, 1)),
        (100, 5, Admitted),
        (100, 5, Refused(600, 100)),
    ]);
    let level = bench.account.levels(bench.at(100)).requests.unwrap();
    assert_eq!((level.limit, level.remaining), (600, 590));
    assert_eq!(level.reset, Duration::from_secs(1));
}

#[test]
fn requests_by_the_second_are_rounded_up() {
    let quantised = Rules {
        requests: RequestEnforcement::PerSecond,
        ..Rules::default()
    };
    // 500 / 60 is 8.33.
    let mut bench = Bench::open(requests(500), &quantised);
    for _ in 0..9 {
        bench.ask(0, 5).expect("one second's worth, rounded up");
    }
    bench.run(&[(0, 5, Refused(500, 120))]);
}

#[test]
fn refused_requests_count_where_they_do() {
    for (count_refused, admitted_later) in [(true, false), (false, true)] {
        let rules = Rules {
            count_refused,
            ..Rules::default()
        };
        let limits = Limits {
            tokens_per_minute: Some(100),
            requests_per_minute: Some(3),
        };
        let mut bench = Bench::open(limits, &rules);
        bench.run(&[
            (0, 100, Admitted),
            (0, 100, Refused(100, 60_000)),
            (0, 101, TooLarge),
        ]);
        assert_eq!(bench.ask(0, 0).is_ok(), admitted_later, "{count_refused}");
    }
}

#[test]
fn who_asks_again_and_again_is_never_let_in() {
    // One request a second; asking each half second takes away what came back.
    let mut bench = Bench::open(requests(60), &Rules::default());
    for _ in 0..60 {
        bench.ask(0, 1).expect("a minute's worth");
    }
    for half_seconds in 1..200 {
        let result = bench.ask(500 * half_seconds, 1);
        let Err(Rejection::Requests(short)) = result else {
            panic!("{result:?}");
        };
        assert_eq!(short.wait, millis(1_000));
    }
    // After the told second of silence it is.
    bench.ask(500 * 199 + 1_000, 1).expect("it kept still");
}

#[test]
fn others_use_their_share() {
    let with = |enforcement| Rules {
        others: 0.5,
        ..rules(enforcement)
    };
    // Continuous: half the refill. The told delay is the provider's
    // arithmetic, which knows nothing of others.
    Bench::open(tokens(60_000), &with(Enforcement::Continuous)).run(&[
        (0, 60_000, Admitted),
        (0, 1_000, Refused(60_000, 1_000)),
        (1_000, 1_000, Refused(59_500, 500)),
        (2_000, 1_000, Admitted),
    ]);
    // Fixed: half the minute's limit, evenly over the minute.
    let phase = Duration::ZERO;
    Bench::open(tokens(60_000), &with(Enforcement::FixedMinute { phase })).run(&[
        (0, 30_000, Admitted),
        (30_000, 15_001, Refused(45_000, 30_000)),
        (30_000, 15_000, Admitted),
        (60_000, 60_000, Admitted),
    ]);
    // Sliding: half the limit, always.
    Bench::open(tokens(60_000), &with(Enforcement::SlidingMinute)).run(&[
        (0, 30_001, Refused(30_000, 60_000)),
        (0, 30_000, Admitted),
        (59_999, 1, Refused(60_000, 1)),
        (60_000, 30_000, Admitted),
    ]);
}

#[test]
fn limits_that_start_empty_fill_up() {
    let empty = |enforcement| Rules {
        start_level: 0.0,
        ..rules(enforcement)
    };
    Bench::open(tokens(60_000), &empty(Enforcement::Continuous)).run(&[
        (0, 1, Refused(60_000, 1)),
        (10_000, 10_001, Refused(50_000, 1)),
        (10_000, 10_000, Admitted),
    ]);
    let phase = Duration::from_secs(20);
    Bench::open(tokens(1_000), &empty(Enforcement::FixedMinute { phase }))
        .run(&[(39_999, 1, Refused(1_000, 1)), (40_000, 1_000, Admitted)]);
    Bench::open(tokens(1_000), &empty(Enforcement::SlidingMinute))
        .run(&[(59_999, 1, Refused(1_000, 1)), (60_000, 1_000, Admitted)]);
}

#[test]
fn a_shorter_minute_shortens_everything_told() {
    let rules = Rules {
        minute: Duration::from_secs(1),
        ..rules(Enforcement::FixedMinute {
            phase: Duration::from_secs(30),
        })
    };
    // The phase is half a minute: 500 ms.
    Bench::open(tokens(1_000), &rules).run(&[
        (0, 1_000, Admitted),
        (100, 1, Refused(1_000, 400)),
        (500, 1_000, Admitted),
        (500, 1, Refused(1_000, 1_000)),
    ]);
}

#[test]
fn true_up_gives_back_what_was_not_used() {
    let phase = Duration::ZERO;
    let table = [
        (Enforcement::Continuous, 1_000),
        (Enforcement::FixedMinute { phase }, 900),
        (Enforcement::SlidingMinute, 900),
    ];
    for (enforcement, left) in table {
        let mut bench = Bench::open(tokens(1_000), &rules(enforcement));
        let charge = bench.ask(0, 600).unwrap();
        bench.account.true_up(bench.at(6_000), charge, 100);
        // The bucket regained 100 in 6 s as well.
        assert_eq!(bench.tokens_left(6_000).0, left, "{enforcement:?}");
    }
}

#[test]
fn true_up_charges_what_was_used_above() {
    let mut bench = Bench::open(tokens(1_000), &Rules::default());
    let charge = bench.ask(0, 600).unwrap();
    bench.account.true_up(bench.at(0), charge, 1_600);
    // 600 in debt: nothing fits for 36 s.
    assert_eq!(bench.tokens_left(0), (0, Duration::from_secs(96)));
    bench.run(&[(0, 1, Refused(1_600, 36_060)), (36_060, 1, Admitted)]);
}

#[test]
fn true_up_reaches_no_minute_that_is_over() {
    let phase = Duration::ZERO;
    for enforcement in [
        Enforcement::FixedMinute { phase },
        Enforcement::SlidingMinute,
    ] {
        let mut bench = Bench::open(tokens(1_000), &rules(enforcement));
        let charge = bench.ask(0, 600).unwrap();
        bench.ask(60_000, 700).unwrap();
        bench.account.true_up(bench.at(60_000), charge, 0);
        assert_eq!(bench.tokens_left(60_000).0, 300, "{enforcement:?}");
    }
}

#[test]
fn levels_tell_the_time_until_full() {
    let phase = Duration::from_secs(10);
    let table = [
        (Enforcement::Continuous, 6_000, 700, 18_000),
        (Enforcement::FixedMinute { phase }, 12_000, 600, 38_000),
        (Enforcement::SlidingMinute, 12_000, 600, 48_000),
    ];
    for (enforcement, at, left, reset) in table {
        let mut bench = Bench::open(tokens(1_000), &rules(enforcement));
        assert_eq!(bench.tokens_left(0), (1_000, Duration::ZERO));
        bench.ask(0, 400).unwrap();
        let told = bench.tokens_left(at);
        assert_eq!(told, (left, millis(reset)), "{enforcement:?}");
    }
}

#[test]
fn allowance_is_the_most_that_could_be_charged() {
    let phase = Duration::from_secs(59);
    let table = [
        // A full bucket and two minutes' refill.
        (Enforcement::Continuous, 3_000),
        // Three minutes of the clock are touched.
        (Enforcement::FixedMinute { phase }, 3_000),
        // At 0, 60 and 120 s.
        (Enforcement::SlidingMinute, 3_000),
    ];
    for (enforcement, allowed) in table {
        let bench = Bench::open(tokens(1_000), &rules(enforcement));
        let (first, last) = (bench.start, bench.at(120_000));
        assert_eq!(
            bench.account.allowance(first, last),
            Some(allowed),
            "{enforcement:?}"
        );
    }
}

#[test]
fn no_limit_refuses_nothing() {
    let mut bench = Bench::open(NO_LIMITS, &Rules::default());
    bench.run(&[(0, u64::MAX, Admitted), (0, u64::MAX, Admitted)]);
    assert_eq!(bench.account.levels(bench.start), Levels::default());
    assert_eq!(bench.account.allowance(bench.start, bench.start), None);
}
