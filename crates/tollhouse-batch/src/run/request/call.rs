//! One request through the service, to the last byte of its answer.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::future::poll_fn;
use std::pin::pin;

use bytes::{Buf, Bytes};
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};

use super::client::{BoxError, Client};
use super::room::Share;
use crate::output::outcome::{Answer, Failure, Outcome};

/// The service gave no answer.
const REQUEST_FAILED: &str = "request_failed";
/// The answer broke off.
const RESPONSE_FAILED: &str = "response_failed";
/// The answer is longer than is allowed.
const RESPONSE_TOO_LARGE: &str = "response_too_large";

/// Calls the service once. What is read of the answer takes its share of the
/// room from its first byte on.
pub(crate) async fn call(
    service: impl Client,
    request: Request<Bytes>,
    max_body_bytes: usize,
    mut share: Share,
) -> (Outcome, Option<Share>) {
    let (head, body) = match head(service, request).await {
        Ok(response) => response.into_parts(),
        Err(error) => {
            let error = error.into();
            let failed = Outcome::Failed(failure(REQUEST_FAILED, &*error), error);
            return (failed, None);
        }
    };
    share.begin();
    let body = match read(body, max_body_bytes, &mut share).await {
        Ok(body) => body,
        Err(error) => {
            let failure = body_failure(&*error, max_body_bytes);
            return (Outcome::Failed(failure, error), None);
        }
    };
    share.is_read();
    let request_id = head.headers.get("x-request-id");
    let request_id = request_id.and_then(|id| Some(id.to_str().ok()?.to_owned()));
    let answer = Answer {
        status: head.status,
        request_id,
        headers: head.headers,
        body,
    };
    (Outcome::Answered(answer), Some(share))
}

async fn head<S: Client>(mut service: S, request: Request<Bytes>) -> Result<S::Response, S::Error> {
    poll_fn(|cx| service.poll_ready(cx)).await?;
    service.call(request).await
}

async fn read(
    body: impl Body<Error: Into<BoxError>>,
    max_bytes: usize,
    share: &mut Share,
) -> Result<Bytes, BoxError> {
    let mut body = pin!(Limited::new(body, max_bytes));
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        let Ok(mut data) = frame?.into_data() else {
            continue;
        };
        share.take(data.remaining()).await;
        while data.has_remaining() {
            let chunk = data.chunk();
            all.extend_from_slice(chunk);
            let read = chunk.len();
            data.advance(read);
        }
    }
    Ok(all.into())
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
/// cause in its own words, the cause is not said twice; and where it names the
/// last of its causes, it has said what matters.
fn with_sources(error: &(dyn StdError + 'static)) -> String {
    let mut message = error.to_string();
    let causes = std::iter::successors(error.source(), |error| (*error).source());
    let causes: Vec<_> = causes.map(ToString::to_string).collect();
    if causes.last().is_some_and(|last| message.contains(last)) {
        return message;
    }
    for cause in causes {
        if !message.ends_with(&cause) {
            message.push_str(": ");
            message.push_str(&cause);
        }
    }
    message
}
