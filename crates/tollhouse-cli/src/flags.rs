//! Values of flags that are read alike: each says what is allowed.

use std::fmt::Display;
use std::net::SocketAddr;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

use tollhouse_proxy::names;

/// What is longer than a century is no time that anybody means.
const LONGEST: u64 = 100 * 366 * 86_400;

/// Seconds, as a number.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let within_a_century = parsed_seconds(text).filter(|time| is_meant(*time));
    within_a_century.ok_or_else(|| format!("a number of seconds from 0 to {LONGEST} is allowed"))
}

/// The same where none at all would let nothing happen.
pub(crate) fn some_seconds(text: &str) -> Result<Duration, String> {
    let above_zero = seconds(text).ok().filter(|time| !time.is_zero());
    above_zero
        .ok_or_else(|| format!("a number of seconds from 0.000000001 to {LONGEST} is allowed"))
}

fn is_meant(time: Duration) -> bool {
    time <= Duration::from_secs(LONGEST)
}

fn parsed_seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

/// A type of whole numbers from 0 on, which knows its largest.
pub(crate) trait Whole: FromStr + Default + Display + PartialEq {
    const MOST: Self;
}

impl Whole for u32 {
    const MOST: u32 = u32::MAX;
}

impl Whole for u64 {
    const MOST: u64 = u64::MAX;
}

impl Whole for usize {
    const MOST: usize = usize::MAX;
}

/// How many.
pub(crate) fn whole<N: Whole>(text: &str) -> Result<N, String> {
    let told = || format!("a whole number from 0 to {} is allowed", N::MOST);
    text.parse().map_err(|_| told())
}

/// The same where none at all would let nothing happen.
pub(crate) fn at_least_one<N: Whole>(text: &str) -> Result<N, String> {
    let number = text.parse().ok().filter(|number| *number != N::default());
    number.ok_or_else(|| format!("a whole number from 1 to {} is allowed", N::MOST))
}

/// The same as its own type.
pub(crate) fn non_zero(text: &str) -> Result<NonZero<u32>, String> {
    let number = at_least_one(text)?;
    Ok(NonZero::new(number).expect("it is at least one"))
}

/// A text that says something: an empty one would be as good as no flag, and is mostly a
/// variable of a script's that is not set.
pub(crate) fn something(text: &str) -> Result<String, &'static str> {
    let says = !text.trim().is_empty();
    says.then(|| text.to_owned())
        .ok_or("it says nothing; leave the flag out where nothing is meant")
}

/// A name that clients call a proxy by.
pub(crate) fn host(text: &str) -> Result<String, &'static str> {
    names::is_host(text)
        .then(|| text.to_owned())
        .ok_or("a name such as proxy.internal, without a port, is allowed")
}

/// A caller's name, as the proxy takes it from clients, too.
pub(crate) fn caller(text: &str) -> Result<String, &'static str> {
    names::caller(text)
        .map(str::to_owned)
        .ok_or("a name of visible ASCII and spaces, of 1 to 64 characters, is allowed")
}

/// Where to listen, or whom to reach.
pub(crate) fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "an address and a port, such as 127.0.0.1:8788, are allowed")
}

/// Numbers with their units, the greatest first, as times are printed: `90s`, `1h 30m`;
/// seconds without one.
pub(crate) fn time(text: &str) -> Result<Duration, &'static str> {
    parsed_time(text)
        .filter(|time| !time.is_zero() && is_meant(*time))
        .ok_or("a time such as 90s, 10m, 2h or 1h30m, at most 36600d, is allowed")
}

fn parsed_time(text: &str) -> Option<Duration> {
    let mut sum = Duration::ZERO;
    let mut greatest = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let number = rest.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, tail) = rest.split_at(number.unwrap_or(rest.len()));
        let unit = tail.find(|c: char| !c.is_ascii_alphabetic());
        let (unit, tail) = tail.split_at(unit.unwrap_or(tail.len()));
        let unit = match unit {
            "d" => 86_400,
            "h" => 3_600,
            "m" => 60,
            "s" => 1,
            // Alone; after another number it would be anybody's guess.
            "" if tail.is_empty() && greatest == u64::MAX => 1,
            _ => return None,
        };
        if unit >= greatest {
            return None;
        }
        greatest = unit;
        sum = sum.checked_add(times(number, unit)?)?;
        rest = match tail.strip_prefix(' ') {
            Some("") => return None,
            Some(next) => next,
            None => tail,
        };
    }
    Some(sum)
}

/// Seconds alone may have fractions.
fn times(number: &str, unit: u64) -> Option<Duration> {
    match unit {
        1 => parsed_seconds(number).filter(|_| !number.is_empty()),
        _ => Some(Duration::from_secs(
            number.parse::<u64>().ok()?.checked_mul(unit)?,
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::print::Span;

    #[test]
    fn times_have_units_or_are_seconds() {
        for (text, seconds) in [
            ("90s", 90),
            ("10m", 600),
            ("2h", 7_200),
            ("45", 45),
            ("1h30m", 5_400),
            ("1h 30m", 5_400),
            ("1d 01h", 90_000),
            ("1h 0m 5s", 3_605),
        ] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        for text in [
            "",
            "m",
            "0s",
            "0",
            "-1m",
            "1.5h",
            "10 m",
            "1w",
            "30m1h",
            "1h1h",
            "1h30",
            "1h  30m",
            "1h ",
            " 1h",
            ".",
            "infs",
            "99999999999999999999h",
        ] {
            assert!(time(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_printed_can_be_given() {
        for seconds in [0.5, 42.3, 90.0, 3_599.0, 5_400.0, 90_000.0] {
            let printed = Span(Duration::from_secs_f64(seconds)).to_string();
            let read = time(&printed).expect("a time that is printed");
            assert_eq!(Span(read).to_string(), printed);
        }
    }

    #[test]
    fn none_at_all_is_refused_where_it_would_stop_everything() {
        assert_eq!(at_least_one::<usize>("3"), Ok(3));
        for text in ["0", "-1", "1.5", "", "many"] {
            assert!(at_least_one::<usize>(text).is_err(), "{text}");
            assert!(non_zero(text).is_err(), "{text}");
        }
        assert_eq!(some_seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "", "soon", "inf", "NaN"] {
            assert!(some_seconds(text).is_err(), "{text}");
        }
    }

    /// What is told to be allowed is.
    #[test]
    fn the_least_and_the_largest_are_allowed() {
        assert_eq!(whole("4294967295"), Ok(u32::MAX));
        assert_eq!(whole("18446744073709551615"), Ok(u64::MAX));
        assert_eq!(whole("0"), Ok(0_usize));
        assert!(whole::<u64>("18446744073709551616").is_err());
        assert_eq!(some_seconds("0.000000001"), Ok(Duration::from_nanos(1)));
        assert_eq!(seconds("3162240000"), Ok(Duration::from_secs(LONGEST)));
        assert_eq!(time("36600d"), Ok(Duration::from_secs(LONGEST)));
        for text in ["3162240000.1", "3162240001", "1e30"] {
            assert!(seconds(text).is_err(), "{text}");
        }
    }
}
