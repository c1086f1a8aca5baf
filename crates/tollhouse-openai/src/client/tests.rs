//! Over real sockets and in real time: each test listens on a free port of
//! its own and answers by hand.

use std::time::Duration;

use http::StatusCode;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tower::ServiceExt;

use super::*;
use crate::{AnswerReader, Classify, Decision, RateLimits, Scope, Verdict};

const KEY: &str = "sk-very-secret";

/// A provider that hands each connection to the test.
struct Provider {
    listener: TcpListener,
}

impl Provider {
    async fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        Provider { listener }
    }

    fn url(&self) -> String {
        let address = self.listener.local_addr().expect("an address");
        format!("http://{address}/v1")
    }

    fn client(&self) -> OpenAiBuilder {
        OpenAi::builder().base_url(self.url()).api_key(KEY)
    }

    /// Takes a connection, reads a request's head and body, and answers with
    /// these bytes.
    async fn answer(&self, answer: &str) -> (String, TcpStream) {
        let (mut connection, _) = self.listener.accept().await.expect("a connection");
        let request = read_request(&mut connection).await;
        let sent = connection.write_all(answer.as_bytes()).await;
        sent.expect("the answer is taken");
        (request, connection)
    }
}

async fn read_request(connection: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    loop {
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "));
            let length = length.map_or(0, |l| l.parse::<usize>().expect("a length"));
            if body.len() >= length {
                return text;
            }
        }
        let read = connection.read_buf(&mut bytes).await.expect("a request");
        assert!(read > 0, "the request ended early: {text}");
    }
}

fn post(uri: &str) -> Request<Bytes> {
    let body = Bytes::from_static(br#"{"input":"secret prompt"}"#);
    Request::post(uri).body(body).expect("a request")
}

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn a_request_is_completed_with_address_key_and_type() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    let mut request = post("/v1/responses?x=1");
    // Left over from whoever sent it to a proxy.
    request
        .headers_mut()
        .insert(HOST, "localhost:8787".parse().unwrap());
    request
        .headers_mut()
        .insert(CONTENT_LENGTH, "999".parse().unwrap());
    let (response, (seen, _)) = tokio::join!(client.oneshot(request), provider.answer(OK));

    assert_eq!(response.expect("an answer").status(), StatusCode::OK);
    assert!(
        seen.starts_with("post /v1/responses?x=1 http/1.1\r\n"),
        "{seen}"
    );
    let host = provider.listener.local_addr().unwrap();
    for header in [
        format!("host: {host}"),
        format!("authorization: bearer {KEY}"),
        "content-type: application/json".to_owned(),
        "content-length: 25".to_owned(),
    ] {
        assert!(
            seen.contains(&format!("{header}\r\n")),
            "{header} in {seen}"
        );
    }
}

/// They come from whoever sent it to a proxy, and may be anything.
#[tokio::test]
async fn host_and_length_are_sent_once_whatever_was_told() {
    let provider = Provider::start().await;
    let host = provider.listener.local_addr().unwrap();
    let told: [&[&str]; 10] = [
        &[],
        &["25"],
        &["025"],
        &["+25"],
        &["25, 25"],
        &["25", "25"],
        &["25", "24"],
        &["24"],
        &[""],
        &["99999999999999999999999"],
    ];
    for lengths in told {
        let client = provider.client().build().expect("a client");
        let mut request = post("/v1/responses");
        for length in lengths {
            let length = length.parse().unwrap();
            request.headers_mut().append(CONTENT_LENGTH, length);
        }
        for host in ["localhost:8787", "elsewhere"] {
            request.headers_mut().append(HOST, host.parse().unwrap());
        }
        let (response, (seen, _)) = tokio::join!(client.oneshot(request), provider.answer(OK));
        assert_eq!(response.expect("an answer").status(), StatusCode::OK);
        for (name, value) in [("host", &*host.to_string()), ("content-length", "25")] {
            let (start, line) = (format!("\r\n{name}:"), format!("\r\n{name}: {value}\r\n"));
            assert_eq!(seen.matches(&start).count(), 1, "{lengths:?} in {seen}");
            assert!(seen.contains(&line), "{lengths:?} in {seen}");
        }
    }
}

/// Such as one that cancels a batch: some servers ask for a length where a method has content.
#[tokio::test]
async fn a_request_without_a_body_says_that_it_has_none() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    const CLOSES: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    let methods = [
        ("POST", true),
        ("PUT", true),
        ("PATCH", true),
        ("GET", false),
        ("DELETE", false),
    ];
    for (method, has_length) in methods {
        let request = Request::builder()
            .method(method)
            .uri("/v1/batches/x/cancel");
        let request = request.body(Bytes::new()).expect("a request");
        let (response, (seen, _)) =
            tokio::join!(client.clone().oneshot(request), provider.answer(CLOSES));
        assert_eq!(response.expect("an answer").status(), StatusCode::OK);
        assert_eq!(
            seen.matches("content-length: 0\r\n").count(),
            usize::from(has_length),
            "{seen}"
        );
        assert!(!seen.contains("content-type"), "{seen}");
    }
}

/// Frames of a stream come one by one, each within the timeout, although the
/// whole takes longer.
#[tokio::test]
async fn the_pause_between_frames_is_what_is_timed() {
    let provider = Provider::start().await;
    let client = provider
        .client()
        .attempt_timeout(Duration::from_millis(600));
    let client = client.build().expect("a client");
    let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";
    let (response, (_, mut connection)) =
        tokio::join!(client.oneshot(post("/x")), provider.answer(begun));
    let send = async {
        for _ in 0..5 {
            tokio::time::sleep(Duration::from_millis(150)).await;
            connection
                .write_all(b"1\r\nx\r\n")
                .await
                .expect("it is taken");
        }
        connection
            .write_all(b"0\r\n\r\n")
            .await
            .expect("it is taken");
    };
    let mut body = response.expect("a head").into_body();
    let read = async {
        let mut bytes = 0;
        while let Some(frame) = body.frame().await {
            bytes += frame.expect("in time").into_data().expect("data").len();
        }
        bytes
    };
    let (bytes, ()) = tokio::join!(read, send);
    assert_eq!(bytes, 5);
}

#[test]
fn everything_can_be_sent_between_threads_and_shared() {
    fn check<T: Send + Sync + 'static>() {}
    fn movable<T: Unpin>() {}
    check::<OpenAi>();
    check::<ResponseFuture>();
    check::<ResponseBody>();
    check::<Error>();
    movable::<ResponseBody>();
}

#[tokio::test]
async fn what_a_request_brings_is_kept() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    let mut request = post("/responses");
    let headers = request.headers_mut();
    headers.insert(AUTHORIZATION, "Bearer theirs".parse().unwrap());
    headers.insert(CONTENT_TYPE, "text/plain".parse().unwrap());
    let (response, (seen, _)) = tokio::join!(client.oneshot(request), provider.answer(OK));
    response.expect("an answer");
    assert!(seen.contains("authorization: bearer theirs\r\n"), "{seen}");
    assert!(seen.contains("content-type: text/plain\r\n"), "{seen}");
    assert!(!seen.contains(KEY));
}

#[tokio::test]
async fn the_key_never_leaves_for_another_origin() {
    let (ours, other) = (Provider::start().await, Provider::start().await);
    let client = ours.client().build().expect("a client");
    let foreign = post(&format!("{}/responses", other.url()));
    let (response, (seen, _)) = tokio::join!(client.clone().oneshot(foreign), other.answer(OK));
    response.expect("an answer");
    assert!(!seen.contains("authorization"), "{seen}");

    let own = post(&format!("{}/responses", ours.url()));
    let (response, (seen, _)) = tokio::join!(client.oneshot(own), ours.answer(OK));
    response.expect("an answer");
    assert!(seen.contains(KEY));
}

/// Organization and project go where the key goes, and nowhere else.
#[tokio::test]
async fn the_key_says_whose_it_is() {
    let (provider, other) = (Provider::start().await, Provider::start().await);
    let url = provider.url();
    let client = OpenAiBuilder::from_vars(|name| {
        let value = match name {
            "OPENAI_API_KEY" => KEY,
            "OPENAI_BASE_URL" => &url,
            "OPENAI_ORG_ID" => " org-1 ",
            "OPENAI_PROJECT_ID" => "proj_1",
            _ => return None,
        };
        Some(value.to_owned())
    });
    let client = client.expect("a key");
    let bring = |name: &'static str, value: &str| {
        let mut request = post("/responses");
        request.headers_mut().insert(name, value.parse().unwrap());
        request
    };
    let foreign = post(&format!("{}/responses", other.url()));
    for (request, at, organization, project) in [
        (post("/responses"), &provider, Some("org-1"), Some("proj_1")),
        (
            bring("openai-project", "proj_2"),
            &provider,
            Some("org-1"),
            Some("proj_2"),
        ),
        (
            bring("authorization", "Bearer theirs"),
            &provider,
            None,
            None,
        ),
        (foreign, &other, None, None),
    ] {
        let asked = format!("{request:?}");
        let client = client.clone().build().expect("a client");
        let (response, (seen, _)) = tokio::join!(client.oneshot(request), at.answer(OK));
        response.expect("an answer");
        for (name, id) in [
            ("openai-organization: ", organization),
            ("openai-project: ", project),
        ] {
            let said = seen.lines().find_map(|line| line.strip_prefix(name));
            assert_eq!(said, id, "{asked}");
        }
    }
}

#[tokio::test]
async fn redirects_are_handed_on() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    let moved = "HTTP/1.1 307 Moved\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let (response, _) = tokio::join!(client.oneshot(post("/x")), provider.answer(moved));
    let status = response.expect("the redirect itself").status();
    assert_eq!(status, StatusCode::TEMPORARY_REDIRECT);
}

#[tokio::test]
async fn a_refusal_arrives_judged_and_unchanged() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    let body = r#"{"error":{"type":"tokens","message":"Please try again in 2s"}}"#;
    let answer = format!(
        "HTTP/1.1 429 Too Many Requests\r\nx-ratelimit-limit-tokens: 30000\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let (response, _) = tokio::join!(client.oneshot(post("/x")), provider.answer(&answer));
    let response = response.expect("an answer");
    let verdict: &Verdict = response.extensions().get().expect("a verdict");
    assert_eq!(verdict.after, Some(Duration::from_secs(2)));
    assert_eq!(verdict.scope, Scope::Tokens);
    let limits: &RateLimits = response.extensions().get().expect("limits");
    assert_eq!(limits.limit_tokens, Some(30_000));
    let bytes = response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert_eq!(bytes, body);
}

#[tokio::test]
async fn clones_share_their_connections() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    let (response, (_, mut connection)) =
        tokio::join!(client.clone().oneshot(post("/x")), provider.answer(OK));
    let body = response.expect("an answer").into_body().collect().await;
    body.expect("a body");
    let again = async {
        read_request(&mut connection).await;
        connection
            .write_all(OK.as_bytes())
            .await
            .expect("the answer is taken");
    };
    let (response, ()) = tokio::join!(client.clone().oneshot(post("/x")), again);
    response.expect("an answer on the same connection");
}

#[tokio::test]
async fn a_refused_connection_is_a_connect_error_and_retried() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    drop(provider);
    let error = client
        .oneshot(post("/x"))
        .await
        .expect_err("nobody listens");
    assert!(error.is_connect() && !error.is_timeout());
    assert!(std::error::Error::source(&error).is_some());
    assert_retried(&error);
}

#[tokio::test]
async fn a_connection_that_does_not_stand_in_time_is_given_up() {
    let provider = Provider::start().await;
    // TLS is asked for, and nobody answers the hello.
    let url = provider.url().replace("http:", "https:");
    let client = OpenAi::builder().base_url(url);
    let client = client.connect_timeout(Duration::from_millis(50)).build();
    let client = client.expect("a client");
    let error = client.oneshot(post("/x")).await.expect_err("no hello");
    assert!(error.is_connect() && error.is_timeout(), "{error:?}");
    assert_retried(&error);
}

#[tokio::test]
async fn a_head_that_does_not_come_in_time_is_given_up_and_retried() {
    let provider = Provider::start().await;
    let client = provider.client().attempt_timeout(Duration::from_millis(50));
    let client = client.build().expect("a client");
    let (result, (_, mut connection)) =
        tokio::join!(client.oneshot(post("/x")), provider.answer(""));
    let error = result.expect_err("no answer");
    assert!(error.is_timeout() && !error.is_connect());
    assert_retried(&error);
    // Upstream learns of it.
    assert_eq!(connection.read(&mut [0]).await.expect("an end"), 0);
}

#[tokio::test]
async fn a_connection_that_breaks_before_the_head_is_retried() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    let cut = async { drop(provider.answer("HTTP/1.1 20").await) };
    let (result, ()) = tokio::join!(client.oneshot(post("/x")), cut);
    let error = result.expect_err("no head");
    assert!(error.is_closed(), "{error:?}");
    assert_retried(&error);
}

/// Case 15 of the failures: no retry once the answer has begun.
#[tokio::test]
async fn case_15_a_body_that_breaks_or_stands_still_is_not_retried() {
    let provider = Provider::start().await;
    let client = provider
        .client()
        .attempt_timeout(Duration::from_millis(100));
    let client = client.build().expect("a client");
    let half = "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";

    let (response, (_, connection)) =
        tokio::join!(client.clone().oneshot(post("/x")), provider.answer(half));
    let body = response.expect("a head").into_body();
    let error = body.collect().await.expect_err("it stands still");
    assert!(error.is_body() && error.is_timeout());
    assert_eq!(decision(&error), Decision::GiveUp);
    drop(connection);

    let (response, (_, connection)) =
        tokio::join!(client.oneshot(post("/x")), provider.answer(half));
    drop(connection);
    let body = response.expect("a head").into_body();
    let error = body.collect().await.expect_err("it breaks off");
    assert!(error.is_body() && !error.is_timeout());
    assert_eq!(decision(&error), Decision::GiveUp);
}

/// Case 3 of the failures: a client that leaves stops the work upstream.
#[tokio::test]
async fn case_3_dropping_a_stream_stops_it_upstream() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\ndata:\r\n";
    let (response, (_, mut connection)) =
        tokio::join!(client.oneshot(post("/x")), provider.answer(begun));
    drop(response.expect("a head"));
    let end = connection.read(&mut [0]).await;
    assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
}

#[tokio::test]
async fn answers_that_are_not_http_are_not_retried() {
    let provider = Provider::start().await;
    let client = provider.client().build().expect("a client");
    let (result, _) = tokio::join!(
        client.oneshot(post("/x")),
        provider.answer("SSH-2.0-x\r\n\r\n")
    );
    let error = result.expect_err("not HTTP");
    assert!(!error.is_connect() && !error.is_closed() && !error.is_timeout());
    assert_eq!(decision(&error), Decision::GiveUp);
}

#[tokio::test]
async fn neither_key_nor_prompt_is_in_any_debug_or_error() {
    let provider = Provider::start().await;
    let builder = provider.client();
    let client = builder.clone().build().expect("a client");
    let mut said = format!("{builder:?} {client:?} {:?}", client.transport);
    let mut request = post("/x").map(RequestBody::from);
    client.complete(&mut request).expect("complete");
    said += &format!("{:?}", request.headers());
    drop(provider);
    let error = client
        .oneshot(post("/x"))
        .await
        .expect_err("nobody listens");
    said += &format!("{error} {error:?}");
    assert!(
        !said.contains(KEY) && !said.contains("secret prompt"),
        "{said}"
    );
    assert!(said.contains("has_key: true"));
}

#[test]
fn the_environment_needs_a_key_and_may_name_a_url() {
    let build = |pairs: &[(&str, &str)]| {
        let var = |name: &str| {
            let pair = pairs.iter().find(|(n, _)| *n == name);
            pair.map(|(_, value)| (*value).to_owned())
        };
        OpenAiBuilder::from_vars(var)?.build()
    };
    let error = build(&[("OPENAI_API_KEY", "")]).expect_err("no key");
    assert!(error.is_config());
    assert_eq!(error.to_string(), "OPENAI_API_KEY is not set");

    let client = build(&[("OPENAI_API_KEY", KEY), ("OPENAI_BASE_URL", " ")]).expect("a client");
    assert_eq!(*client.base_url(), "https://api.openai.com/v1");
    let local = [
        ("OPENAI_API_KEY", KEY),
        ("OPENAI_BASE_URL", "http://h:1/v1"),
    ];
    assert_eq!(
        *build(&local).expect("a client").base_url(),
        "http://h:1/v1"
    );

    let bad = [("OPENAI_API_KEY", KEY), ("OPENAI_PROJECT_ID", "a b")];
    let error = build(&bad).expect_err("a bad project");
    let said = r#"the project is "a b"; visible ASCII is allowed, such as proj_0123"#;
    assert!(error.is_config() && error.to_string() == said, "{error}");

    let error = build(&[("OPENAI_API_KEY", "sk-\u{e9}\nx")]).expect_err("a bad key");
    assert!(
        error.is_config() && !format!("{error:?}").contains("sk-"),
        "{error:?}"
    );
}

fn decision(error: &Error) -> Decision {
    AnswerReader.classify(Err::<&Response<()>, _>(error))
}

fn assert_retried(error: &Error) {
    let expected = Decision::Retry {
        after: None,
        scope: Scope::Overload,
    };
    assert_eq!(decision(error), expected, "{error:?}");
}
