//! The provider's answer on its way to the client.

use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, Version};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project_lite::pin_project;

use super::line::Line;
use super::together::Together;
use crate::headers::{ATTEMPTS, CHARGE, POOL, SHOULD_RETRY, WAIT, for_client};

/// Adds what we know of a call to its answer, and goes with it to its last byte.
///
/// `is_spent` where the gates tried again by themselves, for as often as they may: then the
/// client's own attempts would only multiply ours. `gets_turns` as [`Together`] has it.
pub(crate) fn answer<B>(
    mut response: Response<B>,
    mut line: Line,
    is_spent: bool,
    gets_turns: bool,
) -> Response<axum::body::Body>
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError> + Send,
{
    let status = response.status();
    tell(&mut response, &mut line);
    // Of what has no body nobody asks for an end.
    line.is_whole = line.method == Method::HEAD || response.body().is_end_stream();
    if is_spent && is_tried_again(status, response.headers()) {
        let headers = response.headers_mut();
        headers.insert(SHOULD_RETRY, HeaderValue::from_static("false"));
    }
    match is_events(response.headers()) {
        true => response.map(|body| with(Together::new(body, gets_turns), line)),
        false => response.map(|body| with(body, line)),
    }
}

fn with<B>(body: B, line: Line) -> axum::body::Body
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<axum::BoxError> + Send,
{
    let body = AnswerBody {
        body: Breaking::new(body),
        line,
    };
    // axum's own kind of box: anything else it moves some times to find out what it is.
    axum::body::Body::new(body.map_err(axum::Error::new).boxed_unsync())
}

/// Whether an answer is a stream of events.
pub(crate) fn is_events(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let start = kind.and_then(|kind| kind.get(..EVENTS.len()));
    start.is_some_and(|kind| kind.eq_ignore_ascii_case(EVENTS.as_bytes()))
}

/// Their type.
pub(crate) const EVENTS: &str = "text/event-stream";

/// Leaves of a head what the client is to see, and adds what we know of the call.
pub(crate) fn tell<B>(response: &mut Response<B>, line: &mut Line) {
    line.status = Some(response.status());
    line.head = Some(line.came.elapsed());
    // Each leg has a version of its own (RFC 9110, section 2.5). By one of 1.0 the client would
    // get no chunks, and an answer that is cut would look whole.
    *response.version_mut() = Version::HTTP_11;
    let headers = response.headers_mut();
    for_client(headers);
    put(headers, WAIT, millis(line.wait().unwrap_or_default()));
    put(headers, ATTEMPTS, line.attempts().into());
    tell_charge(headers, line);
}

/// What is known of a call before it is answered.
pub(crate) fn tell_charge(headers: &mut HeaderMap, line: &Line) {
    put(headers, CHARGE, line.charge);
    // A pool's name comes from a model's, which may be anything.
    if let Ok(pool) = HeaderValue::from_str(&line.pool) {
        headers.insert(POOL, pool);
    }
}

fn put(headers: &mut HeaderMap, name: HeaderName, number: u64) {
    // Most waits are 0 ms and most calls one attempt, for which nothing is allocated.
    let digit = usize::try_from(number).ok().and_then(|n| DIGITS.get(n..=n));
    let value = digit.map_or_else(|| HeaderValue::from(number), HeaderValue::from_static);
    headers.insert(name, value);
}

const DIGITS: &str = "0123456789";

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Whether the official SDKs try again: by the status, or because the provider wants it, as our
/// gates do, too. What succeeded costs no look at the headers.
fn is_tried_again(status: StatusCode, headers: &HeaderMap) -> bool {
    let by_status = matches!(status.as_u16(), 408 | 409 | 429) || status.is_server_error();
    by_status || (status.is_client_error() && is_wanted(headers))
}

fn is_wanted(headers: &HeaderMap) -> bool {
    headers.get(SHOULD_RETRY).is_some_and(|wish| wish == "true")
}

pin_project! {
    /// An answer's body, which ends its line in the log.
    struct AnswerBody<B: Body> {
        #[pin]
        body: Breaking<B>,
        line: Line,
    }
}

impl<B: Body<Data = Bytes>> Body for AnswerBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let mut this = self.project();
        let mut frame = ready!(this.body.as_mut().poll_frame(cx)).transpose()?;
        if let Some(trailers) = frame.as_mut().and_then(Frame::trailers_mut) {
            for_client(trailers);
        }
        // Whoever knows the length asks no further after the last frame, and nothing comes
        // after trailers.
        let is_last = frame.as_ref().is_none_or(Frame::is_trailers);
        this.line.is_whole |= is_last || this.body.is_end_stream();
        Poll::Ready(frame.map(Ok))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

pin_project! {
    /// A body that may break off. hyper's server closes its connection as soon as it hears of
    /// that, whatever it still has to write: so it gets a turn to do that first.
    pub(crate) struct Breaking<B: Body> {
        #[pin]
        body: B,
        // Why it breaks off.
        broken: Option<B::Error>,
    }
}

impl<B: Body> Breaking<B> {
    pub(crate) fn new(body: B) -> Self {
        Breaking { body, broken: None }
    }
}

impl<B: Body<Data = Bytes>> Body for Breaking<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let this = self.project();
        if let Some(error) = this.broken.take() {
            return Poll::Ready(Some(Err(error)));
        }
        match ready!(this.body.poll_frame(cx)).transpose() {
            Ok(frame) => Poll::Ready(frame.map(Ok)),
            Err(error) => {
                *this.broken = Some(error);
                cx.waker().wake_by_ref();
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.broken.is_none() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
