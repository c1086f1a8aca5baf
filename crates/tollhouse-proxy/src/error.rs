//! Why a call is not answered by the provider, as a client of OpenAI's understands it.

use std::error::Error as StdError;
use std::io;
use std::time::Duration;

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::header::{ALLOW, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderName, HeaderValue, StatusCode};
use http_body_util::LengthLimitError;
use serde_json::{Value, json};
use tokio::time::Instant;
use tollhouse_openai::{Refused, error};
use tower_http::timeout::TimeoutError;

use crate::check::Flaw;
use crate::counts::Full;
use crate::headers::SHOULD_RETRY;
use crate::names::LONGEST_CALLER;
use crate::upstream::gates::Outlook;

const RETRY_AFTER_MS: HeaderName = HeaderName::from_static("retry-after-ms");

/// What is told where nobody knows how long it would be.
const SOONEST_RETRY: Duration = Duration::from_secs(1);

/// The official SDKs wait for no longer than this; what tells them more, they ignore.
const LONGEST_RETRY: Duration = Duration::from_secs(60);

/// So long they wait for a call in all, which try again twice if nobody has told them otherwise.
const LONGEST_RETRIES: Duration = Duration::from_secs(2 * LONGEST_RETRY.as_secs());

/// Why the proxy itself answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    Flaw(Flaw),
    NoToken,
    WrongToken,
    /// None, or a wrong one, where the key is the provider's.
    NoTokenBesideKey,
    /// A name that somebody must vouch for, and nobody did.
    NotVouched {
        caller: String,
    },
    NoKey,
    /// Of which each has an account.
    SeveralKeys,
    /// The client says that its key is for this hop alone.
    KeyEndsHere,
    TooManyKeys,
    TooManyWatchers,
    NotHere,
    /// With the methods that are.
    NotOffered {
        allowed: &'static str,
    },
    BadMaxWait,
    BadCaller,
    TooLong {
        most: usize,
    },
    TooSlow,
    BrokenBody,
    Full,
    TooLate {
        outlook: Outlook,
        most: Duration,
    },
    /// A gate said so.
    Refused(Refused),
    Closing,
    /// No answer came; in the client's own words, which tell no key.
    NoAnswer {
        is_timeout: bool,
        message: String,
        /// Whether the client may try again, where we did not.
        is_left: bool,
    },
    Panicked,
}

/// Why a request is refused, in words of ours alone; with the answer that says so.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Why(pub(crate) &'static str);

/// What the parts of an answer are.
struct Told {
    status: StatusCode,
    code: &'static str,
    message: String,
    retry: Retry,
}

/// What the client is told about another try.
#[derive(Clone, Copy)]
enum Retry {
    /// Nothing; an SDK decides by the status.
    Untold,
    Never,
    After(Duration),
    /// In a time for which no SDK waits: others are told the longest.
    NotSoon,
}

impl Retry {
    /// Of what is of no use before `soonest`, and surely after `wait`.
    fn within(soonest: Duration, wait: Duration) -> Self {
        match soonest > LONGEST_RETRIES {
            true => Retry::NotSoon,
            false => Retry::After(wait),
        }
    }
}

impl Refusal {
    /// Why a body did not come to its end.
    pub(crate) fn of_body(error: &(dyn StdError + 'static), most: usize) -> Self {
        let mut cause = Some(error);
        while let Some(error) = cause {
            match () {
                () if error.is::<LengthLimitError>() => return Refusal::TooLong { most },
                () if error.is::<TimeoutError>() => return Refusal::TooSlow,
                () if error.is::<Full>() => return Refusal::Full,
                () => {}
            }
            // An error of a socket hides what it is made of.
            let of_socket = error.downcast_ref::<io::Error>();
            let flaw = of_socket.and_then(|error| error.get_ref()?.downcast_ref());
            if let Some(flaw) = flaw {
                return Refusal::Flaw(*flaw);
            }
            cause = error.source();
        }
        Refusal::BrokenBody
    }

    /// Why the gates, or the client behind them, brought no answer. `upload` is the
    /// most bytes that the call's body may have, where it was passed on unread.
    pub(crate) fn of_call(error: &error::Error, upload: Option<usize>) -> Self {
        if let Some(refused) = error.refused() {
            return match refused {
                Refused::Closed => Refusal::Closing,
                refused => Refusal::Refused(*refused),
            };
        }
        if let Some(most) = upload {
            match Refusal::of_body(error, most) {
                Refusal::BrokenBody => {}
                of_body => return of_body,
            }
        }
        let of_client = error.downcast_ref::<tollhouse_openai::Error>();
        Refusal::NoAnswer {
            is_left: false,
            is_timeout: of_client.is_some_and(tollhouse_openai::Error::is_timeout),
            message: of_client.map_or_else(|| "no answer came".to_owned(), ToString::to_string),
        }
    }

    /// The same, where another attempt is the client's to make.
    pub(crate) fn left_to_client(mut self) -> Self {
        if let Refusal::NoAnswer { is_left, .. } = &mut self {
            *is_left = true;
        }
        self
    }

    pub(crate) fn status(&self) -> StatusCode {
        self.told().status
    }

    /// Its body, in OpenAI's shape.
    pub(crate) fn in_words(&self) -> Value {
        self.told().in_words()
    }

    fn told(&self) -> Told {
        use Retry::{After, Never, Untold};
        let (status, code, message, retry) = match self {
            Refusal::Flaw(flaw @ Flaw::SlowHead) => {
                (flaw.status(), "request_timeout", flaw.to_string(), Untold)
            }
            Refusal::Flaw(flaw) => (flaw.status(), "bad_request", flaw.to_string(), Never),
            Refusal::NoToken => (
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                "this proxy wants a token of its own, as the API key or in x-tollhouse-token"
                    .to_owned(),
                Never,
            ),
            Refusal::WrongToken => (
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                "the API key is no token of this proxy".to_owned(),
                Never,
            ),
            Refusal::NoTokenBesideKey => (
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                "this proxy passes the client's own API key on, and wants a token of its own \
                 beside it, in x-tollhouse-token; none was sent, or a wrong one"
                    .to_owned(),
                Never,
            ),
            Refusal::NotVouched { caller } => (
                StatusCode::FORBIDDEN,
                "caller_not_vouched_for",
                format!(
                    "the caller {caller:?} has a weight or a token of its own, and is only \
                     whoever shows a token that names it"
                ),
                Never,
            ),
            Refusal::NoKey => (
                StatusCode::UNAUTHORIZED,
                "invalid_api_key",
                "no API key was sent; this proxy passes the client's own on".to_owned(),
                Never,
            ),
            Refusal::SeveralKeys => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "the request has different API keys in Authorization, api-key or \
                 Sec-WebSocket-Protocol; this proxy passes the client's own on, and each has limits \
                 of its own"
                    .to_owned(),
                Never,
            ),
            Refusal::KeyEndsHere => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "the request's Connection names the header with the API key, which would not reach \
                 the provider then"
                    .to_owned(),
                Never,
            ),
            Refusal::TooManyKeys => (
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_keys",
                "this proxy serves as many keys at once as it may".to_owned(),
                After(LONGEST_RETRY),
            ),
            Refusal::TooManyWatchers => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                "as many watch this page as may".to_owned(),
                Untold,
            ),
            Refusal::NotHere => (
                StatusCode::NOT_FOUND,
                "not_found",
                "nothing is here; the API's paths begin with /v1/, so a client's base URL ends \
                 in /v1"
                    .to_owned(),
                Never,
            ),
            Refusal::NotOffered { allowed } => (
                StatusCode::METHOD_NOT_ALLOWED,
                "bad_request",
                format!("this method is not offered here; allowed are {allowed}"),
                Never,
            ),
            Refusal::BadMaxWait => (
                StatusCode::BAD_REQUEST,
                "invalid_value",
                "x-tollhouse-max-wait: a number of seconds, 0 or more, is allowed".to_owned(),
                Never,
            ),
            Refusal::BadCaller => (
                StatusCode::BAD_REQUEST,
                "invalid_value",
                format!(
                    "x-tollhouse-caller: a name of visible ASCII and spaces is allowed, of at \
                     most {LONGEST_CALLER} characters"
                ),
                Never,
            ),
            Refusal::TooLong { most } => (
                StatusCode::PAYLOAD_TOO_LARGE,
                "request_too_large",
                format!("the request's body is longer than {most} bytes"),
                Never,
            ),
            Refusal::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "request_timeout",
                "the request's body stood still for too long".to_owned(),
                Untold,
            ),
            Refusal::BrokenBody => (
                StatusCode::BAD_REQUEST,
                "bad_request",
                "the request's body broke off".to_owned(),
                Never,
            ),
            Refusal::Full => (
                StatusCode::SERVICE_UNAVAILABLE,
                "overloaded",
                format!("{}", Full),
                After(Duration::from_secs(1)),
            ),
            Refusal::TooLate { outlook, most } => (
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limit_exceeded",
                format!(
                    "this call would wait {}, at place {}; at most {:.1} s were allowed",
                    how_long(outlook.expected_wait, *most),
                    outlook.waiting.saturating_add(1),
                    most.as_secs_f64(),
                ),
                // Whoever was told nothing would ask again at once, and be refused again. Who waits
                // for so much is let in by then.
                Retry::within(
                    outlook.expected_wait.saturating_sub(*most),
                    outlook.expected_wait.max(SOONEST_RETRY),
                ),
            ),
            Refusal::Refused(refused) => return told_by_gate(refused),
            Refusal::Closing => (
                StatusCode::SERVICE_UNAVAILABLE,
                "closing",
                "the proxy is being shut down".to_owned(),
                Untold,
            ),
            Refusal::NoAnswer {
                is_timeout,
                message,
                is_left,
            } => (
                match is_timeout {
                    true => StatusCode::GATEWAY_TIMEOUT,
                    false => StatusCode::BAD_GATEWAY,
                },
                "no_answer",
                message.clone(),
                match is_left {
                    true => Untold,
                    // Our own attempts are spent.
                    false => Never,
                },
            ),
            Refusal::Panicked => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the proxy failed at this call".to_owned(),
                Never,
            ),
        };
        Told {
            status,
            code,
            message,
            retry,
        }
    }
}

/// Of a wait that was too long. What is expected falls short of it where nobody knows how long
/// those before it hold their slots.
fn how_long(expected: Duration, most: Duration) -> String {
    match expected > most {
        true => format!("about {:.1} s", expected.as_secs_f64()),
        false => "for longer than anybody knows".to_owned(),
    }
}

fn told_by_gate(refused: &Refused) -> Told {
    let (status, code, retry) = match refused {
        Refused::TooLarge { .. } | Refused::TooMany { .. } => (
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            Retry::Never,
        ),
        Refused::Overloaded { expected_wait, .. } => (
            StatusCode::TOO_MANY_REQUESTS,
            "rate_limit_exceeded",
            Retry::After((*expected_wait).max(SOONEST_RETRY)),
        ),
        Refused::Exhausted { until, .. } => {
            let left = until.saturating_duration_since(Instant::now());
            let retry = Retry::within(left, left.max(SOONEST_RETRY));
            (StatusCode::TOO_MANY_REQUESTS, "rate_limit_exceeded", retry)
        }
        _ => (StatusCode::SERVICE_UNAVAILABLE, "refused", Retry::Untold),
    };
    Told {
        status,
        code,
        message: refused.to_string(),
        retry,
    }
}

impl Told {
    /// In OpenAI's shape.
    fn in_words(&self) -> Value {
        let kind = match self.status.is_client_error() {
            true => "invalid_request_error",
            false => "server_error",
        };
        let error = json!({
            "message": format!("Tollhouse: {}.", self.message),
            "type": kind,
            "param": null,
            "code": self.code,
        });
        json!({ "error": error })
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let told = self.told();
        let mut response = Response::new(Body::from(told.in_words().to_string()));
        *response.status_mut() = told.status;
        response.extensions_mut().insert(Why(match &self {
            Refusal::Flaw(flaw) => flaw.says(),
            _ => told.code,
        }));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Refusal::NotOffered { allowed } = self {
            headers.insert(ALLOW, HeaderValue::from_static(allowed));
        }
        if matches!(told.retry, Retry::Never | Retry::NotSoon) {
            headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
        }
        let wait = match told.retry {
            Retry::Untold | Retry::Never => None,
            Retry::After(wait) => Some(wait.min(LONGEST_RETRY)),
            Retry::NotSoon => Some(LONGEST_RETRY),
        };
        if let Some(wait) = wait {
            let millis = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
            headers.insert(RETRY_AFTER, HeaderValue::from(millis.div_ceil(1_000)));
            headers.insert(RETRY_AFTER_MS, HeaderValue::from(millis));
        }
        response
    }
}

impl From<Flaw> for Refusal {
    fn from(flaw: Flaw) -> Self {
        Refusal::Flaw(flaw)
    }
}

#[cfg(test)]
mod tests {
    use tollhouse_openai::Scope;

    use super::*;

    fn shown(refusal: Refusal) -> (u16, [String; 3]) {
        let response = refusal.into_response();
        let header = |name: &str| {
            let value = response.headers().get(name);
            value.map_or("", |value| value.to_str().unwrap()).to_owned()
        };
        let headers = ["retry-after", "retry-after-ms", "x-should-retry"].map(header);
        (response.status().as_u16(), headers)
    }

    #[tokio::test(start_paused = true)]
    async fn sdks_are_told_when_to_try_again() {
        let late = |millis| Refusal::TooLate {
            outlook: Outlook {
                waiting: 3,
                expected_wait: Duration::from_millis(millis),
            },
            most: Duration::from_secs(1),
        };
        let exhausted = |seconds| {
            Refusal::Refused(Refused::Exhausted {
                scope: Scope::RequestsPerDay,
                until: Instant::now() + Duration::from_secs(seconds),
            })
        };
        let large = Refusal::Refused(Refused::TooLarge { cost: 2, limit: 1 });
        let no_answer = Refusal::NoAnswer {
            is_timeout: true,
            is_left: false,
            message: String::new(),
        };
        for (refusal, status, told) in [
            (late(1_500), 429, ["2", "1500", ""]),
            // They ignore what is above a minute, and wait twice.
            (late(121_000), 429, ["60", "60000", ""]),
            (late(121_001), 429, ["60", "60000", "false"]),
            (exhausted(0), 429, ["1", "1000", ""]),
            (exhausted(60), 429, ["60", "60000", ""]),
            (exhausted(120), 429, ["60", "60000", ""]),
            (exhausted(121), 429, ["60", "60000", "false"]),
            (large, 413, ["", "", "false"]),
            (Refusal::WrongToken, 401, ["", "", "false"]),
            (Refusal::Closing, 503, ["", "", ""]),
            (no_answer.clone(), 504, ["", "", "false"]),
            (no_answer.left_to_client(), 504, ["", "", ""]),
        ] {
            let told = told.map(str::to_owned);
            assert_eq!(shown(refusal.clone()), (status, told), "{refusal:?}");
        }
    }
}
