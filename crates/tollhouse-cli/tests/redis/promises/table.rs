//! What was promised, what was measured.

use std::fmt;

/// One line of the table.
pub(super) struct Row {
    what: String,
    measured: String,
    target: String,
    is_kept: bool,
    is_judged: bool,
}

impl Row {
    /// Says something of the machine, too, unless it lasts for long enough: not judged where it
    /// does not.
    pub(super) fn in_the_long_run(self) -> Self {
        Row {
            is_judged: super::are_whole(),
            ..self
        }
    }

    /// Says something only if this is so: not judged where it is not.
    pub(super) fn only_if(self, is_so: bool) -> Self {
        Row {
            is_judged: self.is_judged && is_so,
            ..self
        }
    }

    /// A number that may be no larger.
    pub(super) fn at_most(what: impl Into<String>, measured: f64, most: f64) -> Self {
        Row {
            what: what.into(),
            measured: format!("{measured:.2}"),
            target: format!("at most {most:.1}"),
            is_kept: measured <= most,
            is_judged: true,
        }
    }

    /// A number that may be no smaller.
    pub(super) fn at_least(what: impl Into<String>, measured: f64, least: f64) -> Self {
        Row {
            what: what.into(),
            measured: format!("{measured:.2}"),
            target: format!("at least {least:.1}"),
            is_kept: measured >= least,
            is_judged: true,
        }
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Row {
            what,
            measured,
            target,
            is_kept,
            is_judged,
        } = self;
        let kept = match (is_kept, is_judged) {
            (true, _) => "kept",
            (false, true) => "MISSED",
            (false, false) => "missed (not judged)",
        };
        write!(f, "  {what:<52}{measured:>9}  {target:<15}{kept}")
    }
}

/// Prints a table, which `--nocapture` shows, and asks that all is kept.
pub(super) fn judge(title: &str, rows: &[Row]) {
    let lines: Vec<_> = rows.iter().map(Row::to_string).collect();
    let table = format!("{title}\n{}\n", lines.join("\n"));
    println!("\n{table}");
    let is_kept = |row: &Row| row.is_kept || !row.is_judged;
    assert!(rows.iter().all(is_kept), "{table}");
}
