//! Answers before the request is there, and bytes that answer nothing.

use std::time::Duration;

use http::{Method, StatusCode};
use tokio::time::sleep;
use tollhouse::error::NeverSent;

use super::support::{Over, SECOND, Upstream, ask, request, second_over, send};

/// More than two sockets hold.
const LARGE: usize = 16 * 1024 * 1024;

/// Its answer is seen although most of the request never leaves.
#[tokio::test]
async fn a_refusal_by_the_head_is_seen_and_ends_the_connection() {
    for (status, closes) in [
        (413, false),
        (413, true),
        (429, false),
        (429, true),
        (200, false),
    ] {
        let upstream = Upstream::start().await;
        let client = upstream.client();
        let answering = async {
            let mut peer = upstream.accept().await;
            peer.socket.readable().await.expect("a request begins");
            let length = "content-length: 2\r\n\r\n{}";
            peer.say(format!("HTTP/1.1 {status} X\r\n{length}")).await;
            if closes {
                peer.says_no_more().await;
            }
            peer
        };
        let large = request(Method::POST, vec![b'x'; LARGE]);
        let (read, mut peer) = tokio::join!(send(&client, large), answering);
        let (seen, body) = read.expect("an answer");
        assert_eq!((seen.as_u16(), &body[..]), (status, &b"{}"[..]));
        peer.closed().await;
        assert_eq!(second_over(&upstream, &client, &mut peer).await, Over::New);
    }
}

/// It answers all of it before it reads on; whoever wrote first and read then would wait for
/// ever.
#[tokio::test]
async fn both_directions_may_be_full() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let answering = async {
        let mut peer = upstream.accept().await;
        peer.socket.readable().await.expect("a request begins");
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {LARGE}\r\n\r\n");
        peer.say(head).await;
        peer.say(vec![b'y'; LARGE - 1]).await;
        let request = peer.request().await;
        peer.say("y").await;
        (request, peer)
    };
    let large = request(Method::POST, vec![b'x'; LARGE]);
    let (read, (_, mut peer)) = tokio::join!(send(&client, large), answering);
    let (status, body) = read.expect("an answer");
    assert_eq!((status, body.len()), (StatusCode::OK, LARGE));
    assert_eq!(second_over(&upstream, &client, &mut peer).await, Over::Same);
}

/// Either it was there before the request was written, and then that was never sent; or it
/// passes for its answer.
#[tokio::test]
async fn an_answer_on_a_new_connection_before_any_request() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    for _ in 0..20 {
        let answering = async {
            let mut peer = upstream.accept().await;
            peer.say(
                "HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
            )
            .await;
            peer.next().await
        };
        match tokio::join!(ask(&client), answering) {
            (Ok((status, _)), _) => assert_eq!(status, StatusCode::REQUEST_TIMEOUT),
            (Err(error), request) => {
                assert!(
                    error.is_closed() && NeverSent::is_behind(&error),
                    "{error:?}"
                );
                assert_eq!(request, None);
            }
        }
    }
}

/// As some do before they close a connection that was idle for too long.
#[tokio::test]
async fn what_is_said_on_an_idle_connection_answers_nobody() {
    for says in [
        "HTTP/1.1 408 Request Timeout\r\ncontent-length: 4\r\n\r\nevil",
        "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        "\r\n",
        "e",
    ] {
        let upstream = Upstream::start().await;
        let client = upstream.client();
        let answering = async {
            let mut peer = upstream.accept().await;
            peer.second().await;
            peer
        };
        let (first, mut peer) = tokio::join!(ask(&client), answering);
        first.expect("an answer");
        peer.say(says).await;
        sleep(Duration::from_millis(20)).await;
        let over = second_over(&upstream, &client, &mut peer).await;
        assert_eq!(over, Over::New, "{says:?}");
        peer.closed().await;
    }
}

/// However the network cuts it.
#[tokio::test]
async fn an_answer_is_the_same_however_it_is_cut() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n3\r\nond\r\n0\r\n\r\n";
    let interim = format!("HTTP/1.1 103 Early Hints\r\n\r\n{SECOND}");
    for says in [SECOND, chunked, &interim] {
        let upstream = Upstream::start().await;
        let client = upstream.client();
        let answering = async {
            let mut peer = upstream.accept().await;
            for cut in 1..says.len() {
                peer.request().await;
                peer.say(&says[..cut]).await;
                tokio::task::yield_now().await;
                sleep(Duration::from_micros(100)).await;
                peer.say(&says[cut..]).await;
            }
        };
        let asking = async {
            for cut in 1..says.len() {
                let (status, body) = ask(&client).await.expect("an answer");
                assert_eq!(
                    (status, &body[..]),
                    (StatusCode::OK, &b"second"[..]),
                    "{cut}"
                );
            }
        };
        // Over one connection: the listener takes no other.
        tokio::join!(answering, asking);
    }
}
