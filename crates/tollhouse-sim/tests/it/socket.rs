//! On a socket, in real time.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tollhouse_sim::{Faults, Served, Sim};

use crate::client::{hello, streamed};

const LOCAL: &str = "127.0.0.1:0";

async fn connect(address: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(address).await.unwrap();
    let (sender, connection) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(async move {
        // It ends with an error where a test cuts it; the sender is told.
        let _ended = connection.await;
    });
    sender
}

fn request(body: &Value) -> Request<Full<Bytes>> {
    Request::post("/v1/chat/completions")
        .header("host", "sim")
        .body(Full::from(body.to_string()))
        .unwrap()
}

async fn ask(served: &Served, body: &Value) -> hyper::Result<Response<Incoming>> {
    connect(served.addr())
        .await
        .send_request(request(body))
        .await
}

async fn until(condition: impl Fn() -> bool) {
    let wait = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait)
        .await
        .expect("it comes true");
}

#[tokio::test]
async fn a_connection_serves_call_after_call() {
    let sim = Sim::builder().build().unwrap();
    let served = sim.spawn(LOCAL).await.unwrap();
    assert_eq!(served.url(), format!("http://{}/v1", served.addr()));
    let mut sender = connect(served.addr()).await;
    for body in [hello(20), streamed(hello(20))] {
        sender.ready().await.unwrap();
        let response = sender.send_request(request(&body)).await.unwrap();
        assert_eq!(response.status(), 200);
        let is_whole = response.headers().contains_key("content-length");
        assert_eq!(is_whole, body.get("stream").is_none());
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert!(!body.is_empty());
    }
    let report = sim.report();
    assert_eq!((report.total.completed, report.in_flight), (2, 0));
    assert_eq!(report.peak_in_flight, 1);
}

/// One that is closed where its client is about to send could eat a call that nobody saw.
#[tokio::test]
async fn a_connection_is_kept_for_as_long_as_its_client_likes() {
    let sim = Sim::builder().build().unwrap();
    let served = sim.spawn(LOCAL).await.unwrap();
    let mut sender = connect(served.addr()).await;
    for _ in 0..2 {
        let answer = sender.send_request(request(&hello(20))).await.unwrap();
        answer.into_body().collect().await.unwrap();
        sender.ready().await.unwrap();
        // An hour goes by, to whoever has set a timer.
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(3_600)).await;
        tokio::time::resume();
        assert!(!sender.is_closed());
    }
    assert_eq!(sim.report().total.completed, 2);
}

#[tokio::test]
async fn a_client_that_leaves_mid_stream_frees_its_place() {
    let sim = Sim::builder()
        .latency(Duration::ZERO, Duration::from_secs(5))
        .build()
        .unwrap();
    let served = sim.spawn(LOCAL).await.unwrap();
    let response = ask(&served, &streamed(hello(200))).await.unwrap();
    let mut body = response.into_body();
    body.frame().await.unwrap().unwrap();
    assert_eq!(sim.report().in_flight, 1);
    drop(body);
    until(|| sim.report().in_flight == 0).await;
    assert_eq!(sim.report().total.abandoned, 1);
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_frees_its_place() {
    let latency = Duration::from_secs(60);
    let sim = Sim::builder().latency(latency, latency).build().unwrap();
    let served = sim.spawn(LOCAL).await.unwrap();
    let call = tokio::spawn(async move {
        let _answer = ask(&served, &hello(10)).await;
    });
    until(|| sim.report().total.admitted == 1).await;
    call.abort();
    until(|| sim.report().in_flight == 0).await;
}

#[tokio::test]
async fn a_reset_reaches_the_client_as_one() {
    let faults = Faults {
        reset: 1.0,
        ..Faults::default()
    };
    let sim = Sim::builder().faults(faults).build().unwrap();
    let served = sim.spawn(LOCAL).await.unwrap();
    let mut stream = TcpStream::connect(served.addr()).await.unwrap();
    let body = hello(10).to_string();
    let head = "POST /v1/chat/completions HTTP/1.1\r\nhost: sim\r\ncontent-length";
    let request = format!("{head}: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = vec![];
    let error = stream.read_to_end(&mut answer).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    assert!(answer.is_empty());
    assert_eq!(sim.report().total.faults.reset, 1);
}

#[tokio::test]
async fn a_cut_stream_ends_in_an_error() {
    let faults = Faults {
        cut: 1.0,
        ..Faults::default()
    };
    let sim = Sim::builder().faults(faults).build().unwrap();
    let served = sim.spawn(LOCAL).await.unwrap();
    let outcome = match ask(&served, &streamed(hello(100))).await {
        Ok(response) => response.into_body().collect().await.map(|_| ()),
        Err(error) => Err(error),
    };
    assert!(outcome.is_err());
}

#[tokio::test]
async fn shutdown_lets_calls_in_flight_end() {
    let each = Duration::from_millis(10);
    let sim = Sim::builder().latency(each, each).build().unwrap();
    let served = sim.spawn(LOCAL).await.unwrap();
    let address = served.addr();
    let idle = connect(address).await;
    let response = ask(&served, &streamed(hello(20))).await.unwrap();
    let shutdown = tokio::spawn(served.shutdown());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert!(body.ends_with(b"data: [DONE]\n\n"));
    shutdown.await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    until(|| idle.is_closed()).await;
}

#[tokio::test]
async fn dropping_it_stops_at_once() {
    let latency = Duration::from_secs(60);
    let sim = Sim::builder().latency(latency, latency).build().unwrap();
    let served = sim.spawn(LOCAL).await.unwrap();
    let mut sender = connect(served.addr()).await;
    let call = tokio::spawn(async move { sender.send_request(request(&hello(10))).await });
    until(|| sim.report().in_flight == 1).await;
    drop(served);
    assert!(call.await.unwrap().is_err());
    until(|| sim.report().in_flight == 0).await;
}
