//! Realtime's WebSocket: a call that is no HTTP any more.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tollhouse_openai::Account;
use tollhouse_proxy::{Proxy, Served};

use crate::support::{
    LONG, ask, at_rest, by_hand, chat, client, connect, post, read_until, request_at, serve,
    status, until, wide,
};

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\n\
                        upgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\
                        sec-websocket-protocol: realtime\r\n\r\n";

/// A text from a client, masked as RFC 6455 demands: it would be a broken head.
const FROM_CLIENT: &[u8] = b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58";
const FROM_PROVIDER: &[u8] = b"\x81\x05Hello\n\n\r\n\r\n";

fn upgrade(path: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive, Upgrade\r\n\
         upgrade: WebSocket\r\nsec-websocket-version: 13\r\n\
         sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n{more}\r\n"
    )
}

/// A session, its client's side and its provider's.
async fn session(served: &Served, provider: &TcpListener) -> (TcpStream, TcpStream) {
    let mut here = connect(served).await;
    let request = upgrade("/v1/realtime?model=gpt-realtime", "");
    here.write_all(request.as_bytes()).await.unwrap();
    let (_, mut there) = request_at(provider, "\r\n\r\n").await;
    there.write_all(SWITCHED.as_bytes()).await.unwrap();
    read_until(&mut here, "\r\n\r\n").await;
    (here, there)
}

async fn read(socket: &mut TcpStream, expected: &[u8]) {
    let mut seen = vec![0; expected.len()];
    let read = timeout(LONG, socket.read_exact(&mut seen)).await;
    read.expect("in time").expect("bytes");
    assert_eq!(seen, expected);
}

async fn ends(socket: &mut TcpStream) {
    let read = timeout(LONG, socket.read(&mut [0; 1])).await;
    assert!(matches!(read.expect("in time"), Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_session_passes_both_ways_byte_for_byte() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url)).token("t-1", "web")).await;
    let mut here = connect(&served).await;
    let request = upgrade(
        "/v1/realtime?model=gpt-realtime",
        "authorization: Bearer t-1\r\n\
         sec-websocket-protocol: realtime, openai-insecure-api-key.t-1\r\n",
    );
    here.write_all(request.as_bytes()).await.unwrap();
    let (seen, mut there) = request_at(&provider, "\r\n\r\n").await;
    assert!(
        seen.starts_with("GET /v1/realtime?model=gpt-realtime HTTP/1.1\r\n"),
        "{seen}"
    );
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==",
        "sec-websocket-protocol: realtime",
        "authorization: Bearer sk-of-the-account",
    ] {
        assert!(seen.contains(&format!("{line}\r\n")), "{line}: {seen}");
    }
    assert!(!seen.contains("t-1"), "{seen}");
    there.write_all(SWITCHED.as_bytes()).await.unwrap();
    let answer = read_until(&mut here, "\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
    for line in [
        "connection: upgrade",
        "upgrade: websocket",
        "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=",
        "x-tollhouse-attempts: 1",
        "x-tollhouse-charge: 0",
    ] {
        assert!(answer.contains(&format!("{line}\r\n")), "{line}: {answer}");
    }
    for _ in 0..3 {
        here.write_all(FROM_CLIENT).await.unwrap();
        read(&mut there, FROM_CLIENT).await;
        there.write_all(FROM_PROVIDER).await.unwrap();
        read(&mut here, FROM_PROVIDER).await;
    }
    let long = vec![7; 300_000];
    let (sent, ()) = tokio::join!(there.write_all(&long), read(&mut here, &long));
    sent.unwrap();
    drop(there);
    ends(&mut here).await;
}

/// Whatever it looks like: a client may speak before it knows that it may.
#[tokio::test]
async fn what_a_client_says_too_early_is_passed_on_too() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url))).await;
    for early in [
        FROM_CLIENT,
        FROM_PROVIDER,
        b"GET /v1/models HTTP/1.1\r\n\r\n",
    ] {
        let mut here = connect(&served).await;
        let request = upgrade("/v1/realtime", "");
        here.write_all(&[request.as_bytes(), early].concat())
            .await
            .unwrap();
        let (_, mut there) = request_at(&provider, "\r\n\r\n").await;
        here.write_all(early).await.unwrap();
        there.write_all(SWITCHED.as_bytes()).await.unwrap();
        read_until(&mut here, "\r\n\r\n").await;
        here.write_all(FROM_CLIENT).await.unwrap();
        read(&mut there, &[early, early, FROM_CLIENT].concat()).await;
    }
}

/// Its slot is its own to its end, whoever ends it.
#[tokio::test]
async fn a_session_holds_its_slot_to_its_end() {
    let (provider, url) = by_hand().await;
    let one_slot = Account::new(wide().max_concurrency(1));
    let served = serve(Proxy::new(one_slot, client(&url))).await;
    for is_client_first in [true, false] {
        let (here, there) = session(&served, &provider).await;
        assert_eq!(status(&served).await["accounts"][0]["in_flight"], 1);
        let body = chat("");
        let request = post("/v1/chat/completions", "", &body);
        let answered = async {
            until(&served, "waiting", 1).await;
            let (first, mut second) = match is_client_first {
                true => (here, there),
                false => (there, here),
            };
            drop(first);
            ends(&mut second).await;
            let (_, mut socket) = request_at(&provider, "Hi").await;
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
            socket.write_all(answer.as_bytes()).await.unwrap();
        };
        let (answer, ()) = tokio::join!(ask(&served, &request), answered);
        assert_eq!(answer.status, 200, "{answer:?}");
        at_rest(&served).await;
    }
}

/// Models of a file have pools, and a session is of its model's.
#[tokio::test]
async fn a_session_is_of_its_models_pool() {
    let (provider, url) = by_hand().await;
    let file = "[models.\"gpt-realtime*\"]\nmax_concurrency = 2\n";
    let served = serve(Proxy::new(Account::from_toml(file).unwrap(), client(&url))).await;
    let _session = session(&served, &provider).await;
    let now = status(&served).await;
    let pools = now["accounts"][0]["pools"].as_array().unwrap();
    let busy: Vec<_> = pools.iter().filter(|pool| pool["in_flight"] == 1).collect();
    assert_eq!(busy.len(), 1, "{now}");
    assert_eq!(busy[0]["name"], "gpt-realtime*");
}

#[tokio::test]
async fn a_provider_that_does_not_switch_is_passed_on() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url))).await;
    let mut here = connect(&served).await;
    here.write_all(upgrade("/v1/realtime", "").as_bytes())
        .await
        .unwrap();
    let (_, mut there) = request_at(&provider, "\r\n\r\n").await;
    let answer = "HTTP/1.1 401 No\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
    there.write_all(answer.as_bytes()).await.unwrap();
    let seen = read_until(&mut here, "{\"a\":1}").await;
    assert!(seen.starts_with("HTTP/1.1 401"), "{seen}");
    assert!(!seen.contains("upgrade"), "{seen}");
    // It is still HTTP, and is checked.
    here.write_all(FROM_PROVIDER).await.unwrap();
    let seen = read_until(&mut here, "HTTP").await;
    assert!(seen.contains("HTTP/1.1 400"), "{seen}");
}

/// What is no WebSocket of Realtime's is asked without an upgrade.
#[tokio::test]
async fn other_upgrades_are_dropped() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url))).await;
    let other = upgrade("/v1/realtime", "").replace("upgrade: WebSocket", "upgrade: h2c");
    for request in [upgrade("/v1/models", ""), other] {
        let mut here = connect(&served).await;
        here.write_all(request.as_bytes()).await.unwrap();
        let (seen, mut there) = request_at(&provider, "\r\n\r\n").await;
        assert!(!seen.contains("upgrade"), "{seen}");
        there
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
            .await
            .unwrap();
        read_until(&mut here, "{}").await;
    }
}

/// Nor does a token of ours go where nothing comes of it.
#[tokio::test]
async fn a_token_among_protocols_is_not_handed_on_without_an_upgrade() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url)).token("t-1", "web")).await;
    let shown = "authorization: Bearer t-1\r\n\
                 sec-websocket-protocol: realtime, openai-insecure-api-key.t-1\r\n\
                 sec-websocket-protocol: OpenAI-insecure-api-key.t-1,  v1\r\n";
    let other = upgrade("/v1/realtime", shown).replace("upgrade: WebSocket", "upgrade: h2c");
    for request in [
        upgrade("/v1/models", shown),
        other,
        post("/v1/realtime", shown, "{}"),
        upgrade("/v1/realtime", shown),
    ] {
        let mut here = connect(&served).await;
        here.write_all(request.as_bytes()).await.unwrap();
        let (seen, mut there) = request_at(&provider, "\r\n\r\n").await;
        assert!(!seen.contains("t-1"), "{seen}");
        assert!(
            seen.contains("sec-websocket-protocol: realtime, v1\r\n"),
            "{seen}"
        );
        there
            .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}")
            .await
            .unwrap();
        read_until(&mut here, "{}").await;
    }
}

/// A server that ends waits for sessions, and no longer than it was told to.
#[tokio::test]
async fn sessions_are_cut_off_at_the_end() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url))).await;
    let (mut here, mut there) = session(&served, &provider).await;
    let drained = served.drain(Duration::from_millis(50)).await;
    assert_eq!(drained.cut_off, 1);
    ends(&mut here).await;
    ends(&mut there).await;
}
