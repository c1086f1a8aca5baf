//! An axum application whose handlers call a model through one shared stack.
//!
//! Run it with `cargo run --example axum_handler`; it needs no key, because the
//! provider is simulated. Ten visitors come at once; at most three of their
//! calls are in flight, and launches keep their distance, whoever asks.

use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use bytes::Bytes;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::time::Instant;
use tollgate_openai::policy::Limited;
use tollgate_openai::{BoxError, OpenAi, Policy, Refused};
use tollgate_sim::Sim;
use tower::{Layer, ServiceExt};

/// Cheap to clone; all clones share the slots, the budget and the spacing.
type Client = Limited<OpenAi>;

/// What a handler may fail with, and what the visitor is told.
enum Failure {
    Refused(Refused),
    Call(BoxError),
}

impl From<tollgate_openai::error::Error> for Failure {
    fn from(error: tollgate_openai::error::Error) -> Self {
        match error.refused() {
            Some(refused) => Failure::Refused(*refused),
            None => Failure::Call(error.into()),
        }
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        match self {
            Failure::Refused(Refused::Overloaded { expected_wait, .. }) => {
                let seconds = expected_wait.as_secs().max(1).to_string();
                let headers = [(header::RETRY_AFTER, seconds)];
                (StatusCode::SERVICE_UNAVAILABLE, headers, "too busy").into_response()
            }
            Failure::Refused(refused) => {
                (StatusCode::UNPROCESSABLE_ENTITY, refused.to_string()).into_response()
            }
            Failure::Call(error) => {
                eprintln!("the model cannot be reached: {error}");
                StatusCode::BAD_GATEWAY.into_response()
            }
        }
    }
}

async fn summarise(State(client): State<Client>, text: String) -> Result<Json<Value>, Failure> {
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
        .map_err(|error| Failure::Call(error.into()))?;
    let answer = client.oneshot(request).await?;
    let body = answer.into_body().collect().await;
    let body = body
        .map_err(|error| Failure::Call(error.into()))?
        .to_bytes();
    let answer = serde_json::from_slice(&body).map_err(|error| Failure::Call(error.into()))?;
    Ok(Json(answer))
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
