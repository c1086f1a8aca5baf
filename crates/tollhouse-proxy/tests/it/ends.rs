//! How it ends.

use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tollhouse_openai::{Account, OpenAi};
use tollhouse_proxy::{Proxy, ProxyError};

use crate::support::{
    LONG, busy, by_hand, chat, client, connect, post, read_until, request_at, sent, serve, until,
    wide,
};

/// One streams, one waits.
async fn crowded() -> (tollhouse_proxy::Served, TcpStream, TcpStream, TcpStream) {
    let (served, mut streaming, mut upstream) = busy().await;
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        .await
        .unwrap();
    read_until(&mut streaming, "one").await;
    let waiting = sent(&served, &post("/v1/chat/completions", "", &chat(""))).await;
    until(&served, "waiting", 1).await;
    (served, streaming, waiting, upstream)
}

#[tokio::test]
async fn draining_lets_streams_end_and_turns_away_who_waits() {
    let (served, mut streaming, mut waiting, mut upstream) = crowded().await;
    let address = served.address();
    let drained = tokio::spawn(served.drain(LONG));
    let seen = read_until(&mut waiting, "}").await;
    assert!(
        seen.starts_with("HTTP/1.1 503") && seen.contains("closing"),
        "{seen}"
    );
    upstream.write_all(b"3\r\ntwo\r\n0\r\n\r\n").await.unwrap();
    let seen = read_until(&mut streaming, "0\r\n\r\n").await;
    assert!(seen.contains("two"), "{seen}");
    assert_eq!(drained.await.unwrap().cut_off, 0);
    assert!(
        TcpStream::connect(address).await.is_err(),
        "it still listens"
    );
}

#[tokio::test]
async fn draining_turns_away_who_waits_for_a_next_attempt() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url))).await;
    let request = post("/v1/chat/completions", "", &chat(""));
    let mut waiting = sent(&served, &request).await;
    let (_, mut upstream) = request_at(&provider, "Hi").await;
    let busy = "HTTP/1.1 503 Busy\r\nretry-after: 50\r\ncontent-length: 2\r\n\r\n{}";
    upstream.write_all(busy.as_bytes()).await.unwrap();
    until(&served, "in_flight", 0).await;
    let drained = tokio::spawn(served.drain(LONG));
    let seen = read_until(&mut waiting, "}").await;
    assert!(
        seen.starts_with("HTTP/1.1 503") && seen.contains("closing"),
        "{seen}"
    );
    assert!(seen.contains("x-tollhouse-attempts: 1\r\n"), "{seen}");
    assert_eq!(drained.await.unwrap().cut_off, 0);
}

#[tokio::test]
async fn draining_has_a_limit_after_which_it_cuts_off() {
    let (served, mut streaming, _waiting, mut upstream) = crowded().await;
    let drained = served.drain(Duration::from_millis(50)).await;
    assert_eq!(drained.cut_off, 1);
    let end = timeout(LONG, streaming.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "still open");
    // The provider learns of it.
    let end = timeout(LONG, upstream.read_to_end(&mut Vec::new())).await;
    assert!(end.is_ok(), "still open");
}

#[tokio::test]
async fn dropping_it_ends_all_at_once() {
    let (served, mut streaming, mut waiting, _upstream) = crowded().await;
    drop(served);
    for socket in [&mut streaming, &mut waiting] {
        let end = timeout(LONG, socket.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "still open");
    }
}

#[tokio::test]
async fn nobody_else_may_use_the_key_without_a_token() {
    let (_provider, url) = by_hand().await;
    let open = async || TcpListener::bind("0.0.0.0:0").await.unwrap();
    let proxy = || Proxy::new(Account::new(wide()), client(&url));
    let refused = proxy().serve(open().await);
    assert!(matches!(refused, Err(ProxyError::OpenToAll(_))));
    assert!(proxy().token("secret", "web").serve(open().await).is_ok());
    // A key that anybody brings, or makes up, is no token.
    let openai = OpenAi::builder().base_url(&url).build().unwrap();
    let passing = || Proxy::new(Account::new(wide()), openai.clone()).pass_through_keys();
    let refused = passing().serve(open().await);
    assert!(matches!(refused, Err(ProxyError::OpenToAll(_))));
    assert!(passing().shared_token("secret").serve(open().await).is_ok());
}

/// A client that is frozen, and has no call, holds nothing up.
#[tokio::test]
async fn draining_waits_for_no_silent_connection_of_http_2() {
    let (_provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url))).await;
    let mut socket = connect(&served).await;
    let hello = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    socket.write_all(hello).await.unwrap();
    socket.read_u8().await.expect("it answers");
    let drained = timeout(LONG, served.drain(Duration::from_secs(600))).await;
    assert_eq!(drained.expect("in time").cut_off, 0);
}

/// An attempt that nobody makes any more here may be made elsewhere.
#[tokio::test]
async fn draining_forbids_no_next_attempt() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url))).await;
    let request = post("/v1/chat/completions", "", &chat(""));
    let mut socket = sent(&served, &request).await;
    let (_, mut upstream) = request_at(&provider, "Hi").await;
    let address = served.address();
    let drained = tokio::spawn(served.drain(LONG));
    let closes = async { while TcpStream::connect(address).await.is_ok() {} };
    timeout(LONG, closes).await.expect("it closes");
    let busy = b"HTTP/1.1 503 No\r\ncontent-length: 2\r\n\r\n{}";
    upstream.write_all(busy).await.unwrap();
    let seen = read_until(&mut socket, "{}").await;
    assert!(
        seen.starts_with("HTTP/1.1 503") && !seen.contains("x-should-retry"),
        "{seen}"
    );
    drained.await.unwrap();
}
