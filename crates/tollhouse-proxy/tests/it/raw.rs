//! Broken HTTP, byte by byte: what hyper alone would let through.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::support::{
    LONG, ask, at_rest, before, busy, chat, connect, get, parsed, post, raw, read_until, sent, sim,
    until,
};

#[tokio::test]
async fn flawed_requests_are_refused_in_openais_shape_and_reach_nobody() {
    let (sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let body = "content-length: 2\r\n\r\n{}";
    for (request, says) in [
        ("POST /v1/chat/completions HTTP/1.1\nhost: localhost\n\n".to_owned(), "LF alone"),
        (format!("POST /v1/responses HTTP/1.1\r\nhost: localhost\n{body}"), "LF alone"),
        ("POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "both Content-Length"),
        ("POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n".to_owned(), "both Content-Length"),
        ("POST /v1/responses HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(), "HTTP/1.0"),
        ("POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: xchunked\r\n\r\n0\r\n\r\n".to_owned(), "only be chunked"),
        (format!("POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n{body}"), "more than one Content-Length"),
        (format!("POST /v1/responses HTTP/1.1\r\n{body}"), "no Host"),
        (format!("POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nHost: localhost\r\n{body}"), "more than one Host"),
        ("CONNECT api.openai.com:443 HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), "CONNECT"),
        ("GET /v1/../tollhouse HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(), "dots"),
        ("GET /v1/%2e%2E/x HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n".to_owned(), "dots"),
        ("nonsense\r\n\r\n".to_owned(), "not HTTP/1.1"),
        (get("/v1/<models>", ""), "target"),
        (get("/v1/`models`", ""), "target"),
        (get("/v1/models?\"a\"", ""), "target"),
        (get("v1/models", ""), "target"),
        (get("http:///v1/models", ""), "target"),
        ("POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\n{}\n0\n\n".to_owned(), "LF alone"),
    ] {
        let answer = ask(&served, &request).await;
        assert_eq!(answer.status, 400, "{request:?}: {answer:?}");
        let message = answer.json()["error"]["message"].to_string();
        assert!(message.contains(says), "{request:?}: {message}");
    }
    assert_eq!(sim.report().arrived, 0);
    at_rest(&served).await;
}

/// What is only there to be read, and what would show the account's key to whoever asks.
#[tokio::test]
async fn methods_that_are_not_offered_are_refused_in_openais_shape() {
    let (sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    for path in [
        "/healthz",
        "/readyz",
        "/metrics",
        "/tollhouse",
        "/tollhouse/",
        "/tollhouse/status",
        "/tollhouse/me",
        "/tollhouse/events",
    ] {
        let answer = ask(&served, &post(path, "", "{}")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (405, "bad_request"),
            "{path}"
        );
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{path}");
    }
    let trace = get("/v1/models", "").replacen("GET", "TRACE", 1);
    let answer = ask(&served, &trace).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (405, "bad_request")
    );
    assert_eq!(sim.report().arrived, 0);
}

/// Nobody sends what is too long anyhow.
#[tokio::test]
async fn nobody_is_told_to_go_on_with_a_body_that_is_too_long() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    for kind in ["application/json", "multipart/form-data; boundary=x"] {
        let request = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             expect: 100-continue\r\ncontent-length: 9999999999\r\n\r\n"
        );
        let seen = raw(&served, &request).await;
        assert!(seen.starts_with("HTTP/1.1 413 "), "{kind}: {seen}");
    }
    at_rest(&served).await;
}

/// The second request of a smuggled pair is thrown away, whatever it is.
#[tokio::test]
async fn nothing_behind_a_flaw_is_read() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let good = "GET /v1/models HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let smuggled = format!(
        "{good}POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{good}"
    );
    let seen = raw(&served, &smuggled).await;
    assert_eq!(seen.matches("HTTP/1.1 200 OK").count(), 1, "{seen}");
    assert_eq!(
        seen.matches("HTTP/1.1 400 Bad Request").count(),
        1,
        "{seen}"
    );
    assert!(seen.ends_with('}'), "{seen}");
    assert_eq!(seen.matches("HTTP/1.1").count(), 2, "{seen}");
}

#[tokio::test]
async fn nobody_reaches_the_stand_in_by_its_name() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let answer = ask(&served, &get("/tollhouse/flawed", "")).await;
    assert_eq!(answer.status, 404);
}

#[tokio::test]
async fn long_heads_are_refused() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let answer = ask(
        &served,
        &get("/v1/models", &format!("x: {}\r\n", "y".repeat(70_000))),
    )
    .await;
    assert_eq!(answer.status, 431);
    let answer = ask(&served, &get("/v1/models", &"x: y\r\n".repeat(101))).await;
    assert_eq!(answer.status, 431);
    let long = format!("x: {}\r\n", "y".repeat(60_000));
    assert_eq!(ask(&served, &get("/v1/models", &long)).await.status, 200);
}

#[tokio::test]
async fn hosts_of_other_pages_are_refused_and_absolute_forms_are_not() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let with = |host: &str, target: &str| {
        format!("GET {target} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n")
    };
    assert_eq!(
        ask(&served, &with("evil.example", "/v1/models"))
            .await
            .status,
        421
    );
    let absolute = "http://evil.example/v1/models";
    assert_eq!(
        ask(&served, &with("evil.example", absolute)).await.status,
        421
    );
    assert_eq!(ask(&served, &with("127.0.0.1", absolute)).await.status, 200);
    let origin = get("/v1/models", "origin: https://evil.example\r\n");
    assert_eq!(ask(&served, &origin).await.status, 403);
}

#[tokio::test]
async fn pipelined_and_kept_connections_are_answered_in_turn() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let kept = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let seen = raw(
        &served,
        &format!("{kept}\r\n{kept}{}", get("/v1/models", "")),
    )
    .await;
    assert_eq!(seen.matches("HTTP/1.1 200 OK").count(), 3, "{seen}");
}

#[tokio::test]
async fn an_upgrade_is_dropped_and_not_refused() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let upgrade = "upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    let request = format!(
        "GET /v1/models HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade, http2-settings, close\r\n{upgrade}\r\n"
    );
    assert_eq!(ask(&served, &request).await.status, 200);
}

/// What comes behind a request waits for its turn, and its client is seen to leave all the same.
#[tokio::test]
async fn who_leaves_with_more_on_its_way_leaves_nothing() {
    let (served, mut first, mut upstream) = busy().await;
    let request = post("/v1/chat/completions", "", &chat(""));
    let kept = request.replace("connection: close\r\n", "");
    for more in ["\r\n", "GET /v1/mod", &request, "nonsense\n\n"] {
        let waiting = sent(&served, &format!("{kept}{more}")).await;
        until(&served, "waiting", 1).await;
        drop(waiting);
        until(&served, "waiting", 0).await;
    }
    let answer = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    upstream.write_all(answer).await.unwrap();
    read_until(&mut first, "{}").await;
    drop(first);
    at_rest(&served).await;
}

/// Half a request, then silence or a half-closed socket: nothing of it stays.
#[tokio::test]
async fn clients_that_leave_in_the_middle_leave_nothing() {
    let (sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    for sent in [
        "",
        "G",
        "GET /v1/models HTTP/1.1\r\nhost: loc",
        "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n{\"model\"",
    ] {
        let mut socket = connect(&served).await;
        socket.write_all(sent.as_bytes()).await.unwrap();
        socket.shutdown().await.unwrap();
        let mut seen = Vec::new();
        let end = timeout(LONG, socket.read_to_end(&mut seen)).await;
        assert!(end.is_ok(), "{sent:?}: still open");
        if !seen.is_empty() {
            let answer = parsed(&String::from_utf8_lossy(&seen));
            assert_eq!(answer.status, 400, "{sent:?}");
        }
        let mut socket = connect(&served).await;
        socket.write_all(sent.as_bytes()).await.unwrap();
        drop(socket);
    }
    at_rest(&served).await;
    assert_eq!(sim.report().arrived, 0);
}
