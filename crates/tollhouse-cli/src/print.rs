//! Numbers, times and text for people.

use std::fmt;
use std::io::{self, IsTerminal, Write};

pub(crate) use tollhouse_batch::Span;

/// A number in groups of three digits.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Count(pub(crate) u64);

/// A share as a percentage, with a tenth where it is not whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Percent(pub(crate) f64);

/// Numbers as bars of up to eight eighths; one that is `full` or more is whole.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spark<'a> {
    pub(crate) bars: &'a [u64],
    pub(crate) full: f64,
}

/// Writes to standard output. A reader that has seen enough and left is no
/// error.
///
/// # Errors
///
/// It cannot be written to for another reason.
pub(crate) fn to_stdout(text: impl fmt::Display) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    let written = write!(stdout, "{text}").and_then(|()| stdout.flush());
    written.or_else(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Ok(()),
        _ => Err(error),
    })
}

/// Whether to colour what is written to a stream.
pub(crate) fn colours(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused
}

/// `1 line`, `2 lines`.
pub(crate) fn counted(count: u64, what: &str) -> String {
    let s = if count == 1 { "" } else { "s" };
    format!("{} {what}{s}", Count(count))
}

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

impl fmt::Display for Spark<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BARS: [char; 9] = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
        for bar in self.bars {
            let eighths = (*bar as f64 / self.full * 8.0).ceil();
            write!(f, "{}", BARS[(eighths as usize).min(8)])?;
        }
        Ok(())
    }
}

impl fmt::Display for Percent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = (self.0 * 1_000.0).round();
        let text = if tenths % 10.0 == 0.0 {
            format!("{:.0}%", tenths / 10.0)
        } else {
            format!("{:.1}%", tenths / 10.0)
        };
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_grouped() {
        let shown = [0, 999, 1_000, 1_234_567].map(|n| Count(n).to_string());
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(counted(1, "line"), "1 line");
        assert_eq!(counted(1_200, "line"), "1,200 lines");
    }

    #[test]
    fn bars_have_eighths_and_any_is_seen() {
        let bars = [0, 1, 50, 99, 100, 900];
        let spark = Spark {
            bars: &bars,
            full: 100.0,
        };
        assert_eq!(spark.to_string(), " ▁▄███");
    }

    #[test]
    fn percents_have_a_tenth_where_it_tells() {
        let shown = [0.15, 0.9432, 1.0].map(|share| Percent(share).to_string());
        assert_eq!(shown, ["15%", "94.3%", "100%"]);
    }
}
