//! Requests that are at fault.

use bytes::Bytes;
use http::Request;
use serde_json::{Value, json};
use tollhouse_sim::{Limits, Sim};

use crate::client::{call, chat, chat_request, generous, get, hello, post, send};

const INVALID: &str = "invalid_request_error";

#[tokio::test(start_paused = true)]
async fn a_body_that_is_no_json_object_is_400() {
    for body in ["", "{", "[1]", "\"text\""] {
        let answer = send(&generous(), post("/v1/chat/completions", body)).await;
        assert_eq!(answer.status, 400, "{body}");
        assert!(
            answer
                .message()
                .starts_with("We could not parse the JSON body")
        );
        assert_eq!(answer.error(), (json!(INVALID), Value::Null, Value::Null));
    }
}

#[tokio::test(start_paused = true)]
async fn bad_fields_are_named() {
    let with = |name: &str, value: Value| {
        let mut body = hello(10);
        body[name] = value;
        body
    };
    let table = [
        (
            with("model", Value::Null),
            "you must provide a model parameter",
            json!(null),
        ),
        (
            with("messages", Value::Null),
            "Missing required parameter: 'messages'.",
            json!("messages"),
        ),
        (
            with("messages", json!("Hi")),
            "Invalid type for 'messages': expected an array, but got a string instead.",
            json!("messages"),
        ),
        (
            with("messages", json!(["Hi"])),
            "Invalid type for 'messages[0]': expected an object, but got a string instead.",
            json!("messages[0]"),
        ),
        (
            with("messages", json!([])),
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got \
             an empty array instead.",
            json!("messages"),
        ),
        (
            with("max_tokens", json!("10")),
            "Invalid type for 'max_tokens': expected an unsigned integer, but got a string \
             instead.",
            json!("max_tokens"),
        ),
        (
            with("max_tokens", json!(0)),
            "Invalid 'max_tokens': integer below minimum value. Expected a value >= 1, but got 0 \
             instead.",
            json!("max_tokens"),
        ),
        (
            with("n", json!(129)),
            "Invalid 'n': integer above maximum value. Expected a value <= 128, but got 129 \
             instead.",
            json!("n"),
        ),
        (
            with("stream", json!("yes")),
            "Invalid type for 'stream': expected a boolean, but got a string instead.",
            json!("stream"),
        ),
    ];
    for (body, message, param) in table {
        let answer = chat(&generous(), &body).await;
        assert_eq!(answer.status, 400, "{message}");
        assert_eq!(answer.message(), message);
        assert_eq!(answer.error().1, param);
    }
}

#[tokio::test(start_paused = true)]
async fn too_many_texts_are_refused_and_many_token_ids_are_not() {
    let embed = |input: Value| json!({"model": "m", "input": input, "dimensions": 1});
    let answer = call(
        &generous(),
        "/v1/embeddings",
        &embed(json!(vec!["x"; 2_049])),
    )
    .await;
    assert_eq!(
        answer.message(),
        "Invalid 'input': array too long. Expected an array with maximum length 2048, but got an \
         array with length 2049 instead."
    );
    let answer = call(&generous(), "/v1/embeddings", &embed(json!(vec![7; 2_049]))).await;
    assert_eq!(answer.json()["usage"]["total_tokens"], 2_049);
    let answer = call(&generous(), "/v1/embeddings", &embed(json!([true]))).await;
    assert_eq!(answer.error().1, "input[0]");
}

#[tokio::test(start_paused = true)]
async fn a_failed_request_lowers_what_remains() {
    let sim = Sim::builder().requests_per_minute(600).build().unwrap();
    let answer = chat(&sim, &json!({"model": "gpt-4o"})).await;
    assert_eq!(answer.status, 400);
    assert_eq!(answer.header("x-ratelimit-remaining-requests"), "599");
    assert_eq!(answer.header("x-ratelimit-remaining-tokens"), "30000");
}

#[tokio::test(start_paused = true)]
async fn unknown_models_are_404_or_400_for_responses() {
    let sim = Sim::builder()
        .model("gpt-4o", Limits::default())
        .build()
        .unwrap();
    assert_eq!(chat(&sim, &hello(10)).await.status, 200);

    let body = json!({"model": "gpt-9", "messages": [{"role": "user", "content": "Hi"}]});
    let answer = chat(&sim, &body).await;
    assert_eq!(answer.status, 404);
    let message = "The model `gpt-9` does not exist or you do not have access to it.";
    assert_eq!(answer.message(), message);
    assert_eq!(answer.error().2, "model_not_found");

    let answer = call(
        &sim,
        "/v1/responses",
        &json!({"model": "gpt-9", "input": "Hi"}),
    )
    .await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().2),
        (400, json!("model_not_found"))
    );

    let answer = get(&sim, "/v1/models/gpt-9").await;
    assert_eq!(
        (answer.status.as_u16(), answer.error().2),
        (404, json!("model_not_found"))
    );
    let list = get(&sim, "/v1/models").await.json();
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn unknown_routes_and_methods_are_named() {
    let answer = send(&generous(), post("/v1/nothing", "{}")).await;
    assert_eq!(answer.status, 404);
    assert_eq!(answer.message(), "Invalid URL (POST /v1/nothing)");
    let answer = get(&generous(), "/v1/chat/completions").await;
    assert_eq!(answer.status, 405);
    assert!(
        answer
            .message()
            .starts_with("Not allowed to GET on /v1/chat/completions.")
    );
}

#[tokio::test(start_paused = true)]
async fn a_key_is_demanded_and_never_repeated() {
    let sim = Sim::builder().api_key("sk-right").build().unwrap();
    let with_key = |key: &'static str| {
        let mut request = chat_request(&hello(10));
        let value = format!("Bearer {key}").parse().unwrap();
        request.headers_mut().insert("authorization", value);
        request
    };
    assert_eq!(send(&sim, with_key("sk-right")).await.status, 200);

    let answer = send(&sim, with_key("sk-wrong")).await;
    assert_eq!(answer.status, 401);
    assert_eq!(answer.error().2, "invalid_api_key");
    assert!(!answer.message().contains("wrong"));

    let answer = chat(&sim, &hello(10)).await;
    assert_eq!(answer.status, 401);
    assert!(
        answer
            .message()
            .starts_with("You didn't provide an API key.")
    );
    assert_eq!(sim.report().invalid, 2);
    assert!(!format!("{sim:?}").contains("sk-right"));
}

#[tokio::test(start_paused = true)]
async fn the_router_nests_as_any_other() {
    let router = axum::Router::new().nest("/openai", generous().router());
    let request = Request::get("/openai/v1/models")
        .body(Bytes::new())
        .unwrap();
    let response = tower::ServiceExt::oneshot(router, request.map(axum::body::Body::from)).await;
    assert_eq!(response.unwrap().status(), 200);
}
