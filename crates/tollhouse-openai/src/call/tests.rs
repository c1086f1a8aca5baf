use std::cell::Cell;

use bytes::Bytes;
use http::header::ETAG;
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use tollhouse::Cost;

use super::*;

thread_local! {
    static READINGS: Cell<u32> = const { Cell::new(0) };
}

/// Called wherever a body is parsed.
pub(crate) fn count_a_reading() {
    READINGS.set(READINGS.get() + 1);
}

fn readings() -> u32 {
    READINGS.get()
}

const CHAT: &str = "/v1/chat/completions";

fn post(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(path).body(body.into()).expect("a request")
}

fn model(request: &Request<Bytes>) -> Option<String> {
    Call::of(request).model().map(ToOwned::to_owned)
}

#[test]
fn what_is_attached_is_not_read_again_and_follows_a_clone() {
    let mut request = post(CHAT, r#"{"model": "a"}"#);
    let before = readings();
    Call::attach(&mut request);
    Call::attach(&mut request);
    assert_eq!(model(&request).as_deref(), Some("a"));
    assert_eq!(model(&request.clone()).as_deref(), Some("a"));
    assert_eq!(readings() - before, 1);
}

#[test]
fn another_body_is_read_anew_even_where_the_first_one_stood() {
    let mut request = post(CHAT, r#"{"model": "a"}"#);
    Call::attach(&mut request);
    for name in ["b", "c", "d", "e"] {
        // Of the same length, and the allocator likes to give the same place.
        *request.body_mut() = Bytes::new();
        *request.body_mut() = Bytes::from(format!(r#"{{"model": "{name}"}}"#));
        assert_eq!(model(&request).as_deref(), Some(name));
    }
    let before = readings();
    Call::attach(&mut request);
    assert_eq!(model(&request).as_deref(), Some("e"));
    assert_eq!(
        readings() - before,
        1,
        "attaching anew replaces what was known"
    );
}

#[test]
fn another_head_is_another_call_of_the_same_body() {
    let mut request = post(
        CHAT,
        r#"{"messages": [{"content": "four"}], "max_tokens": 9}"#,
    );
    Call::attach(&mut request);
    let before = readings();
    assert_eq!(ChargeRule::Safe.cost(&request), 1 + 4 + 3 + 9);
    *request.uri_mut() = "/openai/deployments/mine/embeddings"
        .parse()
        .expect("a path");
    assert_eq!(ChargeRule::Safe.cost(&request), 1);
    assert_eq!(model(&request).as_deref(), Some("mine"));
    *request.method_mut() = Method::GET;
    assert_eq!(ChargeRule::Safe.cost(&request), 0);
    assert_eq!(readings() - before, 0);
}

/// The query of a session names its model, under whatever head it comes to stand.
#[test]
fn a_sessions_model_follows_its_head() {
    let mut request = post("/v1/realtime?model=gpt-realtime", "");
    Call::attach(&mut request);
    for (uri, named) in [
        (
            "/openai/v1/realtime?model=gpt-realtime",
            Some("gpt-realtime"),
        ),
        ("/v1/realtime?model=other", Some("other")),
        ("/v1/realtime", None),
        ("/v1/responses?model=other", None),
    ] {
        *request.uri_mut() = uri.parse().expect("a path");
        assert_eq!(model(&request).as_deref(), named, "{uri}");
    }
}

#[test]
fn a_body_that_was_made_to_ask_for_its_usage_is_known_already() {
    let mut request = post(CHAT, r#"{"model": "a", "stream": true}"#);
    let before = readings();
    assert!(ask_for_usage(&mut request));
    assert!(!ask_for_usage(&mut request), "asked once is asked");
    let call = Call::of(&request);
    assert_eq!((call.model(), call.streams()), (Some("a"), true));
    assert_eq!(readings() - before, 1);
}

#[tokio::test]
async fn what_is_said_behind_a_body_stays_where_it_is_made_to_ask() {
    let trailers = HeaderMap::from_iter([(ETAG, HeaderValue::from_static("x"))]);
    let body = Bytes::from(r#"{"model": "a", "stream": true}"#);
    let body = RequestBody::with_trailers(body, trailers.clone());
    let mut request = Request::post(CHAT).body(body).expect("a request");
    assert!(ask_for_usage(&mut request));
    let body = request.into_body();
    assert!(body.whole().expect("a whole body").len() > 60);
    let body = body.collect().await.expect("a body");
    assert_eq!(body.trailers(), Some(&trailers));
}

#[test]
fn only_posts_to_chat_are_asked_and_a_told_length_is_corrected() {
    let body = r#"{"stream":true}"#;
    let with = |method: &str, path: &str| {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-length", "15");
        request.body(Bytes::from(body)).expect("a request")
    };
    let mut chat = with("POST", CHAT);
    assert!(ask_for_usage(&mut chat));
    let length = chat.body().len().to_string();
    assert_eq!(chat.headers()["content-length"], length);
    for (method, path) in [
        ("POST", "/v1/responses"),
        ("POST", "/v1/completions"),
        ("GET", CHAT),
    ] {
        let mut other = with(method, path);
        assert!(!ask_for_usage(&mut other), "{method} {path}");
        assert_eq!(other.body(), body);
    }
}

#[cfg(feature = "spans")]
mod stack {
    use std::convert::Infallible;

    use http::{Response, StatusCode};
    use http_body_util::Full;
    use tollhouse::Attempts;
    use tower::{Layer, ServiceExt, service_fn};

    use super::*;
    use crate::spans::SpanLayer;
    use crate::{Limit, Policy};

    /// What stands directly around the client counts as well.
    async fn provider(request: Request<Bytes>) -> Result<Response<Full<Bytes>>, Infallible> {
        assert!(ChargeRule::Safe.cost(&request) > 2_500_000);
        assert!(request.body().starts_with(br#"{"stream_options""#));
        let first = request.headers()["x-stainless-retry-count"] == "0";
        let status = if first { 503 } else { 200 };
        let mut answer = Response::new(Full::from("{}"));
        *answer.status_mut() = StatusCode::from_u16(status).expect("a status");
        Ok(answer)
    }

    #[tokio::test(start_paused = true)]
    async fn ten_megabytes_are_read_once_by_the_whole_stack_over_a_retry() {
        let _guard = tracing::subscriber::set_default(tracing_subscriber::registry());
        let policy = Policy::default()
            .tpm_limit(Limit::per_minute(100_000_000))
            .cautious_start(false)
            .learn_factor(true)
            .ask_for_usage(true);
        let stack = SpanLayer::new("openai").layer(
            policy
                .layer()
                .layer(SpanLayer::new("openai").layer(service_fn(provider))),
        );
        let text = "How deep is the sea? ".repeat(500_000);
        let body = serde_json::json!({
            "model": "gpt-4o", "stream": true, "messages": [{"role": "user", "content": text}],
        });
        let request = post(CHAT, body.to_string());
        let before = readings();
        let answer = stack.oneshot(request).await.expect("an answer");
        assert_eq!(answer.extensions().get(), Some(&Attempts(2)));
        assert_eq!(readings() - before, 1);
    }
}
