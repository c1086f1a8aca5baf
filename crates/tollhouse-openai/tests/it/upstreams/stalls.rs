//! Peers that stand still, and what bounds them.

use std::time::Duration;

use http::Method;
use tokio::time::{Instant, sleep, timeout};
use tollhouse_openai::client::Error;

use super::support::{LONG, Peer, Upstream, ask, request, send};

const SHORT: Duration = Duration::from_millis(150);

/// Says what `says` does until the connection is closed.
async fn stalled<F: Future<Output = ()>>(
    body: usize,
    says: impl FnOnce(Peer) -> F,
) -> (Error, Duration) {
    let upstream = Upstream::start().await;
    let client = upstream.builder().attempt_timeout(SHORT);
    let client = client.body_timeout(SHORT * 4).build().expect("a client");
    let begun = Instant::now();
    let asking = send(&client, request(Method::POST, vec![b'x'; body]));
    let saying = async { says(upstream.accept().await).await };
    let (read, ()) = timeout(LONG, async { tokio::join!(asking, saying) })
        .await
        .expect("both end");
    let took = begun.elapsed();
    let error = read.expect_err("it stood still");
    // Nothing of it is left in the way of the next one.
    let second = async { upstream.accept().await.second().await };
    let (second, ()) = tokio::join!(ask(&client), second);
    second.expect("a second answer");
    (error, took)
}

#[tokio::test]
async fn a_peer_that_stands_still_before_its_head_is_given_up_and_closed() {
    // It reads nothing of what two sockets cannot hold.
    let (error, _) = stalled(16 * 1024 * 1024, async |mut peer| {
        sleep(SHORT * 2).await;
        peer.closed().await;
    })
    .await;
    assert!(
        error.is_timeout() && !error.is_body() && !error.is_connect(),
        "{error:?}"
    );

    for says in [
        "",
        "HTTP/1.1 2",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "HTTP/1.1 200 OK\r\n",
    ] {
        let (error, _) = stalled(8, async |mut peer| {
            peer.request().await;
            peer.say(says).await;
            peer.closed().await;
        })
        .await;
        let kind = (error.is_timeout(), error.is_body(), error.is_connect());
        assert_eq!(kind, (true, false, false), "{says:?}: {error:?}");
    }
}

/// A peer that never stops, and never answers either: whoever reads it is never idle.
#[tokio::test]
async fn interim_answers_without_end_are_given_up_in_time() {
    // What is there at once is little, so that reading it takes no time of its own.
    let upstream = Upstream::narrow(4096).await;
    let client = upstream.builder().attempt_timeout(SHORT);
    let client = client.build().expect("a client");
    let asking = tokio::spawn(async move { ask(&client).await });
    let socket = upstream.accept().await.socket.into_std();
    let mut socket = socket.expect("a socket");
    socket.set_nonblocking(false).expect("it blocks");
    // By a thread of its own, as fast as it can.
    let talking = std::thread::spawn(move || {
        use std::io::Write;
        let hints = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100);
        while socket.write_all(hints.as_bytes()).is_ok() {}
    });
    let error = asking.await.expect("no panic");
    let error = error.expect_err("nobody has answered");
    assert!(error.is_timeout() && !error.is_body(), "{error:?}");
    talking.join().expect("it ends with its connection");
}

#[tokio::test]
async fn a_body_that_stands_still_is_given_up_and_closed() {
    for says in [
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsec",
        "HTTP/1.1 429 No\r\ncontent-length: 6\r\n\r\nsec",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nse",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n0\r\n",
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n",
        "HTTP/1.1 200 OK\r\n\r\nsec",
    ] {
        let (error, _) = stalled(8, async |mut peer| {
            peer.request().await;
            peer.say(says).await;
            peer.closed().await;
        })
        .await;
        assert!(error.is_timeout() && error.is_body(), "{says:?}: {error:?}");
    }
}

/// Each piece in time, and all of them not; nor does it help to say nothing in many bytes.
#[tokio::test]
async fn a_body_that_trickles_is_given_up_and_closed() {
    for (head, piece) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n", "x"),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
            "1\r\nx\r\n",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2;",
            "x",
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n",
            "x: y\r\n",
        ),
    ] {
        let (error, took) = stalled(8, async |mut peer| {
            peer.request().await;
            peer.say(head).await;
            use tokio::io::AsyncWriteExt;
            while peer.socket.write_all(piece.as_bytes()).await.is_ok() {
                sleep(SHORT / 4).await;
            }
        })
        .await;
        assert!(error.is_timeout() && error.is_body(), "{head:?}: {error:?}");
        assert!(took < SHORT * 40, "{head:?}: {took:?}");
    }
}
