//! What an [`ApiError`] is made from, beside an answer: errors of gates and clients.

use http::Response;
use tokio::time::Instant;
use tollhouse::{BoxError, Classify, Decision, Refused, Scope};

use super::{ApiError, Cause};
use crate::policy::AnswerReader;
use crate::wire::verdict::Verdict;

/// From a policy's or a gate's error.
impl From<tollhouse::Error> for ApiError {
    fn from(error: tollhouse::Error) -> Self {
        let attempts = error.attempts();
        if let Some(refused) = error.refused().copied() {
            return ApiError::new(of_refusal(&refused), attempts, Cause::Refused(refused));
        }
        let verdict = of_error(&error);
        match error.into_source().downcast::<ApiError>() {
            Ok(error) => *error,
            Err(source) => ApiError::new(verdict, attempts, Cause::NoAnswer(source)),
        }
    }
}

/// From a client's error, with nothing around the client.
impl From<crate::Error> for ApiError {
    fn from(error: crate::Error) -> Self {
        tollhouse::Error::inner(error).into()
    }
}

/// From whatever tower's layers around a policy or a client hand on.
impl From<BoxError> for ApiError {
    fn from(error: BoxError) -> Self {
        tollhouse::Error::inner(error).into()
    }
}

fn of_refusal(refused: &Refused) -> Verdict {
    let later = |scope, after| Verdict {
        retry: true,
        after,
        scope,
    };
    let never = |scope| Verdict {
        scope,
        ..Verdict::default()
    };
    match *refused {
        Refused::TooLarge { .. } => never(Scope::Tokens),
        // Too many calls at once, of ours.
        Refused::Overloaded { expected_wait, .. } | Refused::TooLate { expected_wait } => {
            // Nothing where nobody knows.
            let after = Some(expected_wait).filter(|wait| !wait.is_zero());
            later(Scope::Requests, after)
        }
        Refused::Exhausted {
            scope: Scope::Quota,
            ..
        } => never(Scope::Quota),
        Refused::Exhausted { scope, until } => {
            let after = until.saturating_duration_since(Instant::now());
            later(scope, Some(after))
        }
        _ => never(Scope::None),
    }
}

fn of_error(error: &tollhouse::Error) -> Verdict {
    // Never asked again by a layer, since the answer had begun; whoever has the
    // half of it may decide otherwise.
    let ours = error.downcast_ref::<crate::Error>();
    if ours.is_some_and(crate::Error::is_body) {
        return Verdict {
            retry: true,
            after: None,
            scope: Scope::Overload,
        };
    }
    match AnswerReader.classify(Err::<&Response<()>, _>(error)) {
        Decision::GiveUp => Verdict::default(),
        Decision::Retry { after, scope } => Verdict {
            retry: true,
            after,
            scope,
        },
    }
}
