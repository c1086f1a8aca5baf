//! hyper-util's client under a policy, which knows its errors.

use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tollhouse_openai::adapters::FromBytesLayer;
use tollhouse_openai::{Account, BoxError, Limit, Policy, error};
use tower::{Layer, ServiceExt, service_fn};

fn policy() -> Policy {
    Policy::default()
        .tpm_limit(Limit::per_minute(60_000))
        .cautious_start(false)
        .stagger(Duration::ZERO)
        .backoff_base(Duration::from_millis(1))
}

fn client() -> Client<HttpConnector, Full<Bytes>> {
    Client::builder(TokioExecutor::new()).build_http()
}

fn chat(url: &str) -> Request<Bytes> {
    let body = r#"{"model":"gpt-4o","max_tokens":5000,"messages":[]}"#;
    let request = Request::post(format!("{url}/v1/chat/completions"));
    request.body(Bytes::from(body)).expect("a request")
}

/// A port at which nobody listens.
async fn closed() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    format!("http://{}", listener.local_addr().expect("an address"))
}

#[tokio::test]
async fn a_refused_connection_costs_nothing() {
    let url = closed().await;
    // Each attempt is given back, and the only one is told to have been none.
    for (attempts, is_never_sent) in [(1, true), (3, false)] {
        let policy = policy().max_attempts(attempts);
        let full = policy.budget().snapshot().level;
        let layered = policy.layer().layer(FromBytesLayer::new().layer(client()));
        let error = layered.oneshot(chat(&url)).await.unwrap_err();
        assert_eq!(error.attempts(), attempts);
        assert_eq!(error.is_never_sent(), is_never_sent, "{error}");
        assert_eq!(policy.budget().snapshot().level, full);
    }
}

#[tokio::test]
async fn an_accounts_client_is_known_behind_a_layer_of_the_users() {
    let account = Account::new(policy().max_attempts(1));
    let budget = account.budget("gpt-4o", tollhouse_openai::call::Endpoint::Chat);
    let full = budget.snapshot().level;
    let boxed = FromBytesLayer::new().layer(client());
    let boxed = boxed.map_err(BoxError::from);
    let url = closed().await;
    let error = account.layer().layer(boxed).oneshot(chat(&url)).await;
    assert!(error.unwrap_err().is_never_sent());
    assert_eq!(budget.snapshot().level, full);
}

/// What was on its way may have been counted.
#[tokio::test]
async fn a_connection_that_breaks_under_a_request_is_charged() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let server = tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.expect("a connection");
        let mut some = [0; 16];
        connection.read_exact(&mut some).await.expect("a request");
    });
    let policy = policy().max_attempts(1);
    let full = policy.budget().snapshot().level;
    let layered = policy.layer().layer(FromBytesLayer::new().layer(client()));
    let error = layered.oneshot(chat(&url)).await.unwrap_err();
    server.await.expect("no panic");
    assert!(!error.is_never_sent(), "{error}");
    assert!(policy.budget().snapshot().level <= full - 4_000);
}

/// Who retries by himself under the policy may have sent something at first.
#[tokio::test]
async fn a_later_attempt_that_found_no_connection_is_charged() {
    let url = closed().await;
    let policy = policy().max_attempts(1);
    let full = policy.budget().snapshot().level;
    let retries = service_fn(move |request: Request<Bytes>| async move {
        let failed = client().oneshot(request.map(Full::new)).await;
        failed.map_err(|failed| {
            let mut failed = error::Error::inner(failed);
            failed.set_attempts(2);
            failed
        })
    });
    let error = policy.layer().layer(retries).oneshot(chat(&url)).await;
    assert!(!error.unwrap_err().is_never_sent());
    assert!(policy.budget().snapshot().level <= full - 4_000);
}
