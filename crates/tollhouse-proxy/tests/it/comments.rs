//! Streams that are told that they wait.

use std::time::Duration;

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};
use tollhouse_openai::Account;
use tollhouse_proxy::{Proxy, Served};

use crate::support::{
    ask, at_rest, by_hand, chat, client, post, read_until, request_at, sent, serve, wide,
};

const STREAM: &str = r#","stream":true"#;

/// A proxy with one slot that tells soon, and the call that has the slot.
async fn busy(provider: &TcpListener, url: &str) -> (Served, TcpStream, TcpStream) {
    let account = Account::new(wide().max_concurrency(1).max_attempts(1));
    let proxy = Proxy::new(account, client(url)).comments(Duration::from_millis(40));
    let served = serve(proxy).await;
    let first = sent(&served, &post("/v1/chat/completions", "", &chat(""))).await;
    let (_, upstream) = request_at(provider, "Hi").await;
    (served, first, upstream)
}

async fn is_over(first: &mut TcpStream, upstream: &mut TcpStream) {
    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
    upstream.write_all(answer).await.unwrap();
    read_until(first, "{}").await;
}

async fn stream_of(served: &Served) -> TcpStream {
    sent(served, &post("/v1/chat/completions", "", &chat(STREAM))).await
}

/// A stream that was sent, and was told so; its provider has not answered.
async fn told_that_it_was_sent() -> (Served, TcpStream, TcpStream) {
    let (provider, url) = by_hand().await;
    let proxy = Proxy::new(Account::new(wide()), client(&url)).comments(Duration::from_millis(40));
    let served = serve(proxy).await;
    let mut waiting = stream_of(&served).await;
    let (_, upstream) = request_at(&provider, "Hi").await;
    read_until(&mut waiting, ": sent, ").await;
    (served, waiting, upstream)
}

#[tokio::test]
async fn a_stream_that_waits_begins_with_comments_and_goes_on_as_it_is() {
    let (provider, url) = by_hand().await;
    let (served, mut first, mut upstream) = busy(&provider, &url).await;
    let mut waiting = stream_of(&served).await;
    let seen = read_until(&mut waiting, ": waiting, place 1, about ").await;
    assert!(seen.starts_with("HTTP/1.1 200 OK\r\n"), "{seen}");
    assert!(
        seen.contains("content-type: text/event-stream\r\n"),
        "{seen}"
    );
    assert!(seen.contains("x-tollhouse-charge: 28\r\n"), "{seen}");
    assert!(!seen.contains("x-tollhouse-wait-ms"), "{seen}");
    read_until(&mut waiting, ": waiting, place 1, about ").await;

    is_over(&mut first, &mut upstream).await;
    let (_, mut upstream) = request_at(&provider, "Hi").await;
    read_until(
        &mut waiting,
        ": sent, the provider has not answered yet\n\n",
    )
    .await;
    let events = "data: {\"n\":1}\n\ndata: [DONE]\n\n";
    let answer = format!(
        "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-type: text/event-stream; charset=utf-8\r\n\
         content-length: {}\r\n\r\n{events}",
        events.len()
    );
    upstream.write_all(answer.as_bytes()).await.unwrap();
    let seen = read_until(&mut waiting, "0\r\n\r\n").await;
    assert!(
        seen.contains("data: {\"n\":1}\n\n") && seen.contains("data: [DONE]\n\n"),
        "{seen}"
    );
    assert!(!seen.contains("error"), "{seen}");
    drop((first, waiting));
    at_rest(&served).await;
}

/// Who waits between two attempts is not told that the provider is to answer.
#[tokio::test]
async fn a_stream_that_waits_for_another_attempt_says_so() {
    let (served, mut waiting, mut upstream) = told_that_it_was_sent().await;
    let busy = "HTTP/1.1 503 No\r\nretry-after: 50\r\ncontent-length: 2\r\n\r\n{}";
    upstream.write_all(busy.as_bytes()).await.unwrap();
    let says = ": waiting for another attempt, 1 came to nothing\n\n";
    read_until(&mut waiting, says).await;
    drop(waiting);
    at_rest(&served).await;
}

/// What fails after that is an event, with what the provider said.
#[tokio::test]
async fn a_later_failure_is_an_event() {
    for (answer, event) in [
        (
            "HTTP/1.1 400 No\r\nconnection: close\r\ncontent-length: 42\r\n\r\n\
             {\"error\":\n {\"message\":\"no\",\"code\":\"bad\"}}  ",
            "event: error\ndata: {\"error\":{\"code\":\"bad\",\"message\":\"no\"}}\n\n",
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}",
            "something that is no stream",
        ),
        // The head that would tell how to read them is gone.
        (
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n\
             transfer-encoding: chunked\r\n\r\n2\r\n\x1f\x08\r\n",
            "content-encoding",
        ),
        (
            "HTTP/1.1 broken\r\n\r\n",
            "event: error\ndata: {\"error\":{\"code\":\"no_answer\"",
        ),
    ] {
        let (provider, url) = by_hand().await;
        let (served, mut first, mut upstream) = busy(&provider, &url).await;
        let mut waiting = stream_of(&served).await;
        read_until(&mut waiting, ": waiting, place 1, about ").await;
        is_over(&mut first, &mut upstream).await;
        let (_, mut upstream) = request_at(&provider, "Hi").await;
        upstream.write_all(answer.as_bytes()).await.unwrap();
        let seen = read_until(&mut waiting, "0\r\n\r\n").await;
        assert!(seen.contains(event), "{event}: {seen}");
        drop((first, waiting));
        at_rest(&served).await;
    }
}

#[tokio::test]
async fn who_leaves_while_comments_come_leaves_nothing() {
    let (provider, url) = by_hand().await;
    let (served, mut first, mut upstream) = busy(&provider, &url).await;
    let mut waiting = stream_of(&served).await;
    read_until(&mut waiting, ": waiting, place 1, about ").await;
    drop(waiting);
    is_over(&mut first, &mut upstream).await;
    drop(first);
    at_rest(&served).await;
}

/// Neither calls that are no streams, nor those that do not want to wait.
#[tokio::test]
async fn others_are_answered_as_ever() {
    let (provider, url) = by_hand().await;
    let (served, mut first, mut upstream) = busy(&provider, &url).await;
    let impatient = post(
        "/v1/chat/completions",
        "x-tollhouse-max-wait: 0.2\r\n",
        &chat(STREAM),
    );
    assert_eq!(ask(&served, &impatient).await.status, 429);
    let whole = post("/v1/chat/completions", "", &chat(""));
    let answered = async {
        tokio::time::sleep(Duration::from_millis(120)).await;
        is_over(&mut first, &mut upstream).await;
        let (_, mut upstream) = request_at(&provider, "Hi").await;
        let answer = b"HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        upstream.write_all(answer).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(&served, &whole), answered);
    assert_eq!((answer.status, answer.body.as_str()), (404, "{}"));
}

/// Told that it waits or not: one that breaks off is passed on as far as it came.
#[tokio::test]
async fn a_commented_stream_that_breaks_off_is_passed_on_as_far_as_it_came() {
    let (served, mut waiting, mut upstream) = told_that_it_was_sent().await;
    let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n\
                  a\r\ndata: one\n\r\na\r\ndata: two\n\r\nbroken";
    upstream.write_all(answer.as_bytes()).await.unwrap();
    drop(upstream);
    read_until(&mut waiting, "two").await;
    drop(waiting);
    at_rest(&served).await;
}
