//! One policy for programs in any language: a gateway that speaks the provider's
//! own API, holds its key, and lets every call through the gates.
//!
//! Run it with `cargo run --example gateway`; it needs no key, because the provider
//! is simulated. An official SDK, genai, rig or curl is pointed at it by its base
//! URL; here async-openai is, six times over. With the client's own retries off
//! (`max_retries=0` in official SDKs), a call that a gate turns away is told so by a
//! 503 with `retry-after`.

use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessage, CreateChatCompletionRequestArgs,
};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use bytes::Bytes;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tollhouse_openai::policy::Limited;
use tollhouse_openai::{ApiError, BoxError, OpenAi, Policy};
use tollhouse_sim::Sim;
use tower::{Layer, ServiceExt};

/// The longest request that is taken, in bytes; a longer one gets a 413.
const LONGEST: usize = 20 * 1024 * 1024;

/// What is handed on of a caller's headers. Nothing else is the provider's
/// business: no cookies, no keys of the gateway's, nothing about this connection;
/// and no `accept-encoding`, for usage is read from answers that are not packed.
const HANDED_ON: [HeaderName; 5] = [
    ACCEPT,
    CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static("openai-beta"),
    HeaderName::from_static("x-stainless-retry-count"),
];

#[derive(Clone)]
struct Gateway {
    client: Limited<OpenAi>,
    /// What callers show. (Where they are strangers, give each a key of its own,
    /// and compare in constant time.)
    key: HeaderValue,
}

/// Hands a call on, and its answer back as it comes: a stream stays one.
async fn forward(
    State(gateway): State<Gateway>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    if headers.get(AUTHORIZATION) != Some(&gateway.key) {
        let error = json!({"message": "not a key of this gateway", "code": "invalid_api_key"});
        let refused = Json(json!({ "error": error }));
        return Ok((StatusCode::UNAUTHORIZED, refused).into_response());
    }
    let mut request = Request::new(body);
    *request.method_mut() = method;
    // A path alone goes to the account's own base URL, whatever host was named.
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    *request.uri_mut() = path.parse().map_err(BoxError::from)?;
    for name in HANDED_ON {
        if let Some(value) = headers.get(&name) {
            request.headers_mut().insert(name, value.clone());
        }
    }
    let answer = gateway.client.oneshot(request).await?;
    Ok(answer.map(Body::new))
}

fn gateway(client: Limited<OpenAi>, key: HeaderValue) -> Router {
    Router::new()
        .fallback(forward)
        .layer(DefaultBodyLimit::max(LONGEST))
        .with_state(Gateway { client, key })
}

/// Where it listens, until the runtime ends.
async fn start(client: Limited<OpenAi>) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serve = axum::serve(listener, gateway(client, KEY));
    tokio::spawn(async move { serve.await.expect("the listener stays") });
    Ok(format!("http://{address}/v1"))
}

/// As a caller's SDK is given it, and as it is sent.
const CALLERS_KEY: &str = "known-to-the-gateway-alone";
const KEY: HeaderValue = HeaderValue::from_static("Bearer known-to-the-gateway-alone");

async fn ask(base: String, question: usize) -> Result<u32, BoxError> {
    let config = OpenAIConfig::new()
        .with_api_base(base)
        .with_api_key(CALLERS_KEY);
    let message = ChatCompletionRequestUserMessage::from(format!("What is {question} squared?"));
    let request = CreateChatCompletionRequestArgs::default()
        .model("gpt-4o-mini")
        .max_completion_tokens(100_u32)
        .messages([message.into()])
        .build()?;
    let answer = Client::with_config(config).chat().create(request).await?;
    Ok(answer.usage.ok_or("no usage")?.total_tokens)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sim = Sim::builder().build()?;
    let provider = sim.spawn("127.0.0.1:0").await?;
    let policy = Policy::default().stagger(Duration::from_millis(200));
    let openai = OpenAi::builder()
        .base_url(provider.url())
        .api_key("sk-of-the-account")
        .build()?;
    let base = start(policy.layer().layer(openai)).await?;
    println!("the gateway listens at {base}");

    let start = Instant::now();
    let calls = (1..=6).map(|number| {
        let call = ask(base.clone(), number);
        tokio::spawn(async move { (number, call.await, start.elapsed()) })
    });
    for call in calls.collect::<Vec<_>>() {
        let (number, tokens, elapsed) = call.await?;
        println!("{elapsed:7.1?}  call {number}: {} tokens", tokens?);
    }
    println!("\n{}", sim.report());
    Ok(())
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;
    use futures_util::future::try_join_all;

    use super::*;

    #[tokio::test]
    async fn every_client_is_limited_and_streams_stay_streams() -> Result<(), BoxError> {
        let sim = Sim::builder().latency(Duration::from_millis(20), Duration::from_millis(5));
        let sim = sim.build()?;
        let provider = sim.spawn("127.0.0.1:0").await?;
        let policy = Policy::default().stagger(Duration::ZERO).max_concurrency(2);
        let openai = OpenAi::builder().base_url(provider.url()).api_key("sk-own");
        let base = start(policy.layer().layer(openai.build()?)).await?;

        try_join_all((0..8).map(|number| ask(base.clone(), number))).await?;
        let report = sim.report();
        assert_eq!(report.total.completed, 8, "{report}");
        assert_eq!(report.peak_in_flight, 2, "{report}");

        let config = OpenAIConfig::new()
            .with_api_base(base)
            .with_api_key(CALLERS_KEY);
        let request = CreateChatCompletionRequestArgs::default()
            .model("gpt-4o-mini")
            .max_completion_tokens(50_u32)
            .messages([ChatCompletionRequestUserMessage::from("Count.").into()])
            .build()?;
        let client = Client::with_config(config);
        let stream = client.chat().create_stream(request).await?;
        let chunks: Vec<_> = stream.collect().await;
        assert!(
            chunks.len() > 5 && chunks.iter().all(Result::is_ok),
            "{chunks:?}"
        );
        Ok(())
    }

    /// What the provider sees of a call, by its own word.
    async fn seen() -> Result<(String, tokio::task::JoinHandle<()>), BoxError> {
        let echo = async |method: Method, uri: Uri, headers: HeaderMap| {
            format!("{method} {uri} {headers:?}")
        };
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/v1", listener.local_addr()?);
        let serve = axum::serve(listener, Router::new().fallback(echo));
        Ok((
            url,
            tokio::spawn(async move { serve.await.expect("it stays") }),
        ))
    }

    async fn told(app: Router, request: Request<Body>) -> Result<(u16, String), BoxError> {
        let answer = app.oneshot(request).await?;
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), LONGEST).await?;
        Ok((status, String::from_utf8(body.into())?))
    }

    #[tokio::test]
    async fn strangers_hosts_and_headers_stay_outside() -> Result<(), BoxError> {
        let (url, provider) = seen().await?;
        let openai = OpenAi::builder().base_url(url).api_key("sk-own").build()?;
        let policy = Policy::default().stagger(Duration::ZERO);
        let app = gateway(policy.layer().layer(openai), KEY);

        let call = |uri: &str| Request::post(uri).header("content-type", "application/json");
        let stranger = call("/v1/responses").body(Body::from("{}"))?;
        assert_eq!(told(app.clone(), stranger).await?.0, 401);

        let elsewhere = call("http://127.0.0.1:1/latest?a=b")
            .header("authorization", &KEY)
            .header("cookie", "a=secret")
            .header("accept-encoding", "gzip")
            .header("connection", "close")
            .header("idempotency-key", "once")
            .body(Body::from("{}"))?;
        let (status, seen) = told(app.clone(), elsewhere).await?;
        assert_eq!(status, 200, "{seen}");
        assert!(seen.starts_with("POST /v1/latest?a=b "), "{seen}");
        assert!(
            seen.contains("Bearer sk-own") && seen.contains("once"),
            "{seen}"
        );
        for hidden in ["secret", "gzip", "close", CALLERS_KEY] {
            assert!(!seen.contains(hidden), "{hidden}: {seen}");
        }

        let long = call("/v1/responses").header("authorization", &KEY);
        let long = long.body(Body::from(vec![b' '; LONGEST + 1]))?;
        assert_eq!(told(app, long).await?.0, 413);
        provider.abort();
        Ok(())
    }
}
