//! The example batches are what they claim to be.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;

use bytes::Bytes;
use http::Request;
use serde_json::Value;
use tollhouse_batch::{Limits, Plan};

fn read(name: &str) -> String {
    let data = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/data");
    fs::read_to_string(data.join(name)).expect("the example is there")
}

async fn plan(name: &str) -> Plan {
    let quarter = |request: &Request<Bytes>| request.body().len() as u64 / 4;
    let plan = Plan::read(read(name).as_bytes(), quarter, Limits::new()).await;
    plan.expect("memory can be read")
}

#[tokio::test]
async fn good_examples_have_no_bad_line() {
    for (name, lines, endpoints) in [("chat.jsonl", 302, 1), ("mixed.jsonl", 120, 3)] {
        let plan = plan(name).await;
        assert_eq!(plan.bad_lines.first, [], "{name}");
        assert_eq!((plan.lines, plan.requests), (lines, lines), "{name}");
        let seen: BTreeSet<_> = plan.loads.iter().map(|load| &load.endpoint).collect();
        assert_eq!(seen.len(), endpoints, "{name}");
    }
}

#[test]
fn good_examples_are_valid_for_the_api() {
    for name in ["chat.jsonl", "mixed.jsonl"] {
        for line in read(name).lines() {
            let line: Value = serde_json::from_str(line).expect("a line is JSON");
            let body = &line["body"];
            assert!(body["model"].is_string(), "{line}");
            match line["url"].as_str() {
                Some("/v1/chat/completions") => check_chat(body),
                Some("/v1/responses") => check_input(&body["input"]),
                Some("/v1/embeddings") => check_input(&body["input"]),
                _ => panic!("an endpoint that is not in the examples: {line}"),
            }
        }
    }
}

fn check_chat(body: &Value) {
    let messages = body["messages"].as_array().expect("a chat has messages");
    assert_eq!(
        messages.last().map(|last| &last["role"]),
        Some(&"user".into())
    );
    for message in messages {
        let content = message["content"].as_str().unwrap_or_default();
        assert!(!content.is_empty(), "{message}");
    }
    if body["response_format"]["type"] == "json_object" {
        // The API refuses it otherwise.
        assert!(body["messages"].to_string().contains("JSON"), "{body}");
    }
}

fn check_input(input: &Value) {
    let filled = match input {
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty() && items.iter().all(|item| item != ""),
        _ => false,
    };
    assert!(filled, "{input}");
}

#[tokio::test]
async fn bad_example_has_every_kind_of_bad_line() {
    let plan = plan("bad.jsonl").await;
    let problems: Vec<_> = plan
        .bad_lines
        .first
        .iter()
        .map(ToString::to_string)
        .collect();
    let expected = [
        "line 2: not a JSON object: ",
        "line 3: not a JSON object: ",
        "line 4: `custom_id` is missing",
        "line 5: `custom_id` is 5; ",
        "line 6, custom_id \"models\": `method` is \"GET\"; ",
        "line 7, custom_id \"nowhere\": `url` is missing",
        "line 8, custom_id \"nowhere-else\": `url` is \"chat/completions\"; ",
        "line 9, custom_id \"empty-handed\": `body` is missing",
        "line 10, custom_id \"in-a-list\": `body` is [",
        "line 12: not a JSON object: ",
        "line 13, custom_id \"greeting-1\": the same custom_id as line 1; ",
    ];
    assert_eq!(problems.len(), expected.len());
    for (problem, expected) in problems.iter().zip(expected) {
        assert!(problem.starts_with(expected), "{problem} is not {expected}");
    }
    assert_eq!(plan.requests, 2);
}
