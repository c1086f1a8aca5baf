//! The gates on the server's side: one costly route of an axum application, kept
//! within what the machine behind it can bear.
//!
//! Run it with `cargo run --example axum_gates`. Eight callers upload documents of
//! different sizes at once. At most two are worked on at a time and at most 60 kB
//! a minute are taken in; whoever would wait to be taken in for more than a minute
//! is told at once when to come again, and `/health` passes no gate.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::error_handling::HandleErrorLayer;
use axum::extract::{DefaultBodyLimit, Request};
use axum::http::header;
use axum::routing::{get, post};
use http_body::Body as _;
use tokio::time::{Instant, sleep};
use tollhouse::{ConcurrencyLayer, TokenBudget, TpmBudgetLayer};
use tollhouse_openai::{ApiError, BoxError};
use tower::{ServiceBuilder, ServiceExt};

/// The longest document, in bytes; more gets a 413.
const LONGEST: usize = 60_000;

/// A request costs its bytes; one that does not tell its length, the most that it
/// may have.
fn bytes(request: &Request) -> u64 {
    let told = request.body().size_hint().upper();
    told.unwrap_or(LONGEST as u64)
}

async fn index(document: String) -> String {
    sleep(Duration::from_secs(2)).await;
    format!("{} words", document.split_whitespace().count())
}

fn app() -> Result<Router, BoxError> {
    let intake = TokenBudget::per_minute(60_000)
        .headroom(0.0)
        .max_wait(Duration::from_secs(60))
        .build()?;
    let gates = ServiceBuilder::new()
        // axum wants answers, not errors: 503 with `retry-after` from a gate.
        .layer(HandleErrorLayer::new(async |error: tollhouse::Error| ApiError::from(error)))
        // In front of a provider the slots come first. Here the intake does: whom it
        // turns away need not stand in line for a slot to hear of it.
        .layer(TpmBudgetLayer::new(intake, bytes))
        .layer(ConcurrencyLayer::new(2));
    let costly = Router::new()
        .route("/documents", post(index))
        .layer(DefaultBodyLimit::max(LONGEST))
        .layer(gates);
    Ok(costly.route("/health", get(async || "well")))
}

/// Uploads so many kB, and tells what came of it.
async fn upload(app: Router, kilobytes: usize) -> Result<String, BoxError> {
    let start = Instant::now();
    let body = Body::from("a lot of. ".repeat(kilobytes * 100));
    let request = Request::post("/documents").body(body)?;
    let answer = app.oneshot(request).await?;
    let again = match answer.headers().get(header::RETRY_AFTER) {
        Some(after) => format!(", again after {} s", after.to_str()?),
        None => String::new(),
    };
    let (status, seconds) = (answer.status(), start.elapsed().as_secs());
    Ok(format!(
        "{kilobytes:2} kB: {status} after {seconds:2} s{again}"
    ))
}

// Time is virtual: an idle runtime goes to the next timer at once.
#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), BoxError> {
    for line in uploads().await? {
        println!("{line}");
    }
    Ok(())
}

async fn uploads() -> Result<Vec<String>, BoxError> {
    let app = app()?;
    let callers = [20, 10, 30, 20, 30, 10, 30, 70];
    let callers = callers.map(|kilobytes| tokio::spawn(upload(app.clone(), kilobytes)));
    let mut lines = Vec::new();
    for caller in callers {
        lines.push(caller.await??);
    }
    let health = app.oneshot(Request::get("/health").body(Body::empty())?);
    lines.push(format!("health: {}", health.await?.status()));
    Ok(lines)
}

#[cfg(test)]
mod tests {
    #[tokio::test(start_paused = true)]
    async fn the_route_keeps_its_limits() {
        let told = [
            "20 kB: 200 OK after  2 s",
            "10 kB: 200 OK after  2 s",
            "30 kB: 200 OK after  4 s",
            "20 kB: 200 OK after 64 s",
            "30 kB: 200 OK after 66 s",
            "10 kB: 200 OK after 66 s",
            "30 kB: 503 Service Unavailable after  0 s, again after 120 s",
            "70 kB: 413 Payload Too Large after  0 s",
            "health: 200 OK",
        ];
        assert_eq!(super::uploads().await.unwrap(), told);
    }
}
