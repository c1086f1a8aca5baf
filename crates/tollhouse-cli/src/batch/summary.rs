//! What a batch came to.

use std::fmt;
use std::path::Path;

use tollhouse_batch::Summary;
use tollhouse_openai::account::DryRunSnapshot;

use crate::failure::{self, BoxError};
use crate::pools::{Pool, Pools};
use crate::print::{Count, Counted, Percent, Span};
use crate::wire::{PoolSeen, Seen};

/// All that is told at the end.
pub(super) struct Conclusion<'a> {
    pub(super) summary: &'a Summary,
    pub(super) seen: Seen,
    pub(super) retries: u64,
    pub(super) pools: &'a Pools,
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
    /// Of the pool that used the most of its limit.
    utilisation: Option<f64>,
    pools: Vec<OfPool>,
    /// What a dry run let pass.
    dry_run: Option<DryRunSnapshot>,
}

/// What one pool sent.
#[derive(serde::Serialize)]
struct OfPool {
    pool: String,
    launches: u64,
    tokens_reserved: u64,
    /// The share of what its limit allowed that was reserved. The headroom is not
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
            utilisation: self.utilisation(),
            pools: self.of_pools(),
            dry_run: self.pools.account().snapshot().dry_run,
        };
        let text = serde_json::to_string_pretty(&told)? + "\n";
        std::fs::write(path, text)
            .map_err(|error| failure::because(format!("--summary {}", path.display()), error))
    }

    fn of_pools(&self) -> Vec<OfPool> {
        let pools = self.pools.all().into_iter().zip(&self.seen.pools);
        let sent = pools.filter(|(_, seen)| seen.launches > 0);
        sent.map(|(pool, seen)| OfPool {
            pool: pool.name.to_string(),
            launches: seen.launches,
            tokens_reserved: seen.tokens,
            utilisation: utilisation(&pool, seen),
        })
        .collect()
    }

    fn utilisation(&self) -> Option<f64> {
        let shares = self.of_pools().into_iter();
        let shares = shares.filter_map(|pool| pool.utilisation);
        shares.max_by(f64::total_cmp)
    }
}

/// The share of what a pool allows in a time that was charged in it: a
/// minute's tokens at first, and their refill since.
fn utilisation(pool: &Pool, seen: &PoolSeen) -> Option<f64> {
    let limit = pool.token_limit()? as f64;
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
        let pools = self.of_pools();
        let of_limit = match &*pools {
            [only] => share(only),
            _ => String::new(),
        };
        let tokens = (Count(summary.tokens), Count(seen.tokens));
        row(
            f,
            "tokens",
            format_args!("{} used, {} reserved{of_limit}", tokens.0, tokens.1),
        )?;
        for pool in pools.iter().filter(|_| pools.len() > 1) {
            let (tokens, share) = (Count(pool.tokens_reserved), share(pool));
            row(
                f,
                "",
                format_args!("{tokens} of them for {}{share}", pool.pool),
            )?;
        }
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
        if let Some(dry_run) = self.pools.account().snapshot().dry_run {
            let (waited, refused) = (dry_run.would_have_waited, dry_run.would_have_been_refused);
            let waited = Counted(waited, "request");
            let refused = Count(refused);
            row(
                f,
                "dry run",
                format_args!("{waited} would have waited, {refused} would have been refused"),
            )?;
        }
        row(
            f,
            "429s",
            format_args!("{}, {} retries", seen.rejected, self.retries),
        )
    }
}

fn share(pool: &OfPool) -> String {
    let share = pool.utilisation.map(Percent);
    share.map_or_else(String::new, |share| {
        format!(": {share} of what the limits allowed")
    })
}

fn row(f: &mut fmt::Formatter<'_>, name: &str, value: impl fmt::Display) -> fmt::Result {
    let end = if name == "429s" { "" } else { "\n" };
    write!(f, "{name:<10} {value}{end}")
}

#[cfg(test)]
mod tests {
    use tokio::time::Duration;
    use tollhouse_openai::{Account, Call, Limit, Policy};

    use super::*;

    fn utilised(policy: Policy) -> Option<f64> {
        let pools = Pools::new(Account::new(policy));
        let seen = PoolSeen {
            tokens: 9_000,
            span: Duration::from_secs(60),
            ..PoolSeen::default()
        };
        let call = Call::of(&http::Request::new(bytes::Bytes::new()));
        utilisation(&pools.of(&call), &seen)
    }

    #[tokio::test(start_paused = true)]
    async fn utilisation_is_of_the_burst_and_the_refill() {
        let policy = Policy::default()
            .tpm_limit(Limit::per_minute(10_000))
            .headroom(0.5);
        assert_eq!(utilised(policy), Some(0.45));
        let unlimited = Policy::default().tpm_limit(Limit::Unlimited);
        assert_eq!(utilised(unlimited), None);
    }
}
