//! The page, as a browser gets it.

use std::time::Duration;

use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::{sleep, timeout};
use tollhouse_openai::call::Endpoint;
use tollhouse_openai::{Account, Limit};
use tollhouse_proxy::{Bounds, Proxy, Served};

use crate::support::{
    LONG, ask, at_rest, before, by_hand, chat, client, connect, get, post, read_until, request_at,
    serve, sim, wide,
};

const TOKEN: &str = "authorization: Bearer t-secret\r\n";

/// One who watches, and the first that he heard.
async fn watch(served: &Served, headers: &str) -> (TcpStream, Value) {
    let mut socket = connect(served).await;
    let request = get("/tollhouse/events", headers);
    socket.write_all(request.as_bytes()).await.unwrap();
    let seen = read_until(&mut socket, "}\n\n").await;
    assert!(seen.contains("content-type: text/event-stream"), "{seen}");
    let (_, event) = seen.split_once("data: ").expect("an event");
    let (event, _) = event.split_once("\n\n").expect("its end");
    (socket, serde_json::from_str(event).expect("JSON"))
}

#[tokio::test]
async fn it_is_one_file_that_may_use_nothing_else() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let page = ask(&served, &get("/tollhouse/", "")).await;
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let policy = page.header("content-security-policy").unwrap();
    for rule in [
        "default-src 'none'",
        "script-src 'sha256-",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert!(page.body.contains("<h1>") && page.body.ends_with("</html>\n"));
    let short = ask(&served, &get("/tollhouse", "")).await;
    assert_eq!(
        (short.status, short.header("location")),
        (308, Some("/tollhouse/"))
    );
    // A page of somebody else's may neither frame nor fetch it.
    let foreign = "origin: https://evil.example\r\nsec-fetch-site: cross-site\r\n";
    let refused = ask(&served, &get("/tollhouse/events", foreign)).await;
    assert_eq!(refused.status, 403);
}

/// Where nobody is, nothing is used of any limit, however often it is tried.
#[tokio::test]
async fn a_provider_that_is_away_was_sent_nothing() {
    let nobody = TcpSocket::new_v4().unwrap();
    nobody.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/v1", nobody.local_addr().unwrap());
    let policy = wide().max_attempts(1).tpm_limit(Limit::per_minute(30_000));
    let account = Account::new(policy);
    // So that the pool stays.
    let _budget = account.budget("gpt-4o", Endpoint::Chat);
    let served = serve(Proxy::new(account, client(&url))).await;
    let request = post("/v1/chat/completions", "", &chat(""));
    assert_eq!(ask(&served, &request).await.status, 502);
    let (mut socket, first) = watch(&served, "").await;
    let points = match first["pools"][0]["points"].as_array() {
        Some(points) if !points.is_empty() => points.clone(),
        _ => {
            let seen = timeout(LONG, read_until(&mut socket, "\"points\":[[")).await;
            let seen = seen.expect("the first sample") + &read_until(&mut socket, "]]").await;
            let (_, points) = seen.split_once("\"points\":").expect("points");
            let (points, _) = points.split_once("]]").expect("their end");
            serde_json::from_str::<Vec<Value>>(&format!("{points}]]")).expect("JSON")
        }
    };
    for point in points {
        assert_eq!((&point[3], &point[4]), (&0.into(), &0.into()), "{point}");
    }
}

#[tokio::test]
async fn what_it_shows_needs_the_token_and_tells_no_secret() {
    let (provider, url) = by_hand().await;
    let proxy = Proxy::new(Account::new(wide().max_concurrency(1)), client(&url));
    let served = serve(proxy.token("t-secret", "<img src=x onerror=alert(1)>")).await;
    // The page itself is the same for everybody.
    assert_eq!(ask(&served, &get("/tollhouse/", "")).await.status, 200);
    for headers in ["", "authorization: Bearer t-other\r\n"] {
        let refused = ask(&served, &get("/tollhouse/events", headers)).await;
        assert_eq!(refused.status, 401, "{headers}");
    }
    let refused = ask(&served, &get("/tollhouse/events?token=t-secret", "")).await;
    assert_eq!(refused.status, 401);

    let request = post(
        "/v1/chat/completions?q=PLANTED",
        TOKEN,
        &chat(r#","user":"PLANTED""#),
    );
    let mut one = connect(&served).await;
    one.write_all(request.as_bytes()).await.unwrap();
    let (_, mut upstream) = request_at(&provider, "Hi").await;
    let mut other = connect(&served).await;
    other.write_all(request.as_bytes()).await.unwrap();
    let waits = async {
        loop {
            let (_, now) = watch(&served, TOKEN).await;
            if now["waiting"] == 1 {
                return now;
            }
            sleep(Duration::from_millis(200)).await;
        }
    };
    let now = timeout(LONG, waits).await.expect("one waits");
    assert_eq!(
        (&now["in_flight"], &now["kind"]),
        (&1.into(), &"proxy".into())
    );
    let caller = &now["pools"][0]["callers"][0];
    assert_eq!(caller["name"], "<img src=x onerror=alert(1)>");
    assert_eq!(
        (&caller["waiting"], &caller["place"]),
        (&1.into(), &1.into())
    );

    let answer = b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\n\"PLANTED\"";
    upstream.write_all(answer).await.unwrap();
    let (_, mut upstream) = request_at(&provider, "Hi").await;
    upstream.write_all(answer).await.unwrap();
    for socket in [&mut one, &mut other] {
        read_until(socket, "\"PLANTED\"").await;
    }
    drop((one, other));
    at_rest_but(&served).await;
    let (_, now) = watch(&served, TOKEN).await;
    let call = &now["recent"][1];
    assert_eq!(
        (&call["what"], &call["status"]),
        (&"/v1/chat/completions".into(), &200.into())
    );
    assert_eq!(
        (&call["attempts"], &call["tokens"]),
        (&1.into(), &28.into())
    );
    assert!(call["wait_seconds"].as_f64().unwrap() > 0.0, "{call}");
    assert!(call["total_seconds"].as_f64() >= call["wait_seconds"].as_f64());
    let text = now.to_string();
    assert!(
        !text.contains("PLANTED") && !text.contains("t-secret"),
        "{text}"
    );
    assert!(!text.contains("sk-of-the-account"), "{text}");
}

/// Until both calls are told of.
async fn at_rest_but(served: &Served) {
    let rest = async {
        while watch(served, TOKEN).await.1["calls"] != 2 {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LONG, rest).await.expect("both are over");
}

#[tokio::test]
async fn watchers_are_bounded_and_their_leaving_is_seen() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let mut watchers = Vec::new();
    for _ in 0..16 {
        watchers.push(watch(&served, "").await.0);
    }
    let refused = ask(&served, &get("/tollhouse/events", "")).await;
    assert_eq!(
        (refused.status, refused.code().as_str()),
        (503, "overloaded")
    );
    let called = ask(&served, &post("/v1/chat/completions", "", &chat(""))).await;
    assert_eq!(called.status, 200);
    drop(watchers);
    let again = async {
        while ask_head(&served).await.contains("503") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(LONG, again).await.expect("a seat");
    at_rest(&served).await;
}

/// Whoever takes nothing of what is written for him is let go, and keeps no seat: what is
/// ready for him is one event, and then he is in nobody's way.
#[tokio::test]
async fn a_watcher_that_never_reads_is_let_go() {
    let (_sim, provider) = sim().await;
    let mut bounds = Bounds::default();
    bounds.write_time = Duration::from_millis(50);
    let proxy = Proxy::new(Account::new(wide()), client(&provider.url())).bounds(bounds);
    // Hardly anything fits between the two.
    let narrow = TcpSocket::new_v4().unwrap();
    narrow.set_send_buffer_size(1).unwrap();
    narrow.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let served = proxy.serve(narrow.listen(64).unwrap()).unwrap();
    let long = "x".repeat(76);
    for n in 10..34 {
        let name = format!("x-tollhouse-caller: {n}{}\r\n", &long[..62]);
        ask(&served, &get(&format!("/v1/{n}{long}"), &name)).await;
    }
    let mut deaf = Vec::new();
    for _ in 0..16 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(1).unwrap();
        let mut socket = socket.connect(served.address()).await.unwrap();
        let request = get("/tollhouse/events", "");
        socket.write_all(request.as_bytes()).await.unwrap();
        deaf.push(socket);
    }
    for socket in &deaf {
        let mut head = [0; 12];
        timeout(LONG, socket.peek(&mut head))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
    }
    at_rest(&served).await;
    assert!(ask_head(&served).await.contains("200"), "a seat is free");
}

/// The first line of the answer to one who watches and leaves.
async fn ask_head(served: &Served) -> String {
    let mut socket = connect(served).await;
    let request = get("/tollhouse/events", "");
    socket.write_all(request.as_bytes()).await.unwrap();
    read_until(&mut socket, "\r\n").await
}

#[tokio::test]
async fn an_end_does_not_wait_for_who_watches() {
    let (_sim, provider) = sim().await;
    let served = before(&provider.url()).await;
    let (mut watcher, _) = watch(&served, "").await;
    let began = tokio::time::Instant::now();
    let drained = served.drain(Duration::from_secs(600)).await;
    assert_eq!(drained.cut_off, 0);
    assert!(began.elapsed() < LONG);
    read_until(&mut watcher, "\"over\":true").await;
}

/// Of whatever kind: who got all that there is did not leave.
#[tokio::test]
async fn calls_without_a_body_and_with_trailers_are_whole() {
    let (provider, url) = by_hand().await;
    let served = before(&url).await;
    let chunks = "HTTP/1.1 200 OK\r\nconnection: close\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n\
                  2\r\n{}\r\n0\r\nx-sum: 7\r\n\r\n";
    for (method, answer) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 9\r\n\r\n",
        ),
        ("GET", "HTTP/1.1 204 No\r\nconnection: close\r\n\r\n"),
        (
            "GET",
            "HTTP/1.1 304 No\r\nconnection: close\r\ncontent-length: 9\r\n\r\n",
        ),
        ("GET", chunks),
        ("GET", &chunks.replace("trailer: x-sum\r\n", "")),
    ] {
        let request = get("/v1/models", "te: trailers\r\n").replacen("GET", method, 1);
        let answered = async {
            let (_, mut upstream) = request_at(&provider, "\r\n\r\n").await;
            upstream.write_all(answer.as_bytes()).await.unwrap();
        };
        tokio::join!(ask(&served, &request), answered);
    }
    at_rest(&served).await;
    let (_socket, told) = watch(&served, "").await;
    let calls = told["recent"].as_array().expect("calls");
    let left: Vec<_> = calls.iter().map(|call| &call["left"]).collect();
    assert_eq!(left, [&Value::Bool(false); 5], "{told}");
}
