//! What passes: both ways, byte for byte, as it comes.

use std::convert::Infallible;
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderValue, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, timeout};
use tollhouse_openai::Account;
use tollhouse_proxy::Proxy;
use tower::ServiceExt;
use tower_http::request_id::RequestId;

use crate::support::{
    LONG, Log, ask, at_rest, before, busy, by_hand, chat, client, connect, get, post, read_until,
    request_at, sent, serve, sim, until, wide,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn a_whole_chat_passes_with_what_it_took() {
    let (sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let answer = ask(&served, &post("/v1/chat/completions", "", &chat(""))).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.json()["object"], "chat.completion");
    assert_eq!(answer.header("x-tollhouse-attempts"), Some("1"));
    // A token of text, four for the message, three for the reply's start, and 20.
    assert_eq!(answer.header("x-tollhouse-charge"), Some("28"));
    assert_eq!(answer.header("x-tollhouse-pool"), Some("default"));
    assert!(answer.header("x-tollhouse-wait-ms").is_some());
    assert!(answer.header("x-tollhouse-request-id").is_some());
    assert!(
        answer.header("x-request-id").is_some(),
        "the provider's own"
    );
    assert!(answer.header("x-ratelimit-remaining-tokens").is_some());
    assert_eq!(sim.report().total.completed, 1);
    at_rest(&served).await;
}

/// Also where a server around the proxy has a name of its own for it.
#[tokio::test]
async fn a_request_is_called_the_same_in_the_log_and_in_its_answer() {
    let (_sim, provider) = sim().await;
    let log = Log::default();
    let _heard = log.hear();
    let router = Proxy::new(Account::new(wide()), client(&provider.url())).router();
    for said in [Some("of-the-client"), None] {
        let mut request = Request::get("/v1/models").header("host", "localhost");
        if let Some(said) = said {
            request = request.header("x-tollhouse-request-id", said);
        }
        let around = RequestId::new(HeaderValue::from_static("of-the-server"));
        let request = request.extension(around).body(Body::empty()).unwrap();
        let (head, body) = router.clone().oneshot(request).await.unwrap().into_parts();
        body.collect().await.unwrap();
        let told = head.headers["x-tollhouse-request-id"].to_str().unwrap();
        assert!(said.is_none_or(|said| said == told), "{told}");
        let logged = format!("request_id=\"{told}\"");
        assert!(log.text().contains(&logged), "{logged} in {}", log.text());
    }
}

#[tokio::test]
async fn heads_and_bodies_pass_but_for_what_ends_here() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    let headers = "authorization: Bearer of-a-client\r\nopenai-beta: one\r\nOpenAI-Beta: two\r\n\
                   x-hop: 1\r\nconnection: x-hop\r\ncookie: a=b\r\naccept-encoding: gzip\r\n\
                   x-tollhouse-caller: me\r\n\
                   traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\r\n\
                   tracestate: congo=t61rcWkgMzE\r\nbaggage: a=b\r\n";
    let body = r#"{"model": "m",  "input" : "Hi"}"#;
    let request = post("/v1/responses?x=%20y", headers, body);
    let answered = async {
        let (seen, mut socket) = request_at(&provider, body).await;
        let answer = "HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\nx-request-id: req_1\r\n\
                      access-control-allow-origin: *\r\nkeep-alive: timeout=9\r\n\r\n{}";
        socket.write_all(answer.as_bytes()).await.unwrap();
        seen
    };
    let (answer, seen) = tokio::join!(ask(&served, &request), answered);
    assert!(
        seen.starts_with("POST /v1/responses?x=%20y HTTP/1.1\r\n"),
        "{seen}"
    );
    assert!(seen.ends_with(body), "{seen}");
    for line in [
        "openai-beta: one",
        "openai-beta: two",
        "cookie: a=b",
        "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "tracestate: congo=t61rcWkgMzE",
        "baggage: a=b",
        "authorization: Bearer sk-of-the-account",
    ] {
        assert!(seen.contains(&format!("{line}\r\n")), "{line}: {seen}");
    }
    for gone in [
        "x-hop",
        "connection",
        "gzip",
        "tollhouse-caller",
        "of-a-client",
        "host: localhost",
    ] {
        assert!(!seen.contains(gone), "{gone}: {seen}");
    }
    assert_eq!((answer.status, answer.body.as_str()), (202, "{}"));
    assert_eq!(answer.header("x-request-id"), Some("req_1"));
    for gone in ["access-control-allow-origin", "keep-alive"] {
        assert_eq!(answer.header(gone), None);
    }
}

#[tokio::test]
async fn a_stream_passes_event_by_event_without_a_stall() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    let mut client = connect(&served).await;
    let body = chat(r#","stream":true,"stream_options":{"include_usage":true}"#);
    let request = post("/v1/chat/completions", "", &body);
    client.write_all(request.as_bytes()).await.unwrap();
    let (_, mut socket) = request_at(&provider, &body).await;
    let head =
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
    socket.write_all(head.as_bytes()).await.unwrap();
    let mut times = Vec::new();
    for number in 10..30 {
        let event = format!("data: {{\"n\":{number}}}\n\n");
        let start = Instant::now();
        socket
            .write_all(format!("{:x}\r\n{event}\r\n", event.len()).as_bytes())
            .await
            .unwrap();
        read_until(&mut client, &event).await;
        times.push(start.elapsed());
    }
    // A delayed acknowledgement is one of 40 ms, and would hold up all but the first; a
    // busy machine holds up some.
    times.sort_unstable();
    assert!(times[4] < Duration::from_millis(25), "{times:?}");
    socket.write_all(b"0\r\n\r\n").await.unwrap();
    read_until(&mut client, "0\r\n\r\n").await;
    at_rest(&served).await;
}

/// What came of an answer is told, also where its end is known at the same moment.
#[tokio::test]
async fn an_answer_that_breaks_off_is_passed_as_far_as_it_came() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    for (kind, came) in [
        ("application/json", "{\"a\":"),
        ("text/event-stream", "data: {}\n\n"),
        ("text/event-stream", ""),
    ] {
        let broken = async {
            let (_, mut socket) = request_at(&provider, "Hi").await;
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: 99\r\n\r\n{came}"
            );
            socket.write_all(answer.as_bytes()).await.unwrap();
        };
        let request = post("/v1/chat/completions", "", &chat(""));
        let (answer, ()) = tokio::join!(ask(&served, &request), broken);
        assert_eq!((answer.status, answer.body.as_str()), (200, came), "{kind}");
    }
    at_rest(&served).await;
}

/// Each leg has a version of its own: else the client would have no chunks, and take a cut for
/// the end.
#[tokio::test]
async fn a_cut_is_seen_whatever_version_the_provider_speaks() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    for (version, is_whole) in [("HTTP/1.0", false), ("HTTP/1.1", false), ("HTTP/1.0", true)] {
        let answered = async {
            let (_, mut socket) = request_at(&provider, "Hi").await;
            let answer =
                format!("{version} 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n");
            socket.write_all(answer.as_bytes()).await.unwrap();
            // What comes of it is passed on before the reset.
            tokio::time::sleep(Duration::from_millis(50)).await;
            if !is_whole {
                socket.set_zero_linger().unwrap();
            }
        };
        let request = post("/v1/chat/completions", "", &chat(""));
        let (answer, ()) = tokio::join!(ask(&served, &request), answered);
        assert!(answer.head.starts_with("HTTP/1.1 200 OK"), "{answer:?}");
        assert_eq!(
            answer.header("transfer-encoding"),
            Some("chunked"),
            "{version}"
        );
        assert!(answer.body.contains("data: 1\n\n"), "{version}: {answer:?}");
        let has_end = answer.body.ends_with("\r\n0\r\n\r\n");
        assert_eq!(has_end, is_whole, "{version}: {answer:?}");
    }
    at_rest(&served).await;
}

/// Somebody else's server may hand over a body that must not be asked once more.
#[tokio::test]
async fn a_body_that_is_over_is_not_asked_again() {
    let (_sim, provider) = sim().await;
    let router = Proxy::new(Account::new(wide()), client(&provider.url())).router();
    let pieces = |count: usize| {
        let pieces = stream::unfold(count, |left| async move {
            let left = left.checked_sub(1)?;
            Some((Ok::<_, Infallible>("  "), left))
        });
        Body::from_stream(pieces)
    };
    for count in [0, 1, 2] {
        let request = Request::get("/v1/models").header("host", "localhost");
        let answer = router.clone().oneshot(request.body(pieces(count)).unwrap());
        assert_eq!(answer.await.unwrap().status(), 200, "{count}");
    }
}

/// Those of requests, too, whether their body is read or not; the sender names them, and no
/// others are sent on.
#[tokio::test]
async fn trailers_of_requests_pass() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    for kind in ["application/json", "multipart/form-data; boundary=x"] {
        let request = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             transfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\n{{}}\r\n0\r\nx-sum: 7\r\nx-other: 8\r\n\r\n"
        );
        let answered = async {
            let (seen, mut upstream) = request_at(&provider, "x-sum: 7\r\n").await;
            let busy = "HTTP/1.1 503 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
            upstream.write_all(busy.as_bytes()).await.unwrap();
            if kind.starts_with("multipart") {
                return seen;
            }
            let (again, mut upstream) = request_at(&provider, "x-sum: 7\r\n").await;
            let answer = busy.replace("503", "200");
            upstream.write_all(answer.as_bytes()).await.unwrap();
            again
        };
        let (_, seen) = tokio::join!(ask(&served, &request), answered);
        assert!(seen.contains("trailer: x-sum\r\n"), "{kind}: {seen}");
        assert!(
            seen.contains("\r\n\r\n2\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n"),
            "{kind}: {seen}"
        );
    }
    at_rest(&served).await;
}

#[tokio::test]
async fn trailers_pass() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    let answered = async {
        let (seen, mut socket) = request_at(&provider, "\r\n\r\n").await;
        let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n";
        socket.write_all(answer.as_bytes()).await.unwrap();
        seen
    };
    let request = get("/v1/models", "te: trailers\r\n");
    let (answer, seen) = tokio::join!(ask(&served, &request), answered);
    assert!(seen.contains("te: trailers"), "{seen}");
    assert!(answer.body.ends_with("0\r\nx-sum: 7\r\n\r\n"), "{answer:?}");
}

/// A field that has no business in a head has none behind the body.
#[tokio::test]
async fn trailers_are_held_to_the_rules_of_heads() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    let names = "x-sum, x-hop, x-tollhouse-token, proxy-authorization, keep-alive, connection, \
                 api-key, authorization, expect";
    let fields = names
        .split(", ")
        .map(|name| format!("{name}: x-hop\r\n"))
        .collect::<String>();
    for kind in ["application/json", "multipart/form-data; boundary=x"] {
        let request = format!(
            "POST /v1/responses HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\ncontent-type: {kind}\r\n\
             transfer-encoding: chunked\r\ntrailer: {names}\r\n\r\n2\r\n{{}}\r\n0\r\n{fields}\r\n"
        );
        let answered = async {
            let (seen, mut upstream) = request_at(&provider, "0\r\nx-sum: x-hop\r\n").await;
            upstream.write_all(OK.as_bytes()).await.unwrap();
            seen
        };
        let (_, seen) = tokio::join!(ask(&served, &request), answered);
        assert!(
            seen.ends_with("\r\n0\r\nx-sum: x-hop\r\n\r\n"),
            "{kind}: {seen}"
        );
    }

    let answered = async {
        let (_, mut socket) = request_at(&provider, "\r\n\r\n").await;
        let names = "x-sum, x-hop, x-tollhouse-pool, connection, access-control-allow-origin";
        let fields = names
            .split(", ")
            .map(|name| format!("{name}: x-hop\r\n"))
            .collect::<String>();
        let answer = format!(
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: {names}\r\n\r\n2\r\n{{}}\r\n0\r\n{fields}\r\n"
        );
        socket.write_all(answer.as_bytes()).await.unwrap();
    };
    let request = get("/v1/models", "te: trailers\r\n");
    let (answer, ()) = tokio::join!(ask(&served, &request), answered);
    assert!(
        answer.body.ends_with("\r\n0\r\nx-sum: x-hop\r\n\r\n"),
        "{answer:?}"
    );
    at_rest(&served).await;
}

#[tokio::test]
async fn uploads_pass_as_they_come() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    let mut client = connect(&served).await;
    let head = "POST /v1/files HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                content-type: multipart/form-data; boundary=x\r\ncontent-length: 10\r\n\r\n";
    client
        .write_all(format!("{head}first").as_bytes())
        .await
        .unwrap();
    // The provider has the first half before the second is sent.
    let (seen, mut socket) = request_at(&provider, "first").await;
    assert!(
        seen.contains("content-type: multipart/form-data; boundary=x\r\n"),
        "{seen}"
    );
    assert!(seen.contains("content-length: 10\r\n"), "{seen}");
    client.write_all(b"-half").await.unwrap();
    read_until(&mut socket, "-half").await;
    socket.write_all(OK.as_bytes()).await.unwrap();
    let seen = read_until(&mut client, "{}").await;
    assert!(seen.contains("x-tollhouse-charge: 0\r\n"), "{seen}");
    at_rest(&served).await;
}

/// Its place in line, its slot, its connection to the provider.
#[tokio::test]
async fn a_client_that_leaves_ends_its_call_at_once() {
    let (served, first, mut upstream) = busy().await;
    // The second one waits for the slot, and leaves.
    let second = sent(&served, &post("/v1/chat/completions", "", &chat(""))).await;
    until(&served, "waiting", 1).await;
    drop(second);
    drop(first);
    let end = timeout(LONG, upstream.read(&mut [0; 64])).await;
    assert!(matches!(end.expect("in time"), Ok(0) | Err(_)));
    at_rest(&served).await;
}

#[tokio::test]
async fn http_2_comes_in_and_its_host_is_checked() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let client: Client<_, Full<Bytes>> = Client::builder(TokioExecutor::new())
        .http2_only(true)
        .build_http();
    let url = format!("{}/chat/completions", served.url());
    let request = Request::post(url).body(Full::from(chat(""))).unwrap();
    let answer = client.request(request).await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.status(), 200);
    let body = answer.into_body().collect().await.unwrap().to_bytes();
    assert!(body.starts_with(b"{"));

    let port = served.address().port();
    let foreign = Request::get(format!("http://127.0.0.1:{port}/v1/models"))
        .header("host", "evil.example")
        .body(Full::default())
        .unwrap();
    assert_eq!(client.request(foreign).await.unwrap().status(), 421);
}

#[tokio::test]
async fn other_paths_are_not_the_providers_business() {
    let (sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    for path in ["/", "/favicon.ico", "/metrics", "/admin"] {
        let answer = ask(&served, &get(path, "")).await;
        assert_eq!(
            (answer.status, answer.code().as_str()),
            (404, "not_found"),
            "{path}"
        );
    }
    assert_eq!(ask(&served, &get("/healthz", "")).await.body, "ok\n");
    assert_eq!(ask(&served, &get("/readyz", "")).await.body, "ready\n");
    assert_eq!(sim.report().arrived, 0);
}

/// Our attempts are spent: the client's own would multiply them.
#[tokio::test]
async fn failures_are_passed_on_and_not_to_be_tried_again() {
    let (provider, url) = by_hand().await;
    let served = serve(Proxy::new(
        Account::new(wide().max_attempts(2)),
        client(&url),
    ))
    .await;
    let answered = async {
        for _ in 0..2 {
            let (_, mut socket) = request_at(&provider, "Hi").await;
            let answer =
                "HTTP/1.1 500 Oh\r\nconnection: close\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
            socket.write_all(answer.as_bytes()).await.unwrap();
        }
    };
    let request = post("/v1/chat/completions", "", &chat(""));
    let (answer, ()) = tokio::join!(ask(&served, &request), answered);
    assert_eq!((answer.status, answer.body.as_str()), (500, r#"{"a":1}"#));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    assert_eq!(answer.header("x-tollhouse-attempts"), Some("2"));

    drop(provider);
    let answer = ask(&served, &request).await;
    assert_eq!((answer.status, answer.code().as_str()), (502, "no_answer"));
    assert_eq!(answer.header("x-should-retry"), Some("false"));
    at_rest(&served).await;
}

/// As well where the provider wants another try of what is tried by nobody else.
#[tokio::test]
async fn a_providers_wish_for_another_try_ends_with_our_attempts() {
    for (says, upload, told) in [
        ("400 No", false, "false"),
        ("404 No", false, "false"),
        ("503 No", false, "false"),
        // Nobody has tried that again.
        ("400 No", true, "true"),
    ] {
        let (provider, url) = by_hand().await;
        let account = Account::new(wide().max_attempts(2));
        let served = serve(Proxy::new(account, client(&url))).await;
        let answers = async {
            loop {
                let (_, mut socket) = request_at(&provider, "Hi").await;
                let answer = format!(
                    "HTTP/1.1 {says}\r\nconnection: close\r\nx-should-retry: true\r\n\
                     content-length: 2\r\n\r\n{{}}"
                );
                socket.write_all(answer.as_bytes()).await.unwrap();
            }
        };
        let kind = match upload {
            true => "content-type: multipart/form-data; boundary=x\r\n",
            false => "",
        };
        let request = post("/v1/chat/completions", kind, &chat(""));
        let answer = tokio::select! {
            answer = ask(&served, &request) => answer,
            () = answers => unreachable!("they have no end"),
        };
        assert_eq!(answer.header("x-should-retry"), Some(told), "{answer:?}");
        let attempts = if upload { "1" } else { "2" };
        assert_eq!(answer.header("x-tollhouse-attempts"), Some(attempts));
    }
}

/// What a provider does after an early answer.
#[derive(Clone, Copy, Debug)]
enum Early {
    Stays,
    Closes,
}

/// A provider that has seen enough answers before it has read the body.
async fn refuse_early(provider: &TcpListener, early: Early) -> Option<TcpStream> {
    let (_, mut socket) = request_at(provider, "\r\n\r\n").await;
    let answer =
        "HTTP/1.1 413 Too Large\r\nconnection: close\r\ncontent-length: 7\r\n\r\n{\"a\":1}";
    socket.write_all(answer.as_bytes()).await.unwrap();
    match early {
        Early::Stays => Some(socket),
        // With bytes in it that nobody read: a reset.
        Early::Closes => None,
    }
}

#[tokio::test]
async fn an_answer_that_comes_before_the_body_was_read_is_passed_on() {
    let multipart = "content-type: multipart/form-data; boundary=x\r\n";
    for kind in [multipart, "content-type: application/json\r\n"] {
        for early in [Early::Stays, Early::Closes] {
            for round in 0..10 {
                let (provider, url) = by_hand().await;
                let served = before(&url).await;
                let request = post("/v1/files", kind, &"x".repeat(3_000_000));
                let (answer, socket) =
                    tokio::join!(ask(&served, &request), refuse_early(&provider, early));
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (413, "{\"a\":1}"),
                    "{kind} {early:?} {round}: {answer:?}"
                );
                drop(socket);
                at_rest(&served).await;
            }
        }
    }
}

/// Node's client gives up where its writing fails, whatever was answered.
#[tokio::test]
async fn a_client_that_is_still_sending_is_let_finish() {
    let multipart = "content-type: multipart/form-data; boundary=x\r\n";
    let body = "x".repeat(400_000);
    for early in [Early::Stays, Early::Closes] {
        let (provider, url) = by_hand().await;
        let served = before(&url).await;
        let request = post("/v1/files", multipart, &body);
        let mut client = connect(&served).await;
        let sending = async {
            for piece in request.as_bytes().chunks(16_384) {
                client.write_all(piece).await.expect("somebody reads");
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            read_until(&mut client, "{\"a\":1}").await
        };
        let (seen, socket) = tokio::join!(sending, refuse_early(&provider, early));
        assert!(seen.starts_with("HTTP/1.1 413"), "{early:?}: {seen}");
        drop((socket, client));
        at_rest(&served).await;
    }
}

/// Whatever it ends in: SDKs put their paths behind it.
#[tokio::test]
async fn the_apis_root_is_the_base_url() {
    let (provider, url) = by_hand().await;
    for (base, there) in [
        ("/v1", "/v1/models"),
        ("/openai/v1/", "/openai/v1/models"),
        ("/v1beta/openai/", "/v1beta/openai/models"),
        ("/api/paas/v4", "/api/paas/v4/models"),
        ("", "/v1/models"),
    ] {
        let served = before(&url.replace("/v1", base)).await;
        let answered = async {
            let (seen, mut upstream) = request_at(&provider, "\r\n\r\n").await;
            upstream.write_all(OK.as_bytes()).await.unwrap();
            seen
        };
        let request = get("/v1/models", "");
        let (_, seen) = tokio::join!(ask(&served, &request), answered);
        assert!(
            seen.starts_with(&format!("GET {there} HTTP/1.1")),
            "{base}: {seen}"
        );
    }
}
