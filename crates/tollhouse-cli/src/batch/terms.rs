//! The limits of a run, a line for each pool, and what of them binds.

use std::time::Duration;

use tollhouse_batch::Plan;
use tollhouse_batch::plan::{Limit as Bound, PoolPlan};
use tollhouse_openai::{Limit, MeterSnapshot};

use crate::pools::{Pool, Pools, limit_of};
use crate::print::{Count, Counted, Span};

/// Of a shorter spacing the tenths of a second do not tell enough.
const SHORT: Duration = Duration::from_secs(1);

/// So many pools have a line of their own.
const POOLS: usize = 20;

/// `Policy: 25,500 tokens a minute, 3 requests at once, launches 15.0s apart;
/// bound by the stagger: 4 a minute`; where there are more pools, a line for each and one
/// that says which binds.
pub(super) fn lines(pools: &Pools, plan: &Plan) -> Vec<String> {
    let all = pools.all();
    let used = |pool: &PoolPlan| all.iter().find(|known| *known.name == *pool.pool);
    let bound = plan.bound_pool.as_deref();
    let of_bound = all.iter().find(|pool| Some(&*pool.name) == bound);
    let bound = match (plan.binding, of_bound) {
        (Some(bound), Some(pool)) => format!("bound by {}", binds(pool, bound)),
        (Some(bound), None) => format!("bound by the {bound} of all pools together"),
        (None, _) => "nothing of it binds".to_owned(),
    };
    match &*all {
        [only] => vec![format!("Policy: {}{}; {bound}", own(only), shared(pools))],
        _ => {
            let of_pool = |plan: &PoolPlan| {
                let requests = Counted(plan.requests, "request");
                let own = own(used(plan)?);
                Some(format!(
                    "Pool {}: {own}; {requests}{}",
                    plan.pool,
                    takes(plan)
                ))
            };
            let named = plan.pools.iter().filter_map(of_pool);
            let mut lines: Vec<_> = named.take(POOLS).collect();
            let more = plan.pools.len().saturating_sub(POOLS);
            if more > 0 {
                lines.push(format!("and {} more", Counted(more as u64, "pool")));
            }
            let of = of_bound.map_or_else(String::new, |pool| format!("pool {}, ", pool.name));
            let bound = bound.replacen("bound by ", &format!("bound by {of}"), 1);
            lines.push(format!("Side by side{}; {bound}", shared(pools)));
            lines
        }
    }
}

fn takes(plan: &PoolPlan) -> String {
    match plan.time.is_zero() {
        true => ", none of which has to wait".to_owned(),
        false => format!(" in about {}", Span(plan.time)),
    }
}

/// What one pool allows.
fn own(pool: &Pool) -> String {
    let limits = [tokens(pool), requests(pool)];
    let mut terms: Vec<_> = limits.into_iter().flatten().collect();
    terms.extend(pool.other_meters().iter().map(meter));
    let slots = Counted(pool.config.max_concurrency as u64, "request");
    terms.push(format!("{slots} at once"));
    terms.extend(spacing(pool.config.stagger));
    terms.join(", ")
}

/// What all pools share.
fn shared(pools: &Pools) -> String {
    let spacing = spacing(pools.shared_spacing());
    spacing.map_or_else(String::new, |spacing| {
        format!(", {spacing} over all models")
    })
}

fn spacing(stagger: Duration) -> Option<String> {
    let digits = if stagger < SHORT { 3 } else { 1 };
    (!stagger.is_zero()).then(|| format!("launches {:.digits$} apart", Span(stagger)))
}

fn tokens(pool: &Pool) -> Option<String> {
    match pool.config.tokens_per_minute {
        Limit::PerMinute(_) => {
            let rate = pool.tokens_a_minute()?;
            Some(format!("{} a minute", Counted(rate, "token")))
        }
        Limit::Auto => Some("tokens a minute as the provider tells".to_owned()),
        _ => None,
    }
}

fn requests(pool: &Pool) -> Option<String> {
    match pool.config.requests_per_minute {
        Limit::PerMinute(_) => {
            let rate = pool.requests_a_minute()?;
            Some(format!("{} a minute", Counted(rate, "request")))
        }
        Limit::Auto => Some("requests a minute as the provider tells".to_owned()),
        _ => None,
    }
}

/// `10,000 requests a day`, headroom taken off.
fn meter(meter: &MeterSnapshot) -> String {
    let (unit, per) = (meter.unit.name(), meter.per);
    format!("{} {unit} a {per}", Count(meter.rate))
}

fn binds(pool: &Pool, bound: Bound) -> String {
    match bound {
        Bound::Stagger => {
            let each = pool.config.stagger.as_secs_f64();
            let tenths = (600.0 / each).round();
            let rate = match tenths % 10.0 == 0.0 {
                true => Count((tenths / 10.0) as u64).to_string(),
                false => format!("{:.1}", tenths / 10.0),
            };
            format!("the stagger: {rate} a minute")
        }
        Bound::Tokens => {
            let rate = pool.tokens_a_minute().unwrap_or_default();
            format!("the tokens: {} a minute", Count(rate))
        }
        Bound::Requests => {
            let rate = pool.requests_a_minute().unwrap_or_default();
            format!("the requests: {} a minute", Count(rate))
        }
        bound => {
            let others = pool.other_meters();
            let of_bound = others.iter().find(|meter| limit_of(meter) == Some(bound));
            let allowed = of_bound.map(|meter| format!(": {}", Count(meter.rate)));
            format!("the {bound}{}", allowed.unwrap_or_default())
        }
    }
}

#[cfg(test)]
mod tests {
    use tollhouse_openai::{Account, Policy};

    use super::*;
    use crate::plan::plan;

    async fn line_of(policy: Policy) -> String {
        let pools = Pools::new(Account::new(policy));
        let line = |n| {
            format!(
                "{{\"custom_id\":\"{n}\",\"method\":\"POST\",\"url\":\"/v1/responses\",\"body\":{{}}}}\n"
            )
        };
        let input: String = (0..50).map(line).collect();
        let done = tollhouse_batch::Done::new();
        let plan = plan(input.as_bytes(), done, &pools, None, None).await;
        lines(&pools, &plan.expect("memory can be read")).join("\n")
    }

    #[tokio::test(start_paused = true)]
    async fn a_line_names_the_policy_and_what_binds() {
        let policy = || Policy::default().est_tokens(1_000);
        assert_eq!(
            line_of(policy()).await,
            "Policy: 25,500 tokens a minute, 3 requests at once, launches 15.0s apart; \
             bound by the stagger: 4 a minute"
        );
        let none = policy().stagger(Duration::ZERO);
        assert_eq!(
            line_of(none.clone()).await,
            "Policy: 25,500 tokens a minute, 3 requests at once; \
             bound by the tokens: 25,500 a minute"
        );
        assert_eq!(
            line_of(none.clone().rpm_limit(Limit::per_minute(10))).await,
            "Policy: 25,500 tokens a minute, 8 requests a minute, 3 requests at once; \
             bound by the requests: 8 a minute"
        );
        assert_eq!(
            line_of(none.tpm_limit(Limit::Auto)).await,
            "Policy: tokens a minute as the provider tells, 3 requests at once; nothing of it binds"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn limits_of_the_day_and_of_parts_are_told_and_bind() {
        let account = Account::from_toml(
            r#"
            [defaults]
            stagger_seconds = 0
            est_tokens_per_run = 1000
            headroom = 0.1
            requests_per_day = 40
            input_tokens_per_minute = 9000
            "#,
        );
        let pools = Pools::new(account.expect("a file"));
        let input = "{\"model\":\"gpt-4o\",\"input\":\"Hi\"}\n".repeat(45);
        let url = Some(http::Uri::from_static("/v1/responses"));
        let done = tollhouse_batch::Done::new();
        let plan = plan(input.as_bytes(), done, &pools, None, url).await;
        assert_eq!(
            lines(&pools, &plan.expect("memory can be read")),
            [
                "Policy: 27,000 tokens a minute, 8,100 input tokens a minute, 36 requests a day, \
                 3 requests at once; bound by the requests a day: 36"
            ]
        );
    }

    #[tokio::test(start_paused = true)]
    async fn every_pool_has_a_line_and_the_last_names_the_one_that_binds() {
        let account = Account::from_toml(
            r#"
            [defaults]
            stagger_seconds = 0
            est_tokens_per_run = 1000
            headroom = 0
            [models."gpt-4o*"]
            tokens_per_minute = 3000
            [models.fast]
            tokens_per_minute = 60000
            "#,
        );
        let pools = Pools::new(account.expect("a file"));
        let line = |model| format!(r#"{{"model":"{model}","input":"Hi"}}"#) + "\n";
        let input = line("gpt-4o-mini").repeat(6) + &line("fast").repeat(3);
        let url = Some(http::Uri::from_static("/v1/responses"));
        let done = tollhouse_batch::Done::new();
        let plan = plan(input.as_bytes(), done, &pools, None, url).await;
        assert_eq!(
            lines(&pools, &plan.expect("memory can be read")),
            [
                "Pool fast: 60,000 tokens a minute, 3 requests at once; 3 requests, none of which has to wait",
                "Pool gpt-4o*: 3,000 tokens a minute, 3 requests at once; 6 requests in about 1m 00s",
                "Side by side; bound by pool gpt-4o*, the tokens: 3,000 a minute",
            ]
        );
    }
}
