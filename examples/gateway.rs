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
use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::response::Response;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tollgate_openai::policy::Limited;
use tollgate_openai::{ApiError, BoxError, OpenAi, Policy};
use tollgate_sim::Sim;
use tower::{Layer, ServiceExt};

/// The longest request that is taken, in bytes.
const LONGEST: usize = 20 * 1024 * 1024;

/// Hands any call on, and its answer back as it comes: a stream stays one.
async fn forward(
    State(client): State<Limited<OpenAi>>,
    request: Request,
) -> Result<Response, ApiError> {
    let (mut parts, body) = request.into_parts();
    // The caller's key is for the gateway; the account's is put in its place.
    parts.headers.remove(AUTHORIZATION);
    let body = to_bytes(body, LONGEST).await.map_err(BoxError::from)?;
    let answer = client.oneshot(Request::from_parts(parts, body)).await?;
    Ok(answer.map(Body::new))
}

fn gateway(client: Limited<OpenAi>) -> Router {
    Router::new().fallback(forward).with_state(client)
}

/// Where it listens, until the runtime ends.
async fn start(client: Limited<OpenAi>) -> Result<String, BoxError> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let address = listener.local_addr()?;
    let serve = axum::serve(listener, gateway(client));
    tokio::spawn(async move { serve.await.expect("the listener stays") });
    Ok(format!("http://{address}/v1"))
}

async fn ask(base: String, question: usize) -> Result<u32, BoxError> {
    let config = OpenAIConfig::new()
        .with_api_base(base)
        .with_api_key("known-to-the-gateway-alone");
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

        let config = OpenAIConfig::new().with_api_base(base).with_api_key("-");
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
}
