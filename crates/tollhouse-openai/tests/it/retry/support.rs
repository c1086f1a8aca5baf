//! A provider that says what a test wants.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use tollhouse::testing::{Reply, ScriptedProvider};
use tollhouse_openai::Policy;
use tollhouse_openai::policy::LimitedBody;

/// What a caller reads through a policy.
pub(crate) type Body = LimitedBody<Full<Bytes>>;

pub(crate) type Provider = ScriptedProvider<Request<Bytes>, Response<Full<Bytes>>>;

/// Answers the n-th request, from 0, as `script` says.
pub(crate) fn provider(
    script: impl Fn(usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
) -> Provider {
    Provider::new(move |n, _| Reply::ok(script(n)))
}

/// A header of every request so far.
pub(crate) fn headers(provider: &Provider, name: &str) -> Vec<String> {
    let text = |request: &Request<Bytes>| {
        let value = request.headers()[name].to_str();
        value.expect("ascii").to_owned()
    };
    provider.requests().iter().map(text).collect()
}

/// Gates that do not bind; retries as a policy has them unless changed.
pub(crate) fn policy() -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(1_000)
        .headroom(0.0)
        .cautious_start(false)
}

pub(crate) fn chat(max_tokens: u64) -> Request<Bytes> {
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"1234"}}]}}"#
    );
    Request::post("/v1/chat/completions")
        .body(Bytes::from(body))
        .expect("a valid request")
}

pub(crate) fn answer(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::from(body))
        .expect("a valid response")
}
