//! Providers without TLS that are hostile or sloppy: what one client sees of them, and what
//! the next one does.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tollhouse_openai::{Account, OpenAi};
use tollhouse_proxy::Proxy;

use crate::support::{
    LONG, ask, at_rest, before, by_hand, chat, connect, get, parsed, post, raw, request_at, serve,
    wide,
};

const SECOND: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsecond";

/// Answers one path as it is told to, and all others as it should.
async fn answers(provider: TcpListener, says: String, closes: bool) {
    loop {
        let (socket, _) = provider.accept().await.expect("a connection");
        tokio::spawn(converse(socket, says.clone(), closes));
    }
}

async fn converse(mut socket: TcpStream, says: String, closes: bool) {
    let mut seen = Vec::new();
    while let Ok(1..) = socket.read_buf(&mut seen).await {
        if !seen.ends_with(b"\r\n\r\n") {
            continue;
        }
        let is_first = seen.starts_with(b"GET /v1/first ");
        seen.clear();
        let says = if is_first { &says } else { SECOND };
        let said = socket.write_all(says.as_bytes()).await;
        if said.is_err() || (is_first && closes) {
            return;
        }
    }
}

/// What a first client is answered, byte by byte, and nothing of it comes to the second.
async fn first(says: &str, closes: bool) -> String {
    let (provider, url) = by_hand().await;
    let serving = tokio::spawn(answers(provider, says.to_owned(), closes));
    let served = before(&url).await;
    let seen = raw(&served, &get("/v1/first", "")).await;
    for _ in 0..2 {
        let second = ask(&served, &get("/v1/second", "")).await;
        assert_eq!(
            (second.status, second.body.as_str()),
            (200, "second"),
            "{says:?}"
        );
    }
    at_rest(&served).await;
    serving.abort();
    assert_eq!(seen.matches("HTTP/1.").count(), 1, "{says:?}: {seen}");
    seen
}

#[tokio::test]
async fn what_is_behind_an_answer_is_seen_by_nobody() {
    let evil = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";
    for (says, status, body) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}", 200, "{}"),
        ("HTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\n{}", 404, "{}"),
        ("HTTP/1.1 204 No Content\r\n\r\n", 204, ""),
        (
            "HTTP/1.1 304 Not Modified\r\ncontent-length: 4\r\n\r\n",
            304,
            "",
        ),
        (
            "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
            200,
            "{}",
        ),
    ] {
        let answer = parsed(&first(&format!("{says}{evil}"), false).await);
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (status, body),
            "{says:?}"
        );
    }
}

/// A length beside chunks may be another one: it is not for our client to choose.
#[tokio::test]
async fn chunks_with_a_length_are_handed_on_with_one_of_them() {
    for length in [1, 2, 400] {
        let both = format!(
            "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\ntransfer-encoding: chunked\r\n\r\n\
             2\r\n{{}}\r\n0\r\n\r\n"
        );
        let seen = first(&both, false).await;
        let head = seen.split("\r\n\r\n").next().unwrap_or_default();
        assert!(!head.contains("content-length"), "{seen}");
        assert!(seen.ends_with("\r\n\r\n2\r\n{}\r\n0\r\n\r\n"), "{seen}");
    }
}

/// Whoever reads it is told that it is not whole.
#[tokio::test]
async fn a_cut_answer_is_cut_for_the_client_too() {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsec";
    let seen = first(length, true).await;
    assert!(
        seen.contains("content-length: 6\r\n") && seen.ends_with("sec"),
        "{seen}"
    );
    let chunks = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n";
    let seen = first(chunks, true).await;
    assert!(seen.ends_with("3\r\nsec\r\n"), "{seen}");
}

#[tokio::test]
async fn what_is_no_answer_is_a_502() {
    for says in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n{}",
        "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\nevil",
    ] {
        let answer = parsed(&first(says, false).await);
        assert_eq!(answer.status, 502, "{says:?}: {answer:?}");
    }
}

/// One that never stops, and never answers either, is not waited for longer than another.
#[tokio::test]
async fn interim_answers_without_end_are_given_up_in_time() {
    let (provider, url) = by_hand().await;
    let openai = OpenAi::builder()
        .base_url(&url)
        .attempt_timeout(Duration::from_millis(200));
    let account = Account::new(wide().max_attempts(1));
    let served = serve(Proxy::new(account, openai.build().expect("a client"))).await;
    let talking = async {
        let (_, mut socket) = request_at(&provider, "\r\n\r\n").await;
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
        while socket.write_all(hints.as_bytes()).await.is_ok() {}
    };
    let request = get("/v1/first", "");
    let both = async { tokio::join!(ask(&served, &request), talking) };
    let (answer, ()) = timeout(LONG, both).await.expect("in time");
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (504, "no_answer"),
        "{answer:?}"
    );
    at_rest(&served).await;
}

/// Whatever it was waiting for, the provider is told, and its place is free.
#[tokio::test]
async fn a_client_that_goes_in_any_phase_ends_the_call() {
    for says in [
        "",
        "HTTP/1.1 2",
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsec",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n",
    ] {
        let (provider, url) = by_hand().await;
        let served = before(&url).await;
        let mut client = connect(&served).await;
        let request = post("/v1/chat/completions", "", &chat(""));
        client
            .write_all(request.as_bytes())
            .await
            .expect("it reads");
        let (_, mut socket) = request_at(&provider, "Hi").await;
        socket.write_all(says.as_bytes()).await.expect("it reads");
        tokio::time::sleep(Duration::from_millis(20)).await;
        drop(client);
        let mut rest = Vec::new();
        let closed = timeout(LONG, socket.read_to_end(&mut rest)).await;
        let _ = closed.expect("the connection is closed");
        at_rest(&served).await;
    }
}

/// Whoever has answered in HTTP/1.0 would be spoken to in it, which has no chunks: a body without
/// a length would be left out.
#[tokio::test]
async fn a_body_without_a_length_is_sent_whatever_version_was_answered_before() {
    for kind in [
        "content-type: multipart/form-data; boundary=x",
        "trailer: x-sum",
    ] {
        let (provider, url) = by_hand().await;
        let served = before(&url).await;
        let request = format!(
            "POST /v1/files HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{kind}\r\n\
             transfer-encoding: chunked\r\n\r\n5\r\nwhole\r\n0\r\nx-sum: 1\r\n\r\n"
        );
        let answers = async {
            loop {
                let (mut socket, _) = provider.accept().await.expect("a connection");
                tokio::spawn(async move {
                    let mut seen = Vec::new();
                    while let Ok(1..) = socket.read_buf(&mut seen).await {
                        let text = String::from_utf8_lossy(&seen);
                        let has_chunks = text.contains("transfer-encoding: chunked");
                        let Some((_, body)) = text.split_once("\r\n\r\n") else {
                            continue;
                        };
                        if has_chunks && !body.ends_with("\r\n\r\n") {
                            continue;
                        }
                        let says = match text.contains(" HTTP/1.1\r\n") && body.contains("whole") {
                            true => "seen",
                            false => "lost",
                        };
                        let says = format!(
                            "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 4\r\n\r\n{says}"
                        );
                        socket.write_all(says.as_bytes()).await.expect("it reads");
                        seen.clear();
                    }
                });
            }
        };
        let asks = async {
            for turn in 0..3 {
                let answer = ask(&served, &request).await;
                assert_eq!(answer.body, "seen", "{kind} {turn}");
            }
        };
        tokio::select! {
            () = asks => {}
            () = answers => unreachable!("they have no end"),
        }
        at_rest(&served).await;
    }
}
