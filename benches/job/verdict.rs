//! What a run was worth, and the table of all of them.

use std::fmt;
use std::time::Duration;

use tollhouse_sim::{Enforcement, Report};

use super::rows::Row;
use super::run::Outcome;

const MINUTE: f64 = 60.0;

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Verdict {
    pub(crate) name: &'static str,
    pub(crate) time: Duration,
    pub(crate) ideal: Duration,
    pub(crate) at_most: f64,
    pub(crate) refused_at_most: u64,
    pub(crate) lost: u64,
    pub(crate) report: Report,
}

impl Verdict {
    /// The table's head.
    pub(crate) const HEAD: &str = "provider               time s  ideal s  ratio  \
         429s: tokens requests  lost  twice  used %  at most  verdict";

    pub(crate) fn new(row: &Row, calls: usize, outcome: &Outcome, report: Report) -> Self {
        Verdict {
            name: row.name,
            time: outcome.time,
            ideal: Duration::from_secs_f64(ideal(row, &report)) + outcome.latency,
            at_most: row.at_most,
            refused_at_most: row.refused,
            lost: calls as u64 - outcome.answered,
            report,
        }
    }

    pub(crate) fn ratio(&self) -> f64 {
        self.time.as_secs_f64() / self.ideal.as_secs_f64()
    }

    pub(crate) fn refused(&self) -> u64 {
        self.report.total.rejected.total()
    }

    /// Every promise that was not kept, of a job like most.
    pub(crate) fn misses(&self) -> Vec<String> {
        let mut misses = self.losses(self.refused_at_most);
        if self.ratio() > self.at_most {
            misses.push(format!("{:.3} times the ideal", self.ratio()));
        }
        misses
    }

    /// Those that hold for each job, however it went, where so many calls may be refused.
    pub(crate) fn losses(&self, refused_at_most: u64) -> Vec<String> {
        let (refused, repeated) = (self.refused(), self.report.repeated);
        let demands = [
            (
                refused <= refused_at_most,
                format!("{refused} calls refused"),
            ),
            (self.lost == 0, format!("{} calls lost", self.lost)),
            (repeated == 0, format!("{repeated} answered twice")),
        ];
        let missed = demands.into_iter().filter(|(is_kept, _)| !is_kept);
        missed.map(|(_, miss)| miss).collect()
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = &self.report.total;
        write!(
            f,
            "{:<20}{:>9.2}{:>9.2}{:>7.3}{:>14}{:>9}{:>6}{:>7}{:>8.1}{:>9.2}  ",
            self.name,
            self.time.as_secs_f64(),
            self.ideal.as_secs_f64(),
            self.ratio(),
            total.rejected.tokens,
            total.rejected.requests,
            self.lost,
            self.report.repeated,
            total.utilisation.unwrap_or_default() * 100.0,
            self.at_most,
        )?;
        match self.misses() {
            kept if kept.is_empty() => f.write_str("kept"),
            misses => write!(f, "MISSED: {}", misses.join(", ")),
        }
    }
}

/// The time in seconds that any client needs until its last call may go: the
/// larger of what the tokens and what the requests take, as the provider
/// counted them; others' share and what was missing at first taken off. With
/// fixed minutes, the fewest whole ones.
fn ideal(row: &Row, report: &Report) -> f64 {
    let config = &row.provider;
    let tally = &report.total;
    let minutes = |amount: u64, limit: Option<u64>| {
        let limit = limit.map_or(f64::INFINITY, |limit| limit as f64);
        match config.enforcement {
            Enforcement::FixedMinute { .. } => (amount as f64 / limit).ceil(),
            _ => (amount as f64 - limit * config.start_level) / (limit * (1.0 - config.others)),
        }
    };
    let tokens = minutes(tally.tokens_charged, config.limits.tokens_per_minute);
    let requests = minutes(tally.admitted, config.limits.requests_per_minute);
    tokens.max(requests).max(0.0) * MINUTE
}
