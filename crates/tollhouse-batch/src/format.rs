//! Numbers and times for people.

use std::fmt;

use serde::Serializer;
use tokio::time::Duration;

/// A number for people: in groups of three digits.
///
/// # Examples
///
/// ```
/// use tollhouse_batch::Count;
///
/// assert_eq!(Count(1_234_567).to_string(), "1,234,567");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Count(pub u64);

/// So many of something that takes an `s` unless there is one.
///
/// # Examples
///
/// ```
/// use tollhouse_batch::Counted;
///
/// let shown = [0, 1, 1_200].map(|lines| Counted(lines, "line").to_string());
/// assert_eq!(shown, ["0 lines", "1 line", "1,200 lines"]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Counted(pub u64, pub &'static str);

/// A time for people: its two greatest units, rounded down; seconds with their
/// tenths, or with as many digits as the precision asks for.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse_batch::Span;
///
/// let shown = [0, 7, 252, 86_385].map(|s| Span(Duration::from_secs(s)).to_string());
/// assert_eq!(shown, ["0s", "7.0s", "4m 12s", "23h 59m"]);
/// assert_eq!(format!("{:.2}", Span(Duration::from_millis(257))), "0.25s");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span(pub Duration);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.0.to_string();
        let mut grouped = String::with_capacity(digits.len() + digits.len() / 3);
        for (at, digit) in digits.chars().enumerate() {
            if at > 0 && (digits.len() - at).is_multiple_of(3) {
                grouped.push(',');
            }
            grouped.push(digit);
        }
        f.pad(&grouped)
    }
}

impl fmt::Display for Counted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(count, what) = self;
        let ending = match (*count, what.ends_with('s')) {
            (1, _) => "",
            (_, true) => "es",
            (_, false) => "s",
        };
        write!(f, "{} {what}{ending}", Count(*count))
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        let text = match seconds {
            0 if self.0.is_zero() => "0s".to_owned(),
            0..60 => {
                let digits = f.precision().unwrap_or(1).clamp(1, 9);
                let nanos = format!("{:09}", self.0.subsec_nanos());
                format!("{seconds}.{}s", &nanos[..digits])
            }
            60..3_600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
            3_600..86_400 => format!("{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
            _ => format!("{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
        };
        // A precision given to `pad` would cut the text.
        match f.precision() {
            Some(_) => f.write_str(&text),
            None => f.pad(&text),
        }
    }
}

/// A time in JSON: seconds, with their fractions.
pub(crate) fn as_seconds<S: Serializer>(time: &Duration, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_f64(time.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let shown = [0, 999, 1_000, 45_411, 1_234_567].map(|n| Count(n).to_string());
        assert_eq!(shown, ["0", "999", "1,000", "45,411", "1,234,567"]);
        let lines = [0, 1, 1_200, 2_000].map(|n| Counted(n, "line").to_string());
        assert_eq!(lines, ["0 lines", "1 line", "1,200 lines", "2,000 lines"]);
        assert_eq!(format!("{:>8}|", Count(1_000)), "   1,000|");
    }

    #[test]
    fn spans_have_two_units() {
        let shown = [0.0, 0.25, 59.96, 60.0, 3_599.0, 3_600.0, 90_000.0]
            .map(|seconds| Span(Duration::from_secs_f64(seconds)).to_string());
        assert_eq!(
            shown,
            [
                "0s", "0.2s", "59.9s", "1m 00s", "59m 59s", "1h 00m", "1d 01h"
            ]
        );
    }
}
