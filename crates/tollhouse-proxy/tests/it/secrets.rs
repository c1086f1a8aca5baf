//! Keys, and that nothing tells them.

use http::{HeaderMap, StatusCode};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tollhouse_openai::{Account, OpenAi};
use tollhouse_proxy::{Bounds, Proxy};

use crate::support::{
    Log, ask, at_rest, by_hand, chat, client, get, post, request_at, serve, sim, wide,
};

const OK: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

async fn answer_once(provider: &TcpListener, until: &str, answer: &str) -> String {
    let (seen, mut socket) = request_at(provider, until).await;
    socket.write_all(answer.as_bytes()).await.unwrap();
    seen
}

/// All that is logged, at every level, over good calls, refused ones and broken ones.
#[tokio::test]
async fn no_log_tells_a_key_a_token_a_prompt_or_an_answer() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    // For all threads: what others tests log does no harm here.
    tracing::subscriber::set_global_default(subscriber).unwrap();

    let (provider, url) = by_hand().await;
    let openai = OpenAi::builder()
        .base_url(&url)
        .api_key("sk-PLANTED-KEY")
        .build()
        .unwrap();
    let proxy =
        Proxy::new(Account::new(wide().max_attempts(2)), openai).token("t-PLANTED-TOKEN", "web");
    let served = serve(proxy).await;
    let token = "authorization: Bearer t-PLANTED-TOKEN\r\ncookie: PLANTED-COOKIE\r\n";
    let body = chat(r#","user":"PLANTED-PROMPT""#);
    let request = post("/v1/chat/completions?q=PLANTED-QUERY", token, &body);
    let good = "HTTP/1.1 200 OK\r\nconnection: close\r\nset-cookie: PLANTED-ANSWER\r\ncontent-length: 16\r\n\r\n\"PLANTED-ANSWER\"";
    let bad =
        "HTTP/1.1 400 No\r\nconnection: close\r\ncontent-length: 16\r\n\r\n\"PLANTED-ANSWER\"";
    for answer in [good, bad] {
        let (answer, _) = tokio::join!(
            ask(&served, &request),
            answer_once(&provider, "PLANTED-PROMPT", answer)
        );
        assert_eq!(answer.body, "\"PLANTED-ANSWER\"");
    }
    let wrong = post(
        "/v1/responses",
        "authorization: Bearer sk-PLANTED-OTHER\r\n",
        &body,
    );
    let answer = ask(&served, &wrong).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (401, "invalid_api_key")
    );
    assert!(!answer.body.contains("PLANTED"), "{answer:?}");
    let flawed = format!("{}\n", get("/v1/PLANTED-PATH", token).trim_end());
    assert_eq!(ask(&served, &flawed).await.status, 400);
    drop(provider);
    let answer = ask(&served, &request).await;
    assert_eq!(answer.status, 502);
    assert!(!answer.body.contains("PLANTED"), "{answer:?}");

    let log = log.text();
    assert!(
        log.contains("call") && log.contains("status=502") && log.contains("caller=\"web\""),
        "{log}"
    );
    // The conventions' span, and its model in the line.
    assert!(
        log.contains("gen_ai.operation.name=\"chat\"")
            && log.contains("gen_ai.request.model=\"gpt-4o\""),
        "{log}"
    );
    for line in log.lines() {
        assert!(!line.contains("PLANTED"), "{line}");
    }
}

#[tokio::test]
async fn what_is_to_be_looked_at_needs_a_token_too() {
    let (_provider, url) = by_hand().await;
    let served = serve(Proxy::new(Account::new(wide()), client(&url)).token("secret", "web")).await;
    for path in ["/tollhouse/status", "/metrics"] {
        assert_eq!(ask(&served, &get(path, "")).await.status, 401, "{path}");
    }
    let token = "authorization: Bearer secret\r\n";
    assert_eq!(
        ask(&served, &get("/tollhouse/status", token)).await.status,
        200
    );
    assert_eq!(ask(&served, &get("/healthz", "")).await.status, 200);
}

#[tokio::test]
async fn keys_that_are_passed_on_are_an_account_each() {
    let (provider, url) = by_hand().await;
    let openai = OpenAi::builder().base_url(&url).build().unwrap();
    let proxy = Proxy::new(Account::new(wide().max_concurrency(1)), openai).pass_through_keys();
    let served = serve(proxy).await;
    let call = |key: &str| {
        post(
            "/v1/chat/completions",
            &format!("authorization: Bearer {key}\r\n"),
            &chat(""),
        )
    };
    let (one, other) = (call("sk-one"), call("sk-other"));
    let both = async {
        // The first has its account's only slot, and the other key is not kept from
        // its own.
        let (first, mut one) = request_at(&provider, "Hi").await;
        let (second, mut other) = request_at(&provider, "Hi").await;
        one.write_all(OK.as_bytes()).await.unwrap();
        other.write_all(OK.as_bytes()).await.unwrap();
        first + &second
    };
    let (a, b, seen) = tokio::join!(ask(&served, &one), ask(&served, &other), both);
    assert_eq!((a.status, b.status), (200, 200));
    assert!(
        seen.contains("Bearer sk-one") && seen.contains("Bearer sk-other"),
        "{seen}"
    );
    let keyless = ask(&served, &post("/v1/responses", "", "{}")).await;
    assert_eq!(keyless.status, 401);
    at_rest(&served).await;
}

/// The account is one key's, and the provider may go by another one.
#[tokio::test]
async fn who_brings_several_keys_is_refused() {
    let (_sim, provider) = sim().await;
    let openai = OpenAi::builder().base_url(provider.url()).build().unwrap();
    let served = serve(Proxy::new(Account::new(wide()), openai).pass_through_keys()).await;
    let protocol = "sec-websocket-protocol: realtime, openai-insecure-api-key.";
    for (headers, status, says) in [
        ("authorization: Bearer k1\r\napi-key: k1\r\n", 200, ""),
        (
            "authorization: Bearer k1\r\nauthorization: bearer k1\r\n",
            200,
            "",
        ),
        (&*format!("api-key: k1\r\n{protocol}k1\r\n"), 200, ""),
        (
            "authorization: Bearer k1\r\napi-key: k2\r\n",
            400,
            "different API keys",
        ),
        (
            "authorization: Bearer k1\r\nauthorization: Bearer k2\r\n",
            400,
            "different API keys",
        ),
        ("api-key: k1\r\napi-key: k2\r\n", 400, "different API keys"),
        (
            "authorization: Basic k1\r\napi-key: k1\r\n",
            400,
            "different API keys",
        ),
        (
            &*format!("api-key: k1\r\n{protocol}k2\r\n"),
            400,
            "different API keys",
        ),
        // It would end here, and the call go without it.
        (
            "connection: Authorization\r\nauthorization: Bearer k1\r\n",
            400,
            "Connection names",
        ),
        (
            "connection: x, api-key\r\napi-key: k1\r\n",
            400,
            "Connection names",
        ),
    ] {
        let answer = ask(&served, &get("/v1/models", headers)).await;
        assert_eq!(answer.status, status, "{headers}: {answer:?}");
        assert!(answer.body.contains(says), "{headers}: {answer:?}");
    }
    at_rest(&served).await;
}

/// There is nothing that is told of a token then, whoever asks; and no account is opened.
#[tokio::test]
async fn nobody_is_told_of_himself_where_keys_are_passed_on() {
    let (_provider, url) = by_hand().await;
    let openai = OpenAi::builder().base_url(&url).build().unwrap();
    let proxy = Proxy::new(Account::new(wide()), openai).pass_through_keys();
    let served = serve(proxy.token("t-1", "web")).await;
    let key = "authorization: Bearer k1\r\n";
    let token = "x-tollhouse-token: t-1\r\n";
    for (headers, status) in [
        (token, 404),
        ("authorization: Bearer t-1\r\n", 404),
        (&*format!("{key}{token}"), 404),
        (key, 401),
        ("", 401),
    ] {
        let answer = ask(&served, &get("/tollhouse/me", headers)).await;
        assert_eq!(answer.status, status, "{headers}");
    }
    let status = get("/tollhouse/status", token);
    let accounts = ask(&served, &status).await.json()["accounts"].clone();
    assert_eq!(accounts.as_array().map(Vec::len), Some(0));

    let openai = OpenAi::builder().base_url(&url).build().unwrap();
    let served = serve(Proxy::new(Account::new(wide()), openai).pass_through_keys()).await;
    assert_eq!(ask(&served, &get("/tollhouse/me", "")).await.status, 404);
}

/// Anybody can make up keys. The provider knows none of them, and they keep nobody's place.
#[tokio::test]
async fn keys_that_are_made_up_keep_no_honest_one_out() {
    let provider = axum::Router::new().fallback(async |headers: HeaderMap| {
        let key = headers["authorization"].to_str().unwrap_or_default();
        match key.starts_with("Bearer sk-good") {
            true => (StatusCode::OK, "{}"),
            false => (StatusCode::UNAUTHORIZED, r#"{"error":{"message":"no"}}"#),
        }
    });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, provider).await });
    let openai = OpenAi::builder().base_url(&url).build().unwrap();
    let mut bounds = Bounds::default();
    bounds.accounts = 2;
    let proxy = Proxy::new(Account::new(wide()), openai).bounds(bounds);
    let served = serve(proxy.pass_through_keys()).await;
    let call = async |key: &str, path: &str| {
        let key = format!("authorization: Bearer {key}\r\n");
        ask(&served, &post(path, &key, &chat(""))).await
    };
    let chats = "/v1/chat/completions";
    for n in 0..4 {
        // None of them, and what is nobody's path, is an account's business for long.
        let path = if n % 2 == 0 { chats } else { "/nowhere" };
        let answer = call(&format!("sk-made-up-{n}"), path).await;
        assert!([401, 404].contains(&answer.status), "{n}: {answer:?}");
    }
    assert_eq!(call("sk-good-1", chats).await.status, 200);
    assert_eq!(call("sk-made-up-5", chats).await.status, 401);
    assert_eq!(call("sk-good-2", chats).await.status, 200);
    assert_eq!(call("sk-good-1", chats).await.status, 200);
    // What those have spent is not forgotten for anybody.
    let answer = call("sk-made-up-6", chats).await;
    assert_eq!(
        (answer.status, answer.code().as_str()),
        (429, "too_many_keys")
    );
    at_rest(&served).await;
}
