//! The policy of a run, in one line, and what of it binds.

use std::time::Duration;

use tollhouse_batch::Plan;
use tollhouse_batch::plan::Limit as Bound;
use tollhouse_openai::{Limit, Policy};

use crate::plan::{requests_a_minute, tokens_a_minute};
use crate::print::{Count, Counted, Span};

/// Of a shorter spacing the tenths of a second do not tell enough.
const SHORT: Duration = Duration::from_secs(1);

/// `Policy: 25,500 tokens a minute, 3 requests at once, launches 15.0s apart;
/// bound by the stagger: 4 a minute`.
pub(super) fn line(policy: &Policy, plan: &Plan) -> String {
    let limits = [tokens(policy), requests(policy)];
    let mut terms: Vec<_> = limits.into_iter().flatten().collect();
    terms.push(format!(
        "{} at once",
        Counted(policy.config().max_concurrency as u64, "request")
    ));
    if !policy.config().stagger.is_zero() {
        let digits = if policy.config().stagger < SHORT {
            3
        } else {
            1
        };
        terms.push(format!(
            "launches {:.digits$} apart",
            Span(policy.config().stagger)
        ));
    }
    let bound = match plan.binding {
        Some(bound) => format!("bound by {}", binds(policy, bound)),
        None => "nothing of it binds".to_owned(),
    };
    format!("Policy: {}; {bound}", terms.join(", "))
}

fn tokens(policy: &Policy) -> Option<String> {
    match policy.config().tokens_per_minute {
        Limit::PerMinute(_) => {
            let rate = tokens_a_minute(policy)?;
            Some(format!("{} a minute", Counted(rate, "token")))
        }
        Limit::Auto => Some("tokens a minute as the provider tells".to_owned()),
        _ => None,
    }
}

fn requests(policy: &Policy) -> Option<String> {
    match policy.config().requests_per_minute {
        Limit::PerMinute(_) => {
            let rate = requests_a_minute(policy)?;
            Some(format!("{} a minute", Counted(rate, "request")))
        }
        Limit::Auto => Some("requests a minute as the provider tells".to_owned()),
        _ => None,
    }
}

fn binds(policy: &Policy, bound: Bound) -> String {
    match bound {
        Bound::Stagger => {
            let each = policy.config().stagger.as_secs_f64();
            let tenths = (600.0 / each).round();
            let rate = match tenths % 10.0 == 0.0 {
                true => Count((tenths / 10.0) as u64).to_string(),
                false => format!("{:.1}", tenths / 10.0),
            };
            format!("the stagger: {rate} a minute")
        }
        Bound::Tokens => {
            let rate = tokens_a_minute(policy).unwrap_or_default();
            format!("the tokens: {} a minute", Count(rate))
        }
        Bound::Requests => {
            let rate = requests_a_minute(policy).unwrap_or_default();
            format!("the requests: {} a minute", Count(rate))
        }
        bound => format!("the {bound}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::plan;

    async fn line_of(policy: Policy) -> String {
        let line = |n| {
            format!(
                "{{\"custom_id\":\"{n}\",\"method\":\"POST\",\"url\":\"/v1/responses\",\"body\":{{}}}}\n"
            )
        };
        let input: String = (0..50).map(line).collect();
        let done = tollhouse_batch::Done::new();
        let plan = plan(input.as_bytes(), done, &policy, None, None).await;
        super::line(&policy, &plan.expect("memory can be read"))
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
}
