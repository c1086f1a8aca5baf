//! The client over real sockets with TLS: HTTP/2 where the server agrees, and
//! HTTP/1.1 where it does not.

mod kept;
mod server;
mod silent;

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Version};
use http_body_util::BodyExt;
use server::Server;
use tollhouse_openai::{OpenAi, Policy};
use tower::{Layer, ServiceExt};

fn post() -> Request<Bytes> {
    let request = Request::post("/v1/responses").body(Bytes::from_static(b"{}"));
    request.expect("a request")
}

async fn ask(client: OpenAi) -> (Version, String) {
    let answer = client.oneshot(post()).await.expect("an answer");
    let version = answer.version();
    let body = answer.into_body().collect().await.expect("a whole body");
    let said = String::from_utf8(body.to_bytes().to_vec()).expect("text");
    (version, said)
}

fn trusting(server: &Server) -> OpenAi {
    let client = server.client().root_certificates(&server.certificate);
    client.build().expect("a client")
}

#[tokio::test]
async fn http_2_is_spoken_where_the_server_agrees() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let client = trusting(&server);
    let expected = (Version::HTTP_2, "HTTP/2.0 /v1/responses".to_owned());
    assert_eq!(ask(client.clone()).await, expected);
    // All at once over the connection that stands.
    let calls = (0..20).map(|_| ask(client.clone()));
    assert!(
        join_all(calls)
            .await
            .iter()
            .all(|answer| *answer == expected)
    );
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn http_1_is_spoken_where_the_server_knows_no_other() {
    let server = Server::start(&["http/1.1"]).await;
    let client = trusting(&server);
    let expected = (Version::HTTP_11, "HTTP/1.1 /v1/responses".to_owned());
    assert_eq!(ask(client.clone()).await, expected);
    assert_eq!(ask(client.clone()).await, expected);
    assert_eq!(server.connections(), 1, "the connection is used again");
    let calls = (0..4).map(|_| ask(client.clone()));
    assert!(
        join_all(calls)
            .await
            .iter()
            .all(|answer| *answer == expected)
    );
    assert!(server.connections() > 1, "one for each call at a time");
}

/// HTTP/2 has no words for it.
#[tokio::test]
async fn an_upgrade_is_asked_for_over_http_1() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let mut request = post();
    let headers = request.headers_mut();
    headers.insert("connection", http::HeaderValue::from_static("upgrade"));
    headers.insert("upgrade", http::HeaderValue::from_static("websocket"));
    let answer = trusting(&server).oneshot(request).await.expect("an answer");
    assert_eq!(answer.version(), Version::HTTP_11);
    let body = answer.into_body().collect().await.expect("a whole body");
    assert_eq!(body.to_bytes(), "HTTP/1.1 /v1/responses");
}

/// Streams hold their slots over HTTP/2 as anywhere.
#[tokio::test]
async fn a_policy_holds_over_http_2() {
    let server = Server::start(&["h2"]).await;
    let policy = Policy::default()
        .max_concurrency(2)
        .stagger(Duration::ZERO)
        .cautious_start(false);
    let client = policy.layer().layer(trusting(&server));
    let open = async || client.clone().oneshot(post()).await.expect("an answer");
    let (one, two) = tokio::join!(open(), open());
    assert_eq!(one.version(), Version::HTTP_2);
    assert_eq!(policy.budget().snapshot().in_flight, 2);
    drop(one);
    assert_eq!(policy.budget().snapshot().in_flight, 1);
    two.into_body().collect().await.expect("a whole body");
    assert_eq!(policy.budget().snapshot().in_flight, 0);
}

/// Then the first who needs it sets TLS up.
#[tokio::test]
async fn another_origin_may_have_tls_where_the_base_url_has_none() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let plain = OpenAi::builder().base_url("http://localhost:9/v1");
    let plain = plain.api_key("sk-test");
    let client = plain.root_certificates(&server.certificate).build();
    let client = client.expect("a client");
    for _ in 0..2 {
        let mut request = post();
        *request.uri_mut() = server.uri("/v1/responses");
        let answer = client.clone().oneshot(request).await.expect("an answer");
        assert_eq!(answer.version(), Version::HTTP_2);
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gets_no_request() {
    let server = Server::start(&["h2", "http/1.1"]).await;
    let stranger = Server::start(&["h2"]).await;
    let client = server.client().root_certificates(&stranger.certificate);
    let error = client.build().expect("a client").oneshot(post()).await;
    assert!(error.expect_err("no trust").is_connect());
}

#[test]
fn roots_that_are_none_are_named() {
    for (pem, said) in [
        ("nonsense", "hold no CERTIFICATE in PEM"),
        (
            "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n",
            "are not PEM",
        ),
        (
            "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n",
            "cannot be used",
        ),
    ] {
        let error = OpenAi::builder().root_certificates(pem).build();
        let error = error.expect_err(pem);
        assert!(error.is_config());
        assert!(error.to_string().contains(said), "{error}");
    }
}
