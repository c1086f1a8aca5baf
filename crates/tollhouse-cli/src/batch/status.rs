//! Where a run stands, in a few calm lines.

use std::sync::Arc;

use tollhouse_openai::{Limit, Snapshot};

use super::board::{Board, Standing};
use super::outlook::closed_for;
use super::preflight::Scope;
use crate::pools::{Pool, Pools};
use crate::print::{Count, Percent, Span, Spark};
use crate::progress::{Status, Tell};
use crate::wire::{PoolSeen, RECENT, Seen, Watch};

/// The most pools that are shown at once.
const POOLS: usize = 8;

/// All that is looked at.
pub(super) struct View {
    pub(super) board: Board,
    pub(super) watch: Watch,
    pub(super) pools: Pools,
    pub(super) scope: Scope,
}

impl View {
    /// Tells it whenever asked.
    pub(super) fn tell(self: &Arc<Self>) -> Tell {
        let view = Arc::clone(self);
        Box::new(move || view.status())
    }

    fn status(&self) -> Status {
        let (now, seen) = (self.board.standing(), self.watch.seen());
        let left = Span(self.scope.outlook.remaining(&now, &seen));
        let mut details = match &*self.pools.all() {
            [only] => vec![format!(
                "{}  about {left} left",
                tokens(&of(&seen, 0), only)
            )],
            pools => by_pool(pools, &seen),
        };
        let mut counts = requests(&now, &seen);
        if details.len() != 1 {
            counts += &format!("  about {left} left");
        }
        details.push(counts);
        match outage(&now) {
            Some(outage) => details.push(outage),
            None => details.extend(holds(&self.pools.all())),
        }
        Status {
            name: String::new(),
            done: now.done,
            total: Some(self.scope.plan.lines),
            details,
        }
    }
}

fn of(seen: &Seen, number: usize) -> PoolSeen {
    seen.pools.get(number).cloned().unwrap_or_default()
}

/// A line for each pool in use, busier ones first where there are too many for the
/// screen.
fn by_pool(pools: &[Arc<Pool>], seen: &Seen) -> Vec<String> {
    let mut in_use: Vec<_> = pools
        .iter()
        .enumerate()
        .map(|(number, pool)| (pool, of(seen, number), pool.snapshot()))
        .filter(|(_, seen, now)| seen.launches > 0 || now.waiting + now.in_flight > 0)
        .collect();
    let left_out = in_use.len().saturating_sub(POOLS);
    if left_out > 0 {
        in_use.sort_by_key(|(_, seen, _)| std::cmp::Reverse(seen.tokens_this_minute));
        in_use.truncate(POOLS);
    }
    let names = in_use.iter().map(|(pool, ..)| pool.name.chars().count());
    let width = names.max().unwrap_or(0);
    let line = |(pool, seen, now): &(&Arc<Pool>, PoolSeen, Snapshot)| {
        format!(
            "{:width$}  {}  {} in flight  {} waiting",
            pool.name,
            tokens(seen, pool),
            now.in_flight,
            now.waiting
        )
    };
    let mut lines: Vec<_> = in_use.iter().map(line).collect();
    if left_out > 0 {
        lines.push(format!("and {left_out} quieter pools"));
    }
    lines
}

/// What of the allowed tokens is used: each bar of the last minute against its
/// share of what a minute allows.
fn tokens(seen: &PoolSeen, pool: &Pool) -> String {
    let Some(allowed) = pool.tokens_a_minute() else {
        let used = Count(seen.tokens_this_minute);
        return match pool.config.tokens_per_minute {
            Limit::Unlimited => format!("{used} tokens/min, without a limit"),
            _ => format!("{used} tokens/min, of a limit that is not known"),
        };
    };
    let spark = Spark {
        bars: &seen.recent,
        full: allowed as f64 / RECENT as f64,
    };
    format!(
        "{spark} {} of {} tokens/min ({})",
        Count(seen.tokens_this_minute),
        Count(allowed),
        Percent(seen.tokens_this_minute as f64 / allowed as f64),
    )
}

fn requests(now: &Standing, seen: &Seen) -> String {
    let mut line = format!(
        "{} in flight  {} waiting  {} retries  {} 429s",
        now.in_flight(),
        now.waiting(),
        now.retries,
        seen.rejected,
    );
    if now.failed > 0 {
        line += &format!("  {} failed", Count(now.failed));
    }
    line
}

/// Since when the provider is away, and why.
pub(super) fn outage(now: &Standing) -> Option<String> {
    let (since, reason) = now.outage.as_ref()?;
    let away = Span(since.elapsed());
    Some(format!(
        "waiting for the provider, for {away} now: {reason}"
    ))
}

/// The count down while pools let nothing through.
fn holds(pools: &[Arc<Pool>]) -> Vec<String> {
    let hold = |pool: &Arc<Pool>| {
        let left = Span(closed_for(pool)?);
        let of = match pools.len() {
            1 => String::new(),
            _ => format!(" for {}", pool.name),
        };
        Some(format!(
            "the provider lets nothing through{of} for another {left}"
        ))
    };
    pools.iter().filter_map(hold).take(POOLS).collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, Instant};
    use tollhouse_openai::call::Endpoint;
    use tollhouse_openai::{Account, Call, Policy};

    use super::*;

    fn call(model: &str) -> Call {
        let body = format!(r#"{{"model":"{model}"}}"#);
        let request = http::Request::post("/v1/responses").body(bytes::Bytes::from(body));
        Call::of(&request.expect("a request"))
    }

    #[tokio::test(start_paused = true)]
    async fn lines_tell_use_and_holds() {
        let policy = Policy::default()
            .tpm_limit(Limit::per_minute(20_000))
            .headroom(0.0);
        let pools = Pools::new(Account::new(policy));
        let pool = pools.of(&call("gpt-4o"));
        let mut of_pool = PoolSeen {
            tokens_this_minute: 1_500,
            ..PoolSeen::default()
        };
        (of_pool.recent[0], of_pool.recent[19]) = (500, 1_000);
        assert_eq!(
            tokens(&of_pool, &pool),
            "▄                  █ 1,500 of 20,000 tokens/min (7.5%)"
        );
        let seen = Seen {
            rejected: 1,
            ..Seen::default()
        };
        let line = "0 in flight  0 waiting  0 retries  1 429s";
        assert_eq!(requests(&Standing::default(), &seen), line);

        let mut standing = Standing::default();
        assert_eq!(outage(&standing), None);
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(62)).await;
        standing.outage = Some((since, "refused".into()));
        let away = "waiting for the provider, for 1m 02s now: refused".to_owned();
        assert_eq!(outage(&standing), Some(away));

        assert!(holds(&pools.all()).is_empty());
        pools
            .account()
            .budget("gpt-4o", Endpoint::Responses)
            .hold(Instant::now() + Duration::from_secs(12));
        let held = "the provider lets nothing through for another 12.0s".to_owned();
        assert_eq!(holds(&pools.all()), [held]);
    }

    #[tokio::test(start_paused = true)]
    async fn each_pool_in_use_has_a_line() {
        let file = "[models.slow]\ntokens_per_minute = 1000\nheadroom = 0";
        let pools = Pools::new(Account::from_toml(file).expect("a file"));
        for model in ["slow", "quick", "unused"] {
            pools.of(&call(model));
        }
        let launched = |tokens_this_minute| PoolSeen {
            launches: 1,
            tokens_this_minute,
            ..PoolSeen::default()
        };
        let seen = Seen {
            pools: vec![launched(500), launched(30)],
            ..Seen::default()
        };
        assert_eq!(
            by_pool(&pools.all(), &seen),
            [
                "slow                        500 of 1,000 tokens/min (50%)  0 in flight  0 waiting",
                "quick                       30 of 25,500 tokens/min (0.1%)  0 in flight  0 waiting",
            ]
        );
    }
}
