//! How long the rest of a batch will take.
//!
//! Reckoned from what is left and what the limits allow, not from the pace so
//! far: a batch begins with a burst and then goes at the pace of its budget.

use tokio::time::{Duration, Instant};
use tollhouse_batch::Plan;
use tollhouse_openai::Policy;

use super::board::Standing;
use crate::plan::{requests_a_minute, tokens_a_minute};

const MINUTE: f64 = 60.0;

/// What the whole batch was found to be, under its policy.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    requests: f64,
    tokens: f64,
    policy: Policy,
}

impl Outlook {
    pub(crate) fn new(plan: &Plan, policy: Policy) -> Self {
        Self {
            requests: plan.requests as f64,
            tokens: plan.tokens as f64,
            policy,
        }
    }

    /// The time until the last answer: what the slowest limit takes for the
    /// requests that have not left yet, and then an answer.
    pub(crate) fn remaining(&self, standing: &Standing) -> Duration {
        let requests = (self.requests - standing.launched() as f64).max(0.0);
        let answer = standing.answers_take().unwrap_or_default();
        let slots = self.policy.config().max_concurrency as f64;
        let unanswered = requests + standing.in_flight() as f64;
        let limits = [
            self.tokens_take(self.tokens * requests / self.requests.max(1.0)),
            requests_a_minute(&self.policy).map_or(0.0, |rate| requests / rate as f64 * MINUTE),
            requests * self.policy.config().stagger.as_secs_f64(),
            unanswered / slots * answer.as_secs_f64() - answer.as_secs_f64(),
        ];
        let slowest = limits.into_iter().fold(0.0, f64::max);
        seconds(slowest) + answer + self.held()
    }

    /// What is in the budget already needs no time.
    fn tokens_take(&self, tokens: f64) -> f64 {
        let Some(rate) = tokens_a_minute(&self.policy) else {
            return 0.0;
        };
        let level = self.policy.budget().snapshot().level.max(0) as f64;
        (tokens - level) / rate as f64 * MINUTE
    }

    fn held(&self) -> Duration {
        closed_for(&self.policy).unwrap_or_default()
    }
}

/// How long the budget lets nothing through, if it does not: because of a hold,
/// or until a debt is waited off, which is what a told delay becomes.
pub(super) fn closed_for(policy: &Policy) -> Option<Duration> {
    let now = policy.budget().snapshot();
    let held = now
        .held_until
        .map(|until| until.saturating_duration_since(Instant::now()));
    let debt = now.level.min(0).unsigned_abs() as f64;
    let debt = tokens_a_minute(policy).map_or(0.0, |rate| debt / rate as f64 * MINUTE);
    let debt = seconds(debt);
    let closed = held.unwrap_or_default().max(debt);
    (!closed.is_zero()).then_some(closed)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::Request;
    use tollhouse_batch::Limits;
    use tollhouse_openai::Limit;

    use super::*;

    async fn plan(requests: usize) -> Plan {
        let line = |n| {
            format!(r#"{{"custom_id":"{n}","method":"POST","url":"/v1/responses","body":{{}}}}"#)
        };
        let input = (0..requests).map(line).collect::<Vec<_>>().join("\n");
        let cost = |_: &Request<Bytes>| 600;
        let plan = Plan::read(input.as_bytes(), cost, Limits::new()).await;
        plan.expect("a plan")
    }

    fn policy() -> Policy {
        Policy::default()
            .tpm_limit(Limit::per_minute(6_000))
            .headroom(0.0)
            .stagger(Duration::ZERO)
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_limit_decides() {
        let plan = plan(100).await;
        let remaining =
            |policy: Policy| Outlook::new(&plan, policy).remaining(&Standing::default());
        // 60,000 tokens, 6,000 of them there already, at 6,000 a minute.
        assert_eq!(remaining(policy()), Duration::from_secs(9 * 60));
        let staggered = policy().stagger(Duration::from_secs(6));
        assert_eq!(remaining(staggered), Duration::from_secs(600));
        let counted = policy().rpm_limit(Limit::per_minute(5));
        assert_eq!(remaining(counted), Duration::from_secs(1_200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_comes_on_top() {
        let policy = policy();
        let outlook = Outlook::new(&plan(10).await, policy.clone());
        assert_eq!(outlook.remaining(&Standing::default()), Duration::ZERO);
        let hold = Duration::from_secs(30);
        policy.budget().hold(Instant::now() + hold);
        assert_eq!(outlook.remaining(&Standing::default()), hold);
        assert_eq!(closed_for(&policy), Some(hold));
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_is_waited_off_first() {
        let budget = policy();
        assert_eq!(closed_for(&budget), None);
        let reserved = budget.budget().reserve(6_000).await.expect("it fits");
        reserved.settle(7_000);
        // 1,000 tokens of debt at 100 a second.
        assert_eq!(closed_for(&budget), Some(Duration::from_secs(10)));
    }
}
