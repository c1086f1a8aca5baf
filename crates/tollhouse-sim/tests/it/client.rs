//! A small client.

use std::io;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tollhouse_sim::Sim;
use tower::ServiceExt;

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).expect("JSON")
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers
            .get(name)
            .map_or("", |value| value.to_str().expect("text"))
    }

    pub(crate) fn message(&self) -> String {
        let message = self.json()["error"]["message"].as_str().map(str::to_owned);
        message.expect("an error message")
    }

    /// The error without its message: type, param, code.
    pub(crate) fn error(&self) -> (Value, Value, Value) {
        let error = &self.json()["error"];
        (
            error["type"].clone(),
            error["param"].clone(),
            error["code"].clone(),
        )
    }

    /// The `data` of each event of a stream.
    pub(crate) fn events(&self) -> Vec<String> {
        let text = std::str::from_utf8(&self.bytes).expect("UTF-8");
        let data = text
            .split("\n\n")
            .filter(|event| !event.is_empty())
            .map(|event| {
                let line = event.lines().find_map(|line| line.strip_prefix("data: "));
                line.expect("a data line").to_owned()
            });
        data.collect()
    }

    /// The events of a stream as JSON, `[DONE]` left out.
    pub(crate) fn chunks(&self) -> Vec<Value> {
        let events = self.events().into_iter().filter(|data| data != "[DONE]");
        events
            .map(|data| serde_json::from_str(&data).expect("JSON"))
            .collect()
    }
}

pub(crate) fn post(path: &str, body: impl Into<Bytes>) -> Request<Bytes> {
    Request::post(path).body(body.into()).expect("a request")
}

pub(crate) fn chat_request(body: &Value) -> Request<Bytes> {
    post("/v1/chat/completions", body.to_string())
}

/// A chat that is charged 4 tokens for its prompt (2 of content, 1 message, 1
/// chat), uses 9 (2 of content, 4 for the message, 3 for the chat), and asks
/// for an answer of `length`.
pub(crate) fn hello(length: u64) -> Value {
    json!({
        "model": "gpt-4o",
        "messages": [{"role": "user", "content": "Hi there"}],
        "max_tokens": length,
    })
}

pub(crate) fn streamed(mut body: Value) -> Value {
    body["stream"] = json!(true);
    body
}

/// Sends, and reads the head alone.
pub(crate) async fn head(sim: &Sim, request: Request<Bytes>) -> io::Result<http::Response<Body>> {
    sim.service().oneshot(request).await
}

/// Sends, and reads the whole answer.
pub(crate) async fn send(sim: &Sim, request: Request<Bytes>) -> Answer {
    let response = head(sim, request).await.expect("no reset");
    let (parts, body) = response.into_parts();
    Answer {
        status: parts.status,
        headers: parts.headers,
        bytes: body.collect().await.expect("no cut").to_bytes(),
    }
}

pub(crate) async fn chat(sim: &Sim, body: &Value) -> Answer {
    send(sim, chat_request(body)).await
}

pub(crate) async fn call(sim: &Sim, path: &str, body: &Value) -> Answer {
    send(sim, post(path, body.to_string())).await
}

pub(crate) async fn get(sim: &Sim, path: &str) -> Answer {
    let request = Request::get(path).body(Bytes::new()).expect("a request");
    send(sim, request).await
}

/// A provider without limits, latency or faults.
pub(crate) fn generous() -> Sim {
    let builder = Sim::builder().tokens_per_minute(None);
    builder.requests_per_minute(None).build().expect("valid")
}
