//! The routes.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::http::{HeaderValue, Method, Response, StatusCode, Uri};
use axum::routing::{get, post};
use bytes::Bytes;

use super::handler::handle;
use crate::answer::{self, Page};
use crate::ask::Endpoint;
use crate::config::{Config, Limits};
use crate::error::ApiError;
use crate::provider::Provider;

/// What is listed while no model is named and every name is served.
const USUAL_MODELS: [&str; 4] = [
    "gpt-4.1-mini",
    "gpt-4o",
    "gpt-4o-mini",
    "text-embedding-3-small",
];

type Sim = State<Arc<Provider>>;

/// All routes of one provider.
pub(crate) fn router(provider: Arc<Provider>) -> Router {
    let answers = |endpoint| {
        post(move |State(provider): Sim, request: Request| handle(provider, endpoint, request))
    };
    Router::new()
        .route("/v1/chat/completions", answers(Endpoint::Chat))
        .route("/v1/completions", answers(Endpoint::Completions))
        .route("/v1/responses", answers(Endpoint::Responses))
        .route("/v1/embeddings", answers(Endpoint::Embeddings))
        .route("/v1/moderations", answers(Endpoint::Moderations))
        .route("/v1/models", get(models))
        .route("/v1/models/{id}", get(model))
        .route(
            "/v1/organization/projects/{id}/rate_limits",
            get(rate_limits),
        )
        .fallback(no_route)
        .method_not_allowed_fallback(wrong_method)
        .with_state(provider)
}

/// The models that are listed, with their limits.
fn listed(config: &Config) -> Vec<(&str, Limits)> {
    if config.models.is_empty() {
        return USUAL_MODELS.map(|name| (name, config.limits)).to_vec();
    }
    let named = config.models.iter();
    named
        .map(|(name, limits)| (name.as_str(), *limits))
        .collect()
}

async fn models(State(provider): Sim) -> Response<Body> {
    let names = listed(&provider.config).into_iter().map(|(name, _)| name);
    json(StatusCode::OK, answer::pretty(&answer::list(names)))
}

/// Every project has the same ones.
async fn rate_limits(
    State(provider): Sim,
    page: Result<Query<Page>, QueryRejection>,
) -> Response<Body> {
    let listed = listed(&provider.config);
    let list = page
        .map_err(|_| ApiError::bad_query())
        .and_then(|Query(page)| answer::rate_limits(&listed, &page));
    match list {
        Ok(list) => json(StatusCode::OK, answer::pretty(&list)),
        Err(refused) => error(&refused),
    }
}

async fn model(State(provider): Sim, Path(id): Path<String>) -> Response<Body> {
    match provider.config.limits_of(&id) {
        Some(_) => json(StatusCode::OK, answer::pretty(&answer::model(&id))),
        None => error(&ApiError::unknown_model(&id)),
    }
}

async fn no_route(method: Method, uri: Uri) -> Response<Body> {
    error(&ApiError::no_route(method.as_str(), uri.path()))
}

async fn wrong_method(method: Method, uri: Uri) -> Response<Body> {
    error(&ApiError::wrong_method(method.as_str(), uri.path()))
}

fn error(error: &ApiError) -> Response<Body> {
    json(error.status, error.body().into())
}

fn json(status: StatusCode, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
