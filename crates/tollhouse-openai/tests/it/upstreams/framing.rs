//! How an answer says where it ends.

use http::Method;
use tollhouse_openai::client::Error;

use super::support::{Over, Upstream, request, second_over, send};

/// What a caller sees of a first answer.
#[derive(Clone, Copy, Debug)]
enum Seen {
    Whole(u16, &'static str),
    /// The head, and then an error of the body.
    Cut,
    /// No answer, and it may be asked again.
    Closed,
    /// No answer, nor would there be one.
    Protocol,
}
use Over::{New, Same};
use Seen::{Closed, Cut, Protocol, Whole};

fn assert_seen(read: Result<(http::StatusCode, bytes::Bytes), Error>, seen: Seen, says: &str) {
    match (read, seen) {
        (Ok((status, body)), Whole(expected, whole)) => {
            assert_eq!(
                (status.as_u16(), &body[..]),
                (expected, whole.as_bytes()),
                "{says:?}"
            );
        }
        (Err(error), Cut) => assert!(error.is_body(), "{says:?}: {error:?}"),
        (Err(error), Closed) => assert!(error.is_closed(), "{says:?}: {error:?}"),
        (Err(error), Protocol) => {
            let other = error.is_body() || error.is_closed() || error.is_connect();
            assert!(!other && !error.is_timeout(), "{says:?}: {error:?}");
        }
        (read, seen) => panic!("{says:?}: {read:?} is not {seen:?}"),
    }
}

async fn check(method: Method, says: &str, closes: bool, seen: Seen, over: Over) {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let answering = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.say(says).await;
        if closes {
            peer.says_no_more().await;
        }
        peer
    };
    let (read, mut peer) = tokio::join!(send(&client, request(method, "question")), answering);
    assert_seen(read, seen, says);
    if over == New {
        // At once, and not only by the next call.
        peer.closed().await;
    }
    let second = second_over(&upstream, &client, &mut peer).await;
    assert_eq!(second, over, "{says:?}");
}

/// Of a connection that the upstream leaves open.
async fn check_open(says: &str, seen: Seen, over: Over) {
    check(Method::POST, says, false, seen, over).await;
}

/// Of one that it closes behind its answer.
async fn check_closed(says: &str, seen: Seen) {
    check(Method::POST, says, true, seen, New).await;
}

/// What nobody has asked for.
const EVIL: &str = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil";

/// What is behind an answer is nobody's, and what is on that connection no longer trusted.
#[tokio::test]
async fn an_answer_ends_where_it_says_and_what_is_behind_it_is_seen_by_nobody() {
    for (status, length, body) in [(200, 2, "{}"), (429, 2, "{}"), (200, 0, ""), (204, 0, "")] {
        let says = format!("HTTP/1.1 {status} X\r\ncontent-length: {length}\r\n\r\n{body}");
        let whole = Whole(status, body);
        check_open(&says, whole, Same).await;
        for behind in [EVIL, "\r\n", "}", "HTTP/1.1 100 Continue\r\n\r\n"] {
            check_open(&format!("{says}{behind}"), whole, New).await;
        }
    }
    // These have none, whatever their length is.
    for status in [204, 304] {
        let says = format!("HTTP/1.1 {status} X\r\ncontent-length: 4\r\n\r\n");
        check_open(&says, Whole(status, ""), Same).await;
        check_open(&format!("{says}evil"), Whole(status, ""), New).await;
    }
}

#[tokio::test]
async fn a_length_is_one_number() {
    for (lengths, seen, over) in [
        (
            "content-length: 2\r\ncontent-length: 2",
            Whole(200, "{}"),
            Same,
        ),
        ("content-length: 2\r\ncontent-length: 3", Protocol, New),
        ("content-length: 2, 3", Protocol, New),
        ("content-length: -2", Protocol, New),
        ("content-length: 99999999999999999999", Protocol, New),
    ] {
        let says = format!("HTTP/1.1 200 OK\r\n{lengths}\r\n\r\n{{}}");
        check_open(&says, seen, over).await;
    }
    for status in [200, 429] {
        let short = format!("HTTP/1.1 {status} X\r\ncontent-length: 3\r\n\r\n{{}}");
        check_closed(&short, Cut).await;
    }
}

const CHUNKED: &str = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

#[tokio::test]
async fn chunks_end_with_the_last_and_not_before() {
    for (chunks, whole) in [
        ("2\r\n{}\r\n0\r\n\r\n", "{}"),
        ("02;ext=\"a\"\r\n{}\r\n000\r\n\r\n", "{}"),
        ("2\r\n{}\r\n0\r\nx-trailer: a\r\n\r\n", "{}"),
        ("0\r\n\r\n", ""),
    ] {
        let says = format!("{CHUNKED}{chunks}");
        check_open(&says, Whole(200, whole), Same).await;
        check_open(&format!("{says}{EVIL}"), Whole(200, whole), New).await;
    }
    for cut in ["", "2\r\n{}\r\n", "2\r\n{}\r\n0\r\n", "5\r\n{}"] {
        check_closed(&format!("{CHUNKED}{cut}"), Cut).await;
    }
    for wrong in [
        "xyz\r\n{}\r\n0\r\n\r\n",
        "1\r\n{}\r\n0\r\n\r\n",
        "fffffffffffffffff\r\n{}",
    ] {
        check_open(&format!("{CHUNKED}{wrong}"), Cut, New).await;
    }
    // With a length beside them they count, and it does not (RFC 9112, section 6.3).
    let both = CHUNKED.replace("\r\n\r\n", "\r\ncontent-length: 4\r\n\r\n");
    let says = format!("{both}2\r\n{{}}\r\n0\r\n\r\n");
    check_open(&says, Whole(200, "{}"), Same).await;
}

#[tokio::test]
async fn an_answer_without_a_length_ends_with_its_connection() {
    for (head, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 429 No", 429),
        ("HTTP/1.0 200 OK", 200),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: identity", 200),
    ] {
        check_closed(&format!("{head}\r\n\r\n{{}}"), Whole(status, "{}")).await;
    }
}

#[tokio::test]
async fn a_connection_ends_where_the_answer_says_so() {
    for (head, body) in [
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2",
            "{}",
        ),
        (
            "HTTP/1.1 200 OK\r\nConnection: foo, Close\r\ncontent-length: 2",
            "{}",
        ),
        (
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0",
            "",
        ),
        ("HTTP/1.0 200 OK\r\ncontent-length: 2", "{}"),
    ] {
        let says = format!("{head}\r\n\r\n{body}");
        check_open(&says, Whole(200, body), New).await;
        check_closed(&says, Whole(200, body)).await;
    }
    let kept = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\n{}";
    check_open(kept, Whole(200, "{}"), Same).await;
}

#[tokio::test]
async fn what_is_no_head_is_no_answer() {
    for cut in ["", "HTTP/1.1 200 O", "HTTP/1.1 200 OK\r\ncontent-le"] {
        check_closed(cut, Closed).await;
    }
    let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(1_000));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(1024 * 1024));
    for wrong in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/2.0 200 OK\r\n\r\n",
        &many,
        &long,
    ] {
        check_open(wrong, Protocol, New).await;
    }
}

#[tokio::test]
async fn an_answer_to_head_has_no_body() {
    let length = "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n";
    for head in [length, CHUNKED] {
        check(Method::HEAD, head, false, Whole(200, ""), Same).await;
    }
    let body = format!("{length}evil");
    check(Method::HEAD, &body, false, Whole(200, ""), New).await;
}

#[tokio::test]
async fn interim_answers_are_not_the_answer() {
    let interim = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n\
                   HTTP/1.1 102 Processing\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    check_open(&format!("{interim}{answer}"), Whole(200, "{}"), Same).await;
}

/// Nobody has asked for it, so nobody takes the connection over.
#[tokio::test]
async fn an_upgrade_that_was_not_asked_for_ends_the_connection() {
    let upgrade = "HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n";
    check_open(&format!("{upgrade}evil"), Whole(101, ""), New).await;
}
