//! What is answered where.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, PROXY_AUTHORIZATION, SET_COOKIE};
use http::{HeaderMap, StatusCode};
use tower::ServiceBuilder;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::sensitive_headers::SetSensitiveHeadersLayer;

use crate::error::Refusal;
use crate::headers::{API_KEY, REQUEST_ID};
use crate::keys::Admitted;
use crate::page;
use crate::pass::pass;
use crate::shared::Shared;
use crate::status::Status;

type Proxy = State<Arc<Shared>>;

/// All routes.
pub(crate) fn router(shared: Arc<Shared>) -> Router {
    let secret = [
        AUTHORIZATION,
        PROXY_AUTHORIZATION,
        COOKIE,
        SET_COOKIE,
        API_KEY,
    ];
    let around = ServiceBuilder::new()
        .layer(CatchPanicLayer::custom(panicked))
        .layer(SetSensitiveHeadersLayer::new(secret))
        .layer(SetRequestIdLayer::new(REQUEST_ID, MakeRequestUuid))
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        .layer(from_fn_with_state(Arc::clone(&shared), check));
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(ready))
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
        .with_state(shared)
        .layer(around)
}

async fn check(State(shared): Proxy, mut request: Request, next: Next) -> Response {
    match shared.hosts.check(&request) {
        Ok(()) if !may_be_seen(&shared, &request) => Refusal::NoToken.into_response(),
        Ok(()) => {
            // What the check has seen is what counts, not an absolute-form target.
            if let Some(path) = request.uri().path_and_query().cloned() {
                *request.uri_mut() = path.into();
            }
            next.run(request).await
        }
        Err(flaw) => Refusal::from(flaw).into_response(),
    }
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

async fn call(State(shared): Proxy, request: Request) -> Response {
    pass(&shared, request).await
}

async fn ready(State(shared): Proxy) -> (StatusCode, &'static str) {
    match shared.counts.is_closing() {
        false => (StatusCode::OK, "ready\n"),
        true => (StatusCode::SERVICE_UNAVAILABLE, "closing\n"),
    }
}

async fn status(State(shared): Proxy, headers: HeaderMap) -> Response {
    if !shared.keys.may_look(&headers) {
        return Refusal::WrongToken.into_response();
    }
    let accounts = shared.keys.snapshots();
    Json(Status::of(&shared.counts, shared.held.bytes(), accounts)).into_response()
}

/// What the calls of whoever asks came to.
async fn me(State(shared): Proxy, headers: HeaderMap) -> Response {
    match shared.keys.admit(&headers) {
        Ok(Admitted {
            tally: Some(tally), ..
        }) => Json(tally.told()).into_response(),
        Ok(_) => Refusal::NotHere.into_response(),
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
