//! Connections that go silent, streams that are cut, bodies that trickle.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Response, Version};
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tollhouse_openai::{OpenAi, Policy};
use tower::{Layer, ServiceExt};

use super::server::{Server, tls_server};
use super::{ask, post};

/// Nothing here takes this long, unless it hangs.
pub(super) const HANGS: Duration = Duration::from_secs(30);

/// Stands between a client and a server. Connections that were made before it was
/// told to go silent carry nothing any more, and stay open.
struct Wire {
    port: u16,
    silent: Arc<std::sync::Mutex<Arc<AtomicBool>>>,
}

impl Wire {
    async fn to(server: &Server) -> Wire {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let port = listener.local_addr().expect("an address").port();
        let target = server.port();
        let silent: Arc<std::sync::Mutex<Arc<AtomicBool>>> = Arc::default();
        let present = Arc::clone(&silent);
        tokio::spawn(async move {
            loop {
                let (client, _) = listener.accept().await.expect("a connection");
                let silent = present.lock().expect("no panic").clone();
                tokio::spawn(carry(client, target, silent));
            }
        });
        Wire { port, silent }
    }

    /// From now on only new connections carry anything.
    fn go_silent(&self) {
        let mut silent = self.silent.lock().expect("no panic");
        silent.store(true, Ordering::SeqCst);
        *silent = Arc::default();
    }
}

async fn carry(client: TcpStream, target: u16, silent: Arc<AtomicBool>) {
    let server = TcpStream::connect(("127.0.0.1", target)).await;
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.expect("a connection").into_split();
    let up = tokio::spawn(one_way(from_client, to_server, silent.clone()));
    one_way(from_server, to_client, silent).await;
    up.await.expect("no panic");
}

async fn one_way(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    silent: Arc<AtomicBool>,
) {
    let mut buffer = [0; 4096];
    while let Ok(read @ 1..) = from.read(&mut buffer).await {
        if !silent.load(Ordering::SeqCst) && to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}

fn through(wire: &Wire, server: &Server) -> tollhouse_openai::OpenAiBuilder {
    OpenAi::builder()
        .base_url(format!("https://localhost:{}/v1", wire.port))
        .api_key("sk-test")
        .root_certificates(&server.certificate)
}

pub(super) fn quick(policy: Policy) -> Policy {
    policy
        .stagger(Duration::ZERO)
        .cautious_start(false)
        .backoff_base(Duration::from_millis(1))
}

/// It once served every attempt of every caller, each to its timeout.
#[tokio::test]
async fn failure_30_a_connection_on_which_an_attempt_timed_out_is_not_used_again() {
    let server = Server::start(&["h2"]).await;
    let wire = Wire::to(&server).await;
    let client = through(&wire, &server).attempt_timeout(Duration::from_millis(700));
    let client = client.build().expect("a client");
    assert_eq!(ask(client.clone()).await.0, Version::HTTP_2);
    wire.go_silent();
    let client = quick(Policy::default()).layer().layer(client);
    let answer = timeout(HANGS, client.oneshot(post())).await;
    let answer = answer
        .expect("no hang")
        .expect("the second attempt is answered");
    assert_eq!(answer.status(), 200);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn failure_30_an_idle_connection_that_goes_silent_is_found_out_before_it_is_needed() {
    let server = Server::start(&["h2"]).await;
    let wire = Wire::to(&server).await;
    let client = through(&wire, &server).keep_alive(Duration::from_millis(200));
    let client = client.build().expect("a client");
    ask(client.clone()).await;
    wire.go_silent();
    // Long enough for a ping, and for its answer to be missed.
    sleep(Duration::from_millis(1_500)).await;
    let asked = timeout(HANGS, ask(client)).await;
    assert_eq!(asked.expect("no hang").0, Version::HTTP_2);
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_stream_that_is_reset_without_an_error_is_cut_and_not_over() {
    let (server, acceptor, listener) = tls_server(&["h2"]).await;
    tokio::spawn(async move {
        let (socket, _) = listener.accept().await.expect("a connection");
        let encrypted = acceptor.accept(socket).await.expect("trust");
        let mut connection = h2::server::handshake(encrypted).await.expect("HTTP/2");
        while let Some(Ok((_, mut respond))) = connection.accept().await {
            let mut body = respond
                .send_response(Response::new(()), false)
                .expect("the client is there");
            let half = Bytes::from_static(b"{\"half\":");
            body.send_data(half, false).expect("it is open");
            tokio::spawn(async move {
                sleep(Duration::from_millis(100)).await;
                body.send_reset(h2::Reason::NO_ERROR);
            });
        }
    });
    let client = server.client();
    let answer = client.oneshot(post()).await.expect("a head");
    let error = answer.into_body().collect().await.expect_err("it is cut");
    assert!(error.is_body(), "{error}");
}

/// A raw server that sends a head and then a byte at a time.
async fn trickle(content_type: &'static str) -> OpenAi {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut asked = [0; 1024];
        let _ = socket.read(&mut asked).await.expect("a request");
        let head =
            format!("HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\nconnection: close\r\n\r\n");
        socket.write_all(head.as_bytes()).await.expect("it reads");
        for _ in 0..60 {
            if socket.write_all(b" ").await.is_err() {
                return;
            }
            sleep(Duration::from_millis(25)).await;
        }
    });
    let client = OpenAi::builder()
        .base_url(format!("http://127.0.0.1:{port}/v1"))
        .api_key("sk-test")
        .body_timeout(Duration::from_millis(400));
    client.build().expect("a client")
}

#[tokio::test]
async fn failure_37_a_body_that_trickles_ends_and_its_slot_comes_back() {
    let policy = quick(Policy::default());
    let client = policy.layer().layer(trickle("application/json").await);
    let answer = client.oneshot(post()).await.expect("a head");
    let start = Instant::now();
    let error = answer.into_body().collect().await.expect_err("it is late");
    assert!(error.is_body() && error.is_timeout(), "{error}");
    assert!(start.elapsed() < HANGS);
    assert_eq!(policy.budget().snapshot().in_flight, 0);
}

#[tokio::test]
async fn a_stream_of_events_may_take_as_long_as_it_likes() {
    let client = trickle("text/event-stream").await;
    let answer = client.oneshot(post()).await.expect("a head");
    let body = answer.into_body().collect().await.expect("a whole stream");
    assert_eq!(body.to_bytes().len(), 60);
}
