//! The policy around the clients that people use, over sockets.

use std::error::Error;
use std::time::Duration;

use async_openai::Client;
use async_openai::config::OpenAIConfig;
use async_openai::error::OpenAIError;
use async_openai::middleware::HttpRequestFactory;
use async_openai::types::chat::{
    ChatCompletionRequestUserMessage, CreateChatCompletionRequest, CreateChatCompletionRequestArgs,
};
use async_openai::types::embeddings::CreateEmbeddingRequestArgs;
use axum::Router;
use axum::http::{HeaderMap, StatusCode};
use futures_util::StreamExt;
use futures_util::future::join_all;
use http_body_util::BodyExt;
use serde_json::Value;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tollhouse_openai::{Account, Accounting, ApiError, Limit, Per, Policy, Refused, Scope};
use tollhouse_sim::{Served, Sim};
use tower::ServiceExt;

/// Wide, unspaced, whole.
fn policy() -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .headroom(0.0)
        .cautious_start(false)
        .backoff_base(Duration::from_millis(1))
}

fn config(served: &Served) -> OpenAIConfig {
    OpenAIConfig::new()
        .with_api_base(served.url())
        .with_api_key("sk-simulated")
}

fn question(text: &str, max_tokens: u32) -> CreateChatCompletionRequest {
    CreateChatCompletionRequestArgs::default()
        .model("gpt-4o")
        .max_completion_tokens(max_tokens)
        .messages([ChatCompletionRequestUserMessage::from(text).into()])
        .build()
        .expect("a whole request")
}

/// Both adapters of one account spend from the same pools, one for each model.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_of_one_account_share_a_pool_for_each_model() {
    let sim = Sim::builder().build().expect("allowed settings");
    let served = sim.spawn("127.0.0.1:0").await.expect("a free port");
    let account = Account::from_toml("[defaults]\nstagger_seconds = 0").expect("a good file");

    let typed = Client::with_config(config(&served)).with_http_service(account.async_openai());
    let chat = typed.chat().create(question("Hi", 100)).await;
    chat.expect("an answer");
    let plain = reqwest::Client::new();
    for model in ["gpt-4o", "o3"] {
        let request = plain
            .post(format!("{}/responses", served.url()))
            .bearer_auth("sk-simulated")
            .header("content-type", "application/json")
            .body(format!(
                r#"{{"model": "{model}", "input": "Hi", "max_output_tokens": 50}}"#
            ));
        let request = request.build().expect("a request");
        let answer = account.reqwest(plain.clone()).execute(request).await;
        assert_eq!(answer.expect("an answer").status(), 200);
    }
    let pools = account.snapshot().pools;
    let names: Vec<_> = pools.iter().map(|pool| &*pool.name).collect();
    assert_eq!(names, ["gpt-4o", "o3"]);
    let spent = |n: usize| 25_500 - pools[n].meters[0].level;
    assert!(spent(0) > spent(1), "{} and {}", spent(0), spent(1));
}

/// Fifty typed streams at once: slots are held to each stream's last byte, and
/// what the answers really used is what is left missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_typed_streams_keep_the_limits_and_settle_what_they_used() {
    const LIMIT: u64 = 60_000;
    let sim = Sim::builder()
        .tokens_per_minute(LIMIT)
        .requests_per_minute(None)
        .true_up(true)
        .latency(Duration::from_millis(5), Duration::from_micros(100))
        .build()
        .expect("allowed settings");
    let served = sim.spawn("127.0.0.1:0").await.expect("a free port");
    let policy = policy()
        .max_concurrency(7)
        .tpm_limit(Limit::per_minute(LIMIT))
        .accounting(Accounting::AsUsed)
        .ask_for_usage(true);
    let client = Client::with_config(config(&served)).with_http_service(policy.async_openai());

    let start = tokio::time::Instant::now();
    let streams = (0..50).map(|n| {
        let client = client.clone();
        tokio::spawn(async move {
            let request = question(&format!("Question {n}?"), 1_000);
            let mut stream = client
                .chat()
                .create_stream(request)
                .await
                .expect("a stream");
            let mut text = String::new();
            while let Some(chunk) = stream.next().await {
                for choice in chunk.expect("a chunk").choices {
                    text += choice.delta.content.as_deref().unwrap_or_default();
                }
            }
            text
        })
    });
    for text in join_all(streams).await {
        assert!(!text.expect("no panic").is_empty());
    }
    policy.idle().await;

    let report = sim.report();
    assert_eq!(
        (report.arrived, report.total.rejected.total()),
        (50, 0),
        "{report}"
    );
    assert_eq!(report.total.completed, 50, "{report}");
    assert!(report.peak_in_flight <= 7, "{report}");
    let snapshot = policy.budget().snapshot();
    assert_eq!((snapshot.outstanding, snapshot.in_transit), (0, 0));
    // More than 50,000 were reserved, of which less than half was used. The level
    // has that back, as far as it is sure, and is never above the provider's.
    let used = i64::try_from(report.total.tokens_used).expect("a count");
    assert!((15_000..25_000).contains(&used), "{report}");
    let limit = i64::try_from(LIMIT).expect("a count");
    let refill = start.elapsed().as_secs_f64() * LIMIT as f64 / 60.0;
    let theirs = limit - used + refill.ceil() as i64;
    let sure = (limit - 35_000)..=theirs;
    assert!(
        sure.contains(&snapshot.level),
        "{} of {sure:?}",
        snapshot.level
    );
}

/// The responses of async-openai's `Responses` come as it makes them: by a factory of
/// requests. Its types for them are left out, since they take longer to compile than all
/// else of it.
#[tokio::test]
async fn chat_responses_and_embeddings_run_through_the_gates() -> Result<(), Box<dyn Error>> {
    let sim = Sim::builder().build()?;
    let served = sim.spawn("127.0.0.1:0").await?;
    let policy = policy().max_concurrency(1);
    let service = policy.async_openai();
    let client = Client::with_config(config(&served)).with_http_service(service.clone());

    let (plain, url) = (
        reqwest::Client::new(),
        format!("{}/responses", served.url()),
    );
    let response = HttpRequestFactory::new(move || {
        let body = serde_json::json!({"model": "gpt-4o", "max_output_tokens": 20, "input": "Hi"});
        let request = plain.post(&url).bearer_auth("sk-simulated").json(&body);
        async move { Ok(request.build()?) }
    });
    let response = async {
        let answer = service.oneshot(response).await?;
        Ok::<Value, OpenAIError>(answer.error_for_status()?.json().await?)
    };
    let embedding = CreateEmbeddingRequestArgs::default()
        .model("text-embedding-3-small")
        .input(["one", "two"])
        .build()?;
    let (chat, embeddings) = (client.chat(), client.embeddings());
    let (chat, response, embeddings) = tokio::join!(
        chat.create(question("Hi", 20)),
        response,
        embeddings.create(embedding),
    );
    assert!(chat?.usage.is_some_and(|usage| usage.total_tokens > 0));
    assert!(response?["usage"]["total_tokens"].as_u64() > Some(0));
    assert_eq!(embeddings?.data.len(), 2);
    let report = sim.report();
    assert_eq!((report.arrived, report.peak_in_flight), (3, 1), "{report}");
    Ok(())
}

/// What each attempt brought along.
type Attempts = Arc<Mutex<Vec<HeaderMap>>>;

/// Answers 503 twice and then well.
async fn shaky() -> (String, Attempts) {
    const GOOD: &str =
        r#"{"id":"c","object":"chat.completion","created":1,"model":"m","choices":[]}"#;
    let attempts = Attempts::default();
    let app = Router::new().fallback({
        let attempts = attempts.clone();
        move |headers: HeaderMap| async move {
            let mut attempts = attempts.lock().expect("no panic");
            attempts.push(headers);
            match attempts.len() {
                1 | 2 => (StatusCode::SERVICE_UNAVAILABLE, "{}"),
                _ => (StatusCode::OK, GOOD),
            }
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}/v1", listener.local_addr().expect("an address"));
    tokio::spawn(async move { axum::serve(listener, app).await });
    (url, attempts)
}

/// Three attempts, not nine: async-openai's own retries are off. Each is built
/// anew, and all bear one idempotency key.
#[tokio::test]
async fn retries_are_the_policys_alone() {
    let (url, attempts) = shaky().await;
    let config = OpenAIConfig::new().with_api_base(url).with_api_key("k");
    let client = Client::with_config(config).with_http_service(policy().async_openai());
    client
        .chat()
        .create(question("Hi", 20))
        .await
        .expect("an answer");

    let attempts = attempts.lock().expect("no panic");
    let header = |name: &str| -> Vec<&str> {
        attempts
            .iter()
            .map(|h| h[name].to_str().expect("text"))
            .collect()
    };
    assert_eq!(header("x-stainless-retry-count"), ["0", "1", "2"]);
    assert_eq!(header("authorization"), ["Bearer k"; 3]);
    assert_eq!(header("content-type"), ["application/json"; 3]);
    let keys = header("idempotency-key");
    assert!(keys.iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn refusals_and_errors_come_through_async_openai() {
    let sim = Sim::builder()
        .api_key("another")
        .build()
        .expect("allowed settings");
    let served = sim.spawn("127.0.0.1:0").await.expect("a free port");
    let client = Client::with_config(config(&served)).with_http_service(policy().async_openai());

    let wrong_key = client
        .chat()
        .create(question("Hi", 20))
        .await
        .expect_err("an error");
    assert!(matches!(wrong_key, OpenAIError::ApiError(error) if error.status_code == 401));

    let too_large = client
        .chat()
        .create(question("Hi", 50_000))
        .await
        .expect_err("an error");
    let OpenAIError::Boxed(error) = too_large else {
        panic!("{too_large:?}");
    };
    let error = ApiError::from(error);
    assert!(
        matches!(error.refused(), Some(Refused::TooLarge { .. })),
        "{error:?}"
    );
    assert_eq!(error.scope(), Scope::Tokens);
    assert_eq!(sim.report().arrived, 1);
}

#[tokio::test]
async fn a_reqwest_client_keeps_the_limits_in_its_own_types() {
    let sim = Sim::builder().build().expect("allowed settings");
    let served = sim.spawn("127.0.0.1:0").await.expect("a free port");
    let plain = reqwest::Client::new();
    let policy = policy().max_concurrency(2);
    let client = policy.reqwest(plain.clone());
    let url = format!("{}/chat/completions", served.url());
    let calls = (0..6).map(|n| {
        let body = format!(
            r#"{{"model":"gpt-4o","max_tokens":20,"messages":[{{"role":"user","content":"{n}"}}]}}"#
        );
        let request = plain.post(&url).bearer_auth("k").body(body).build();
        let answer = client.clone().oneshot(request.expect("a request"));
        let url = url.clone();
        async move {
            let answer: reqwest::Response = answer.await.expect("an answer");
            assert_eq!(
                (answer.status().as_u16(), answer.url().as_str()),
                (200, &*url)
            );
            // The slot is held until the last byte is read.
            answer.text().await.expect("a text")
        }
    });
    for text in join_all(calls).await {
        assert!(text.contains("total_tokens"), "{text}");
    }
    let report = sim.report();
    assert_eq!(report.arrived, 6);
    assert!(report.peak_in_flight <= 2, "{report}");
}

/// In the builder's own style, each way of saying something makes what reqwest's own
/// builder makes.
#[test]
fn a_reqwest_builder_makes_what_reqwests_own_makes() {
    use reqwest::header::{HeaderMap, HeaderValue};
    use reqwest::{Method, RequestBuilder as Plain, Version};
    use tollhouse_openai::adapters::reqwest::RequestBuilder as Ours;

    const URL: &str = "http://127.0.0.1:1/v1/responses";
    let plain = reqwest::Client::new();
    let client = policy().reqwest(plain.clone());
    let seen = |request: reqwest::Result<reqwest::Request>| {
        let request = request.expect("a request");
        let body = request.body().and_then(reqwest::Body::as_bytes);
        let headers: Vec<_> = request.headers().clone().into_iter().collect();
        (
            request.method().clone(),
            request.url().clone(),
            request.version(),
            format!("{headers:?}"),
            request.timeout().copied(),
            body.map(<[u8]>::to_vec),
        )
    };
    let begun = [
        (client.get(URL), plain.get(URL)),
        (client.put(URL), plain.put(URL)),
        (client.patch(URL), plain.patch(URL)),
        (client.delete(URL), plain.delete(URL)),
        (client.head(URL), plain.head(URL)),
        (
            client.request(Method::OPTIONS, URL),
            plain.request(Method::OPTIONS, URL),
        ),
    ];
    for (ours, theirs) in begun {
        assert_eq!(seen(ours.build()), seen(theirs.build()));
    }

    let value = serde_json::json!({"model": "gpt-4o", "input": "Hi"});
    let headers = HeaderMap::from_iter([(
        reqwest::header::ACCEPT,
        HeaderValue::from_static("application/json"),
    )]);
    let pairs = [("a", "1 2"), ("b", "&")];
    let minute = Duration::from_secs(60);
    type Change<'a, B> = Box<dyn Fn(B) -> B + 'a>;
    let changes: Vec<(&str, Change<'_, Ours>, Change<'_, Plain>)> = vec![
        (
            "json",
            Box::new(|r| r.json(&value)),
            Box::new(|r| r.json(&value)),
        ),
        (
            "form",
            Box::new(|r| r.form(&pairs)),
            Box::new(|r| r.form(&pairs)),
        ),
        (
            "query",
            Box::new(|r| r.query(&pairs)),
            Box::new(|r| r.query(&pairs)),
        ),
        (
            "body",
            Box::new(|r| r.body("text")),
            Box::new(|r| r.body("text")),
        ),
        (
            "header",
            Box::new(|r| r.header("x-a", "1")),
            Box::new(|r| r.header("x-a", "1")),
        ),
        (
            "headers",
            Box::new(|r| r.headers(headers.clone())),
            Box::new(|r| r.headers(headers.clone())),
        ),
        (
            "bearer",
            Box::new(|r| r.bearer_auth("k")),
            Box::new(|r| r.bearer_auth("k")),
        ),
        (
            "basic",
            Box::new(|r| r.basic_auth("me", Some("mine"))),
            Box::new(|r| r.basic_auth("me", Some("mine"))),
        ),
        (
            "timeout",
            Box::new(|r| r.timeout(minute)),
            Box::new(|r| r.timeout(minute)),
        ),
        (
            "version",
            Box::new(|r| r.version(Version::HTTP_2)),
            Box::new(|r| r.version(Version::HTTP_2)),
        ),
        (
            "with",
            Box::new(|r| r.with(|r| r.header("x-b", "2"))),
            Box::new(|r| r.header("x-b", "2")),
        ),
        (
            "try_clone",
            Box::new(|r| r.try_clone().expect("no stream")),
            Box::new(|r| r),
        ),
    ];
    let bare = seen(plain.post(URL).build());
    for (name, ours, theirs) in changes {
        let made = seen(ours(client.post(URL)).build());
        assert_eq!(made, seen(theirs(plain.post(URL)).build()), "{name}");
        assert_eq!(made == bare, name == "try_clone", "{name}");
    }
}

/// `client.post(url).json(&body).send()` goes through the gates, and what could not be
/// built was never sent and costs nothing.
#[tokio::test]
async fn a_request_in_reqwests_own_style_goes_through_the_gates() {
    let sim = Sim::builder().build().expect("allowed settings");
    let served = sim.spawn("127.0.0.1:0").await.expect("a free port");
    // A day's tokens do not refill while anybody looks.
    let mut config = policy().config().clone();
    config.tokens_per_day = Some(100_000);
    let policy = Policy::new(config).expect("valid");
    let left = || {
        let meters = policy.budget().snapshot().meters;
        let of_the_day = meters.iter().find(|meter| meter.per == Per::Day);
        of_the_day.expect("it has one").level
    };
    let client = policy.reqwest(reqwest::Client::new());
    let question = serde_json::json!({"model": "gpt-4o", "input": "Hi", "max_output_tokens": 500});
    let send = |url: String| client.post(url).bearer_auth("k").json(&question).send();

    let error = send("no address".to_owned()).await.expect_err("no address");
    assert!(error.is_never_sent(), "{error:?}");
    let builder = error.downcast_ref::<reqwest::Error>();
    assert!(builder.is_some_and(reqwest::Error::is_builder), "{error:?}");
    assert_eq!(left(), 100_000);

    let answer = send(format!("{}/responses", served.url())).await;
    let answer = answer.expect("an answer");
    assert_eq!(answer.status(), 200);
    assert!(answer.text().await.expect("a text").contains("output_text"));
    assert!(left() <= 100_000 - 500, "{}", left());
    assert_eq!(sim.report().arrived, 1);
}

/// A timeout of the request's own is one attempt's, and is tried again.
#[tokio::test]
async fn a_reqwest_timeout_is_an_attempt_that_is_made_again() {
    let asked = Arc::new(AtomicUsize::new(0));
    let app = Router::new().fallback({
        let asked = asked.clone();
        move || async move {
            if asked.fetch_add(1, Ordering::SeqCst) == 0 {
                std::future::pending::<()>().await;
            }
            "{}"
        }
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!(
        "http://{}/v1/responses",
        listener.local_addr().expect("an address")
    );
    tokio::spawn(async move { axum::serve(listener, app).await });

    let plain = reqwest::Client::new();
    // Enough for an answer that comes at once, on a busy machine too.
    let patience = Duration::from_millis(500);
    let request = plain.post(url).timeout(patience).body("{}").build();
    let client = policy().reqwest(plain);
    let answer = client
        .execute(request.expect("a request"))
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200);
    assert_eq!(asked.load(Ordering::SeqCst), 2);
}

/// A proxy in two layers: bodies of any kind in, the client's own kind out.
#[tokio::test]
async fn streamed_bodies_are_collected_before_they_stand_in_line() {
    use tollhouse_openai::OpenAi;
    use tollhouse_openai::adapters::WholeBodyLayer;

    let sim = Sim::builder().build().expect("allowed settings");
    let served = sim.spawn("127.0.0.1:0").await.expect("a free port");
    let openai = OpenAi::builder()
        .base_url(served.url())
        .build()
        .expect("a client");
    let client = tower::ServiceBuilder::new()
        .layer(WholeBodyLayer::new(1 << 20))
        .layer(policy().layer())
        .service(openai);
    let pieces = [
        r#"{"model":"gpt-4o","max_tokens":20,"#,
        r#""messages":[{"role":"user","content":"Hi"}]}"#,
    ];
    let pieces = futures_util::stream::iter(pieces.map(Ok::<_, std::io::Error>));
    let request = http::Request::post("/v1/chat/completions")
        .body(axum::body::Body::from_stream(pieces))
        .expect("a request");
    let answer = client.oneshot(request).await.expect("an answer");
    assert_eq!(answer.status(), 200);
    let body = answer
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes();
    assert!(body.starts_with(b"{"));
}
