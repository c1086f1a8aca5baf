//! Over real sockets: the provider's end of each connection is the test's.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::super::connect::Connectors;
use super::*;

const WHOLE: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

struct Provider {
    listener: TcpListener,
    inline: Arc<Inline>,
}

impl Provider {
    async fn start() -> Provider {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let origin = format!("http://{}/v1", listener.local_addr().expect("its address"));
        let (connect, keep_alive) = (Duration::from_secs(10), Duration::from_secs(20));
        let connectors = Connectors::new(false, &[], connect, keep_alive).expect("connectors");
        let inline = Inline::new(origin.parse().expect("a URL"), connectors.plain);
        Provider {
            listener,
            inline: Arc::new(inline.expect("an origin")),
        }
    }

    fn send(&self) -> Sent {
        let body = RequestBody::from(Bytes::from("question"));
        let request = Request::post("/v1/x").body(body).expect("a request");
        Arc::clone(&self.inline).send(request)
    }

    /// A first call, with the connection that it came over.
    async fn call(&self, answer: &str) -> (Response<InlineBody>, TcpStream) {
        let answering = async {
            let (mut socket, _) = self.listener.accept().await.expect("a connection");
            answers(&mut socket, answer).await;
            socket
        };
        let (response, socket) = tokio::join!(self.send(), answering);
        (response.expect("an answer"), socket)
    }

    /// One more over the same connection.
    async fn call_again(&self, socket: &mut TcpStream, answer: &str) -> Response<InlineBody> {
        let (response, ()) = tokio::join!(self.send(), answers(socket, answer));
        response.expect("an answer")
    }

    fn idle(&self) -> usize {
        self.inline.pool.len()
    }
}

async fn answers(socket: &mut TcpStream, answer: &str) {
    let mut seen = Vec::new();
    while !seen.ends_with(b"question") {
        let read = socket.read_buf(&mut seen).await.expect("a request");
        assert!(read > 0, "the request ended early");
    }
    let sent = socket.write_all(answer.as_bytes()).await;
    sent.expect("the answer is taken");
}

async fn is_closed(socket: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let ended = socket.read_to_end(&mut rest).await;
    ended.is_err() || rest.is_empty()
}

async fn whole(answer: Response<InlineBody>) -> Bytes {
    let read = answer.into_body().collect().await;
    read.expect("a whole body").to_bytes()
}

/// However an answer ends, and read as far as somebody does who knows how it ends.
#[tokio::test]
async fn a_connection_is_used_again_once_its_answer_was_read() {
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    let empty = "HTTP/1.1 204 No Content\r\n\r\n";
    let provider = Provider::start().await;
    let (first, mut socket) = provider.call(WHOLE).await;
    assert_eq!(provider.idle(), 0, "its body is still to be read");
    assert_eq!(whole(first).await, "{}");
    for answer in [WHOLE, chunked, empty, WHOLE] {
        assert_eq!(provider.idle(), 1, "before {answer:?}");
        let answer = provider.call_again(&mut socket, answer).await;
        whole(answer).await;
    }
    let mut last = provider.call_again(&mut socket, chunked).await;
    let event = last.frame().await.expect("a frame").expect("data");
    assert_eq!(event.into_data().expect("data"), "{}");
    drop(last);
    assert_eq!(provider.idle(), 1, "the end was there");
}

#[tokio::test]
async fn what_is_dropped_before_its_end_closes_the_connection() {
    let begun = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n";
    let provider = Provider::start().await;
    let (answer, mut socket) = provider.call(begun).await;
    drop(answer);
    assert!(is_closed(&mut socket).await);
    assert_eq!(provider.idle(), 0);

    // And so does a call that is given up before its head is there.
    let accepted = async {
        let (mut socket, _) = provider.listener.accept().await.expect("a connection");
        answers(&mut socket, "").await;
        socket
    };
    let mut sent = provider.send();
    let mut socket = tokio::select! {
        _ = &mut sent => panic!("nobody has answered"),
        socket = accepted => socket,
    };
    drop(sent);
    assert!(is_closed(&mut socket).await);
    assert_eq!(provider.idle(), 0);
}

/// The provider closes what is idle for too long for its taste; nobody is to notice.
#[tokio::test]
async fn a_request_that_an_ended_connection_gives_back_is_sent_by_another() {
    let provider = Provider::start().await;
    let (first, socket) = provider.call(WHOLE).await;
    whole(first).await;
    drop(socket);
    // Its end is here once the driver has looked for it.
    tokio::task::yield_now().await;
    let (second, _socket) = provider.call(WHOLE).await;
    assert_eq!(whole(second).await, "{}");
    assert_eq!(provider.idle(), 1, "the ended one is gone");
}

/// One that broke with a request on it may have brought it there.
#[tokio::test]
async fn a_request_that_was_written_is_not_sent_twice() {
    let provider = Provider::start().await;
    let (first, mut socket) = provider.call(WHOLE).await;
    whole(first).await;
    let broken = async {
        answers(&mut socket, "").await;
        drop(socket);
    };
    let (sent, ()) = tokio::join!(provider.send(), broken);
    let error = sent.expect_err("nothing was answered");
    assert!(error.is_closed() && !tollhouse::error::NeverSent::is_behind(&error));
}

#[tokio::test]
async fn what_is_idle_for_too_long_is_closed() {
    let provider = Provider::start().await;
    let (first, mut socket) = provider.call(WHOLE).await;
    // From here on no socket is waited for by the clock.
    tokio::time::pause();
    whole(first).await;
    let almost = pool::IDLE - Duration::from_millis(1);
    tokio::time::sleep(almost).await;
    assert_eq!(provider.idle(), 1);
    tokio::time::sleep(Duration::from_millis(2)).await;
    assert_eq!(provider.idle(), 0);
    assert!(is_closed(&mut socket).await);
}
