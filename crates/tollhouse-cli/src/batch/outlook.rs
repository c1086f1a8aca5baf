//! How long the rest of a batch will take.
//!
//! Reckoned from what is left and what the limits allow, not from the pace so
//! far: a batch begins with a burst and then goes at the pace of its budget. What stands in
//! line already is asked of the gates, which know more than limits: the sliding minute, say.

use tokio::time::{Duration, Instant};
use tollhouse_batch::Plan;
use tollhouse_batch::plan::PoolPlan;
use tollhouse_openai::{Caller, MeterSnapshot, Per, Unit};

use super::board::Standing;
use crate::pools::{Pool, Pools};
use crate::wire::Seen;

/// What the whole batch was found to be, pool by pool.
#[derive(Clone, Debug)]
pub(crate) struct Outlook {
    requests: f64,
    /// By the pools' numbers.
    planned: Vec<Planned>,
    pools: Pools,
    caller: Caller,
}

#[derive(Clone, Copy, Debug, Default)]
struct Planned {
    requests: f64,
    tokens: f64,
    input_tokens: f64,
    output_tokens: f64,
    images: f64,
}

impl Outlook {
    /// Of a batch of this caller's.
    pub(crate) fn new(plan: &Plan, pools: Pools, caller: Caller) -> Self {
        let of = |pool: &Pool| plan.pools.iter().find(|planned| planned.pool == *pool.name);
        let planned = pools.all().into_iter().map(|pool| match of(&pool) {
            Some(planned) => Planned::of(planned),
            None => Planned::default(),
        });
        Self {
            requests: plan.requests as f64,
            planned: planned.collect(),
            pools,
            caller,
        }
    }

    /// The time until the last answer: what the slowest pool takes for its requests that
    /// have not left yet, and then an answer.
    pub(crate) fn remaining(&self, standing: &Standing, seen: &Seen) -> Duration {
        let answer = standing.answers_take().unwrap_or_default();
        let left = (self.requests - standing.launched() as f64).max(0.0);
        let of_pools = self.pools.all().into_iter().zip(self.left_of(left, seen));
        let pools = of_pools.map(|(pool, left)| {
            let line = pool.line_takes(&self.caller).unwrap_or_default();
            pool_takes(&pool, left, answer).max(line)
        });
        pools.fold(self.shared_take(left, standing, answer), Duration::max) + answer
    }

    /// What of so many requests each pool still has to send: a first attempt is its
    /// request's, and what was sent twice in an outage is told by the sum alone.
    fn left_of(&self, left: f64, seen: &Seen) -> Vec<Planned> {
        let pools = self.planned.iter().enumerate();
        let unsent = pools.map(|(number, planned)| {
            let sent = seen.pools.get(number).map(|pool| pool.first_attempts);
            (planned.requests - sent.unwrap_or(0) as f64).max(0.0)
        });
        let unsent: Vec<f64> = unsent.collect();
        let sum: f64 = unsent.iter().sum();
        let share = |unsent: &f64, planned: &Planned| match sum > 0.0 {
            true => unsent / sum,
            false => planned.requests / self.requests.max(1.0),
        };
        let all = unsent.iter().zip(&self.planned);
        all.map(|(unsent, planned)| {
            let requests = left * share(unsent, planned);
            planned.times(requests / planned.requests.max(1.0))
        })
        .collect()
    }

    /// What the slots and the spacing of all pools take.
    fn shared_take(&self, left: f64, standing: &Standing, answer: Duration) -> Duration {
        let unanswered = left + standing.in_flight() as f64;
        let slots = self.pools.account().snapshot().max_concurrency;
        let slots = slots.map_or(0.0, |slots| slots_take(unanswered, slots, answer));
        let spacing = left * self.pools.shared_spacing().as_secs_f64();
        seconds(slots.max(spacing))
    }
}

impl Planned {
    fn of(plan: &PoolPlan) -> Self {
        Planned {
            requests: plan.requests as f64,
            tokens: plan.tokens as f64,
            input_tokens: plan.parts.input_tokens as f64,
            output_tokens: plan.parts.output_tokens as f64,
            images: plan.parts.images as f64,
        }
    }

    fn times(&self, factor: f64) -> Self {
        Planned {
            requests: self.requests * factor,
            tokens: self.tokens * factor,
            input_tokens: self.input_tokens * factor,
            output_tokens: self.output_tokens * factor,
            images: self.images * factor,
        }
    }

    /// What a limit counts of it.
    fn get(&self, unit: Unit) -> f64 {
        match unit {
            Unit::Requests => self.requests,
            Unit::Tokens => self.tokens,
            Unit::Input => self.input_tokens,
            Unit::Output => self.output_tokens,
            Unit::Images => self.images,
            _ => 0.0,
        }
    }
}

fn pool_takes(pool: &Pool, left: Planned, answer: Duration) -> Duration {
    let now = pool.snapshot();
    let limits = [
        left.requests * pool.config.stagger.as_secs_f64(),
        slots_take(
            left.requests + now.in_flight as f64,
            pool.config.max_concurrency,
            answer,
        ),
    ];
    let of_meters = now.meters.iter().map(|meter| meter_takes(meter, &left));
    let slowest = limits.into_iter().chain(of_meters).fold(0.0, f64::max);
    seconds(slowest) + closed_for(pool).unwrap_or_default()
}

/// What is there already needs no time, but requests by the minute go by the second. A debt
/// is told apart, in [`closed_for`].
fn meter_takes(meter: &MeterSnapshot, left: &Planned) -> f64 {
    let there = match (meter.unit, meter.per) {
        (Unit::Requests, Per::Minute) => 0.0,
        _ => meter.level.max(0) as f64,
    };
    refill(meter, left.get(meter.unit) - there)
}

/// How long so much of it takes to refill, in seconds.
fn refill(meter: &MeterSnapshot, amount: f64) -> f64 {
    amount / meter.rate.max(1) as f64 * meter.per.duration().as_secs_f64()
}

/// The last answer is not among it.
fn slots_take(unanswered: f64, slots: usize, answer: Duration) -> f64 {
    (unanswered / slots as f64 - 1.0) * answer.as_secs_f64()
}

/// How long a pool lets nothing through, if it does not: because of a hold,
/// or until a debt is waited off, which is what a told delay becomes.
pub(super) fn closed_for(pool: &Pool) -> Option<Duration> {
    let now = pool.snapshot();
    let held = now
        .held_until
        .map(|until| until.saturating_duration_since(Instant::now()));
    let debts = now.meters.iter().map(|it| refill(it, -it.level as f64));
    let debt = seconds(debts.fold(0.0, f64::max));
    let closed = held.unwrap_or_default().max(debt);
    (!closed.is_zero()).then_some(closed)
}

fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX / 4)
}

#[cfg(test)]
mod tests {
    use tollhouse_batch::Done;
    use tollhouse_openai::call::Endpoint;
    use tollhouse_openai::{Account, Limit, Policy};

    use super::*;
    use crate::wire::PoolSeen;

    /// Of so many requests of 600 tokens.
    async fn outlook(requests: usize, policy: Policy) -> Outlook {
        of_models(&vec!["gpt-4o"; requests], Account::new(policy)).await
    }

    async fn of_models(models: &[&str], account: Account) -> Outlook {
        let line = |(n, model)| {
            format!(
                r#"{{"custom_id":"{n}","method":"POST","url":"/v1/responses","body":{{"model":"{model}"}}}}"#
            )
        };
        let lines = models.iter().enumerate().map(line).collect::<Vec<_>>();
        let pools = Pools::new(account);
        let input = lines.join("\n");
        let plan = crate::plan::plan(input.as_bytes(), Done::new(), &pools, None, None);
        Outlook::new(&plan.await.expect("a plan"), pools, Caller::default())
    }

    fn policy() -> Policy {
        Policy::default()
            .est_tokens(600)
            .tpm_limit(Limit::per_minute(6_000))
            .headroom(0.0)
            .stagger(Duration::ZERO)
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_not_the_rate() {
        // 100 x 600 tokens; a tenth of the first minute is there at once.
        let outlook = outlook(100, policy().burst(600)).await;
        assert_eq!(remaining(&outlook), Duration::from_secs(594));
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_of_any_meter_closes_a_pool() {
        let account =
            Account::from_toml("[defaults]\nheadroom = 0\ninput_tokens_per_minute = 6000");
        let outlook = of_models(&["gpt-4o"], account.expect("a file")).await;
        let input = tollhouse_openai::Charge::of(Unit::Input, 6_000);
        let spent = budget(&outlook).try_reserve(input).expect("it is there");
        spent.launched();
        spent.settle(tollhouse_openai::Charge::of(Unit::Input, 9_000));
        let pool = outlook.pools.all().remove(0);
        assert_eq!(closed_for(&pool), Some(Duration::from_secs(30)));
    }

    fn remaining(outlook: &Outlook) -> Duration {
        outlook.remaining(&Standing::default(), &Seen::default())
    }

    fn budget(outlook: &Outlook) -> tollhouse_openai::TokenBudget {
        let account = outlook.pools.account();
        account.budget("gpt-4o", Endpoint::Responses)
    }

    #[tokio::test(start_paused = true)]
    async fn the_slowest_limit_decides() {
        // 60,000 tokens, 6,000 of them there already, at 6,000 a minute.
        let plain = outlook(100, policy()).await;
        assert_eq!(remaining(&plain), Duration::from_secs(9 * 60));
        let staggered = policy().stagger(Duration::from_secs(6));
        let staggered = outlook(100, staggered).await;
        assert_eq!(remaining(&staggered), Duration::from_secs(600));
        let counted = policy().rpm_limit(Limit::per_minute(5));
        let counted = outlook(100, counted).await;
        assert_eq!(remaining(&counted), Duration::from_secs(1_200));
    }

    #[tokio::test(start_paused = true)]
    async fn pools_go_on_side_by_side() {
        let account = Account::from_toml(
            r#"
            [defaults]
            est_tokens_per_run = 600
            headroom = 0
            stagger_seconds = 0
            [models.slow]
            tokens_per_minute = 6000
            [models.fast]
            tokens_per_minute = 60000
            "#,
        );
        let models = [vec!["slow"; 20], vec!["fast"; 150]].concat();
        let outlook = of_models(&models, account.expect("a file")).await;
        // 12,000 tokens of which 6,000 are there; 90,000 of which 60,000 are.
        assert_eq!(remaining(&outlook), Duration::from_secs(60));

        // The slow one has sent all of its own.
        let mut standing = Standing::default();
        standing.ended = 20;
        let seen = Seen {
            pools: vec![PoolSeen {
                first_attempts: 20,
                ..PoolSeen::default()
            }],
            ..Seen::default()
        };
        let left = outlook.remaining(&standing, &seen);
        assert_eq!(left, Duration::from_secs(30));
    }

    /// 60 requests, of which 20 may go at once and 20 more each day; and 36,000 tokens, of
    /// which 24,000 are there.
    #[tokio::test(start_paused = true)]
    async fn limits_of_the_day_and_of_parts_decide_too() {
        let of = |meter: &str| {
            let common = "est_tokens_per_run = 600\nheadroom = 0\nstagger_seconds = 0";
            let file = format!("[defaults]\ntokens_per_minute = 10_000_000\n{common}\n{meter}");
            Account::from_toml(&file).expect("a file")
        };
        let by_day = of_models(&vec!["slow"; 60], of("requests_per_day = 20")).await;
        assert_eq!(remaining(&by_day), Duration::from_secs(2 * 86_400));
        let tokens = of_models(&vec!["slow"; 60], of("tokens_per_day = 24_000")).await;
        assert_eq!(remaining(&tokens), Duration::from_secs(43_200));
    }

    #[tokio::test(start_paused = true)]
    async fn a_hold_comes_on_top() {
        let outlook = outlook(10, policy()).await;
        assert_eq!(remaining(&outlook), Duration::ZERO);
        let hold = Duration::from_secs(30);
        budget(&outlook).hold(Instant::now() + hold);
        assert_eq!(remaining(&outlook), hold);
        assert_eq!(closed_for(&outlook.pools.all()[0]), Some(hold));
    }

    /// All of a minute was used at its beginning, and is counted until its end, whatever
    /// has refilled.
    #[tokio::test(start_paused = true)]
    async fn who_stands_in_line_waits_for_the_sliding_minute() {
        let outlook = outlook(1, policy()).await;
        let budget = budget(&outlook);
        let first = budget.reserve(6_000).await.expect("it fits");
        first.launched();
        first.settle(6_000);
        tokio::time::advance(Duration::from_secs(30)).await;
        assert_eq!(remaining(&outlook), Duration::ZERO, "nobody has asked");
        let waits = tokio::spawn(budget.reserve(600));
        tokio::task::yield_now().await;
        assert_eq!(remaining(&outlook), Duration::from_secs(30));
        let turn = waits.await.expect("no panic").expect("its turn");
        turn.settle(600);
    }

    #[tokio::test(start_paused = true)]
    async fn a_debt_is_waited_off_first() {
        let outlook = outlook(1, policy()).await;
        let pool = &outlook.pools.all()[0];
        assert_eq!(closed_for(pool), None);
        let reserved = budget(&outlook).reserve(6_000).await.expect("it fits");
        reserved.settle(7_000);
        // 1,000 tokens of debt at 100 a second.
        assert_eq!(closed_for(pool), Some(Duration::from_secs(10)));
    }
}
