//! What was promised, what was measured.

use std::fmt;

/// One line of the table.
pub(super) struct Row {
    what: String,
    measured: String,
    target: String,
    is_kept: bool,
}

impl Row {
    /// A number that may be no larger.
    pub(super) fn at_most(what: impl Into<String>, measured: f64, most: f64) -> Self {
        Row {
            what: what.into(),
            measured: format!("{measured:.2}"),
            target: format!("at most {most:.1}"),
            is_kept: measured <= most,
        }
    }

    /// A number that may be no smaller.
    pub(super) fn at_least(what: impl Into<String>, measured: f64, least: f64) -> Self {
        Row {
            what: what.into(),
            measured: format!("{measured:.2}"),
            target: format!("at least {least:.1}"),
            is_kept: measured >= least,
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
        } = self;
        let kept = if *is_kept { "kept" } else { "MISSED" };
        write!(f, "  {what:<52}{measured:>9}  {target:<15}{kept}")
    }
}

/// Prints a table, which `--nocapture` shows, and asks that all is kept.
pub(super) fn judge(title: &str, rows: &[Row]) {
    let lines: Vec<_> = rows.iter().map(Row::to_string).collect();
    let table = format!("{title}\n{}\n", lines.join("\n"));
    println!("\n{table}");
    assert!(rows.iter().all(|row| row.is_kept), "{table}");
}
