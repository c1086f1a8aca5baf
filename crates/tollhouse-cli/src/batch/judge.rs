//! Whose fault a failure is: the request's, the provider's, or the account's.

use std::error::Error as StdError;
use std::time::Duration;

use http::StatusCode;
use tokio::time::Instant;
use tollhouse::{Refused, Scope};
use tollhouse_batch::{Failed, Judgement};
use tollhouse_openai::api_error::OneLine;
use tollhouse_openai::{Verdict, classify};

use crate::print::Span;

/// What a batch puts up with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Judge {
    /// Whether it goes on where it is hopeless.
    pub(super) keep_going: bool,
    /// The longest delay that it waits for.
    pub(super) max_told_delay: Duration,
}

impl Judge {
    pub(super) fn judge(self, failed: &Failed<'_>) -> Judgement {
        let judgement = match (failed.status, failed.error) {
            (Some(status), _) => {
                let verdict = classify(status, failed.headers, failed.body);
                self.of_answer(status, verdict, failed.message)
            }
            (None, Some(error)) => of_error(error),
            (None, None) => Judgement::Failed,
        };
        match judgement {
            Judgement::Hopeless(_) if self.keep_going => Judgement::Failed,
            judgement => judgement,
        }
    }

    fn of_answer(self, status: StatusCode, verdict: Verdict, message: &str) -> Judgement {
        // Some quote the key that they do not accept.
        let message = OneLine::long(message);
        if status == StatusCode::UNAUTHORIZED {
            return Judgement::Hopeless(format!("the API key is not accepted: {message}"));
        }
        let until = match verdict.after {
            Some(after) => format!(", for another {}", Span(after)),
            None => String::new(),
        };
        if let Some(spent) = spent(verdict.scope) {
            return Judgement::Hopeless(format!("{spent} is exhausted{until}: {message}"));
        }
        match verdict.after {
            _ if !verdict.retry => Judgement::Failed,
            Some(after) if after > self.max_told_delay => Judgement::Hopeless(too_long(after)),
            // Whoever is busy says so whatever is asked; an internal error may
            // well be about this request.
            _ if is_busy(status) => Judgement::Outage,
            _ => Judgement::Unclear,
        }
    }
}

fn is_busy(status: StatusCode) -> bool {
    // 529: overloaded, with Anthropic and those who follow it.
    matches!(status.as_u16(), 429 | 502 | 503 | 504 | 529)
}

fn of_error(error: &(dyn StdError + Send + Sync + 'static)) -> Judgement {
    if let Some(error) = error.downcast_ref::<tollhouse::Error>()
        && let Some(refused) = error.refused()
    {
        return of_refusal(refused);
    }
    let error: &(dyn StdError + 'static) = error;
    let mut causes = std::iter::successors(Some(error), |error| (*error).source());
    let Some(error) = causes.find_map(|error| error.downcast_ref::<tollhouse_openai::Error>())
    else {
        return Judgement::Failed;
    };
    if error.is_config() || error.is_request() {
        Judgement::Failed
    } else if error.is_connect() {
        Judgement::Outage
    } else {
        Judgement::Unclear
    }
}

fn of_refusal(refused: &Refused) -> Judgement {
    match *refused {
        // Not by a full line of our own, which lines wait in front of.
        Refused::Overloaded { .. } => Judgement::Outage,
        Refused::Exhausted { scope, until } => {
            let left = until.saturating_duration_since(Instant::now());
            Judgement::Hopeless(match spent(scope) {
                Some(spent) => format!("{spent} is exhausted, for another {}", Span(left)),
                None => too_long(left),
            })
        }
        _ => Judgement::Failed,
    }
}

fn too_long(left: Duration) -> String {
    format!(
        "the provider asks everybody to wait for another {}, which is longer than --max-told-delay",
        Span(left)
    )
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

#[cfg(test)]
mod tests {
    use http::HeaderMap;
    use http::header::RETRY_AFTER;

    use super::*;

    fn of_answer(status: u16, retry_after: Option<&'static str>, body: &str) -> Judgement {
        saying("so it says", status, retry_after, body)
    }

    fn saying(
        message: &str,
        status: u16,
        retry_after: Option<&'static str>,
        body: &str,
    ) -> Judgement {
        let judge = Judge {
            keep_going: false,
            max_told_delay: Duration::from_secs(3_600),
        };
        let status = StatusCode::from_u16(status).expect("a status");
        let told = retry_after.map(|told| (RETRY_AFTER, told.parse().expect("a value")));
        let headers = HeaderMap::from_iter(told);
        judge.of_answer(status, classify(status, &headers, body.as_bytes()), message)
    }

    #[test]
    fn only_what_others_would_meet_too_is_an_outage() {
        for (status, judgement) in [
            (400, Judgement::Failed),
            (403, Judgement::Failed),
            (404, Judgement::Failed),
            (408, Judgement::Unclear),
            (429, Judgement::Outage),
            (500, Judgement::Unclear),
            (502, Judgement::Outage),
            (503, Judgement::Outage),
            (504, Judgement::Outage),
            (529, Judgement::Outage),
        ] {
            assert_eq!(of_answer(status, None, "{}"), judgement, "{status}");
        }
    }

    #[test]
    fn delays_are_waited_for_up_to_the_longest() {
        assert_eq!(of_answer(503, Some("180"), "{}"), Judgement::Outage);
        assert_eq!(of_answer(503, Some("3600"), "{}"), Judgement::Outage);
        let told = "the provider asks everybody to wait for another 2h 00m, which is longer than \
                    --max-told-delay";
        let hopeless = Judgement::Hopeless(told.to_owned());
        assert_eq!(of_answer(503, Some("7200"), "{}"), hopeless);
        let now = Instant::now() + Duration::from_secs(7_200);
        let refused = Refused::Exhausted {
            scope: Scope::Overload,
            until: now,
        };
        let Judgement::Hopeless(told) = of_refusal(&refused) else {
            panic!("it is longer than anybody waits");
        };
        assert!(!told.contains("limit of"), "{told}");
        assert!(told.contains("1h 59m"), "{told}");
    }

    #[test]
    fn what_is_spent_is_hopeless() {
        let quota = r#"{"error":{"code":"insufficient_quota","message":"no money"}}"#;
        let said = "the quota is exhausted: so it says";
        assert_eq!(
            of_answer(429, None, quota),
            Judgement::Hopeless(said.to_owned())
        );
        let said = "the API key is not accepted: so it says";
        assert_eq!(
            of_answer(401, None, "{}"),
            Judgement::Hopeless(said.to_owned())
        );
    }

    #[test]
    fn no_key_is_told_that_is_not_accepted() {
        let told = "the API key is not accepted: bad key sk-…";
        assert_eq!(
            saying("bad key sk-secret", 401, None, "{}"),
            Judgement::Hopeless(told.to_owned())
        );
    }
}
