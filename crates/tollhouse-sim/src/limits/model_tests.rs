//! Each way to count, against a model that keeps the whole history and looks
//! at nothing else.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::Instant;

use super::{Account, Rejection, Rules};
use crate::config::{Enforcement, Limits};

const MINUTE: u128 = 60_000_000_000;

/// What was charged, and when, in nanoseconds from the start.
type History = Vec<(u128, u128)>;

/// A bucket that started full admits `amount` if no stretch of history that
/// ends with it charged more than a full bucket and the stretch's refill.
fn bucket_admits(history: &History, limit: u128, now: u128, amount: u128) -> bool {
    let mut charged = amount;
    let mut fits = charged <= limit;
    for &(at, tokens) in history.iter().rev() {
        charged += tokens;
        fits &= charged * MINUTE <= limit * MINUTE + limit * (now - at);
    }
    fits
}

fn clock_admits(history: &History, limit: u128, now: u128, amount: u128, phase: u128) -> bool {
    let minute = |at: u128| (at + phase) / MINUTE;
    let same = history.iter().filter(|(at, _)| minute(*at) == minute(now));
    same.map(|(_, tokens)| tokens).sum::<u128>() + amount <= limit
}

fn log_admits(history: &History, limit: u128, now: u128, amount: u128) -> bool {
    let counts = history.iter().filter(|(at, _)| now - at < MINUTE);
    counts.map(|(_, tokens)| tokens).sum::<u128>() + amount <= limit
}

/// Requests as gaps (in nanoseconds) and tokens.
fn schedules() -> impl Strategy<Value = Vec<(u64, u64)>> {
    let gap = prop_oneof![
        Just(0),
        0..1_000_000_u64,
        0..5_000_000_000_u64,
        0..90_000_000_000_u64,
        // Meets the edges of minutes.
        (0..8_u64).prop_map(|quarters| quarters * 15_000_000_000),
    ];
    prop::collection::vec((gap, 0..700_u64), 1..80)
}

/// Runs a schedule and holds every decision against the model's, and every
/// told wait against what then happens.
fn check(
    enforcement: Enforcement,
    schedule: &[(u64, u64)],
    admits: impl Fn(&History, u128, u128, u128) -> bool,
) -> Result<(), TestCaseError> {
    const LIMIT: u64 = 1_000;
    let limits = Limits {
        tokens_per_minute: Some(LIMIT),
        requests_per_minute: None,
    };
    let rules = Rules {
        enforcement,
        ..Rules::default()
    };
    let start = Instant::now();
    let mut account = Account::new(limits, &rules, start, start);
    let mut history = History::new();
    let mut now = 0_u128;
    for &(gap, tokens) in schedule {
        now += u128::from(gap);
        let at = start + Duration::from_nanos(now as u64);
        let (limit, amount) = (u128::from(LIMIT), u128::from(tokens));
        let expected = admits(&history, limit, now, amount);
        match account.admit(at, tokens) {
            Ok(charge) => {
                prop_assert!(expected, "{tokens} at {now} should be refused");
                prop_assert_eq!((charge.at, charge.tokens), (at, tokens));
                history.push((now, amount));
            }
            Err(Rejection::Tokens(short)) => {
                prop_assert!(!expected, "{tokens} at {now} should be admitted");
                let fits = now + short.wait.as_nanos();
                prop_assert!(admits(&history, limit, fits, amount), "{short:?}");
                prop_assert!(!admits(&history, limit, fits - 1, amount), "{short:?}");
            }
            Err(other) => prop_assert!(false, "{other:?}"),
        }
    }
    Ok(())
}

proptest! {
    #[test]
    fn bucket_decides_as_its_history_does(schedule in schedules()) {
        check(Enforcement::Continuous, &schedule, bucket_admits)?;
    }

    #[test]
    fn fixed_minute_decides_as_its_history_does(
        schedule in schedules(),
        phase in 0..60_u64,
    ) {
        let phase = Duration::from_secs(phase);
        let nanos = phase.as_nanos();
        check(Enforcement::FixedMinute { phase }, &schedule, |history, limit, now, amount| {
            clock_admits(history, limit, now, amount, nanos)
        })?;
    }

    #[test]
    fn sliding_minute_decides_as_its_history_does(schedule in schedules()) {
        check(Enforcement::SlidingMinute, &schedule, log_admits)?;
    }
}
