//! A call, from its head to the answer's.

use std::borrow::Cow;
use std::future::Future;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Request, StatusCode, Version};

use super::answer::answer;
use super::line::Line;
use super::ready::Ready;
use super::target::provider_path;
use super::tunnel::Asked;
use super::underway::{Begun, Instead, begin};
use crate::error::Refusal;
use crate::headers::{ATTEMPTS, MAX_WAIT, for_provider};
use crate::keys::Admitted;
use crate::shared::Shared;
use crate::upstream::gates::{self, Gates};

/// Hands a call on, and its answer back as it comes. The request is boxed, or it would
/// have a place in the future of each function that it is handed through, of which
/// thousands may wait.
pub(crate) fn pass<'a>(
    shared: &'a Shared,
    mut request: Box<Request<Body>>,
) -> impl Future<Output = Response> + Send + 'a {
    let mut line = Line::begin(&mut request, &shared.counts, &shared.page);
    async move {
        match through(shared, request, &mut line).await {
            Ok(answered) => answered.told(shared, line),
            Err(Instead::Late(late)) => late.answer(line),
            Err(Instead::Refused(refusal)) => refused(refusal, line),
        }
    }
}

fn refused(refusal: Refusal, mut line: Line) -> Response {
    let mut response = refusal.into_response();
    line.status = Some(response.status());
    line.head = Some(line.came.elapsed());
    line.is_whole = true;
    if line.attempts() > 0 {
        let attempts = HeaderValue::from(line.attempts());
        response.headers_mut().insert(ATTEMPTS, attempts);
    }
    response
}

/// What the provider says.
struct Answered {
    response: Box<http::Response<gates::Body>>,
    /// Whether the gates tried again by themselves, for as often as they may.
    is_spent: bool,
    /// Where the client wants more than an answer.
    asked: Option<Asked>,
}

impl Answered {
    /// The same for the client.
    fn told(self, shared: &Shared, line: Line) -> Response {
        let is_switched = self.response.status() == StatusCode::SWITCHING_PROTOCOLS;
        match self.asked.filter(|_| is_switched) {
            Some(asked) => asked.open(*self.response, line),
            // Nobody has asked for that, and there is nothing that it could switch to.
            None if is_switched => {
                let message = "the provider switched to a protocol that nobody asked for";
                let refusal = Refusal::NoAnswer {
                    is_timeout: false,
                    is_left: false,
                    message: message.to_owned(),
                };
                refused(refusal, line)
            }
            None => {
                let gets_turns = shared.keys.upstream_has_tasks();
                answer(*self.response, line, self.is_spent, gets_turns)
            }
        }
    }
}

#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps two places for each argument"
)]
fn through<'a>(
    shared: &'a Shared,
    mut request: Box<Request<Body>>,
    line: &'a mut Line,
) -> impl Future<Output = Result<Answered, Instead>> + Send + 'a {
    async move {
        let Let { gates, most, asked } = admit(shared, &mut request, line)?;
        let mut share = shared.held.share();
        // Boxed while it comes, or its place would be kept by all who wait afterwards.
        let ready = Box::pin(Ready::of(shared, request, &mut share)).await?;
        let Begun {
            call,
            upload,
            left,
            share: _share,
        } = begin(shared, gates, ready, most, share, line);
        let outcome = call.await?;
        // A next attempt is the client's own to make where it would not wait for ours, and where
        // another proxy may make it.
        let is_left = left.is_some_and(|left| left.is_said()) || shared.counts.is_closing();
        match outcome {
            Ok(response) => Ok(Answered {
                is_spent: upload.is_none() && !is_left,
                response,
                asked,
            }),
            Err(refusal) if is_left => Err(refusal.left_to_client().into()),
            Err(refusal) => Err(refusal.into()),
        }
    }
}

/// Whose call it is, and what was asked for in its head.
struct Let<'a> {
    gates: Cow<'a, Gates>,
    most: Option<Duration>,
    asked: Option<Asked>,
}

/// Lets a call in, and makes its head the provider's.
fn admit<'a>(
    shared: &'a Shared,
    request: &mut Request<Body>,
    line: &mut Line,
) -> Result<Let<'a>, Refusal> {
    let Admitted {
        gates,
        caller,
        tally,
        keeps_key,
    } = shared.keys.admit(request.headers())?;
    line.caller = caller.name().unwrap_or_default().to_owned();
    // Nobody asks for it any more, and each attempt would copy it.
    request.extensions_mut().remove::<ConnectInfo<SocketAddr>>();
    request.extensions_mut().insert(caller);
    line.tally = tally;
    let most = max_wait(shared.max_wait, request.headers())?;
    *request.uri_mut() = provider_path(shared.keys.base_path(), request.uri())?;
    let asked = Asked::of(request);
    for_provider(request.headers_mut(), keeps_key);
    if asked.is_some() {
        Asked::ask(request.headers_mut());
    }
    // Each leg has a version of its own.
    *request.version_mut() = Version::HTTP_11;
    Ok(Let { gates, most, asked })
}

/// The longest wait that the client or the proxy allows; the shorter one.
fn max_wait(ours: Option<Duration>, headers: &HeaderMap) -> Result<Option<Duration>, Refusal> {
    let Some(theirs) = headers.get(MAX_WAIT) else {
        return Ok(ours);
    };
    let seconds = theirs
        .to_str()
        .ok()
        .and_then(|text| text.trim().parse().ok());
    let theirs = seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    let theirs = theirs.ok_or(Refusal::BadMaxWait)?;
    Ok(Some(ours.map_or(theirs, |ours| ours.min(theirs))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shorter_longest_wait_holds() {
        let theirs = |text: &str| {
            let value = HeaderValue::from_str(text).unwrap();
            HeaderMap::from_iter([(MAX_WAIT, value)])
        };
        let seconds = |n| Some(Duration::from_secs(n));
        assert_eq!(max_wait(seconds(5), &HeaderMap::new()), Ok(seconds(5)));
        assert_eq!(max_wait(seconds(5), &theirs("7")), Ok(seconds(5)));
        assert_eq!(max_wait(seconds(5), &theirs(" 0 ")), Ok(seconds(0)));
        assert_eq!(max_wait(None, &theirs("1e1")), Ok(seconds(10)));
        for none in ["-1", "soon", "", "NaN", "inf", "1e99"] {
            assert_eq!(
                max_wait(None, &theirs(none)),
                Err(Refusal::BadMaxWait),
                "{none}"
            );
        }
    }
}
