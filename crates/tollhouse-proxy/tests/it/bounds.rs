//! What clients may make the proxy hold.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tollhouse_openai::Account;
use tollhouse_proxy::{Bounds, Proxy};

use crate::support::{
    LONG, ask, at_rest, by_hand, chat, client, connect, get, post, raw, read_until, request_at,
    serve, sim, until, wide,
};

async fn bounded(url: &str, set: impl FnOnce(&mut Bounds)) -> tollhouse_proxy::Served {
    let mut bounds = Bounds::default();
    set(&mut bounds);
    serve(Proxy::new(Account::new(wide()), client(url)).bounds(bounds)).await
}

/// By any of which the proxy would be ready and serve nobody.
#[test]
fn bounds_that_let_nothing_through_are_refused() {
    type Set = fn(&mut Bounds);
    let openai = client("http://127.0.0.1:1/v1");
    let none: [(&str, Set); 9] = [
        ("head_bytes", |bounds| bounds.head_bytes = 0),
        ("body_bytes", |bounds| bounds.body_bytes = 0),
        ("held_bytes", |bounds| bounds.held_bytes = 0),
        ("connections", |bounds| bounds.connections = 0),
        ("streams", |bounds| bounds.streams = 0),
        ("head_time", |bounds| bounds.head_time = Duration::ZERO),
        ("body_idle", |bounds| bounds.body_idle = Duration::ZERO),
        ("write_time", |bounds| bounds.write_time = Duration::ZERO),
        ("accounts", |bounds| bounds.accounts = 0),
    ];
    for (name, set) in none {
        let mut bounds = Bounds::default();
        set(&mut bounds);
        let proxy = Proxy::new(Account::new(wide()), openai.clone());
        let panicked = catch_unwind(AssertUnwindSafe(|| drop(proxy.bounds(bounds))));
        let panicked = panicked.expect_err(name);
        let told = panicked.downcast_ref::<String>().expect("a sentence");
        assert!(told.starts_with(&format!("{name} is 0")), "{told}");
    }
    let mut bounds = Bounds::default();
    bounds.upload_bytes = 0;
    drop(Proxy::new(Account::new(wide()), openai).bounds(bounds));
}

/// No client would ever be let in by it, and `*` is nobody's name.
#[test]
fn a_host_that_is_no_name_is_refused() {
    let openai = client("http://127.0.0.1:1/v1");
    for name in ["", "proxy:80", "http://proxy", "*"] {
        let proxy = Proxy::new(Account::new(wide()), openai.clone());
        let panicked = catch_unwind(AssertUnwindSafe(|| drop(proxy.host(name))));
        let panicked = panicked.expect_err(name);
        let told = panicked.downcast_ref::<String>().expect("a sentence");
        assert!(
            told.starts_with(&format!("{name:?} is no host; ")),
            "{told}"
        );
    }
    drop(Proxy::new(Account::new(wide()), openai).host("proxy.internal"));
}

/// Nobody is bounded by them, and the proxy serves.
#[tokio::test]
async fn bounds_may_be_as_large_as_they_can_be_written() {
    let (_sim, provider) = sim().await;
    let served = bounded(&provider.url(), |bounds| {
        bounds.head_bytes = usize::MAX;
        bounds.body_bytes = usize::MAX;
        bounds.upload_bytes = usize::MAX;
        bounds.held_bytes = usize::MAX;
        bounds.connections = usize::MAX;
        bounds.streams = u32::MAX;
        bounds.head_time = Duration::MAX;
        bounds.body_idle = Duration::MAX;
        bounds.write_time = Duration::MAX;
        bounds.accounts = usize::MAX;
    })
    .await;
    let request = post("/v1/chat/completions", "", &chat(""));
    let answer = timeout(LONG, ask(&served, &request)).await;
    assert_eq!(answer.expect("somebody accepts").status, 200);
    at_rest(&served).await;
}

#[tokio::test]
async fn long_bodies_are_refused_with_a_length_and_without() {
    let (sim, provider) = sim().await;
    let served = bounded(&provider.url(), |bounds| bounds.body_bytes = 100).await;
    let long = "x".repeat(101);
    let answer = ask(&served, &post("/v1/responses", "", &long)).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "request_too_large")
    );
    let chunked = format!(
        "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ntransfer-encoding: chunked\r\n\r\n65\r\n{long}\r\n0\r\n\r\n"
    );
    let answer = ask(&served, &chunked).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "request_too_large")
    );
    assert_eq!(sim.report().arrived, 0);
    at_rest(&served).await;
}

#[tokio::test]
async fn uploads_have_a_bound_of_their_own() {
    let (provider, url) = by_hand().await;
    let served = bounded(&url, |bounds| {
        bounds.body_bytes = 10;
        bounds.upload_bytes = 50;
    })
    .await;
    let multipart = "content-type: multipart/form-data; boundary=x\r\n";
    let fits = post("/v1/files", multipart, &"x".repeat(50));
    let answered = async {
        let (_, mut socket) = request_at(&provider, &"x".repeat(50)).await;
        let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        socket.write_all(answer.as_bytes()).await.unwrap();
    };
    let (answer, ()) = tokio::join!(ask(&served, &fits), answered);
    assert_eq!(answer.status, 200);
    let long = post("/v1/files", multipart, &"x".repeat(51));
    let answer = ask(&served, &long).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (413, "request_too_large")
    );
    at_rest(&served).await;
}

#[tokio::test]
async fn all_calls_together_hold_no_more_than_they_may() {
    let (provider, url) = by_hand().await;
    let body = chat("");
    let served = bounded(&url, |bounds| bounds.held_bytes = body.len() * 3 / 2).await;
    let request = post("/v1/chat/completions", "", &body);
    let mut first = connect(&served).await;
    first.write_all(request.as_bytes()).await.unwrap();
    let (_, mut upstream) = request_at(&provider, "Hi").await;
    let second = ask(&served, &request).await;
    assert_eq!((second.status, second.code().as_str()), (503, "overloaded"));
    assert_eq!(second.header("retry-after"), Some("1"));
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        .await
        .unwrap();
    read_until(&mut first, "{}").await;
    at_rest(&served).await;
}

#[tokio::test]
async fn slow_heads_slow_bodies_and_idle_connections_end() {
    let (_sim, provider) = sim().await;
    let served = bounded(&provider.url(), |bounds| {
        bounds.head_time = Duration::from_millis(60);
        bounds.body_idle = Duration::from_millis(60);
    })
    .await;
    let kept = "GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    for sent in ["", "GET", kept, &format!("{kept}GET")] {
        let mut socket = connect(&served).await;
        socket.write_all(sent.as_bytes()).await.unwrap();
        let end = timeout(LONG, socket.read_to_end(&mut Vec::new())).await;
        assert!(end.is_ok(), "{sent:?}: still open");
    }
    // Who has begun to ask is told; who is silent has asked nothing.
    for sent in ["G", "PRI * HTTP", "POST /v1/responses HTTP/1.1\r\nhost"] {
        let answer = ask(&served, sent).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (408, "request_timeout"),
            "{sent}"
        );
        assert_eq!(answer.header("connection"), Some("close"), "{sent}");
    }
    assert_eq!(raw(&served, "").await, "");
    let mut late = connect(&served).await;
    sleep(Duration::from_millis(30)).await;
    late.write_all(b"GET /").await.unwrap();
    let seen = read_until(&mut late, "request_timeout").await;
    assert!(seen.starts_with("HTTP/1.1 408"), "{seen}");
    drop(late);
    // So is whoever was answered before.
    let mut later = connect(&served).await;
    later.write_all(kept.as_bytes()).await.unwrap();
    read_until(&mut later, "\r\n\r\n").await;
    later.write_all(b"GET /").await.unwrap();
    let seen = read_until(&mut later, "request_timeout").await;
    assert!(seen.contains("HTTP/1.1 408"), "{seen}");
    drop(later);
    let mut socket = connect(&served).await;
    let slow = "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\ncontent-length: 9\r\n\r\n{";
    socket.write_all(slow.as_bytes()).await.unwrap();
    let seen = read_until(&mut socket, "request_timeout").await;
    assert!(seen.starts_with("HTTP/1.1 408"), "{seen}");
    drop(socket);
    at_rest(&served).await;
}

/// Whatever of it is still in the proxy, in the kernel or on its way.
#[tokio::test]
async fn an_answer_is_read_for_longer_than_a_head_may_take() {
    let (provider, url) = by_hand().await;
    let served = bounded(&url, |bounds| bounds.head_time = Duration::from_millis(40)).await;
    let answers = async {
        loop {
            let (seen, mut upstream) = request_at(&provider, "\r\n\r\n").await;
            let length = seen.split('/').nth(3).unwrap().parse().unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let answer = [head.as_bytes(), &vec![b'x'; length]].concat();
            tokio::spawn(async move { upstream.write_all(&answer).await });
        }
    };
    let calls = (1..=24).map(async |n: usize| {
        let length = n * 180_000;
        let mut socket = connect(&served).await;
        let path = format!("/v1/files/{length}/content");
        let sent = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n");
        socket.write_all(sent.as_bytes()).await.unwrap();
        sleep(Duration::from_millis(200)).await;
        let mut seen = Vec::new();
        let read = timeout(LONG, socket.read_to_end(&mut seen)).await;
        read.expect("its end").expect("bytes");
        let body = seen.iter().filter(|byte| **byte == b'x').count();
        assert!(body >= length, "{body} of {length}");
    });
    tokio::select! {
        never = answers => never,
        _ = join_all(calls) => {}
    }
    at_rest(&served).await;
}

/// What is under way goes on; a client that opens a connection and asks nothing is told,
/// too.
#[tokio::test]
async fn idle_connections_of_http_2_end() {
    let (provider, url) = by_hand().await;
    let served = bounded(&url, |bounds| bounds.head_time = Duration::from_millis(60)).await;
    let open = async || {
        let socket = TokioIo::new(connect(&served).await);
        let opened = http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), socket).await;
        opened.unwrap()
    };
    let (_quiet, ends) = open().await;
    let ended = timeout(LONG, ends).await;
    assert!(ended.is_ok(), "still open, and nothing was ever asked");

    let (mut asking, ends) = open().await;
    let ended = tokio::spawn(ends);
    let request = Request::post(format!("{}/responses", served.url()));
    let answer = asking.send_request(request.body(Full::from("{}")).unwrap());
    let (_, mut upstream) = request_at(&provider, "{}").await;
    // The stream is older than any idle connection may be, and is told to its end.
    sleep(Duration::from_millis(200)).await;
    let said = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";
    upstream.write_all(said).await.unwrap();
    let answer = timeout(LONG, answer).await.unwrap().unwrap();
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body, "{}");
    assert!(timeout(LONG, ended).await.is_ok(), "still open");
    at_rest(&served).await;
}

#[tokio::test]
async fn further_connections_wait_to_be_accepted() {
    let (_sim, provider) = sim().await;
    let served = bounded(&provider.url(), |bounds| bounds.connections = 1).await;
    let mut first = connect(&served).await;
    first
        .write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n")
        .await
        .unwrap();
    read_until(&mut first, "ok").await;
    let mut second = connect(&served).await;
    second
        .write_all(get("/healthz", "").as_bytes())
        .await
        .unwrap();
    let early = timeout(Duration::from_millis(100), second.read(&mut [0; 1])).await;
    assert!(early.is_err(), "it was accepted");
    drop(first);
    read_until(&mut second, "ok").await;
}

/// Over HTTP/2 it is an answer that is not read, and not a connection: others go on over it.
#[tokio::test]
async fn who_reads_nothing_of_an_answer_over_http_2_gives_up_his_call() {
    let (provider, url) = by_hand().await;
    let served = bounded(&url, |bounds| {
        bounds.write_time = Duration::from_millis(150)
    })
    .await;
    let socket = TokioIo::new(connect(&served).await);
    let opened = http2::handshake::<_, _, Full<Bytes>>(TokioExecutor::new(), socket).await;
    let (mut sender, connection) = opened.unwrap();
    let connection = tokio::spawn(connection);
    let ask = || {
        Request::post(format!("http://{}/v1/chat/completions", served.address()))
            .body(Full::from(chat(r#","stream":true"#)))
            .unwrap()
    };
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n";
    let answers = sender.send_request(ask());
    let said = async {
        let (_, mut upstream) = request_at(&provider, "Hi").await;
        upstream.write_all(head.as_bytes()).await.unwrap();
        upstream
    };
    let (answer, mut upstream) = tokio::join!(answers, said);
    let answer = answer.unwrap();
    assert_eq!(answer.status(), 200);
    // As much as no client's window has room for, and one that is read in good time.
    let says = tokio::spawn(async move {
        let event = format!("data: {}\n\n", "x".repeat(100_000));
        while upstream.write_all(event.as_bytes()).await.is_ok() {}
    });
    let (second, mut upstream) = tokio::join!(sender.send_request(ask()), async {
        let (_, mut upstream) = request_at(&provider, "Hi").await;
        upstream.write_all(head.as_bytes()).await.unwrap();
        upstream
    });
    let mut second = second.unwrap().into_body();
    timeout(LONG, says).await.expect("it is told").unwrap();
    until(&served, "in_flight", 1).await;
    assert!(answer.into_body().collect().await.is_err(), "it was cut");
    for _ in 0..3 {
        upstream.write_all(b"data: 1\n\n").await.unwrap();
        let frame = timeout(LONG, second.frame()).await.unwrap().unwrap();
        assert_eq!(frame.unwrap().into_data().unwrap(), "data: 1\n\n");
        sleep(Duration::from_millis(80)).await;
    }
    drop((upstream, second, sender));
    connection.abort();
    at_rest(&served).await;
}

/// Nor is a connection kept that has nothing to do any more but to be read.
#[tokio::test]
async fn who_reads_nothing_over_http_2_is_not_connected_for_good() {
    let (_sim, provider) = sim().await;
    let served = bounded(&provider.url(), |bounds| {
        bounds.head_time = Duration::from_millis(60);
        bounds.write_time = Duration::from_millis(60);
    })
    .await;
    let socket = TokioIo::new(connect(&served).await);
    // A window that has room for nothing.
    let mut client = http2::Builder::new(TokioExecutor::new());
    let client = client.initial_stream_window_size(0);
    let (mut sender, connection) = client.handshake::<_, Full<Bytes>>(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = Request::get(format!("http://{}/v1/models", served.address()));
    let answer = sender.send_request(ask.body(Full::default()).unwrap());
    let answer = timeout(LONG, answer).await.unwrap().unwrap();
    assert_eq!(answer.status(), 200);
    timeout(LONG, connection).await.expect("it ends").ok();
    at_rest(&served).await;
}

/// Who takes 16 KiB now and then reads all the time, however much came in one piece.
#[tokio::test]
async fn who_reads_slowly_over_http_2_is_not_cut() {
    const SIZE: usize = 1_200_000;
    let (provider, url) = by_hand().await;
    let served = bounded(&url, |bounds| {
        bounds.write_time = Duration::from_millis(700)
    })
    .await;
    let socket = TokioIo::new(connect(&served).await);
    let mut client = http2::Builder::new(TokioExecutor::new());
    client.initial_stream_window_size(16 * 1024);
    let (mut sender, connection) = client.handshake::<_, Full<Bytes>>(socket).await.unwrap();
    tokio::spawn(connection);
    let ask = Request::get(format!("http://{}/v1/files/f_1/content", served.address()));
    let answer = sender.send_request(ask.body(Full::default()).unwrap());
    let says = tokio::spawn(async move {
        let (_, mut upstream) = request_at(&provider, "\r\n\r\n").await;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n");
        upstream.write_all(head.as_bytes()).await.unwrap();
        upstream.write_all(&vec![b'x'; SIZE]).await
    });
    let mut body = answer.await.unwrap().into_body();
    let mut seen = 0;
    while seen < SIZE {
        sleep(Duration::from_millis(30)).await;
        let frame = body.frame().await.expect("more").expect("it was cut");
        seen += frame.data_ref().map_or(0, Bytes::len);
    }
    says.await.unwrap().unwrap();
}

/// What is left then lies in the connection, whose client asks for nothing any more.
#[tokio::test]
async fn who_reads_no_further_over_http_2_is_not_connected_for_good() {
    let (_sim, provider) = sim().await;
    let served = bounded(&provider.url(), |bounds| {
        bounds.head_time = Duration::from_millis(60);
        bounds.write_time = Duration::from_millis(300);
    })
    .await;
    let socket = TokioIo::new(connect(&served).await);
    let mut client = http2::Builder::new(TokioExecutor::new());
    let client = client.initial_stream_window_size(500);
    let (mut sender, connection) = client.handshake::<_, Full<Bytes>>(socket).await.unwrap();
    let connection = tokio::spawn(connection);
    let ask = Request::get(format!("http://{}/tollhouse/", served.address()));
    let answer = sender.send_request(ask.body(Full::default()).unwrap());
    let mut body = timeout(LONG, answer).await.unwrap().unwrap().into_body();
    for _ in 0..4 {
        body.frame().await.unwrap().unwrap();
    }
    timeout(LONG, connection).await.expect("it ends").ok();
    at_rest(&served).await;
}
