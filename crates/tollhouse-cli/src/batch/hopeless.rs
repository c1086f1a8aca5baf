//! Failures after which it makes no sense to send anything else.

use http::StatusCode;
use tollhouse::{Error, Refused, Scope};
use tollhouse_batch::Failed;
use tollhouse_openai::classify;

use crate::print::Span;

/// The reason, if this failure is one.
pub(super) fn hopeless(failed: &Failed<'_>) -> Option<String> {
    match failed.status {
        Some(StatusCode::UNAUTHORIZED) => {
            Some(format!("the API key is not accepted: {}", failed.message))
        }
        Some(status) => {
            let verdict = classify(status, failed.headers, failed.body);
            let spent = spent(verdict.scope)?;
            let until = match verdict.after {
                Some(after) => format!(", for another {}", Span(after)),
                None => String::new(),
            };
            Some(format!("{spent} is exhausted{until}: {}", failed.message))
        }
        None => match failed.error?.downcast_ref::<Error>()?.refused()? {
            Refused::Exhausted { scope, until } => {
                let left = until.saturating_duration_since(tokio::time::Instant::now());
                let what = spent(*scope).unwrap_or("the limit");
                Some(format!("{what} is exhausted, for another {}", Span(left)))
            }
            _ => None,
        },
    }
}

/// What does not come back while anybody would want to wait for it.
fn spent(scope: Scope) -> Option<&'static str> {
    match scope {
        Scope::Quota => Some("the quota"),
        Scope::TokensPerDay => Some("the day's limit of tokens"),
        Scope::RequestsPerDay => Some("the day's limit of requests"),
        _ => None,
    }
}
