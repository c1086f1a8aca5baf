//! Connections that end: in every phase, while they are idle, and just as they are taken.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use tokio::time::sleep;
use tollhouse::error::NeverSent;

use super::support::{Over, SECOND, Upstream, ask, request, second_over, send};

/// What the upstream says before it resets.
#[tokio::test]
async fn a_reset_in_any_phase_is_told_as_what_it_is() {
    const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n";
    for (says, is_body) in [
        ("", false),
        ("HTTP/1.1 2", false),
        ("HTTP/1.1 100 Continue\r\n\r\n", false),
        (HEAD, true),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsec", true),
        ("HTTP/1.1 429 No\r\ncontent-length: 6\r\n\r\nsec", true),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n",
            true,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nsec", true),
    ] {
        let upstream = Upstream::start().await;
        let client = upstream.client();
        let answering = async {
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer.say(says).await;
            // What was said is read before the reset takes it away.
            sleep(Duration::from_millis(50)).await;
            peer.reset();
        };
        let (read, ()) = tokio::join!(ask(&client), answering);
        let error = read.expect_err(says);
        assert_eq!(
            (error.is_body(), error.is_closed()),
            (is_body, !is_body),
            "{says:?}"
        );
        assert!(!NeverSent::is_behind(&error), "{says:?}");
        let second = async { upstream.accept().await.second().await };
        let (second, ()) = tokio::join!(ask(&client), second);
        second.expect("a second answer");
    }
}

#[tokio::test]
async fn a_connection_that_ended_while_it_was_idle_is_noticed_by_nobody() {
    for resets in [false, true] {
        let upstream = Upstream::start().await;
        let client = upstream.client();
        let answering = async {
            let mut peer = upstream.accept().await;
            peer.second().await;
            peer
        };
        let (first, peer) = tokio::join!(ask(&client), answering);
        first.expect("an answer");
        match resets {
            true => peer.reset(),
            false => drop(peer),
        }
        sleep(Duration::from_millis(20)).await;
        let second = async { upstream.accept().await.second().await };
        let (second, ()) = tokio::join!(ask(&client), second);
        second.expect("a second answer");
    }
}

/// Once it was written it may have been taken for sent: that is not for the transport to try.
#[tokio::test]
async fn half_a_head_on_a_kept_connection_is_not_asked_again() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let answering = async {
        let mut peer = upstream.accept().await;
        peer.second().await;
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\nconte").await;
    };
    let asking = async {
        ask(&client).await.expect("an answer");
        ask(&client).await.expect_err("half a head")
    };
    let (error, ()) = tokio::join!(asking, answering);
    assert!(error.is_closed() && !NeverSent::is_behind(&error));
}

/// How often each request arrived, by its number.
type Arrived = Arc<Mutex<HashMap<String, u32>>>;

/// Answers one request, and closes at about the instant in which the next one comes.
async fn answers_and_closes(upstream: Upstream, arrived: Arrived) {
    for turn in 0.. {
        let mut peer = upstream.accept().await;
        let arrived = Arc::clone(&arrived);
        tokio::spawn(async move {
            let count = |request: String| {
                let line = request.lines().next().unwrap_or_default().to_owned();
                *arrived.lock().expect("whole").entry(line).or_default() += 1;
            };
            let Some(first) = peer.next().await else {
                return;
            };
            count(first);
            peer.say(SECOND).await;
            // Between at once and after the next request.
            for _ in 0..turn % 8 {
                tokio::task::yield_now().await;
            }
            let mut seen = [0; 4096];
            if let Ok(read @ 1..) = peer.socket.try_read(&mut seen) {
                count(String::from_utf8_lossy(&seen[..read]).to_ascii_lowercase());
            }
        });
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_meets_a_closing_connection_arrives_once_at_most() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let arrived = Arrived::default();
    let serving = tokio::spawn(answers_and_closes(upstream, Arc::clone(&arrived)));
    let (mut whole, mut broken) = (0, 0);
    for number in 0..1_000 {
        let mut call = request(Method::POST, "question");
        *call.uri_mut() = format!("/v1/{number}").parse().expect("a path");
        let line = format!("post /v1/{number} http/1.1");
        let read = send(&client, call).await;
        let times = arrived.lock().expect("whole").get(&line).copied();
        match read {
            Ok((_, body)) => {
                whole += 1;
                assert_eq!((times, &body[..]), (Some(1), &b"second"[..]), "{number}");
            }
            Err(error) => {
                broken += 1;
                assert!(error.is_closed(), "{error:?}");
                assert!(times.is_none_or(|times| times == 1), "{number}: {times:?}");
                assert!(!NeverSent::is_behind(&error), "{number}: {error:?}");
            }
        }
    }
    println!("{whole} whole, {broken} broken");
    serving.abort();
}

/// Both ends of it, one after the other.
#[tokio::test]
async fn a_request_that_asks_for_it_is_the_last_of_its_connection() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let mut call = request(Method::POST, "question");
    call.headers_mut()
        .insert("connection", "close".parse().expect("a value"));
    let answering = async {
        let mut peer = upstream.accept().await;
        let request = peer.request().await;
        peer.say(SECOND).await;
        (request, peer)
    };
    let (first, (request, mut peer)) = tokio::join!(send(&client, call), answering);
    first.expect("an answer");
    assert!(request.contains("\r\nconnection: close\r\n"), "{request}");
    peer.closed().await;
    assert_eq!(second_over(&upstream, &client, &mut peer).await, Over::New);
}
