//! Numbers, times and text for people.

use std::fmt;
use std::io::{self, IsTerminal, Write};

pub(crate) use tollhouse_batch::{Count, Counted, Span};

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
