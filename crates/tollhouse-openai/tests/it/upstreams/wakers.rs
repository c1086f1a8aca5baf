//! Whoever polls last is who is woken.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Method;
use http_body_util::BodyExt;
use tokio::time::{interval, timeout};
use tollhouse_openai::{OpenAi, ResponseBody};
use tower::ServiceExt;

use super::support::{LONG, SECOND, Upstream, ask, request};

type Call = Pin<Box<dyn Future<Output = Bytes> + Send>>;

fn call(client: &OpenAi) -> Call {
    let client = client.clone();
    Box::pin(async move { ask(&client).await.expect("an answer").1 })
}

/// Polls it once in a task of its own, which then ends.
#[expect(clippy::async_yields_async, reason = "it is to be polled on elsewhere")]
async fn polled_elsewhere<F: Future + Send + Unpin + 'static>(mut future: F) -> F {
    let polled = tokio::spawn(async move {
        let polled = poll_fn(|cx| Poll::Ready(Pin::new(&mut future).poll(cx).is_pending())).await;
        assert!(polled, "it is not there yet");
        future
    });
    polled.await.expect("no panic")
}

/// One poll by another task before each piece of an answer: connecting, sent, half a head.
async fn a_call_goes_from_task_to_task() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    // A new connection, and one that was used before.
    let mut kept = None;
    for _ in 0..2 {
        let mut asked = polled_elsewhere(call(&client)).await;
        let mut peer = match kept.take() {
            Some(peer) => peer,
            None => upstream.accept().await,
        };
        // A connection may be accepted before its client has heard of it.
        asked = loop {
            asked = polled_elsewhere(asked).await;
            // Whether anything is there, and not whether the system has said so once.
            let mut first = [0];
            let sent = timeout(Duration::from_millis(5), peer.socket.peek(&mut first));
            if sent.await.is_ok() {
                break asked;
            }
        };
        peer.request().await;
        for piece in ["HTTP/1.1 200 OK\r\ncont", "ent-length: 6\r\n\r\nsec"] {
            asked = polled_elsewhere(asked).await;
            peer.say(piece).await;
        }
        asked = polled_elsewhere(asked).await;
        let woken = tokio::spawn(asked);
        tokio::time::sleep(Duration::from_millis(5)).await;
        peer.say("ond").await;
        let read = timeout(LONG, woken).await.expect("it is woken");
        assert_eq!(read.expect("no panic"), "second");
        kept = Some(peer);
    }
}

#[tokio::test]
async fn a_call_goes_from_task_to_task_on_one_thread() {
    a_call_goes_from_task_to_task().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_call_goes_from_task_to_task_on_several() {
    a_call_goes_from_task_to_task().await;
}

/// A task that reads a frame of a body and hands the body on.
async fn frame(mut body: ResponseBody) -> (Bytes, ResponseBody) {
    let read = tokio::spawn(async move {
        let frame = body.frame().await.expect("a frame").expect("data");
        (frame.into_data().expect("data"), body)
    });
    let read = timeout(LONG, read).await.expect("it is woken");
    read.expect("no panic")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn a_body_goes_from_task_to_task() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let answering = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        peer.say("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        peer
    };
    let asking = client.clone().oneshot(request(Method::POST, "question"));
    let (answer, mut peer) = tokio::join!(asking, answering);
    let mut body = answer.expect("an answer").into_body();
    for number in 0..20 {
        // Polled in vain by a task that is gone when something comes.
        body = {
            let polled = tokio::spawn(async move {
                let first = poll_fn(|cx| {
                    use http_body::Body;
                    Poll::Ready(Pin::new(&mut body).poll_frame(cx).is_pending())
                });
                assert!(first.await, "it is not there yet");
                body
            });
            polled.await.expect("no panic")
        };
        let saying = async {
            tokio::time::sleep(Duration::from_millis(2)).await;
            peer.say(format!("2\r\n{number:02}\r\n")).await;
        };
        let (read, ()) = tokio::join!(frame(body), saying);
        assert_eq!(read.0, format!("{number:02}"));
        body = read.1;
    }
    peer.say("0\r\n\r\n").await;
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn a_call_is_woken_in_a_loop_of_other_things() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let answering = async {
        let mut peer = upstream.accept().await;
        peer.request().await;
        for piece in SECOND.as_bytes().chunks(5) {
            tokio::time::sleep(Duration::from_millis(3)).await;
            peer.say(piece).await;
        }
    };
    let asking = async {
        let (mut asked, mut ticks) = (call(&client), interval(Duration::from_millis(1)));
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {}
                read = &mut asked => break read,
            }
        }
    };
    let (read, ()) = timeout(LONG, async { tokio::join!(asking, answering) })
        .await
        .expect("it is woken");
    assert_eq!(read, "second");
}

/// Each has a waker of the set's own.
#[tokio::test]
async fn calls_are_woken_in_a_set_of_many() {
    let upstream = Upstream::start().await;
    let client = upstream.client();
    let serving = tokio::spawn(async move {
        loop {
            let mut peer = upstream.accept().await;
            tokio::spawn(async move {
                while peer.next().await.is_some() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    peer.say(SECOND).await;
                }
            });
        }
    });
    let mut set: FuturesUnordered<_> = (0..50).map(|_| call(&client)).collect();
    for left in 0..500 {
        let next = timeout(LONG, set.next()).await.expect("it is woken");
        assert_eq!(next.expect("one of them"), "second");
        if left < 450 {
            set.push(call(&client));
        }
    }
    serving.abort();
}
