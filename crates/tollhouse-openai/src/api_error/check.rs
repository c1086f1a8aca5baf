use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes};
use http::response::Parts;
use http::{HeaderMap, Response};
use http_body::Body;
use tokio::time::{Instant, timeout_at};
use tollhouse::BoxError;
use tollhouse::retry::Attempts;

use super::{Answer, ApiError, Cause};
use crate::wire::verdict::{Fault, MOST_BYTES, MOST_TIME, Verdict, judge};

impl ApiError {
    /// Hands a good answer on unread, and makes an error of one with a status of
    /// 400 or above.
    ///
    /// The body of the latter is read, up to 1 MiB and for up to 10 s; under a
    /// [`Policy`](crate::Policy) and by [`OpenAi`](crate::OpenAi) it was read
    /// already. Any client's answers can be checked; without one of these, the
    /// answer is judged here.
    ///
    /// # Errors
    ///
    /// Exactly where the answer's status is 400 or above. Where its body broke
    /// off, the error has that as its source, and what came as its body.
    ///
    /// # Cancellation
    ///
    /// Dropping the future drops the answer.
    ///
    /// # Panics
    ///
    /// Its future must be polled within a tokio runtime that has time enabled,
    /// where the answer is unsuccessful.
    pub async fn check<B>(response: Response<B>) -> Result<Response<B>, ApiError>
    where
        B: Body,
        B::Error: Into<BoxError>,
    {
        if response.status().as_u16() < 400 {
            return Ok(response);
        }
        let (head, body) = response.into_parts();
        let (body, cut) = read(body).await;
        Err(of_answer(&head, body.into(), cut))
    }
}

/// What came of a body, and why it was no more.
async fn read<B>(body: B) -> (Vec<u8>, Option<BoxError>)
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let deadline = Instant::now() + MOST_TIME;
    let mut body = pin!(body);
    let mut read = Vec::new();
    while read.len() < MOST_BYTES {
        let frame = poll_fn(|cx| body.as_mut().poll_frame(cx));
        match timeout_at(deadline, frame).await {
            Ok(Some(Ok(frame))) => {
                if let Ok(data) = frame.into_data() {
                    read.put(data.take(MOST_BYTES - read.len()));
                }
            }
            Ok(Some(Err(error))) => return (read, Some(error.into())),
            Ok(None) => break,
            Err(elapsed) => return (read, Some(elapsed.into())),
        }
    }
    (read, None)
}

fn of_answer(head: &Parts, body: Bytes, cut: Option<BoxError>) -> ApiError {
    let verdict = head.extensions.get::<Verdict>().copied();
    let fault = head.extensions.get::<Arc<Fault>>().cloned();
    let fault = fault.or_else(|| Fault::read(&head.headers, &body).map(Arc::new));
    let verdict = verdict.unwrap_or_else(|| judge(head.status, &head.headers, fault.as_deref()));
    let attempts = head.extensions.get::<Attempts>();
    let attempts = attempts.map_or(1, |attempts| attempts.0);
    let answer = Answer {
        status: head.status,
        request_id: request_id(&head.headers),
        fault,
        body,
        cut,
    };
    ApiError::new(verdict, attempts, Cause::Answer(answer))
}

/// As OpenAI, Anthropic and Azure's gateway name it.
fn request_id(headers: &HeaderMap) -> Option<String> {
    ["x-request-id", "request-id", "apim-request-id"]
        .iter()
        .filter_map(|name| headers.get(*name)?.to_str().ok())
        .find(|id| !id.is_empty())
        .map(str::to_owned)
}
