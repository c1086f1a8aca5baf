//! The one reader of answers that all gates share.

use std::error::Error as StdError;

use http::Response;
use tollhouse::{Classify, Decision, Observation, Observe, Scope, Usage};

use crate::wire::limits::RateLimits;
use crate::wire::transport_error::{broke_off, chain, io_kinds};
use crate::wire::usage::UsageMeter;
use crate::wire::verdict::{Verdict, classify};

/// Teaches the gates to read an OpenAI-style API's answers: what the account
/// has left ([`Observe`]), whether to ask again ([`Classify`]), and what was
/// really used ([`Usage`]).
///
/// It takes the [`Verdict`] and the [`RateLimits`] that
/// [`OpenAi`](crate::OpenAi) or [`WithVerdict`](crate::WithVerdict) left in the
/// extensions; without one of them below, it makes do with status and headers
/// and cannot tell a spent quota from a rate limit.
///
/// # Retried errors
///
/// Where there is no answer, asking again is right while nothing can have
/// reached the caller: no connection, a connection that broke before the head,
/// a head that did not come in time. The provider may have worked on a request
/// of the latter two, which costs money but changes nothing else. An error is
/// known by the errors behind it, so a gate's [`tollhouse::Error`] around it makes
/// no difference; a gate's own refusal is handed back.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tollhouse_openai::{Classify, Decision, Scope, AnswerReader};
///
/// let busy = Response::builder().status(503).body(()).unwrap();
/// let decision = AnswerReader.classify(Ok::<_, &std::io::Error>(&busy));
/// assert_eq!(decision, Decision::Retry { after: None, scope: Scope::Overload });
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AnswerReader;

impl<B> Observe<Response<B>> for AnswerReader {
    fn observe(&self, response: &Response<B>) -> Observation {
        let limits = match response.extensions().get::<RateLimits>() {
            Some(limits) => limits.into(),
            None => (&RateLimits::from_headers(response.headers())).into(),
        };
        Observation {
            limits,
            denial: verdict(response).denial(),
        }
    }
}

impl<B> Usage<Response<B>> for AnswerReader {
    type Meter = UsageMeter;

    fn meter(&self, response: &Response<B>) -> UsageMeter {
        UsageMeter::new(response.status(), response.headers())
    }
}

impl<B, E> Classify<Response<B>, E> for AnswerReader
where
    E: StdError + 'static,
{
    fn classify(&self, result: Result<&Response<B>, &E>) -> Decision {
        match result {
            Ok(response) => verdict(response).into(),
            Err(error) if is_transient(error) => Decision::Retry {
                after: None,
                scope: Scope::Overload,
            },
            Err(_) => Decision::GiveUp,
        }
    }
}

fn verdict<B>(response: &Response<B>) -> Verdict {
    match response.extensions().get::<Verdict>() {
        Some(verdict) => *verdict,
        None => classify(response.status(), response.headers(), &[]),
    }
}

fn is_transient(error: &(dyn StdError + 'static)) -> bool {
    // Our own client's word goes before the details that are behind it: a
    // body that broke off shows the same reset as a missing head.
    let ours = chain(error).find_map(|error| error.downcast_ref::<crate::Error>());
    match ours {
        Some(error) => error.is_transient(),
        None => broke_off(error) || no_connection(error) || timed_out(error),
    }
}

fn no_connection(error: &(dyn StdError + 'static)) -> bool {
    use std::io::ErrorKind::{
        ConnectionRefused, HostUnreachable, NetworkDown, NetworkUnreachable, TimedOut,
    };
    let unreachable = [
        ConnectionRefused,
        HostUnreachable,
        NetworkDown,
        NetworkUnreachable,
        TimedOut,
    ];
    io_kinds(error).any(|kind| unreachable.contains(&kind))
        || chain(error)
            .filter_map(|error| error.downcast_ref::<hyper_util::client::legacy::Error>())
            .any(hyper_util::client::legacy::Error::is_connect)
}

/// tower's and tokio's timeouts around a client, and reqwest's own.
fn timed_out(error: &(dyn StdError + 'static)) -> bool {
    chain(error).any(|error| error.is::<tokio::time::error::Elapsed>() || reqwest_timed_out(error))
}

#[cfg(feature = "reqwest")]
fn reqwest_timed_out(error: &(dyn StdError + 'static)) -> bool {
    let error = error.downcast_ref::<reqwest::Error>();
    error.is_some_and(|error| error.is_timeout() && !error.is_body())
}

#[cfg(not(feature = "reqwest"))]
fn reqwest_timed_out(_: &(dyn StdError + 'static)) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use std::io::{Error as IoError, ErrorKind};
    use std::time::Duration;

    use http::header::CONTENT_TYPE;
    use tollhouse::{Denial, End, Meter, Refused};

    use super::*;

    fn answer(status: u16) -> Response<()> {
        let builder = Response::builder().status(status);
        let builder = builder.header("retry-after", "7");
        let builder = builder.header("x-ratelimit-limit-tokens", "30000");
        builder.body(()).expect("a response")
    }

    fn of_error(error: impl StdError + 'static) -> Decision {
        AnswerReader.classify(Err::<&Response<()>, _>(&error))
    }

    const AGAIN: Decision = Decision::Retry {
        after: None,
        scope: Scope::Overload,
    };

    /// It was taken for a delay of 0: 4 lines made 20 requests in 5 ms.
    #[test]
    fn a_date_that_has_come_means_the_backoff() {
        for told in ["Wed, 21 Oct 2015 07:28:00 GMT", "0"] {
            let answer = Response::builder().status(503).header("retry-after", told);
            let answer = answer.body(()).expect("a response");
            let decided = AnswerReader.classify(Ok::<_, &IoError>(&answer));
            assert_eq!(decided, AGAIN, "{told}");
            let denial = AnswerReader.observe(&answer).denial;
            assert_eq!(denial.expect("it is one").after, None, "{told}");
        }
    }

    #[test]
    fn a_denial_is_told_with_its_delay_and_a_success_has_none() {
        let told = AnswerReader.observe(&answer(429));
        let after = Some(Duration::from_secs(7));
        let scope = Scope::Requests;
        assert_eq!(told.denial, Some(Denial { scope, after }));
        assert_eq!(told.limits.limit_tokens, Some(30_000));
        assert_eq!(AnswerReader.observe(&answer(200)).denial, None);
        assert_eq!(AnswerReader.observe(&answer(404)).denial, None);
    }

    #[test]
    fn what_the_extensions_hold_goes_first() {
        let mut response = answer(429);
        let quota = Verdict {
            retry: false,
            after: None,
            scope: Scope::Quota,
        };
        response.extensions_mut().insert(quota);
        response.extensions_mut().insert(RateLimits::default());
        assert_eq!(
            AnswerReader.classify(Ok::<_, &IoError>(&response)),
            Decision::GiveUp
        );
        let told = AnswerReader.observe(&response);
        assert_eq!(told.limits.limit_tokens, None);
        assert_eq!(told.denial.map(|denial| denial.scope), Some(Scope::Quota));
    }

    #[test]
    fn errors_before_a_head_are_retried_however_they_are_wrapped() {
        for kind in [
            ErrorKind::ConnectionRefused,
            ErrorKind::ConnectionReset,
            ErrorKind::TimedOut,
        ] {
            assert_eq!(of_error(IoError::from(kind)), AGAIN, "{kind}");
            let wrapped = tollhouse::Error::inner(IoError::from(kind));
            assert_eq!(of_error(wrapped), AGAIN, "{kind}");
        }
        assert_eq!(of_error(IoError::other("bad")), Decision::GiveUp);
    }

    #[test]
    fn a_stream_that_was_reset_is_retried() {
        let reset = h2::Error::from(h2::Reason::REFUSED_STREAM);
        assert_eq!(of_error(tollhouse::Error::inner(reset)), AGAIN);
    }

    #[test]
    fn a_gates_refusal_is_handed_back() {
        let refused = Refused::TooLarge { cost: 2, limit: 1 };
        assert_eq!(of_error(tollhouse::Error::from(refused)), Decision::GiveUp);
    }

    #[test]
    fn the_meter_reads_by_the_answers_content_type() {
        let mut response = answer(200);
        let stream = "text/event-stream".parse().expect("a header value");
        response.headers_mut().insert(CONTENT_TYPE, stream);
        let mut meter = AnswerReader.meter(&response);
        meter.chunk(b"data: {\"usage\":{\"total_tokens\":5}}\n\n");
        assert_eq!(meter.used(End::Complete), Some(5));
    }
}
