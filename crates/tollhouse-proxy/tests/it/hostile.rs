//! Thousands of requests that are nearly right, from clients that leave as they like.

use std::convert::Infallible;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::time::timeout;
use tollhouse_openai::Account;
use tollhouse_proxy::{Bounds, Proxy, Served};

use crate::support::{LONG, at_rest, chat, client, connect, get, parsed, post, serve, sim, wide};

/// Numbers that look random and are the same at every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % bound
    }
}

fn mutated(number: u64) -> Vec<u8> {
    let mut numbers = Numbers(number);
    let multipart = "content-type: multipart/form-data; boundary=x\r\n";
    let chunked = "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                   transfer-encoding: chunked\r\n\r\n5;a=b\r\n{\"mod\r\n0\r\nx: y\r\n\r\n";
    let seeds = [
        get("/v1/models", ""),
        post("/v1/chat/completions", "", &chat("")),
        post(
            "/v1/chat/completions",
            "te: trailers\r\n",
            &chat(r#","stream":true"#),
        ),
        post("/v1/files", multipart, "--x\r\n\r\n--x--"),
        chunked.to_owned(),
    ];
    let mut bytes = seeds[numbers.below(seeds.len())].clone().into_bytes();
    for _ in 0..numbers.below(4) {
        let at = numbers.below(bytes.len());
        match numbers.below(5) {
            0 => bytes[at] = u8::try_from(numbers.below(256)).expect("a byte"),
            1 if bytes.len() > 1 => drop(bytes.remove(at)),
            2 => bytes.insert(at, b"\r\n\0 :;,\t"[numbers.below(8)]),
            3 => bytes.truncate(at.max(1)),
            _ => {
                let end = bytes.len().min(at + 20);
                let again = bytes[at..end].to_vec();
                bytes.splice(at..at, again);
            }
        }
    }
    bytes
}

const REQUESTS: u64 = 3_000;

/// Sends a request as a client that reads the answer, closes its half before, or leaves
/// at once; the status, if there was one.
async fn rude(served: &Served, number: u64) -> Option<u16> {
    let mut socket = connect(served).await;
    // The proxy may have refused already.
    let _ = socket.write_all(&mutated(number)).await;
    match number % 4 {
        0 => return None,
        1 => drop(socket.shutdown().await),
        _ => {}
    }
    let mut seen = Vec::new();
    let end = timeout(LONG, socket.read_to_end(&mut seen)).await;
    assert!(end.is_ok(), "{number}: still open");
    let is_answer = !seen.is_empty();
    is_answer.then(|| parsed(&String::from_utf8_lossy(&seen)).status)
}

#[tokio::test]
async fn nearly_right_requests_and_rude_clients_leave_nothing_behind() {
    let panics = Arc::new(AtomicUsize::new(0));
    let (counted, hook) = (Arc::clone(&panics), panic::take_hook());
    panic::set_hook(Box::new(move |info| {
        let of_ours = info
            .location()
            .is_some_and(|place| place.file().contains("/src/"));
        counted.fetch_add(usize::from(of_ours), Ordering::Relaxed);
        hook(info);
    }));
    let (sim, provider) = sim().await;
    let mut bounds = Bounds::default();
    // Halves of requests are not waited for long.
    bounds.head_time = Duration::from_millis(300);
    bounds.body_idle = Duration::from_millis(300);
    let proxy = Proxy::new(Account::new(wide()), client(&provider.url()));
    let served = serve(proxy.bounds(bounds)).await;
    let calls = stream::iter(0..REQUESTS).map(|number| rude(&served, number));
    let answers: Vec<_> = calls.buffer_unordered(64).collect().await;
    let count = |is: fn(u16) -> bool| answers.iter().flatten().filter(|one| is(**one)).count();
    let (good, refused) = (count(|status| status == 200), count(|status| status == 400));
    at_rest(&served).await;
    assert_eq!(panics.load(Ordering::Relaxed), 0);
    // The test is none where nothing gets through, or everything does: a quarter is sent
    // as it should be, and half of those clients read their answers.
    assert!(
        good > 100 && refused > 300,
        "{good} were good, {refused} refused"
    );
    // Whatever the provider was sent, it could read.
    assert_eq!(sim.report().in_flight, 0);
}

/// Why there is a check before hyper at all.
#[tokio::test]
async fn hyper_alone_takes_what_is_refused_here() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (socket, _) = listener.accept().await.unwrap();
            let service = service_fn(async |_| {
                Ok::<_, Infallible>(hyper::Response::new(Full::<Bytes>::from("taken")))
            });
            let serving = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(socket), service);
            tokio::spawn(serving);
        }
    });
    for lenient in [
        "GET / HTTP/1.1\nhost: a\nconnection: close\n\n",
        "POST / HTTP/1.1\r\nhost: a\r\nconnection: close\r\ncontent-length: 4\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\nconnection: close\r\n\r\n",
    ] {
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.write_all(lenient.as_bytes()).await.unwrap();
        let mut seen = String::new();
        socket.read_to_string(&mut seen).await.unwrap();
        assert!(seen.ends_with("taken"), "{lenient:?}: {seen}");
    }
}
