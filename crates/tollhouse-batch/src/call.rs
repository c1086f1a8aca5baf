//! One request through the service, to the last byte of its answer.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::future::poll_fn;

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tower_service::Service;

use crate::outcome::{Answer, Failure, Outcome};

type BoxError = Box<dyn StdError + Send + Sync>;

/// The service gave no answer.
const REQUEST_FAILED: &str = "request_failed";
/// The answer broke off.
const RESPONSE_FAILED: &str = "response_failed";
/// The answer is longer than is allowed.
const RESPONSE_TOO_LARGE: &str = "response_too_large";

/// Calls the service once.
pub(crate) async fn call<S, B>(
    service: S,
    request: Request<Bytes>,
    max_body_bytes: usize,
) -> Outcome
where
    S: Service<Request<Bytes>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    answer(service, request, max_body_bytes)
        .await
        .map_or_else(|failed| failed, Outcome::Answered)
}

async fn answer<S, B>(
    mut service: S,
    request: Request<Bytes>,
    max_body_bytes: usize,
) -> Result<Answer, Outcome>
where
    S: Service<Request<Bytes>, Response = Response<B>>,
    S::Error: Into<BoxError>,
    B: Body,
    B::Error: Into<BoxError>,
{
    let failed = |error: S::Error| {
        let error = error.into();
        Outcome::Failed(failure(REQUEST_FAILED, &*error), error)
    };
    poll_fn(|cx| service.poll_ready(cx)).await.map_err(failed)?;
    let response = service.call(request).await.map_err(failed)?;
    let (head, body) = response.into_parts();
    let request_id = head.headers.get("x-request-id");
    let request_id = request_id.and_then(|id| Some(id.to_str().ok()?.to_owned()));
    let body = Limited::new(body, max_body_bytes).collect().await;
    let body = body.map_err(|error| {
        let failure = body_failure(&*error, max_body_bytes);
        Outcome::Failed(failure, error)
    })?;
    Ok(Answer {
        status: head.status,
        request_id,
        headers: head.headers,
        body: body.to_bytes(),
    })
}

fn body_failure(error: &(dyn StdError + 'static), max_body_bytes: usize) -> Failure {
    if error.is::<LengthLimitError>() {
        Failure {
            code: Cow::Borrowed(RESPONSE_TOO_LARGE),
            message: format!("the answer is longer than {max_body_bytes} bytes"),
        }
    } else {
        failure(RESPONSE_FAILED, error)
    }
}

fn failure(code: &'static str, error: &(dyn StdError + 'static)) -> Failure {
    Failure {
        code: Cow::Borrowed(code),
        message: with_sources(error),
    }
}

/// The error and all that caused it, in one line. Where an error repeats its
/// cause in its own words, the cause is not said twice.
fn with_sources(error: &(dyn StdError + 'static)) -> String {
    let mut message = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !message.contains(&text) {
            message.push_str(": ");
            message.push_str(&text);
        }
        source = cause.source();
    }
    message
}
