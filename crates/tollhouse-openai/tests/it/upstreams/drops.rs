//! Calls and bodies that are dropped, wherever they are.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use http_body_util::combinators::BoxBody;
use tokio::time::{sleep, timeout};
use tollhouse_openai::{Limit, OpenAi, Policy};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, ServiceBuilder, ServiceExt};

use super::support::{LONG, Peer, SECOND, Upstream, request};

/// A client with a slot for one call.
type Client = BoxCloneSyncService<Request<Bytes>, Answer, tollhouse::Error>;
type Answer = Response<BoxBody<Bytes, BoxError>>;

fn one_at_a_time(openai: OpenAi) -> Client {
    let policy = Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(1)
        .tpm_limit(Limit::Unlimited);
    let service = ServiceBuilder::new()
        .map_response(|answer: Response<_>| answer.map(boxed))
        .layer(policy.layer())
        .service(openai);
    BoxCloneSyncService::new(service)
}

fn boxed<B>(body: B) -> BoxBody<Bytes, BoxError>
where
    B: Body<Data = Bytes> + Send + Sync + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed()
}

/// It has the slot, and reads what was said to it.
async fn second(upstream: &Upstream, client: &Client) {
    let asking = async {
        let answer = client.clone().oneshot(request(Method::POST, "question"));
        let answer = answer.await.expect("an answer");
        answer.into_body().collect().await.expect("a whole one")
    };
    let both = async { tokio::join!(asking, async { upstream.accept().await.second().await }) };
    let (read, ()) = timeout(LONG, both).await.expect("there is a slot");
    assert_eq!(read.to_bytes(), "second");
}

/// What is awaited by whom is dropped after so long.
const SOON: Duration = Duration::from_millis(50);

#[tokio::test]
async fn a_call_that_is_dropped_in_any_phase_closes_its_connection() {
    // It writes.
    let upstream = Upstream::start().await;
    let client = one_at_a_time(upstream.client());
    let large = request(Method::POST, vec![b'x'; 16 * 1024 * 1024]);
    let written = async { upstream.accept().await };
    let (gone, mut peer) = tokio::join!(timeout(SOON, client.clone().oneshot(large)), written);
    assert!(gone.is_err(), "nobody has read it");
    peer.closed().await;
    second(&upstream, &client).await;

    // It waits for an answer, in the middle of its head or before.
    for says in [
        "",
        "HTTP/1.1 2",
        "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\n",
    ] {
        let upstream = Upstream::start().await;
        let client = one_at_a_time(upstream.client());
        let waiting = async {
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer.say(says).await;
            peer
        };
        let call = client.clone().oneshot(request(Method::POST, "question"));
        let (gone, mut peer) = tokio::join!(timeout(SOON, call), waiting);
        assert!(gone.is_err(), "nobody has answered");
        peer.closed().await;
        second(&upstream, &client).await;
    }
}

#[tokio::test]
async fn a_body_that_is_dropped_before_its_end_closes_its_connection() {
    for (says, frames) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n", 0),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsec", 0),
        ("HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\nsec", 1),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n",
            0,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n",
            1,
        ),
        (
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nsec\r\n0\r\n",
            1,
        ),
        ("HTTP/1.1 200 OK\r\n\r\nsec", 1),
    ] {
        let upstream = Upstream::start().await;
        let client = one_at_a_time(upstream.client());
        let answering = async {
            let mut peer = upstream.accept().await;
            peer.request().await;
            peer.say(says).await;
            peer
        };
        let call = client.clone().oneshot(request(Method::POST, "question"));
        let (answer, mut peer) = tokio::join!(call, answering);
        let mut body = answer.expect("an answer").into_body();
        for _ in 0..frames {
            body.frame().await.expect("a frame").expect("data");
        }
        drop(body);
        peer.closed().await;
        second(&upstream, &client).await;
    }
}

/// Polls a future so many times at most.
struct AtMost<F> {
    future: F,
    left: usize,
}

impl<F: Future + Unpin> Future for AtMost<F> {
    type Output = Option<F::Output>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        self.left -= 1;
        Pin::new(&mut self.future).poll(cx).map(Some)
    }
}

/// Answers whoever comes with the last word of his path, in small pieces.
async fn echoes(upstream: Upstream) {
    loop {
        let peer = upstream.accept().await;
        tokio::spawn(echo(peer));
    }
}

async fn echo(mut peer: Peer) {
    use tokio::io::AsyncWriteExt;
    while let Some(request) = peer.next().await {
        let path = request.split(' ').nth(1).expect("a path");
        let word = path.rsplit('/').next().expect("a word");
        let chunked = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n--\r\n{:x}\r\n{word}\r\n0\r\n\r\n",
            word.len()
        );
        for piece in chunked.as_bytes().chunks(7) {
            if peer.socket.write_all(piece).await.is_err() {
                return;
            }
            sleep(Duration::from_micros(100)).await;
        }
    }
}

/// After each poll there is, and with whatever of it on the way: the next call has a slot, and
/// reads its own answer.
#[tokio::test]
async fn a_call_can_be_dropped_after_any_poll() {
    let upstream = Upstream::start().await;
    let client = one_at_a_time(upstream.client());
    let serving = tokio::spawn(echoes(upstream));
    let ask = |number: usize| {
        let mut request = request(Method::POST, "question");
        *request.uri_mut() = format!("/v1/{number}").parse().expect("a path");
        let client = client.clone();
        async move {
            let answer = client.oneshot(request).await.expect("an answer");
            let read = answer.into_body().collect().await;
            read.expect("a whole one").to_bytes()
        }
    };
    // How long it waits for each turn makes others of its polls the last.
    for pause in [0, 1, 3] {
        for polls in 0.. {
            let future = Box::pin(ask(1_000_000 + polls));
            let mut left = AtMost {
                future,
                left: polls,
            };
            let ended = (&mut left).await;
            for _ in 0..pause {
                tokio::task::yield_now().await;
            }
            drop(left);
            let next = timeout(LONG, ask(polls)).await.expect("there is a slot");
            assert_eq!(next, format!("--{polls}"), "after {polls} polls");
            if ended.is_some() {
                println!("{polls} polls to the end");
                break;
            }
        }
    }
    serving.abort();
}

/// Read to its last byte, and nobody has asked whether there is more.
#[tokio::test]
async fn a_body_that_was_read_to_its_last_byte_gives_its_connection_back() {
    let upstream = Upstream::start().await;
    let client = one_at_a_time(upstream.client());
    let answering = async {
        let mut peer = upstream.accept().await;
        for _ in 0..3 {
            peer.request().await;
            peer.say(SECOND).await;
        }
        peer
    };
    let asking = async {
        for _ in 0..3 {
            let call = client.clone().oneshot(request(Method::POST, "question"));
            let mut body = call.await.expect("an answer").into_body();
            let frame = body.frame().await.expect("a frame").expect("data");
            assert_eq!(frame.into_data().expect("data"), "second");
            sleep(Duration::from_millis(1)).await;
            drop(body);
        }
    };
    timeout(LONG, async { tokio::join!(answering, asking) })
        .await
        .expect("all over one connection");
}
