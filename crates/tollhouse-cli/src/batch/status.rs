//! Where a run stands, in a few calm lines.

use tollhouse_openai::Policy;

use super::board::{Board, Standing};
use super::outlook::closed_for;
use super::preflight::Scope;
use crate::plan::tokens_a_minute;
use crate::print::{Count, Percent, Span, Spark};
use crate::progress::{Status, Tell};
use crate::wire::{RECENT, Seen, Watch};

/// All that is looked at.
pub(super) struct View {
    pub(super) board: Board,
    pub(super) watch: Watch,
    pub(super) policy: Policy,
    pub(super) scope: Scope,
}

impl View {
    /// Tells it whenever asked.
    pub(super) fn tell(self) -> Tell {
        Box::new(move || self.status())
    }

    fn status(&self) -> Status {
        let (now, seen) = (self.board.standing(), self.watch.seen());
        let left = Span(self.scope.outlook.remaining(&now));
        let mut details = vec![
            format!("{}  about {left} left", tokens(&seen, &self.policy)),
            requests(&now, &seen),
        ];
        match outage(&now) {
            Some(outage) => details.push(outage),
            None => details.extend(hold(&self.policy)),
        }
        Status {
            name: String::new(),
            done: now.done,
            total: Some(self.scope.plan.lines),
            details,
        }
    }
}

/// What of the allowed tokens is used: each bar of the last minute against its
/// share of what a minute allows.
fn tokens(seen: &Seen, policy: &Policy) -> String {
    let Some(allowed) = tokens_a_minute(policy) else {
        let used = Count(seen.tokens_this_minute);
        return format!("{used} tokens/min, of a limit that is not known");
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
fn outage(now: &Standing) -> Option<String> {
    let (since, reason) = now.outage.as_ref()?;
    let away = Span(since.elapsed());
    Some(format!(
        "waiting for the provider, for {away} now: {reason}"
    ))
}

/// The count down while the budget lets nothing through.
fn hold(policy: &Policy) -> Option<String> {
    let left = closed_for(policy)?;
    Some(format!(
        "the provider lets nothing through for another {}",
        Span(left)
    ))
}

#[cfg(test)]
mod tests {
    use tokio::time::{Duration, Instant};
    use tollhouse_openai::Limit;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn lines_tell_use_and_holds() {
        let policy = Policy::default()
            .tpm_limit(Limit::per_minute(20_000))
            .headroom(0.0);
        let mut seen = Seen {
            tokens_this_minute: 1_500,
            rejected: 1,
            ..Seen::default()
        };
        (seen.recent[0], seen.recent[19]) = (500, 1_000);
        assert_eq!(
            tokens(&seen, &policy),
            "▄                  █ 1,500 of 20,000 tokens/min (7.5%)"
        );
        let line = "0 in flight  0 waiting  0 retries  1 429s";
        assert_eq!(requests(&Standing::default(), &seen), line);

        let mut standing = Standing::default();
        assert_eq!(outage(&standing), None);
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(62)).await;
        standing.outage = Some((since, "refused".into()));
        let away = "waiting for the provider, for 1m 02s now: refused".to_owned();
        assert_eq!(outage(&standing), Some(away));

        assert_eq!(hold(&policy), None);
        policy
            .budget()
            .hold(Instant::now() + Duration::from_secs(12));
        let held = "the provider lets nothing through for another 12.0s".to_owned();
        assert_eq!(hold(&policy), Some(held));
    }
}
