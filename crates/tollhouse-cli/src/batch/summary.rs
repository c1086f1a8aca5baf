//! What a batch came to.

use std::fmt;
use std::path::Path;

use tollhouse_batch::Summary;
use tollhouse_openai::Policy;

use crate::failure::{self, BoxError};
use crate::plan::token_limit;
use crate::print::{Count, Percent, Span};
use crate::wire::Seen;

/// All that is told at the end.
pub(super) struct Conclusion<'a> {
    pub(super) summary: &'a Summary,
    pub(super) seen: Seen,
    pub(super) retries: u64,
    pub(super) policy: &'a Policy,
    pub(super) errors: &'a Path,
}

/// The same for machines.
#[derive(serde::Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    summary: &'a Summary,
    /// What was charged at launch, in tokens: the estimates that `tokens`, what
    /// the answers used, can be held against.
    tokens_reserved: u64,
    /// Requests that left, further attempts included.
    launches: u64,
    retries: u64,
    /// Answers with status 429.
    rejected: u64,
    /// The share of what the limits allowed that was reserved. The headroom is not
    /// taken off, so it shows here; more than 1 where the provider showed that it
    /// charged less than was reserved.
    utilisation: Option<f64>,
}

impl Conclusion<'_> {
    /// Writes it into a file, as JSON.
    ///
    /// # Errors
    ///
    /// Names the file that cannot be written.
    pub(super) fn save(&self, path: &Path) -> Result<(), BoxError> {
        let told = Told {
            summary: self.summary,
            tokens_reserved: self.seen.tokens,
            launches: self.seen.launches,
            retries: self.retries,
            rejected: self.seen.rejected,
            utilisation: utilisation(self.policy, &self.seen),
        };
        let text = serde_json::to_string_pretty(&told)? + "\n";
        std::fs::write(path, text)
            .map_err(|error| failure::because(format!("--summary {}", path.display()), error))
    }
}

/// The share of what an account allows in a time that was charged in it: a
/// minute's tokens at first, and their refill since.
fn utilisation(policy: &Policy, seen: &Seen) -> Option<f64> {
    let limit = token_limit(policy)? as f64;
    Some(seen.tokens as f64 / (limit * (1.0 + seen.span.as_secs_f64() / 60.0)))
}

impl fmt::Display for Conclusion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { summary, seen, .. } = self;
        writeln!(f)?;
        row(f, "answered", Count(summary.ok))?;
        match summary.failed {
            0 => row(f, "failed", 0)?,
            failed => {
                let errors = self.errors.display();
                row(f, "failed", format_args!("{}, in {errors}", Count(failed)))?;
            }
        }
        row(f, "skipped", Count(summary.skipped))?;
        row(f, "bad lines", Count(summary.bad_lines))?;
        if summary.withdrawn > 0 {
            row(f, "put off", Count(summary.withdrawn))?;
        }
        let share = match utilisation(self.policy, seen) {
            Some(share) => format!(": {} of what the limits allowed", Percent(share)),
            None => String::new(),
        };
        let tokens = (Count(summary.tokens), Count(seen.tokens));
        row(
            f,
            "tokens",
            format_args!("{} used, {} reserved{share}", tokens.0, tokens.1),
        )?;
        if let Some(cost) = summary.cost {
            row(f, "cost", cost)?;
        }
        row(f, "time", Span(summary.elapsed))?;
        if let Some(waiting) = summary.waiting {
            row(f, "waiting", waiting)?;
        }
        if let Some(answers) = summary.answers {
            row(f, "answers", answers)?;
        }
        row(
            f,
            "429s",
            format_args!("{}, {} retries", seen.rejected, self.retries),
        )
    }
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    let end = if name == "429s" { "" } else { "\n" };
    write!(f, "{name:<10} {value}{end}")
}

#[cfg(test)]
mod tests {
    use tokio::time::Duration;
    use tollhouse_openai::Limit;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn utilisation_is_of_the_burst_and_the_refill() {
        let policy = Policy::default()
            .tpm_limit(Limit::per_minute(10_000))
            .headroom(0.5);
        let seen = Seen {
            tokens: 9_000,
            span: Duration::from_secs(60),
            ..Seen::default()
        };
        assert_eq!(utilisation(&policy, &seen), Some(0.45));
        let unlimited = Policy::default().tpm_limit(Limit::Unlimited);
        assert_eq!(utilisation(&unlimited, &seen), None);
    }
}
