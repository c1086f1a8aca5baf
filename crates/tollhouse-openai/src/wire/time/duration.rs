//! Durations: Go's (`1h8m25.745s`), prose (`33 seconds`) and plain numbers.

use std::time::Duration;

use super::LONGEST;

/// Reads a Go duration such as `6m0s`, `20ms` or `83h10m39.057s`, whole;
/// anything else, signs and missing units among it, is `None`.
pub(crate) fn go_duration(text: &str) -> Option<Duration> {
    let (total, rest) = components(text.trim(), false)?;
    rest.is_empty().then_some(total)
}

/// Reads the duration that `text` begins with, in Go's form or in words
/// (`33 seconds`, `1 minute and 30 seconds`), whatever comes after it.
pub(crate) fn prose_duration(text: &str) -> Option<Duration> {
    components(text, true).map(|(total, _)| total)
}

/// A plain number of seconds.
pub(crate) fn seconds(text: &str) -> Option<Duration> {
    plain(text, 1.0)
}

/// A plain number of milliseconds.
pub(crate) fn milliseconds(text: &str) -> Option<Duration> {
    plain(text, 1e-3)
}

fn plain(text: &str, unit: f64) -> Option<Duration> {
    let (number, rest) = decimal(text.trim())?;
    rest.is_empty().then(|| span(number, unit))
}

/// Splits an unsigned decimal number off the front: digits, and a fraction
/// only where digits follow the point, so that a sentence's full stop stays.
/// Neither exponents, signs nor `inf` are numbers here.
pub(crate) fn decimal(text: &str) -> Option<(f64, &str)> {
    let whole = digits(text);
    if whole == 0 {
        return None;
    }
    let fraction = match text[whole..].strip_prefix('.') {
        Some(after) if digits(after) > 0 => 1 + digits(after),
        _ => 0,
    };
    let (number, rest) = text.split_at(whole + fraction);
    Some((number.parse().ok()?, rest))
}

fn digits(text: &str) -> usize {
    text.bytes().take_while(u8::is_ascii_digit).count()
}

/// Adds up `number unit` pairs from the front; in prose, spaces may stand
/// inside a pair and joining words between two.
fn components(text: &str, prose: bool) -> Option<(Duration, &str)> {
    let (mut total, mut rest) = component(text, prose)?;
    while let Some((more, after)) = component(if prose { joined(rest) } else { rest }, prose) {
        total = total.saturating_add(more).min(LONGEST);
        rest = after;
    }
    Some((total, rest))
}

fn component(text: &str, prose: bool) -> Option<(Duration, &str)> {
    let (number, rest) = decimal(text)?;
    let rest = if prose { rest.trim_start() } else { rest };
    let end = rest
        .find(|c: char| !c.is_alphabetic())
        .unwrap_or(rest.len());
    // In Go's form a unit ends at the next digit; in prose at any non-letter.
    let (unit, rest) = rest.split_at(end);
    Some((span(number, unit_seconds(unit, prose)?), rest))
}

fn joined(text: &str) -> &str {
    let text = text.trim_start();
    let text = text.strip_prefix(',').unwrap_or(text).trim_start();
    text.strip_prefix("and ").unwrap_or(text).trim_start()
}

fn unit_seconds(unit: &str, prose: bool) -> Option<f64> {
    Some(match unit {
        "h" => 3_600.0,
        "m" => 60.0,
        "s" => 1.0,
        "ms" => 1e-3,
        "us" | "µs" | "μs" => 1e-6,
        "ns" => 1e-9,
        _ if prose => word_seconds(unit)?,
        _ => return None,
    })
}

fn word_seconds(unit: &str) -> Option<f64> {
    Some(match unit {
        "d" | "day" | "days" => 86_400.0,
        "hr" | "hrs" | "hour" | "hours" => 3_600.0,
        "min" | "mins" | "minute" | "minutes" => 60.0,
        "sec" | "secs" | "second" | "seconds" => 1.0,
        "millisecond" | "milliseconds" => 1e-3,
        _ => return None,
    })
}

/// `number` times `unit` seconds, to the nanosecond, at most [`LONGEST`].
fn span(number: f64, unit: f64) -> Duration {
    Duration::try_from_secs_f64(number * unit).map_or(LONGEST, |d| d.min(LONGEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn go_durations_are_read_whole_or_not_at_all() {
        let cases = [
            ("0s", Some(0)),
            ("2ms", Some(2_000_000)),
            ("8.64s", Some(8_640_000_000)),
            ("1m0.198s", Some(60_198_000_000)),
            ("14m24s", Some(864_000_000_000)),
            ("17h3m", Some(61_380_000_000_000)),
            ("83h10m39.057s", Some(299_439_057_000_000)),
            ("1.984999999s", Some(1_984_999_999)),
            ("500us", Some(500_000)),
            ("3ns", Some(3)),
            ("", None),
            ("5", None),
            ("-5s", None),
            ("+5s", None),
            ("5 s", None),
            ("5s!", None),
            ("5x", None),
            (".5s", None),
            ("1e3s", None),
            ("NaNs", None),
            ("infs", None),
        ];
        for (text, nanos) in cases {
            assert_eq!(go_duration(text), nanos.map(Duration::from_nanos), "{text}");
        }
    }

    #[test]
    fn absurd_durations_are_capped_at_a_year() {
        assert_eq!(go_duration("99999999999999999999h"), Some(LONGEST));
        assert_eq!(go_duration("8000h8000h"), Some(LONGEST));
        assert_eq!(seconds(&"9".repeat(400)), Some(LONGEST));
    }

    #[test]
    fn prose_ends_where_the_duration_does() {
        let cases = [
            ("20s. contact us", Some(20_000)),
            ("33 seconds. please go", Some(33_000)),
            ("1 seconds", Some(1_000)),
            ("48.939935699s.", Some(48_939)),
            ("7m12s", Some(432_000)),
            ("1 minute and 30 seconds", Some(90_000)),
            ("2 hours, 5 min", Some(7_500_000)),
            ("a few seconds", None),
            ("50", None),
            ("2024-05-01", None),
        ];
        for (text, millis) in cases {
            let read = prose_duration(text).map(|d| d.as_millis());
            assert_eq!(read, millis, "{text}");
        }
    }
}
