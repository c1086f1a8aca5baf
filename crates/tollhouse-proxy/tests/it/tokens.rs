//! Tokens that vouch for callers, and what their weights do.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::ConnectInfo;
use http::Request;
use tokio::io::AsyncWriteExt;
use tollhouse_openai::{Account, OpenAi};
use tollhouse_proxy::{Bounds, Proxy};
use tollhouse_sim::Sim;
use tower::ServiceExt;

use crate::support::{
    LONG, ask, at_rest, by_hand, chat, client, connect, get, post, read_until, request_at, serve,
    status, until, wide,
};

const FILE: &str = "
[defaults]
max_concurrency = 1
stagger_seconds = 0
tokens_per_minute = \"unlimited\"

[callers.web]
weight = 3

[tokens]
web = \"t-of-web\"
night = [\"t-of-night\", \"t-of-night-too\"]
";

fn chat_as(token: &str, mark: &str) -> String {
    let headers = format!("authorization: Bearer {token}\r\n");
    post(
        "/v1/chat/completions",
        &headers,
        &chat(&format!(r#","user":"{mark}""#)),
    )
}

/// Who has a weight does not stand behind what others sent before, and is not told so.
#[tokio::test]
async fn a_longest_wait_is_held_against_the_callers_own_line() {
    let sim = Sim::builder().build().unwrap();
    let provider = sim.spawn("127.0.0.1:0").await.unwrap();
    let file = FILE.replace("stagger_seconds = 0", "stagger_seconds = 0.3");
    let account = Account::from_toml(&file).unwrap();
    let served = serve(Proxy::new(account, client(&provider.url()))).await;
    let mut waiting = Vec::new();
    for n in 0..30 {
        let mut socket = connect(&served).await;
        let request = chat_as("t-of-night", &format!("night{n}"));
        socket.write_all(request.as_bytes()).await.unwrap();
        waiting.push(socket);
    }
    let all_wait = async {
        while looked_at(&served).await["accounts"][0]["waiting"].as_u64() < Some(20) {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    let all_wait = tokio::time::timeout(LONG, all_wait);
    all_wait.await.expect("they wait");
    let patient = |token: &str| {
        let headers = format!("authorization: Bearer {token}\r\nx-tollhouse-max-wait: 3\r\n");
        post("/v1/chat/completions", &headers, &chat(""))
    };
    assert_eq!(ask(&served, &patient("t-of-night")).await.status, 429);
    assert_eq!(ask(&served, &patient("t-of-web")).await.status, 200);
}

/// The order in which the provider sees calls that all wait for one slot.
#[tokio::test]
async fn callers_share_by_the_weights_of_their_names() {
    let (provider, url) = by_hand().await;
    let account = Account::from_toml(FILE).unwrap();
    let served = serve(Proxy::new(account, client(&url))).await;
    let mut first = connect(&served).await;
    first
        .write_all(chat_as("t-of-night", "first").as_bytes())
        .await
        .unwrap();
    let (_, mut upstream) = request_at(&provider, "first").await;

    let mut waiting = Vec::new();
    for n in 0..8 {
        for (token, mark) in [("t-of-night-too", "night"), ("t-of-web", "web")] {
            let mut socket = connect(&served).await;
            let request = chat_as(token, &format!("{mark}{n}"));
            socket.write_all(request.as_bytes()).await.unwrap();
            waiting.push(socket);
        }
    }
    let all_wait = async {
        while looked_at(&served).await["accounts"][0]["waiting"] != 16 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, all_wait)
        .await
        .expect("they wait");

    let mut order = String::new();
    for _ in 0..8 {
        let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
        upstream.write_all(answer.as_bytes()).await.unwrap();
        let (seen, next) = request_at(&provider, "\"user\":\"").await;
        order.push(if seen.contains("web") { 'w' } else { 'n' });
        upstream = next;
    }
    // Three to one; what the first call took counts for night.
    assert_eq!(order.matches('w').count(), 6, "{order}");
    drop((waiting, first, upstream));
}

async fn looked_at(served: &tollhouse_proxy::Served) -> serde_json::Value {
    let token = "authorization: Bearer t-of-web\r\n";
    ask(served, &get("/tollhouse/status", token)).await.json()
}

#[tokio::test]
async fn a_name_with_a_weight_is_nobodys_to_claim() {
    let (_provider, url) = by_hand().await;
    let account = Account::from_toml(FILE).unwrap();
    let proxy = Proxy::new(account, client(&url)).shared_token("t-of-all");
    let served = serve(proxy).await;
    let headers = "authorization: Bearer t-of-all\r\nx-tollhouse-caller: web\r\n";
    let answer = ask(&served, &post("/v1/responses", headers, "{}")).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (403, "caller_not_vouched_for")
    );
    assert!(!answer.body.contains("t-of"), "{answer:?}");
}

/// Those whom no token names are callers by the names they claim.
#[tokio::test]
async fn a_claimed_name_is_a_caller() {
    let (provider, url) = by_hand().await;
    let account =
        Account::from_toml("[defaults]\nmax_concurrency = 1\nstagger_seconds = 0\n").unwrap();
    let served = serve(Proxy::new(account, client(&url))).await;
    let request = post("/v1/responses", "x-tollhouse-caller: mine\r\n", "{}");
    let mut first = connect(&served).await;
    first.write_all(request.as_bytes()).await.unwrap();
    let (_, mut upstream) = request_at(&provider, "{}").await;
    let mut second = connect(&served).await;
    second.write_all(request.as_bytes()).await.unwrap();
    let seen = async {
        loop {
            let now = status(&served).await;
            let callers = now["accounts"][0]["pools"][0]["callers"].as_array();
            let mut callers = callers.into_iter().flatten();
            if callers.any(|caller| caller["name"] == "mine" && caller["waiting"] == 1) {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, seen)
        .await
        .expect("it waits as itself");
    drop(second);
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}")
        .await
        .unwrap();
    read_until(&mut first, "{}").await;
    drop(first);
    at_rest(&served).await;
}

/// Where clients bring keys of their own, nobody from elsewhere looks at all of them.
#[tokio::test]
async fn without_a_token_only_this_machine_looks() {
    let openai = || {
        OpenAi::builder()
            .base_url("http://127.0.0.1:1/v1")
            .build()
            .unwrap()
    };
    let account = || Account::from_toml("").unwrap();
    let asked = |proxy: Proxy, peer: Option<&str>, token: &str| {
        let mut request = Request::get("/tollhouse/status")
            .header("host", "localhost")
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        if let Some(peer) = peer {
            let peer: SocketAddr = peer.parse().unwrap();
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        async {
            proxy
                .router()
                .oneshot(request)
                .await
                .unwrap()
                .status()
                .as_u16()
        }
    };
    for (peer, status) in [
        (Some("127.0.0.1:5"), 200),
        (Some("[::1]:5"), 200),
        (Some("[::ffff:127.0.0.1]:5"), 200),
        (Some("10.0.0.5:5"), 401),
        (Some("[2001:db8::1]:5"), 401),
        (None, 401),
    ] {
        let proxy = Proxy::new(account(), openai()).pass_through_keys();
        assert_eq!(asked(proxy, peer, "sk-any").await, status, "{peer:?}");
    }
    let guarded = || {
        let proxy = Proxy::new(account(), openai()).pass_through_keys();
        proxy.shared_token("t-to-look")
    };
    for (token, status) in [("t-to-look", 200), ("sk-any", 401)] {
        for peer in ["127.0.0.1:5", "10.0.0.5:5"] {
            assert_eq!(
                asked(guarded(), Some(peer), token).await,
                status,
                "{token} {peer}"
            );
        }
    }
}

/// A key is the provider's to judge, so it opens nothing by itself: where there are tokens, one is
/// shown beside it, and goes no further.
#[tokio::test]
async fn a_token_is_shown_beside_a_key_that_is_passed_on() {
    let (provider, url) = by_hand().await;
    let openai = OpenAi::builder().base_url(&url).build().unwrap();
    let account = Account::from_toml(FILE).unwrap();
    let proxy = Proxy::new(account, openai).shared_token("t-of-all");
    let served = serve(proxy.pass_through_keys()).await;
    let call = |headers: &str| {
        let headers = format!("authorization: Bearer sk-own\r\n{headers}");
        post("/v1/chat/completions", &headers, &chat(""))
    };
    for headers in [
        "",
        "x-tollhouse-token: t-wrong\r\n",
        "x-tollhouse-token: sk-own\r\n",
        "api-key: t-of-all\r\n",
    ] {
        let answer = ask(&served, &call(headers)).await;
        let code = (answer.status, answer.code());
        assert_eq!(code, (401, "invalid_api_key".to_owned()), "{headers}");
        assert!(answer.body.contains("x-tollhouse-token"), "{answer:?}");
    }
    let looked = looked_at(&served).await;
    assert_eq!(looked["accounts"], serde_json::json!([]), "none was opened");

    for token in ["t-of-all", "t-of-web"] {
        let called = call(&format!("x-tollhouse-token: {token}\r\n"));
        let provides = async {
            let (seen, mut socket) = request_at(&provider, "Hi").await;
            let answer = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";
            socket.write_all(answer.as_bytes()).await.unwrap();
            seen
        };
        let (answer, seen) = tokio::join!(ask(&served, &called), provides);
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(seen.contains("Bearer sk-own"), "{seen}");
        assert!(
            !seen.contains("t-of") && !seen.contains("x-tollhouse"),
            "{seen}"
        );
    }
}

/// Whoever has a token learns what its calls came to, and nobody else's.
#[tokio::test]
async fn a_token_is_told_what_its_calls_came_to() {
    let (_sim, provider) = crate::support::sim().await;
    let account = Account::from_toml(FILE).unwrap();
    let served = serve(Proxy::new(account, client(&provider.url()))).await;
    for _ in 0..3 {
        let answer = ask(&served, &chat_as("t-of-web", "me")).await;
        assert_eq!(answer.status, 200, "{answer:?}");
    }
    let me = async |token: &str| {
        let token = format!("authorization: Bearer {token}\r\n");
        ask(&served, &get("/tollhouse/me", &token)).await
    };
    let told = me("t-of-web").await.json();
    assert_eq!((&told["calls"], &told["attempts"]), (&3.into(), &3.into()));
    assert!(told["waited_seconds"].is_number() && told["longest_wait_seconds"].is_number());
    assert_eq!(me("t-of-night").await.json()["calls"], 0);
    assert_eq!(me("t-of-nobody").await.status, 401);
}

/// A key's account is in use while its call is between two attempts.
#[tokio::test]
async fn a_key_has_its_slots_once() {
    let (provider, url) = by_hand().await;
    let openai = OpenAi::builder().base_url(&url).build().unwrap();
    let mut bounds = Bounds::default();
    bounds.accounts = 1;
    let account = Account::new(wide());
    let served = serve(
        Proxy::new(account, openai)
            .pass_through_keys()
            .bounds(bounds),
    )
    .await;
    let with = |key: &str| {
        let key = format!("authorization: Bearer {key}\r\n");
        post("/v1/chat/completions", &key, &chat(""))
    };
    let mut first = connect(&served).await;
    first.write_all(with("sk-a").as_bytes()).await.unwrap();
    let (_, mut upstream) = request_at(&provider, "Hi").await;
    let busy = "HTTP/1.1 503 Busy\r\nretry-after: 50\r\ncontent-length: 2\r\n\r\n{}";
    upstream.write_all(busy.as_bytes()).await.unwrap();
    until(&served, "in_flight", 0).await;
    let made_up = ask(&served, &with("sk-b")).await;
    assert_eq!(
        (made_up.status, made_up.code().as_str()),
        (429, "too_many_keys")
    );
    // And a shutdown reaches it.
    let drained = tokio::spawn(served.drain(LONG));
    let seen = read_until(&mut first, "}").await;
    assert!(seen.contains("closing"), "{seen}");
    drained.await.unwrap();
}
