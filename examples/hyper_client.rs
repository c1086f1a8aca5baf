//! A custom hyper client behind the gates, without Tollhouse's own client.
//!
//! Run it with `cargo run --example hyper_client`; it needs no key, because the
//! provider is simulated. The gates work around anything that is a tower
//! service and can be cloned. What a request costs, which answers are asked for again and
//! which errors mean that nothing was sent is told to them by three functions.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::TokioExecutor;
use tokio::time::Instant;
use tollhouse::{
    Backoff, BoxError, ConcurrencyLayer, Decision, Error, RetryLayer, Scope, StaggerLayer,
    TokenBudget, TpmBudgetLayer,
};
use tollhouse_sim::Sim;
use tower::{Service, ServiceBuilder, ServiceExt};

/// Four bytes of text are about a token, and the answer may be 100 long.
fn cost(request: &Request<Full<Bytes>>) -> u64 {
    let body = http_body::Body::size_hint(request.body()).exact();
    body.unwrap_or(0) / 4 + 100
}

/// Only the status is looked at; `tollhouse-openai` knows much more.
fn classify<B, E>(result: Result<&Response<B>, &E>) -> Decision {
    match result {
        Ok(response) if response.status() == 429 => Decision::Retry {
            after: None,
            scope: Scope::Requests,
        },
        _ => Decision::GiveUp,
    }
}

/// Where no connection was made, nothing was sent, and what was taken is given back. A
/// policy of `tollhouse-openai` knows this of hyper's client by itself.
fn unsent(error: legacy::Error) -> Error {
    match error.is_connect() {
        true => Error::never_sent(error),
        false => Error::inner(error),
    }
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let sim = Sim::builder().tokens_per_minute(30_000).build()?;
    let provider = sim.spawn("127.0.0.1:0").await?;

    let budget = TokenBudget::per_minute(30_000).headroom(0.15).build()?;
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(Backoff::default(), classify))
        .layer(ConcurrencyLayer::new(3))
        .layer(TpmBudgetLayer::new(budget.clone(), cost))
        .layer(StaggerLayer::new(Duration::from_millis(200)))
        .map_err(unsent)
        .service(Client::builder(TokioExecutor::new()).build_http());

    let start = Instant::now();
    let calls = (0..10).map(|n| {
        let mut client = client.clone();
        let url = format!("{}/chat/completions", provider.url());
        tokio::spawn(async move {
            let body = format!(
                r#"{{"model":"gpt-4o-mini","max_tokens":100,
                    "messages":[{{"role":"user","content":"Tell fact {n} about rivers."}}]}}"#
            );
            let request = Request::post(url).body(Full::from(body))?;
            let response = client.ready().await?.call(request).await?;
            let status = response.status();
            // The slot is free when the body has been read.
            let length = response.into_body().collect().await?.to_bytes().len();
            println!("{:5.2?}  {status}  {length} bytes", start.elapsed());
            Ok::<_, BoxError>(())
        })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await??;
    }
    println!("\nbudget: {:?}\n\n{}", budget.snapshot(), sim.report());
    Ok(())
}
