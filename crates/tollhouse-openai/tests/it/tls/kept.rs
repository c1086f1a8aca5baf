//! Peers that take a connection and no request on it.

use std::error::Error as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Response;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tollhouse::error::NeverSent;
use tollhouse_openai::{ChargeRule, Policy};
use tower::{Layer, ServiceExt};

use super::post;
use super::server::{Raw, tls_server};
use super::silent::{HANGS, quick};

/// What the first connection of a peer is like; all others serve.
#[derive(Clone, Copy)]
enum First {
    /// It allows no stream.
    Shut,
    /// It says nothing at all.
    Mute,
    /// It allows none at first, and soon a hundred.
    Late,
}

/// How many connections were made, and how many requests the first one took.
#[derive(Default)]
struct Taken {
    connections: AtomicUsize,
    by_the_first: AtomicUsize,
    /// The first one stands.
    stands: Notify,
}

async fn peer(first: First) -> (Raw, Arc<Taken>) {
    let (raw, acceptor, listener) = tls_server(&["h2"]).await;
    let taken = Arc::<Taken>::default();
    let counted = Arc::clone(&taken);
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.expect("a connection");
            let is_first = counted.connections.fetch_add(1, Ordering::SeqCst) == 0;
            let first = is_first.then_some(first);
            tokio::spawn(serve(acceptor.clone(), socket, first, counted.clone()));
        }
    });
    (raw, taken)
}

async fn serve(acceptor: TlsAcceptor, socket: TcpStream, first: Option<First>, taken: Arc<Taken>) {
    let encrypted = acceptor.accept(socket).await.expect("trust");
    if first.is_some() {
        taken.stands.notify_one();
    }
    match first {
        None => answer(encrypted, 100, &AtomicUsize::new(0)).await,
        Some(First::Shut) => answer(encrypted, 0, &taken.by_the_first).await,
        Some(First::Late) => answer_late(encrypted).await,
        // Held open, and never read.
        Some(First::Mute) => std::future::pending().await,
    }
}

async fn answer(encrypted: TlsStream<TcpStream>, streams: u32, asked: &AtomicUsize) {
    let mut settings = h2::server::Builder::new();
    settings.max_concurrent_streams(streams);
    // Of connections that are made at once, the client keeps one.
    let Ok(mut connection) = settings.handshake::<_, Bytes>(encrypted).await else {
        return;
    };
    while let Some(Ok((_, mut respond))) = connection.accept().await {
        asked.fetch_add(1, Ordering::SeqCst);
        let sent = respond.send_response(Response::new(()), true);
        sent.expect("the client is there");
    }
}

/// A SETTINGS frame that allows so many streams.
fn streams(allowed: u8) -> [u8; 15] {
    [0, 0, 6, 4, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, allowed]
}

/// By hand, since no server of h2's changes its mind: none, then a hundred streams;
/// then 200 for the first request.
async fn answer_late(mut encrypted: TlsStream<TcpStream>) {
    const PING: [u8; 17] = [0, 0, 8, 6, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8];
    encrypted.read_exact(&mut [0; 24]).await.expect("a preface");
    let told = [&streams(0)[..], &PING[..]].concat();
    encrypted.write_all(&told).await.expect("it reads");
    let mut is_let_in = false;
    loop {
        let mut header = [0; 9];
        encrypted.read_exact(&mut header).await.expect("a frame");
        let [a, b, c, kind, flags, stream @ ..] = header;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        encrypted.read_exact(&mut payload).await.expect("all of it");
        match kind {
            // The answer to the ping: it has read that it may send nothing.
            6 if flags & 1 != 0 => {
                sleep(Duration::from_millis(100)).await;
                encrypted.write_all(&streams(100)).await.expect("it reads");
                is_let_in = true;
            }
            1 => {
                assert!(is_let_in, "it was not let in");
                let head = [&[0, 0, 1, 1, 5][..], &stream, &[0x88]].concat();
                encrypted.write_all(&head).await.expect("it reads");
            }
            _ => {}
        }
    }
}

fn policy() -> Policy {
    quick(Policy::default())
        .max_concurrency(8)
        .charge_rule(ChargeRule::Fixed(1_000))
}

/// One caller makes the connection, seven others find it standing.
async fn all_are_answered(first: First) {
    let (raw, taken) = peer(first).await;
    let transport = raw.builder().connect_timeout(Duration::from_millis(700));
    let client = policy().layer().layer(transport.build().expect("a client"));
    let ask = || tokio::spawn(client.clone().oneshot(post()));
    let mut calls = vec![ask()];
    taken.stands.notified().await;
    calls.extend((0..7).map(|_| ask()));
    let answers = timeout(HANGS, join_all(calls)).await.expect("no hang");
    for answer in answers {
        let answer = answer.expect("no panic");
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    assert_eq!(taken.by_the_first.load(Ordering::SeqCst), 0);
}

/// Of eight callers five once failed, and the others hung to their timeouts.
#[tokio::test]
async fn failure_30_callers_of_a_peer_that_allows_no_stream_go_to_a_fresh_connection() {
    all_are_answered(First::Shut).await;
}

#[tokio::test]
async fn failure_30_callers_of_a_peer_that_says_nothing_go_to_a_fresh_connection() {
    all_are_answered(First::Mute).await;
}

#[tokio::test]
async fn what_was_kept_back_says_so_and_costs_nothing() {
    for (first, said) in [
        (First::Shut, "the peer allows no HTTP/2 stream"),
        (First::Mute, "the peer sent no HTTP/2 SETTINGS"),
    ] {
        let (raw, _) = peer(first).await;
        let transport = raw.builder().connect_timeout(Duration::from_millis(700));
        let policy = policy().max_attempts(1);
        let client = policy.layer().layer(transport.build().expect("a client"));
        let before = policy.budget().snapshot().level;
        let failed = timeout(HANGS, client.oneshot(post())).await;
        let error = failed.expect("no hang").expect_err(said);
        assert!(error.is_never_sent(), "{error:?}");
        assert!(NeverSent::is_behind(&error), "{error:?}");
        let ours: &tollhouse_openai::Error = error.downcast_ref().expect("the client's");
        assert!(ours.is_connect(), "{ours:?}");
        let why = ours.source().and_then(|sent| sent.source());
        assert_eq!(why.expect("a cause").to_string(), said);
        assert_eq!(policy.budget().snapshot().level, before);
        assert_eq!(policy.budget().snapshot().in_flight, 0);
    }
}

#[tokio::test]
async fn a_peer_that_soon_allows_streams_is_waited_for() {
    let (raw, taken) = peer(First::Late).await;
    let answer = timeout(HANGS, raw.client().oneshot(post())).await;
    assert_eq!(answer.expect("no hang").expect("an answer").status(), 200);
    assert_eq!(taken.connections.load(Ordering::SeqCst), 1);
}
