//! A call, from its head to the answer's.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::uri::PathAndQuery;
use http::{Extensions, HeaderMap, HeaderValue, Request, StatusCode, Uri, Version};
use http_body::Body as _;
use http_body_util::{BodyExt, Limited};
use pin_project_lite::pin_project;
use tokio::time::{Instant, sleep, timeout};
use tollhouse_openai::account::Place;
use tollhouse_openai::policy::LeftToCaller;
use tollhouse_openai::{Call, Deadline, Refused, RequestBody};
use tower_http::request_id::RequestId;
use tower_http::timeout::TimeoutBody;

use crate::answer::answer;
use crate::call::Line;
use crate::comments::{Calling, Ended, Late, Wait};
use crate::error::Refusal;
use crate::gates::{self, Gates, InUse, Outlook};
use crate::headers::{ATTEMPTS, MAX_WAIT, for_provider};
use crate::held::{Counted, Share};
use crate::keys::Admitted;
use crate::launches::Launches;
use crate::shared::Shared;
use crate::tunnel::Asked;
use crate::with_size::WithSize;

/// Hands a call on, and its answer back as it comes. The request is boxed, or it would
/// have a place in the future of each function that it is handed through, of which
/// thousands may wait.
pub(crate) async fn pass(shared: &Shared, request: Box<Request<Body>>) -> Response {
    let mut line = Line::begin(&request, &shared.counts, &shared.page);
    let answered = match through(shared, request, &mut line).await {
        Ok(answered) => answered,
        Err(Instead::Late(late)) => return late.answer(line),
        Err(Instead::Refused(refusal)) => return refused(refusal, line),
    };
    let is_switched = answered.response.status() == StatusCode::SWITCHING_PROTOCOLS;
    match answered.asked.filter(|_| is_switched) {
        Some(asked) => asked.open(answered.response, line),
        // Nobody has asked for that, and there is nothing that it could switch to.
        None if is_switched => {
            let message = "the provider switched to a protocol that nobody asked for".to_owned();
            let refusal = Refusal::NoAnswer {
                is_timeout: false,
                is_left: false,
                message,
            };
            refused(refusal, line)
        }
        None => {
            let gets_turns = shared.keys.upstream_has_tasks();
            answer(answered.response, line, answered.is_spent, gets_turns)
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
    response: http::Response<gates::Body>,
    /// Whether the gates tried again by themselves, for as often as they may.
    is_spent: bool,
    /// Where the client wants more than an answer.
    asked: Option<Asked>,
}

/// What a client gets in place of what the provider says.
enum Instead {
    Refused(Refusal),
    /// Word that its stream waits.
    Late(Box<Late>),
}

impl From<Refusal> for Instead {
    fn from(refusal: Refusal) -> Self {
        Instead::Refused(refusal)
    }
}

async fn through(
    shared: &Shared,
    mut request: Box<Request<Body>>,
    line: &mut Line,
) -> Result<Answered, Instead> {
    let Admitted {
        gates,
        caller,
        tally,
        keeps_key,
    } = shared.keys.admit(request.headers())?;
    line.caller = caller.name().unwrap_or_default().to_owned();
    forget_the_connection(request.extensions_mut());
    request.extensions_mut().insert(caller);
    line.tally = tally;
    let most = max_wait(shared.max_wait, request.headers())?;
    *request.uri_mut() = provider_path(shared.keys.base_path(), request.uri())?;
    let asked = Asked::of(&mut request);
    for_provider(request.headers_mut(), keeps_key);
    if asked.is_some() {
        Asked::ask(request.headers_mut(), keeps_key);
    }
    // Each leg has a version of its own.
    *request.version_mut() = Version::HTTP_11;

    let mut share = shared.held.share();
    let ready = Ready::of(shared, request, &mut share).await?;
    let Begun {
        way,
        upload,
        left,
        share: _share,
    } = begin(shared, gates, ready, most, share, line);
    let ended = way.await?;
    // A next attempt is the client's own to make where it would not wait for ours, and where
    // another proxy may make it.
    let is_left = left.is_some_and(|left| left.is_said()) || shared.counts.is_closing();
    match ended {
        Ok(response) => Ok(Answered {
            is_spent: upload.is_none() && !is_left,
            response,
            asked,
        }),
        Err(refusal) if is_left => Err(refusal.left_to_client().into()),
        Err(refusal) => Err(refusal.into()),
    }
}

/// A call that is begun.
struct Begun {
    way: Way,
    upload: Option<usize>,
    /// Says whether an attempt was left to the client, which does not wait for long.
    left: Option<LeftToCaller>,
    /// What it holds, it holds until it is answered.
    share: Option<Share>,
}

pin_project! {
    /// A call that is under way. What few calls need is boxed, so that it takes no room in
    /// all the others.
    #[project = WayProj]
    enum Way {
        Plain { #[pin] calling: gates::Calling, upload: Option<usize>, in_use: InUse },
        Boxed { calling: Pin<Box<dyn Future<Output = Result<Ended, Instead>> + Send>> },
    }
}

impl Future for Way {
    type Output = Result<Ended, Instead>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project() {
            WayProj::Plain {
                calling, upload, ..
            } => {
                let ended = ready!(calling.poll(cx));
                Poll::Ready(Ok(ended.map_err(|error| Refusal::of_call(&error, *upload))))
            }
            WayProj::Boxed { calling } => calling.as_mut().poll(cx),
        }
    }
}

/// Begins a call, and notes what is known of it then. It is no part of the function that
/// waits, in whose future all would keep its room that was borrowed here.
fn begin(
    shared: &Shared,
    gates: Gates,
    mut ready: Ready,
    most: Option<Duration>,
    share: Share,
    line: &mut Line,
) -> Begun {
    let place = gates.place(&ready.request);
    line.charge = place.charge;
    line.read = Some(ready.launches.read_since(line.came));
    let model = ready.call.model().unwrap_or_default();
    line.model = in_one_line(model).take(LONGEST_MODEL).collect();
    line.pool = Arc::clone(&place.pool);
    ready.launches.tell(&shared.page, &line.pool, line.charge);

    line.launches = Some(ready.launches.clone());
    let upload = ready.upload;
    // Who is told at once that it takes too long is not told that it takes long.
    let every = shared
        .comments
        .filter(|_| most.is_none() && ready.call.streams());
    let left = most.map(|_| LeftToCaller::default());
    let (way, share) = match (most.zip(left.clone()), every) {
        (Some((most, left)), _) => {
            ready.request.extensions_mut().insert(left);
            let patiently = async move { Ok(patiently(gates, ready, place, most).await) };
            let calling = Box::pin(patiently);
            (Way::Boxed { calling }, Some(share))
        }
        (None, Some(every)) => {
            let calling = Box::pin(in_time(gates, ready, place, share, every));
            (Way::Boxed { calling }, None)
        }
        (None, None) => {
            let calling = gates.call(*ready.request);
            let in_use = gates.in_use();
            let plain = Way::Plain {
                calling,
                upload,
                in_use,
            };
            (plain, Some(share))
        }
    };
    Begun {
        way,
        upload,
        left,
        share,
    }
}

/// Takes out what nobody asks for any more, and each attempt would copy.
fn forget_the_connection(extensions: &mut Extensions) {
    extensions.remove::<ConnectInfo<SocketAddr>>();
    extensions.remove::<RequestId>();
}

/// Calls, and waits for no longer than `every` until the client is to hear of it.
async fn in_time(
    gates: Gates,
    ready: Ready,
    place: Place,
    share: Share,
    every: Duration,
) -> Result<Ended, Instead> {
    let wait = Wait {
        launches: ready.launches.clone(),
        first: Outlook::of(&place),
        place,
        since: Instant::now(),
    };
    let mut calling: Calling = Box::pin(async move {
        // What it holds, it holds until it is answered.
        let _share = share;
        let ended = gates.call(*ready.request).await;
        ended.map_err(|error| Refusal::of_call(&error, ready.upload))
    });
    tokio::select! {
        biased;
        ended = &mut calling => Ok(ended),
        () = sleep(every) => Err(Instead::Late(Box::new(Late { calling, wait, every }))),
    }
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

/// Where a call goes at the provider: a path alone, for nothing that a client sends
/// chooses a host.
fn provider_path(base: &str, uri: &Uri) -> Result<Uri, Refusal> {
    let path = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    let below = |prefix: &str| {
        let rest = path.strip_prefix(prefix)?;
        rest.starts_with(['/', '?']).then_some(rest)
    };
    let is_prefix = !base.is_empty() && base != VERSION;
    // What clients call the API's root is the base URL, whatever version that ends in, if any.
    // A host alone is no base URL of an SDK's, and has the version still to come.
    let ends_here = base.is_empty() || base.ends_with(VERSION);
    let path = match (below(base).filter(|_| is_prefix), below(VERSION)) {
        (Some(rest), _) => rest,
        // The client makes the base URL's version of this one.
        (None, Some(_)) if ends_here => path,
        (None, Some(rest)) => rest,
        (None, None) => return Err(Refusal::NotHere),
    };
    // A copy: what it came in is the connection's.
    let path = PathAndQuery::try_from(path).map_err(|_| Refusal::NotHere)?;
    Ok(Uri::from(path))
}

/// Where the API stands for clients.
const VERSION: &str = "/v1";

/// A request that may be sent.
struct Ready {
    /// Boxed, as before.
    request: Box<Request<RequestBody>>,
    call: Call,
    launches: Launches,
    /// The most bytes that may be passed on of an upload.
    upload: Option<usize>,
}

impl Ready {
    /// Reads the body, unless it is an upload.
    async fn of(
        shared: &Shared,
        request: Box<Request<Body>>,
        share: &mut Share,
    ) -> Result<Self, Refusal> {
        let bounds = &shared.bounds;
        let upload = is_multipart(request.headers()).then_some(bounds.upload_bytes);
        let (head, body) = request.into_parts();
        let size = body.size_hint();
        let most = upload.unwrap_or(bounds.body_bytes);
        // Nobody is told to go on with it.
        if size.lower() > most as u64 {
            return Err(Refusal::TooLong { most });
        }
        let body = WithSize::new(TimeoutBody::new(bounds.body_idle, body), size);
        let body = match upload {
            Some(most) => RequestBody::streamed(Box::pin(Limited::new(body, most))),
            None => whole(body, bounds.body_bytes, share).await?,
        };
        let mut request = Box::new(Request::from_parts(head, body));
        let launches = Launches::none_yet();
        request.extensions_mut().insert(launches.clone());
        let call = Call::attach(&mut request);
        Ok(Ready {
            request,
            call,
            launches,
            upload,
        })
    }
}

async fn whole<B>(body: B, most: usize, share: &mut Share) -> Result<RequestBody, Refusal>
where
    B: http_body::Body<Data = Bytes>,
    B::Error: Into<axum::BoxError>,
{
    let body = Limited::new(Counted::new(Box::pin(body), share), most);
    let whole = body.collect().await;
    let whole = whole.map_err(|error| Refusal::of_body(&*error, most))?;
    let trailers = whole.trailers().cloned();
    let whole = detached(whole.to_bytes());
    Ok(match trailers {
        Some(trailers) => RequestBody::with_trailers(whole, trailers),
        None => RequestBody::from(whole),
    })
}

/// The same bytes without the buffer that they came in, if that is larger by much: what
/// came in one piece is a part of it.
fn detached(body: Bytes) -> Bytes {
    const SMALL: usize = 16 * 1024;
    match body.len() {
        1..SMALL => Bytes::copy_from_slice(&body),
        _ => body,
    }
}

fn is_multipart(headers: &HeaderMap) -> bool {
    let kind = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let start = kind.and_then(|kind| kind.get(..MULTIPART.len()));
    start.is_some_and(|start| start.eq_ignore_ascii_case(MULTIPART))
}

/// What is logged of a model's name, which may be anything.
const LONGEST_MODEL: usize = 128;

/// Without what would end a line of the log, or colour it.
fn in_one_line(text: &str) -> impl Iterator<Item = char> {
    text.chars().map(|letter| match letter.is_control() {
        true => char::REPLACEMENT_CHARACTER,
        false => letter,
    })
}

const MULTIPART: &[u8] = b"multipart/";

/// Calls, and does not begin to wait, nor goes on waiting, for longer than `most`. A
/// call that was launched in time is waited for; it is not sent again later.
async fn patiently(gates: Gates, mut ready: Ready, place: Place, most: Duration) -> Ended {
    let too_late = || {
        let outlook = Outlook::of(&place);
        Refusal::TooLate { outlook, most }
    };
    if place.expected_wait() > most {
        return Err(too_late());
    }
    // Who may go at once has not waited at all, however long it takes him to go.
    let until = Deadline::within(most.saturating_add(AT_ONCE));
    ready.request.extensions_mut().insert(until);
    let mut calling = Box::pin(gates.call(*ready.request));
    let ended = match timeout(most, &mut calling).await {
        Ok(ended) => ended,
        Err(_) if ready.launches.wait().is_some() => calling.await,
        Err(_) => {
            // Who is told his place stands in it no more.
            drop(calling);
            return Err(too_late());
        }
    };
    ended.map_err(|error| match error.refused() {
        Some(Refused::TooLate { .. }) => too_late(),
        _ => Refusal::of_call(&error, ready.upload),
    })
}

/// Nobody needs as long as that from being let in to being launched.
const AT_ONCE: Duration = Duration::from_millis(100);

#[cfg(test)]
mod tests {
    use super::*;

    fn path(base: &str, uri: &str) -> Result<String, Refusal> {
        provider_path(base, &uri.parse().unwrap()).map(|uri| uri.to_string())
    }

    #[test]
    fn paths_are_the_apis_or_below_the_base_urls() {
        for (base, uri, there) in [
            ("/v1", "/v1/models?a=b", "/v1/models?a=b"),
            ("/v1", "http://evil.example/v1/models", "/v1/models"),
            ("", "/v1/models", "/v1/models"),
            ("/openai/v1", "/v1/models", "/v1/models"),
            ("/openai/v1", "/openai/v1/models", "/models"),
            ("/v1beta/openai", "/v1/models?a=b", "/models?a=b"),
            ("/v1beta/openai", "/v1beta/openai/models", "/models"),
            ("/api/paas/v4", "/v1/chat/completions", "/chat/completions"),
        ] {
            assert_eq!(path(base, uri).as_deref(), Ok(there), "{base} {uri}");
        }
        for uri in [
            "/",
            "/models",
            "/v1x",
            "/v1",
            "/favicon.ico",
            "/openai/v1/x",
        ] {
            assert_eq!(path("/v1", uri), Err(Refusal::NotHere), "{uri}");
        }
    }

    #[test]
    fn a_name_of_a_model_is_no_line_of_the_log() {
        let name: String = in_one_line("x\r\n2026-11-29 INFO \u{1b}[31mü").collect();
        assert_eq!(name, "x\u{fffd}\u{fffd}2026-11-29 INFO \u{fffd}[31mü");
    }

    /// What a call is read from is used again while it waits.
    #[test]
    fn a_path_is_no_part_of_what_it_came_in() {
        for base in ["/v1", "", "/openai/v1"] {
            let buffer = Bytes::from(b"/v1/models".to_vec());
            let uri = Uri::from_maybe_shared(buffer.clone()).unwrap();
            let path = provider_path(base, &uri).unwrap();
            drop(uri);
            assert!(buffer.is_unique(), "{base}");
            assert_eq!(path, "/v1/models");
        }
    }

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
