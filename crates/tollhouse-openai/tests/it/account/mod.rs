//! An account: a pool for each model.

mod callers;
mod file;
mod life;
mod live;
mod meters;
mod mixed;
mod shared;

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tollhouse_openai::{Policy, PolicyConfig};
use tower::{Service, ServiceExt};

pub(super) const SEC: Duration = Duration::from_secs(1);

/// A chat that is charged this many tokens.
pub(super) fn chat(model: &str, tokens: u64) -> Request<Bytes> {
    // Four for the message, three for the answer's start, one for the text.
    let longest = tokens - 8;
    let body = format!(
        r#"{{"model":{model:?},"max_tokens":{longest},"messages":[{{"role":"user","content":"Hi"}}]}}"#
    );
    Request::post("/v1/chat/completions")
        .body(body.into())
        .unwrap()
}

/// An embedding that is charged this many tokens.
pub(super) fn embedding(model: &str, tokens: usize) -> Request<Bytes> {
    let text = "abc ".repeat(tokens);
    // Short vectors: the answer is not what is tried.
    let body = format!(r#"{{"model":{model:?},"dimensions":2,"input":{text:?}}}"#);
    Request::post("/v1/embeddings").body(body.into()).unwrap()
}

/// Calls, and reads the answer to its end.
pub(super) async fn call<S, B>(client: &S, request: Request<Bytes>) -> StatusCode
where
    S: Service<Request<Bytes>, Response = Response<B>, Error = tollhouse::Error> + Clone,
    B: http_body::Body<Data = Bytes>,
    B::Error: std::fmt::Debug,
{
    let answer = client.clone().oneshot(request).await.expect("an answer");
    let status = answer.status();
    answer.into_body().collect().await.expect("a body");
    status
}

/// A policy that spaces nothing and lets many through.
pub(super) fn wide() -> PolicyConfig {
    let policy = Policy::default().stagger(Duration::ZERO);
    policy.max_concurrency(1_000).config().clone()
}
