//! Signs of life in a stream whose call still waits.
//!
//! ```text
//! Waiting -> Streaming    the provider's events
//! Waiting -> Over         an event `error`: status and headers are said already
//! ```

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::BoxError;
use axum::response::Response;
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Limited};
use serde_json::{Value, json};
use tokio::time::{Instant, Sleep, sleep};
use tollhouse_openai::account::Place;

use super::answer::{Breaking, EVENTS, is_events, tell_charge};
use super::line::Line;
use crate::error::Refusal;
use crate::headers::{for_client, words};
use crate::upstream::gates::{self, Outlook};
use crate::upstream::launches::{Launches, Stage};

/// An error's body is read no further than that.
const LONGEST_ERROR: usize = 1024 * 1024;

/// nginx and its like keep events back until they have many, unless they are told.
const BUFFERING: HeaderName = HeaderName::from_static("x-accel-buffering");

/// How a call ended: with an answer, or why there is none. The answer is boxed, or it would be
/// moved through each function that hands it on.
pub(crate) type Outcome = Result<Box<http::Response<gates::Body>>, Refusal>;

/// A call that was begun.
pub(crate) type BoxedCall = Pin<Box<dyn Future<Output = Outcome> + Send>>;

/// What is known of a call that waits.
pub(crate) struct Wait {
    pub(crate) launches: Launches,
    pub(crate) place: Place,
    /// How it was when the call came.
    pub(crate) first: Outlook,
    pub(crate) since: Instant,
}

/// A call that has waited for so long that its client is to hear of it.
pub(crate) struct Late {
    pub(crate) call: BoxedCall,
    pub(crate) wait: Wait,
    /// Between two comments.
    pub(crate) every: Duration,
}

/// The body of its answer.
struct Commented {
    state: State,
    wait: Wait,
    every: Duration,
    timer: Pin<Box<Sleep>>,
    line: Line,
}

enum State {
    Waiting(Pin<Box<dyn Future<Output = Came> + Send>>),
    Streaming(Events),
    Over,
}

type Events = Pin<Box<Breaking<gates::Body>>>;

/// What a call came to, after its client was told that all is well.
struct Came {
    status: StatusCode,
    /// The provider's events, or the one in their place.
    events: Result<Events, Bytes>,
}

impl Late {
    /// Says that all is well, which cannot be taken back, and then how long it takes.
    pub(crate) fn answer(self, mut line: Line) -> Response {
        line.status = Some(StatusCode::OK);
        line.head = Some(line.came.elapsed());
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(EVENTS));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        headers.insert(BUFFERING, HeaderValue::from_static("no"));
        tell_charge(&mut headers, &line);
        let body = Commented {
            state: State::Waiting(Box::pin(came(self.call))),
            wait: self.wait,
            every: self.every,
            // The first one comes at once.
            timer: Box::pin(sleep(Duration::ZERO)),
            line,
        };
        let mut response = Response::new(axum::body::Body::new(body));
        *response.headers_mut() = headers;
        response
    }
}

impl Wait {
    /// In a line that clients of events pass over.
    fn comment(&self) -> Bytes {
        let text = match self.launches.stage() {
            Stage::Waits => {
                let (place, seconds) = self.outlook();
                format!(": waiting, place {place}, about {seconds} s\n\n")
            }
            Stage::Sent => ": sent, the provider has not answered yet\n\n".to_owned(),
            Stage::WaitsAgain(attempts) => {
                format!(": waiting for another attempt, {attempts} came to nothing\n\n")
            }
        };
        Bytes::from(text)
    }

    /// Its place and what is left of its wait, in seconds. Whoever comes now stands behind
    /// it, so that neither is more than what he would be told.
    fn outlook(&self) -> (usize, u64) {
        let now = Outlook::of(&self.place);
        let place = now.waiting.min(self.first.waiting.saturating_add(1));
        let left = self.first.expected_wait;
        let left = left.saturating_sub(self.since.elapsed());
        let left = left.min(now.expected_wait);
        (place.max(1), left.as_secs_f64().ceil() as u64)
    }
}

async fn came(call: BoxedCall) -> Came {
    match call.await {
        Ok(answer) => Came {
            status: answer.status(),
            events: events(*answer).await,
        },
        Err(refusal) => Came {
            status: refusal.status(),
            events: Err(error_event(&refusal.in_words())),
        },
    }
}

async fn events(answer: http::Response<gates::Body>) -> Result<Events, Bytes> {
    let no_stream = |message: &str| {
        let refusal = Refusal::NoAnswer {
            is_timeout: false,
            is_left: false,
            message: message.to_owned(),
        };
        error_event(&refusal.in_words())
    };
    // The head that would say how to read it is none that the client sees.
    if is_packed(answer.headers()) {
        return Err(no_stream(
            "the provider's answer has a content-encoding, which cannot be said of a stream that \
             has begun",
        ));
    }
    if answer.status().is_success() && is_events(answer.headers()) {
        return Ok(Box::pin(Breaking::new(answer.into_body())));
    }
    let read = Limited::new(answer.into_body(), LONGEST_ERROR)
        .collect()
        .await;
    let read = read.map(|read| read.to_bytes()).unwrap_or_default();
    let said = serde_json::from_slice(&read).ok();
    let said = said.filter(|said: &Value| said["error"].is_object());
    Err(said.map_or_else(
        || no_stream("the provider answered with something that is no stream"),
        |said| error_event(&said),
    ))
}

/// Some servers say `none` where they mean that nothing is coded.
fn is_packed(headers: &HeaderMap) -> bool {
    words(headers, CONTENT_ENCODING).any(|coding| {
        let coding = coding.to_ascii_lowercase();
        !matches!(&coding[..], b"" | b"identity" | b"none")
    })
}

/// As the official SDKs know it: they raise what `error` says.
fn error_event(said: &Value) -> Bytes {
    let data = json!({ "error": said["error"] });
    Bytes::from(format!("event: error\ndata: {data}\n\n"))
}

impl Commented {
    fn over(&mut self) {
        self.state = State::Over;
        self.line.is_whole = true;
    }
}

impl Body for Commented {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        loop {
            match &mut this.state {
                State::Waiting(calling) => match calling.as_mut().poll(cx) {
                    Poll::Ready(came) => {
                        // For the log: the client was told otherwise.
                        this.line.status = Some(came.status);
                        match came.events {
                            Ok(body) => this.state = State::Streaming(body),
                            Err(event) => {
                                this.over();
                                return Poll::Ready(Some(Ok(Frame::data(event))));
                            }
                        }
                    }
                    Poll::Pending => {
                        ready!(this.timer.as_mut().poll(cx));
                        this.timer.as_mut().reset(Instant::now() + this.every);
                        return Poll::Ready(Some(Ok(Frame::data(this.wait.comment()))));
                    }
                },
                State::Streaming(body) => {
                    let mut frame = ready!(body.as_mut().poll_frame(cx)).transpose()?;
                    match frame.as_mut().map(Frame::trailers_mut) {
                        Some(None) => {}
                        // Nothing comes after them, and nobody asks.
                        Some(Some(trailers)) => {
                            for_client(trailers);
                            this.over();
                        }
                        None => this.over(),
                    }
                    return Poll::Ready(frame.map(Ok));
                }
                State::Over => return Poll::Ready(None),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_told_from_what_is_said_not_to_be() {
        for (codings, is) in [
            (&[][..], false),
            (&[""], false),
            (&["none"], false),
            (&["identity, Identity", "identity"], false),
            (&["gzip"], true),
            (&["identity, br"], true),
            (&["identity", "zstd"], true),
        ] {
            let mut headers = HeaderMap::new();
            for coding in codings {
                headers.append(CONTENT_ENCODING, coding.parse().unwrap());
            }
            assert_eq!(is_packed(&headers), is, "{codings:?}");
        }
    }
}
