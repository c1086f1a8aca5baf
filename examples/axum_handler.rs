//! An axum application whose handlers call a model through one shared stack.
//!
//! Run it with `cargo run --example axum_handler`; it needs no key, because the
//! provider is simulated. Ten visitors come at once; at most three of their
//! calls are in flight, and launches keep their distance, whoever asks.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tollhouse_openai::policy::Limited;
use tollhouse_openai::{ApiError, BoxError, OpenAi, Policy};
use tollhouse_sim::Sim;
use tower::{Layer, ServiceExt};

/// Cheap to clone; all clones share the slots, the budget and the spacing.
type Client = Limited<OpenAi>;

/// As an error it answers by itself: 429 or 503 with `retry-after`, or whatever
/// status the provider meant for the visitor.
async fn summarise(State(client): State<Client>, text: String) -> Result<Json<Value>, ApiError> {
    let body = json!({
        "model": "gpt-4o-mini",
        "max_tokens": 60,
        "messages": [
            {"role": "system", "content": "Summarise in one sentence."},
            {"role": "user", "content": text},
        ],
    });
    let request = http::Request::post("/v1/chat/completions")
        .body(Bytes::from(body.to_string()))
        .map_err(BoxError::from)?;
    let answer = ApiError::check(client.oneshot(request).await?).await?;
    let body = answer.into_body().collect().await?.to_bytes();
    Ok(Json(serde_json::from_slice(&body).map_err(BoxError::from)?))
}

fn app(client: Client) -> Router {
    Router::new()
        .route("/summarise", post(summarise))
        .with_state(client)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sim = Sim::builder().tokens_per_minute(30_000).build()?;
    let provider = sim.spawn("127.0.0.1:0").await?;
    let policy = Policy::default().stagger(Duration::from_millis(150));
    let openai = OpenAi::builder().base_url(provider.url()).build()?;
    let app = app(policy.layer().layer(openai));

    let start = Instant::now();
    let visitors = (1..=10).map(|visitor| {
        let app = app.clone();
        tokio::spawn(async move {
            let text = format!("Letter {visitor}: the parcel was late and the box was wet.");
            let request = http::Request::post("/summarise").body(Body::from(text))?;
            let status = app.oneshot(request).await?.status();
            println!("{:7.1?}  visitor {visitor:2}: {status}", start.elapsed());
            Ok::<_, BoxError>(())
        })
    });
    for visitor in visitors.collect::<Vec<_>>() {
        visitor.await??;
    }
    println!("\n{}", sim.report());
    Ok(())
}
