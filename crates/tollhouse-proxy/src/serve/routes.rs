//! What is answered where.

use std::any::Any;
use std::convert::Infallible;
use std::future::{Future, ready};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{BoxError, Json, Router};
use bytes::Bytes;
use futures_util::TryFutureExt;
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, Method, StatusCode};
use tollhouse_openai::shared::Fallback;
use tower::{Service, ServiceBuilder, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::{
    SetSensitiveRequestHeadersLayer, SetSensitiveResponseHeadersLayer,
};

use super::refused::NoCall;
use super::request_id::RequestIds;
use super::status::Status;
use crate::call::pass;
use crate::check::Flaw;
use crate::error::{Refusal, Why};
use crate::headers::{API_KEY, REQUEST_ID, TOKEN};
use crate::page;
use crate::shared::Shared;

type Proxy = State<Arc<Shared>>;

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    Router::new().fallback_service(front(shared))
}

/// The same for the server of our own, which needs no box around each layer.
pub(crate) fn front(shared: Arc<Shared>) -> impl Front {
    let secret = [AUTHORIZATION, PROXY_AUTHORIZATION, COOKIE, API_KEY, TOKEN];
    ServiceBuilder::new()
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetSensitiveRequestHeadersLayer::new(secret))
        .layer(SetSensitiveResponseHeadersLayer::new([SET_COOKIE]))
        .layer(SetRequestIdLayer::new(REQUEST_ID, RequestIds::default()))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .service(Paths {
            own: own(Arc::clone(&shared)),
            shared,
        })
}

/// Answers every request. It is always ready: a call waits in its future.
pub(crate) trait Front:
    Service<Request, Response = Response<Self::Body>, Error = Infallible, Future: Send>
    + Clone
    + Send
    + Sync
    + 'static
{
    /// As the outermost layer has it; a box around it would do nothing.
    type Body: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static;

    /// What tower's `oneshot` does, whose future would keep room for all of the front and for
    /// the request.
    fn answer(&self, request: Request) -> Self::Future {
        let mut front = self.clone();
        let is_ready = front.poll_ready(&mut Context::from_waker(Waker::noop()));
        debug_assert!(is_ready.is_ready(), "a call waits in its future");
        front.call(request)
    }
}

impl<S, B> Front for S
where
    S: Service<Request, Response = Response<B>, Error = Infallible, Future: Send>
        + Clone
        + Send
        + Sync
        + 'static,
    B: http_body::Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    type Body = B;
}

/// Tells calls, which are many, from what the proxy says of itself.
#[derive(Clone)]
struct Paths {
    shared: Arc<Shared>,
    own: Router,
}

impl Service<Request> for Paths {
    type Response = Response;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request) -> Self::Future {
        if let Err(refusal) = check(&self.shared, &mut request) {
            let no_call = NoCall::of(&request);
            let answer = refusal.into_response();
            no_call.answered(&answer);
            return Box::pin(ready(Ok(answer)));
        }
        if is_own(request.uri().path()) {
            let no_call = NoCall::of(&request);
            let own = self.own.clone().oneshot(request);
            return Box::pin(own.inspect_ok(|answer| no_call.answered(answer)));
        }
        let (shared, request) = (Arc::clone(&self.shared), Box::new(request));
        Box::pin(async move { Ok(pass(&shared, request).await) })
    }
}

/// Whether a path may be one of the proxy's own; what is not is a call after all.
pub(crate) fn is_own(path: &str) -> bool {
    let below = |start| {
        path.strip_prefix(start)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    };
    matches!(path, "/healthz" | "/readyz" | "/metrics") || below("/tollhouse")
}

/// What the proxy says of itself is only read.
const NOT_TO_CHANGE: Refusal = Refusal::NotOffered {
    allowed: "GET, HEAD",
};

/// A provider that repeats what it was sent would show the account's key (RFC 9110,
/// section 9.3.8).
const NO_TRACE: Refusal = Refusal::NotOffered {
    allowed: "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS",
};

fn own(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(is_ready))
        .route("/metrics", get(metrics))
        .route("/tollhouse/status", get(status))
        .route("/tollhouse/me", get(me))
        .route(
            "/tollhouse",
            get(async || Redirect::permanent("/tollhouse/")),
        )
        .route("/tollhouse/", get(async || page::document()))
        .route("/tollhouse/events", get(events))
        .fallback(call)
        .method_not_allowed_fallback(async || NOT_TO_CHANGE)
        .with_state(shared)
}

/// Whether a request may be answered at all. What is seen here is what counts from then
/// on, not an absolute-form target.
fn check(shared: &Shared, request: &mut Request) -> Result<(), Refusal> {
    if let Some(flaw) = request.extensions().get::<Flaw>() {
        return Err((*flaw).into());
    }
    shared.hosts.check(request)?;
    if request.method() == Method::TRACE {
        return Err(NO_TRACE);
    }
    if !may_be_seen(shared, request) {
        return Err(Refusal::NoToken);
    }
    if request.uri().authority().is_some()
        && let Some(path) = request.uri().path_and_query().cloned()
    {
        *request.uri_mut() = path.into();
    }
    Ok(())
}

/// Where no token can be demanded of whoever looks, only this machine's programs may. What
/// is not known to be one is none.
fn may_be_seen(shared: &Shared, request: &Request) -> bool {
    let path = request.uri().path();
    let is_to_look_at = path == "/metrics" || path.starts_with("/tollhouse/");
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    let is_of_here = peer.is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
    is_of_here || !is_to_look_at || !shared.keys.are_seen_from_here_alone()
}

fn panicked(_: Box<dyn Any + Send + 'static>) -> Response<Body> {
    Refusal::Panicked.into_response()
}

/// It is a call after all, which has a line of its own.
async fn call(State(shared): Proxy, request: Request) -> Response {
    let mut answer = pass(&shared, Box::new(request)).await;
    answer.extensions_mut().remove::<Why>();
    answer
}

/// A shared ledger that is away is told; it keeps from taking calls only where nothing is sent
/// without it.
async fn is_ready(State(shared): Proxy) -> (StatusCode, String) {
    if shared.counts.is_closing() {
        return (StatusCode::SERVICE_UNAVAILABLE, "closing\n".to_owned());
    }
    let Some(sharing) = shared.keys.sharing() else {
        return (StatusCode::OK, "ready\n".to_owned());
    };
    let status = sharing.status();
    let why = status.why.map(|why| why.to_string()).unwrap_or_default();
    match (status.is_up, sharing.fallback()) {
        (true, _) => (StatusCode::OK, "ready\n".to_owned()),
        (false, Fallback::Closed) => (
            StatusCode::SERVICE_UNAVAILABLE,
            format!("nothing is sent: {why}\n"),
        ),
        (false, _) => (StatusCode::OK, format!("ready, alone: {why}\n")),
    }
}

async fn status(State(shared): Proxy, headers: HeaderMap) -> Response {
    if !shared.keys.may_look(&headers) {
        return Refusal::WrongToken.into_response();
    }
    let accounts = shared.keys.snapshots();
    let mut status = Status::of(&shared.counts, shared.held.bytes(), accounts);
    status.processes = shared.page.ask_processes().await;
    Json(status).into_response()
}

/// What the calls of whoever asks came to.
async fn me(State(shared): Proxy, headers: HeaderMap) -> Response {
    match shared.keys.tally(&headers) {
        Ok(Some(tally)) => Json(tally.told()).into_response(),
        Ok(None) => Refusal::NotHere.into_response(),
        Err(refusal) => refusal.into_response(),
    }
}

async fn events(State(shared): Proxy, headers: HeaderMap) -> Response {
    if !shared.keys.may_look(&headers) {
        return Refusal::WrongToken.into_response();
    }
    let looking = Arc::clone(&shared);
    let events = shared.page.events(Arc::new(move || looking.look()));
    events.unwrap_or_else(|| Refusal::TooManyWatchers.into_response())
}

async fn metrics(State(shared): Proxy, headers: HeaderMap) -> Response {
    if !shared.keys.may_look(&headers) {
        return Refusal::WrongToken.into_response();
    }
    match &shared.metrics {
        Some(metrics) => {
            metrics.run_upkeep();
            (
                [(CONTENT_TYPE, "text/plain; version=0.0.4")],
                metrics.render(),
            )
                .into_response()
        }
        None => Refusal::NotHere.into_response(),
    }
}
