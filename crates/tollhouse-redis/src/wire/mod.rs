//! What goes to the scripts and comes from them.

mod grant;
mod report;
mod status;

use std::time::Duration;

use redis::Value;
use tollhouse::shared::Amounts;
use tollhouse::{Per, Unit};

pub(crate) use grant::grant;
pub(crate) use report::report;
pub(crate) use status::status;

/// What is counted, in the order in which arrays of amounts have it. Of another length, the
/// script has another `UNITS`.
const UNITS: [Unit; 5] = Unit::ALL;

const PERS: [Per; 3] = [Per::Second, Per::Minute, Per::Day];

/// Lua's numbers are doubles: whatever is larger is sent as this much. No limit is.
const MOST: u64 = 1 << 50;

/// What is only ever added to counts in a circle of this, of which differences are taken.
const CIRCLE: u64 = 1 << 52;

/// The scripts count from one.
fn number_of_unit(unit: Unit) -> u64 {
    let at = UNITS.iter().position(|it| *it == unit);
    at.map_or(0, |at| at as u64 + 1)
}

fn number_of_per(per: Per) -> u64 {
    let at = PERS.iter().position(|it| *it == per);
    at.map_or(0, |at| at as u64 + 1)
}

fn unit(number: i64) -> Option<Unit> {
    UNITS
        .get(usize::try_from(number).ok()?.checked_sub(1)?)
        .copied()
}

fn per(number: i64) -> Option<Per> {
    PERS.get(usize::try_from(number).ok()?.checked_sub(1)?)
        .copied()
}

/// Rounded up: nothing comes sooner than it was told.
fn micros(time: Duration) -> u64 {
    let micros = time.as_nanos().div_ceil(1_000);
    u64::try_from(micros).map_or(MOST, |micros| micros.min(MOST))
}

// ===== reading =====

fn list(value: &Value) -> Option<&[Value]> {
    match value {
        Value::Array(all) => Some(all),
        _ => None,
    }
}

fn int(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        _ => None,
    }
}

/// Not below zero.
fn count(value: &Value) -> Option<u64> {
    int(value).and_then(|number| u64::try_from(number).ok())
}

fn time(value: &Value) -> Option<Duration> {
    count(value).map(Duration::from_micros)
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// Of each, or nothing.
fn all<T>(value: &Value, one: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
    list(value)?.iter().map(one).collect()
}

fn amounts(value: &Value) -> Option<Amounts> {
    let counts = all(value, count)?;
    let units = UNITS.into_iter().zip(counts);
    Some(units.fold(Amounts::NOTHING, |sum, (unit, amount)| {
        sum.and(unit, amount)
    }))
}
