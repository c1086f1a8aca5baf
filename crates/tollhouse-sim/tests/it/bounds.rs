//! What clients cannot make the provider hold.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tollhouse_sim::{Bounds, Sim};
use tower::ServiceExt;

use crate::client::{Answer, call, chat, chat_request, get, head, hello, post, send, streamed};

const KIB: u64 = 1 << 10;

fn bounded(bounds: Bounds) -> Sim {
    let builder = Sim::builder()
        .tokens_per_minute(None)
        .requests_per_minute(None);
    builder.bounds(bounds).build().unwrap()
}

fn memory(bytes: u64) -> Sim {
    bounded(Bounds {
        memory_bytes: bytes,
        ..Bounds::default()
    })
}

/// A body that a test goes on sending.
struct Sent(mpsc::UnboundedReceiver<Bytes>);

impl http_body::Body for Sent {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.0
            .poll_recv(cx)
            .map(|data| data.map(|data| Ok(Frame::data(data))))
    }
}

/// Begins a call whose body does not end.
fn unfinished(
    sim: &Sim,
    length: usize,
) -> (
    mpsc::UnboundedSender<Bytes>,
    tokio::task::JoinHandle<Answer>,
) {
    let (send, receive) = mpsc::unbounded_channel();
    send.send(Bytes::from(vec![b' '; length])).unwrap();
    let request = Request::post("/v1/chat/completions");
    let request = request.body(Body::new(Sent(receive))).unwrap();
    let service = sim.service();
    let call = tokio::spawn(async move {
        let (parts, body) = service.oneshot(request).await.unwrap().into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            status: parts.status,
            headers: parts.headers,
            bytes,
        }
    });
    (send, call)
}

#[tokio::test(start_paused = true)]
async fn a_body_that_is_too_long_is_413_whether_it_says_so_or_not() {
    let sim = bounded(Bounds {
        body_bytes: 1_000,
        ..Bounds::default()
    });
    let answer = send(&sim, post("/v1/embeddings", vec![b' '; 1_001])).await;
    assert_eq!(answer.status, 413);
    assert_eq!(
        answer.message(),
        "The body of your request is longer than 1000 bytes, which is this simulated provider's \
         bounds.body_bytes."
    );
    let expected = (
        json!("invalid_request_error"),
        Value::Null,
        json!("request_too_large"),
    );
    assert_eq!(answer.error(), expected);
    // Refused before it ends.
    let (_open, call) = unfinished(&sim, 1_001);
    assert_eq!(call.await.unwrap().status, 413);
    assert_eq!(sim.report().invalid, 2);
    let fits = send(&sim, post("/v1/embeddings", vec![b' '; 1_000])).await;
    assert_eq!(fits.status, 400);
}

#[tokio::test(start_paused = true)]
async fn unfinished_bodies_are_held_up_to_the_bound_together() {
    let sim = memory(100 * KIB);
    let mut open: Vec<_> = (0..3).map(|_| unfinished(&sim, 30 << 10)).collect();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (_open, refused) = unfinished(&sim, 30 << 10);
    let answer = refused.await.unwrap();
    assert_eq!(answer.status, 503);
    assert_eq!(
        answer.message(),
        "This simulated provider holds as much as it may for other calls: bounds.memory_bytes is \
         102400. Please try again later."
    );
    assert_eq!(answer.error().2, "server_is_overloaded");
    let report = sim.report();
    assert_eq!((report.overloaded, report.invalid), (1, 0));

    // One that leaves makes room for another.
    let (sender, call) = open.pop().unwrap();
    call.abort();
    drop(sender);
    assert!(call.await.unwrap_err().is_cancelled());
    assert_eq!(chat(&sim, &hello(10)).await.status, 200);
    assert_eq!(sim.report().in_flight, 2);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_does_not_come_is_408_and_lets_go_of_what_it_held() {
    let sim = memory(50 * KIB);
    let start = Instant::now();
    let (_open, call) = unfinished(&sim, 50 << 10);
    let answer = call.await.unwrap();
    assert_eq!(start.elapsed(), Duration::from_secs(60));
    assert_eq!(
        (answer.status.as_u16(), answer.error().2),
        (408, json!("request_timeout"))
    );
    assert_eq!(chat(&sim, &hello(10)).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn what_is_parsed_is_held_too() {
    // 200 KB that would be 6.4 MB of values, and as much again while they grow.
    let many = vec![1; 100_000];
    let body = json!({"model": "m", "input": many});
    let answer = call(&memory(1_000 * KIB), "/v1/embeddings", &body).await;
    assert_eq!(answer.status, 413);
    let told = answer.message();
    assert!(
        told.contains("its bounds.memory_bytes is 1024000. Send less, or ask for less."),
        "{told}"
    );
    // As many bytes of text are a text.
    let body = json!({"model": "m", "input": "1 ".repeat(100_000)});
    let answer = call(&memory(1_000 * KIB), "/v1/embeddings", &body).await;
    assert_eq!(answer.status, 200);
}

#[tokio::test(start_paused = true)]
async fn embeddings_are_made_as_they_are_taken() {
    // 256 vectors of 4,096 numbers: ten times as much text as may be held.
    let input = vec!["x"; 256];
    let body = json!({"model": "m", "input": input, "dimensions": 4_096});
    let sim = memory(1_000 * KIB);
    let response = head(&sim, post("/v1/embeddings", body.to_string()));
    let mut body = response.await.unwrap().into_body();
    let (mut longest, mut total) = (0, 0);
    while let Some(frame) = body.frame().await {
        let length = frame.unwrap().into_data().unwrap().len();
        longest = longest.max(length);
        total += length;
    }
    assert!(longest < 100_000, "{longest}");
    assert!(total > 10_000_000, "{total}");
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_is_held_until_it_is_taken() {
    let sim = memory(4_000 * KIB);
    let answer = head(&sim, chat_request(&hello(100_000))).await.unwrap();
    let other = chat(&sim, &hello(128_000)).await;
    // The first one is about 40,000 tokens long, of 32 bytes each.
    assert_eq!(other.status, 200);
    let mut body = hello(100_000);
    body["n"] = json!(2);
    assert_eq!(chat(&sim, &body).await.status, 503);
    drop(answer);
    assert_eq!(chat(&sim, &body).await.status, 200);
}

#[tokio::test(start_paused = true)]
async fn answers_that_no_memory_holds_are_refused_before_they_are_charged() {
    let sim = memory(10_000 * KIB);
    let mut body = hello(128_000);
    body["n"] = json!(128);
    let answer = chat(&sim, &body).await;
    assert_eq!(answer.status, 413);
    assert_eq!(answer.error().2, "request_too_large");
    let total = sim.report().total;
    assert_eq!((total.admitted, total.tokens_charged), (0, 0));
    // Streams are made as they are taken.
    let stream = head(&sim, chat_request(&streamed(body))).await.unwrap();
    assert_eq!(stream.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_long_answer_comes_in_pieces_that_are_the_whole() {
    let sim = memory(100_000 * KIB);
    let response = head(&sim, chat_request(&hello(128_000))).await.unwrap();
    let mut body = response.into_body();
    let said = http_body::Body::size_hint(&body).exact().unwrap();
    let mut whole = Vec::new();
    let mut pieces = 0;
    while let Some(frame) = body.frame().await {
        whole.extend_from_slice(&frame.unwrap().into_data().unwrap());
        pieces += 1;
    }
    assert_eq!(whole.len() as u64, said);
    assert_eq!(pieces, said.div_ceil(65_536));
    let answer: Value = serde_json::from_slice(&whole).unwrap();
    assert!(answer["usage"]["completion_tokens"].as_u64().unwrap() > 10_000);
    assert_eq!(sim.report().total.completed, 1);
}

#[tokio::test(start_paused = true)]
async fn no_more_names_are_kept_than_allowed() {
    let sim = bounded(Bounds {
        models: 2,
        ..Bounds::default()
    });
    let named = |name: &str| {
        let mut body = hello(10);
        body["model"] = json!(name);
        body
    };
    for name in ["a", "b", "a"] {
        assert_eq!(chat(&sim, &named(name)).await.status, 200);
    }
    let answer = chat(&sim, &named("c")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.error().2, "model_not_found");
    assert_eq!(
        answer.message(),
        "The model `c` does not exist: this simulated provider was asked for 2 models already, \
         and its bounds.models allows no more."
    );
    assert_eq!(chat(&sim, &named("b")).await.status, 200);
    let models: Vec<_> = sim.report().models.into_keys().collect();
    assert_eq!(models, ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn a_name_that_is_too_long_is_not_repeated() {
    let mut body = hello(10);
    body["model"] = json!("x".repeat(257));
    let answer = chat(&bounded(Bounds::default()), &body).await;
    assert_eq!(answer.status, 400);
    assert_eq!(
        answer.message(),
        "Invalid 'model': string too long. Expected a string with maximum length 256, but got a \
         string with length 257 instead."
    );
}

#[tokio::test(start_paused = true)]
async fn who_is_refused_while_still_sending_hears_of_it() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    tokio::time::resume();
    let sim = bounded(Bounds {
        body_bytes: 1_000,
        ..Bounds::default()
    });
    let served = sim.spawn("127.0.0.1:0").await.unwrap();
    let mut stream = tokio::net::TcpStream::connect(served.addr()).await.unwrap();
    let request = "POST /v1/embeddings HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\
                   transfer-encoding: chunked\r\n\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    // 2,000 bytes, of which one half is too much.
    for _ in 0..20 {
        stream.write_all(b"64\r\n").await.unwrap();
        stream.write_all(&[b' '; 100]).await.unwrap();
        stream.write_all(b"\r\n").await.unwrap();
    }
    stream.write_all(b"0\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
    assert!(answer.contains("bounds.body_bytes"), "{answer}");
    assert_eq!(get(&sim, "/v1/models").await.status, 200);
}
