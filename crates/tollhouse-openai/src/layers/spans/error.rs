//! What a failure is called on a span.

use std::error::Error as StdError;

use tollhouse::Refused;

use crate::wire::transport_error::chain;

/// One of a few words, as the conventions want it; `_OTHER` is theirs for
/// whatever has no word.
pub(super) fn kind(error: &(dyn StdError + 'static)) -> &'static str {
    let known = |error: &(dyn StdError + 'static)| {
        if let Some(error) = error.downcast_ref::<tollhouse::Error>() {
            return error.refused().map(refusal);
        }
        if let Some(refused) = error.downcast_ref::<Refused>() {
            return Some(refusal(refused));
        }
        if error.is::<tokio::time::error::Elapsed>() {
            return Some("timeout");
        }
        error.downcast_ref::<crate::Error>().and_then(ours)
    };
    chain(error).find_map(known).unwrap_or("_OTHER")
}

fn refusal(refused: &Refused) -> &'static str {
    match refused {
        Refused::TooLarge { .. } => "refused_too_large",
        Refused::Overloaded { .. } => "refused_overloaded",
        Refused::TooLate { .. } => "refused_too_late",
        Refused::Exhausted { .. } => "refused_exhausted",
        Refused::Closed => "refused_closed",
        _ => "refused",
    }
}

fn ours(error: &crate::Error) -> Option<&'static str> {
    match error {
        error if error.is_timeout() => Some("timeout"),
        error if error.is_connect() => Some("connect"),
        error if error.is_request() => Some("request"),
        error if error.is_body() => Some("body"),
        _ => None,
    }
}
