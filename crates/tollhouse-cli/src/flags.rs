//! Values of flags that are read alike: each says what is allowed.

use std::net::SocketAddr;
use std::num::NonZero;
use std::str::FromStr;
use std::time::Duration;

use tollhouse_proxy::names;

/// What is longer than a century is no time that anybody means.
const LONGEST: u64 = 100 * 366 * 86_400;

/// Seconds, as a number.
pub(crate) fn seconds(text: &str) -> Result<Duration, &'static str> {
    parsed_seconds(text).ok_or("a number of seconds, 0 or more, is allowed")
}

/// The same where none at all would let nothing happen.
pub(crate) fn some_seconds(text: &str) -> Result<Duration, &'static str> {
    parsed_seconds(text)
        .filter(|time| !time.is_zero())
        .ok_or("a number of seconds above 0 is allowed")
}

fn parsed_seconds(text: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(text.parse().ok()?).ok()
}

const AT_LEAST_ONE: &str = "a whole number, 1 or more, is allowed";

/// How many, where none at all would let nothing happen.
pub(crate) fn at_least_one<N>(text: &str) -> Result<N, &'static str>
where
    N: FromStr + Default + PartialEq,
{
    let number = text.parse().ok().filter(|number| *number != N::default());
    number.ok_or(AT_LEAST_ONE)
}

/// The same as its own type.
pub(crate) fn non_zero(text: &str) -> Result<NonZero<u32>, &'static str> {
    text.parse().map_err(|_| AT_LEAST_ONE)
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
        .filter(|time| !time.is_zero() && time.as_secs() <= LONGEST)
        .ok_or("a time such as 90s, 10m, 2h or 1h30m is allowed")
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
}
