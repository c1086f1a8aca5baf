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
use tokio::time::{sleep, timeout};
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

/// Requests as they should be, and shapes that two readers may understand differently.
fn seeds() -> Vec<String> {
    let multipart = "content-type: multipart/form-data; boundary=x\r\n";
    let line = "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n";
    let chunks = "5;a=b\r\n{\"mod\r\n0\r\nx: y\r\n\r\n";
    let models = get("/v1/models", "");
    let with = |headers: &str, rest: &str| format!("{line}{headers}\r\n{rest}");
    vec![
        models.clone(),
        post("/v1/chat/completions", "", &chat("")),
        post(
            "/v1/chat/completions",
            "te: trailers\r\n",
            &chat(r#","stream":true"#),
        ),
        post("/v1/files", multipart, "--x\r\n\r\n--x--"),
        with("transfer-encoding: chunked\r\n", chunks),
        // Whoever reads the length sees another request behind it.
        with(
            "content-length: 4\r\ntransfer-encoding: chunked\r\n",
            &format!("0\r\n\r\n{models}"),
        ),
        with("content-length: 2\r\ncontent-length: 40\r\n", &models),
        with("transfer-encoding: xchunked\r\n", chunks),
        with("transfer-encoding:\r\n chunked\r\n", chunks),
        format!("{}{models}", models.replace("connection: close\r\n", "")),
        models.replace("HTTP/1.1", "HTTP/1.0"),
        models.replace(" /v1", " http://evil.example/v1"),
        // HTTP/2 that asks nothing.
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_owned(),
    ]
}

fn mutated(seeds: &[String], numbers: &mut Numbers) -> Vec<u8> {
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
    if numbers.below(100) == 0 {
        swell(&mut bytes, numbers);
    }
    bytes
}

/// Makes a head about as long as it may be, by one header or by many.
fn swell(bytes: &mut Vec<u8>, numbers: &mut Numbers) {
    let Some(end) = bytes.windows(2).position(|pair| pair == b"\r\n") else {
        return;
    };
    let headers = match numbers.below(2) {
        0 => format!("x: {}\r\n", "y".repeat(60_000 + numbers.below(10_000))),
        _ => "x: y\r\n".repeat(95 + numbers.below(10)),
    };
    bytes.splice(end + 2..end + 2, headers.into_bytes());
}

/// So many, or so many times as many as `TOLLHOUSE_SCHEDULES` says.
fn requests() -> u64 {
    let times = std::env::var("TOLLHOUSE_SCHEDULES").unwrap_or_else(|_| "1".to_owned());
    let times: u64 = times.parse().expect("TOLLHOUSE_SCHEDULES is a number");
    2_500 * times
}

/// Shorter than any limit of the proxy's, and longer than it takes to answer.
const PAUSE: Duration = Duration::from_millis(2);

/// Sends a request in one of the ways that clients are rude in; the status, if one was
/// read.
async fn rude(served: &Served, seeds: &[String], number: u64) -> Option<u16> {
    let mut numbers = Numbers(number);
    let sent = mutated(seeds, &mut numbers);
    let mut socket = connect(served).await;
    let some = numbers.below(sent.len());
    // The proxy may have refused already, at any of these.
    match number % 8 {
        // Leaves before it is answered, or has said all.
        0 => return socket.write_all(&sent).await.ok().and(None),
        1 => return socket.write_all(&sent[..some]).await.ok().and(None),
        // Has nothing more to say, and waits.
        2 => {
            let _ = socket.write_all(&sent[..some]).await;
            let _ = socket.shutdown().await;
        }
        3 => {
            let _ = socket.write_all(&sent).await;
            let _ = socket.shutdown().await;
        }
        // Says it piece by piece.
        4 => {
            for piece in sent.chunks(sent.len().div_ceil(4)) {
                let _ = socket.write_all(piece).await;
                sleep(PAUSE).await;
            }
        }
        _ => drop(socket.write_all(&sent).await),
    }
    let mut seen = Vec::new();
    let read = async {
        match number % 8 {
            // Reads slowly, and leaves in the middle of it.
            5 | 6 => {
                for _ in 0..number % 5 * 20 {
                    match socket.read_u8().await {
                        Ok(byte) => seen.push(byte),
                        Err(_) => break,
                    }
                }
                sleep(PAUSE).await;
                number % 8 == 5
            }
            _ => true,
        }
    };
    let goes_on = timeout(LONG, read).await;
    if goes_on.expect("it is answered or closed") {
        let end = timeout(LONG, socket.read_to_end(&mut seen)).await;
        assert!(end.is_ok(), "{number}: still open");
    }
    let text = String::from_utf8_lossy(&seen);
    text.contains("\r\n\r\n").then(|| parsed(&text).status)
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
    let seeds = seeds();
    let calls = stream::iter(0..requests()).map(|number| rude(&served, &seeds, number));
    let answers: Vec<_> = calls.buffer_unordered(64).collect().await;
    let count = |is: fn(u16) -> bool| answers.iter().flatten().filter(|one| is(**one)).count();
    let (good, refused) = (count(|status| status == 200), count(|status| status == 400));
    at_rest(&served).await;
    assert_eq!(panics.load(Ordering::Relaxed), 0);
    // The test is none where nothing gets through, or everything does.
    let read = answers.iter().flatten().count();
    assert!(
        good > read / 10 && refused > read / 5,
        "of {read} that read their answer {good} were good, {refused} refused"
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
