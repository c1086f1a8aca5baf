//! Failure 29, over sockets: a connection that could not be made is charged
//! nothing, whoever's client it was.

use std::net::SocketAddr;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessage, CreateChatCompletionRequestArgs,
};
use bytes::Bytes;
use http::Request;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket};
use tollhouse_openai::adapters::reqwest::ReqwestTransport;
use tollhouse_openai::{OpenAi, Policy};
use tower::{Layer, ServiceExt};

/// An address at which nobody listens, and that nobody else takes meanwhile.
fn nobody() -> (TcpSocket, String) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a free port");
    let address = socket.local_addr().expect("its address");
    (socket, format!("http://{address}/v1"))
}

/// The address of somebody who reads no more than so many bytes, and hangs up.
async fn hangs_up_after<const BYTES: usize>() -> SocketAddr {
    let rude = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = rude.local_addr().expect("its address");
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = rude.accept().await {
            let _ = socket.read(&mut [0; BYTES]).await;
        }
    });
    address
}

/// Spaced by nothing and asked once, so that the budget alone decides.
fn policy() -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .max_attempts(1)
        .cautious_start(false)
}

fn chat(url: &str) -> Request<Bytes> {
    let body =
        r#"{"model":"gpt-4o","max_tokens":5000,"messages":[{"role":"user","content":"Hi"}]}"#;
    Request::post(format!("{url}/chat/completions"))
        .header("content-type", "application/json")
        .body(Bytes::from(body))
        .expect("a request")
}

/// Six of these are more than a minute allows.
fn is_untouched(policy: &Policy) {
    let now = policy.budget().snapshot();
    assert_eq!((now.level, now.in_transit), (25_500, 0), "{now:?}");
    assert_eq!(policy.budget().eta(25_500), Duration::ZERO);
}

/// Far above what six refused connections take, far below a minute's refill.
const PROMPT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn failure_29_openai_is_not_charged_for_a_connection_that_could_not_be_made() {
    let (_reserved, url) = nobody();
    let policy = policy();
    let openai = OpenAi::builder().base_url(&url).build().expect("a client");
    let client = policy.layer().layer(openai);
    let six = async {
        for _ in 0..6 {
            let error = client
                .clone()
                .oneshot(chat(&url))
                .await
                .expect_err("nobody");
            assert!(error.is_never_sent(), "{error:?}");
            let told = error.to_string();
            assert!(told.contains("no connection"), "{told}");
            assert!(told.contains("refused"), "{told}");
            is_untouched(&policy);
        }
    };
    tokio::time::timeout(PROMPT, six).await.expect("no waiting");
}

#[tokio::test]
async fn failure_29_reqwest_is_not_charged_for_a_connection_that_could_not_be_made() {
    let (_reserved, url) = nobody();
    let policy = policy();
    let client = policy.layer().layer(ReqwestTransport::default());
    let whole = policy.reqwest(reqwest::Client::new());
    let six = async {
        for _ in 0..6 {
            let error = client
                .clone()
                .oneshot(chat(&url))
                .await
                .expect_err("nobody");
            let theirs = error.downcast_ref::<reqwest::Error>();
            assert!(theirs.is_some_and(reqwest::Error::is_connect), "{error:?}");
            is_untouched(&policy);

            let request = reqwest::Request::try_from(chat(&url)).expect("a request");
            let error = whole.execute(request).await.expect_err("nobody");
            assert!(error.to_string().contains("refused"), "{error}");
            is_untouched(&policy);
        }
    };
    tokio::time::timeout(PROMPT, six).await.expect("no waiting");
}

#[tokio::test]
async fn failure_29_async_openai_is_not_charged_for_a_connection_that_could_not_be_made() {
    let (_reserved, url) = nobody();
    let policy = policy();
    let config = OpenAIConfig::new()
        .with_api_base(&url)
        .with_api_key("sk-simulated");
    let client = Client::with_config(config).with_http_service(policy.async_openai());
    let request = CreateChatCompletionRequestArgs::default()
        .model("gpt-4o")
        .max_completion_tokens(5_000_u32)
        .messages([ChatCompletionRequestUserMessage::from("Hi").into()])
        .build()
        .expect("a request");
    let six = async {
        for _ in 0..6 {
            let chat = client.chat();
            chat.create(request.clone()).await.expect_err("nobody");
            is_untouched(&policy);
        }
    };
    tokio::time::timeout(PROMPT, six).await.expect("no waiting");
}

/// No TLS where TLS was asked for: the connection was never ready for a request.
#[tokio::test]
async fn failure_29_a_handshake_that_fails_costs_nothing() {
    // What comes is no request, and the answer is no TLS.
    let url = format!("https://{}/v1", hangs_up_after::<1024>().await);
    let policy = policy();
    let openai = OpenAi::builder().base_url(&url).build().expect("a client");
    let client = policy.layer().layer(openai);
    let error = client.oneshot(chat(&url)).await.expect_err("no TLS");
    assert!(error.is_never_sent(), "{error:?}");
    is_untouched(&policy);
}

/// The one that was written in part may have been counted.
#[tokio::test]
async fn failure_29_a_request_that_was_written_keeps_its_charge() {
    let url = format!("http://{}/v1", hangs_up_after::<8>().await);
    let policy = policy();
    let openai = OpenAi::builder().base_url(&url).build().expect("a client");
    let client = policy.layer().layer(openai);
    let error = client.oneshot(chat(&url)).await.expect_err("it hung up");
    assert!(!error.is_never_sent(), "{error:?}");
    assert!(policy.budget().eta(25_500) > Duration::ZERO);
}
