use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::call::Call;
use bytes::Bytes;
use http::Request;
use tollhouse::Cost;

fn post(path: &str, body: &Value) -> Request<Bytes> {
    let body = Bytes::from(body.to_string());
    Request::post(path).body(body).expect("a request")
}

fn both(path: &str, body: Value) -> (u64, u64) {
    let request = post(path, &body);
    (
        ChargeRule::Safe.cost(&request),
        ChargeRule::OpenAi.cost(&request),
    )
}

const CHAT: &str = "/v1/chat/completions";

#[test]
fn chat_counts_text_messages_and_asked_output() {
    // 12 + 5 = 17 bytes, 5 tokens; 2 messages.
    let messages = json!([
        {"role": "system", "content": "Be brief, ok"},
        {"role": "user", "content": "Hello"},
    ]);
    let with = |more: Value| {
        let mut body = json!({"model": "gpt-4o", "messages": messages});
        let fields = body.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        both(CHAT, body)
    };
    let (input, openai) = (5 + 2 * 4 + 3, 5 + 2 + 1);
    assert_eq!(with(json!({"max_tokens": 50})), (input + 50, openai));
    assert_eq!(
        with(json!({"max_tokens": 50, "n": 3})),
        (input + 150, openai)
    );
    let two = json!({"max_completion_tokens": 80, "max_tokens": 50});
    assert_eq!(with(two), (input + 80, openai));
    // No length asked, or none that is a number: at least the estimate.
    assert_eq!(with(json!({})), (7_000, openai));
    assert_eq!(with(json!({"max_tokens": null})), (7_000, openai));
    assert_eq!(with(json!({"max_tokens": "many"})), (7_000, openai));
    assert_eq!(with(json!({"n": 1_000})), (input + 16_000, openai));
    // The serialised tools: 11 bytes, 3 tokens, free at OpenAI's admission.
    let tools = json!({"max_tokens": 50, "tools": [{"a": "b"}]});
    assert_eq!(with(tools), (input + 50 + 3, openai));
}

/// What learning may not go below.
#[test]
fn what_is_charged_up_front_leaves_out_what_nobody_asked_for() {
    let estimate = |rule: ChargeRule, path: &str, body: Value| {
        let request = post(path, &body);
        let call = Call::of(&request);
        let estimate = rule.with_est_tokens(7_000).estimate(call.facts());
        let estimate = estimate.expect("a cost");
        let model = estimate.model.map(ToOwned::to_owned);
        (estimate.prompt, estimate.upfront, estimate.tokens, model)
    };
    // 8 bytes are 2 tokens; 4 for the message and 3 for the reply.
    let chat = json!({"model": "a\u{e9}", "messages": [{"content": "12345678"}]});
    let named = Some("a\u{e9}".to_owned());
    let safe = (9, 9 + 16, 7_000, named.clone());
    assert_eq!(estimate(ChargeRule::Safe, CHAT, chat.clone()), safe);
    let openai = (9, 4, 4, named.clone());
    assert_eq!(estimate(ChargeRule::OpenAi, CHAT, chat.clone()), openai);
    let fixed = (9, 500, 500, named);
    assert_eq!(estimate(ChargeRule::Fixed(500), CHAT, chat), fixed);

    let asked = json!({"max_tokens": 50, "n": 2, "messages": [{"content": "12345678"}]});
    let asked_of = |path| estimate(ChargeRule::Safe, path, asked.clone());
    assert_eq!(asked_of(CHAT), (9, 109, 109, None));
    let azure = "/openai/deployments/mine/chat/completions";
    assert_eq!(asked_of(azure), (9, 109, 109, Some("mine".to_owned())));

    let later = json!({"previous_response_id": "r", "input": "12345678", "max_output_tokens": 1});
    let (_, upfront, tokens, _) = estimate(ChargeRule::Safe, "/v1/responses", later);
    assert_eq!((upfront, tokens), (10, 7_000));
}

#[test]
fn long_prompts_without_an_asked_length_cost_what_they_are() {
    let text = "x".repeat(40_000);
    let body = json!({"messages": [{"role": "user", "content": text}]});
    assert_eq!(both(CHAT, body), (10_000 + 4 + 3 + 16, 10_000 + 1 + 1));
}

#[test]
fn images_are_flat_and_their_data_is_not_text() {
    let data = format!("data:image/png;base64,{}", "A".repeat(100_000));
    let body = json!({"max_tokens": 10, "messages": [{"role": "user", "content": [
        {"type": "text", "text": "What is it?!"},
        {"type": "image_url", "image_url": {"url": data, "detail": "high"}},
        {"type": "image_url", "image_url": {"url": "https://e/x.png"}},
    ]}]});
    assert_eq!(
        both(CHAT, body),
        (3 + 2 * 765 + 4 + 3 + 10, 3 + 2 * 765 + 1 + 1)
    );
}

#[test]
fn text_counts_in_utf8_bytes_with_escapes_resolved() {
    // 3 characters, 9 bytes, written as 18.
    let body = r#"{"max_tokens": 1, "messages": [{"content": "\u6771\u4eac\u90fd"}]}"#;
    let request = Request::post(CHAT)
        .body(Bytes::from(body))
        .expect("a request");
    assert_eq!(ChargeRule::Safe.cost(&request), 3 + 4 + 3 + 1);
}

#[test]
fn tool_calls_and_their_results_are_text() {
    let body = json!({"max_tokens": 1, "messages": [
        {"role": "assistant", "content": null, "tool_calls": [
            {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{\"a\":1}"}},
        ]},
        {"role": "tool", "tool_call_id": "call_1", "content": "four"},
    ]});
    // 1 + 7 + 4 bytes.
    assert_eq!(both(CHAT, body), (3 + 2 * 4 + 3 + 1, 3 + 2 + 1));
}

#[test]
fn responses_guess_their_output_and_honour_what_is_asked() {
    let path = "/v1/responses";
    let body = json!({"input": "Say it twice", "max_output_tokens": 40});
    assert_eq!(both(path, body), (3 + 4 + 3 + 40, 3 + 4 + 3 + 19));

    let body = json!({"instructions": "Be brief", "max_output_tokens": 40, "input": [
        {"role": "user", "content": [
            {"type": "input_text", "text": "What is it?!"},
            {"type": "input_image", "image_url": "data:image/png;base64,AAAA"},
        ]},
    ]});
    let input = 5 + 765 + 2 * 4 + 3;
    assert_eq!(both(path, body), (input + 40, input + 19));

    // {"type":"function"} in brackets: 21 bytes, 6 tokens.
    let tools = json!([{"type": "function"}]);
    let body = json!({"input": "four", "max_output_tokens": 40, "tools": tools});
    assert_eq!(both(path, body), (1 + 7 + 6 + 40, 1 + 7 + 6 + 217));
}

#[test]
fn what_the_provider_remembers_costs_at_least_the_estimate() {
    for more in [
        json!({"previous_response_id": "resp_1"}),
        json!({"conversation": {"name": "conv_1"}}),
        json!({"prompt": {"id": "pmpt_1"}}),
    ] {
        let mut body = json!({"input": "Go on", "max_output_tokens": 5});
        let fields = body.as_object_mut().expect("an object");
        fields.extend(more.as_object().expect("an object").clone());
        assert_eq!(
            both("/v1/responses", body.clone()),
            (7_000, 7_000),
            "{body}"
        );
    }
}

#[test]
fn completions_multiply_prompts_and_answers() {
    let path = "/v1/completions";
    let body = json!({"prompt": "Once upon a time", "max_tokens": 10});
    assert_eq!(both(path, body), (4 + 10, 4));
    let body = json!({"prompt": ["Once", "Twice!!!"], "max_tokens": 10, "best_of": 3, "n": 2});
    assert_eq!(both(path, body), (3 + 2 * 3 * 10, 3));
    let body = json!({"prompt": [1, 2, 3, 4, 5], "max_tokens": 10});
    assert_eq!(both(path, body), (5 + 10, 5));
    let body = json!({"prompt": [[1, 2, 3], [4, 5]], "max_tokens": 10});
    assert_eq!(both(path, body), (5 + 20, 5));
}

#[test]
fn embeddings_and_moderations_have_no_output() {
    for path in ["/v1/embeddings", "/v1/moderations", "/embeddings/"] {
        for (input, tokens) in [
            (json!("four"), 1),
            // 9 bytes over all strings, not 5 + 4 each rounded up.
            (json!(["Hello", "four"]), 3),
            (json!([5, 6, 7]), 3),
            (json!([[5, 6, 7], [8]]), 4),
            (json!([]), 0),
        ] {
            let body = json!({"model": "m", "input": input});
            assert_eq!(both(path, body), (tokens, tokens), "{path} {input}");
        }
    }
}

#[test]
fn what_is_not_understood_costs_its_bytes_and_the_estimate() {
    let body = json!({"prompt": "four"});
    let bytes = body.to_string().len() as u64;
    let cost = bytes.div_ceil(4) + 7_000;
    assert_eq!(both("/v1/images/generations", body), (cost, cost));

    for body in ["not json", "[1]", "", "{\"messages\": [", "\"x\""] {
        let request = Request::post(CHAT)
            .body(Bytes::from(body))
            .expect("a request");
        let expected = (body.len() as u64).div_ceil(4) + 500;
        let charge = ChargeRule::Safe.with_est_tokens(500);
        assert_eq!(charge.cost(&request), expected, "{body}");
    }
}

#[test]
fn reading_and_keeping_cost_nothing() {
    let get = Request::get("/v1/models")
        .body(Bytes::new())
        .expect("a request");
    let file = Request::post("/v1/files").body(Bytes::from("x".repeat(4_000)));
    let delete = Request::delete("/v1/responses/resp_1").body(Bytes::new());
    for request in [get, file.expect("a request"), delete.expect("a request")] {
        for rule in [ChargeRule::Safe, ChargeRule::OpenAi, ChargeRule::Fixed(9)] {
            assert_eq!(rule.cost(&request), 0, "{}", request.uri());
        }
    }
}

#[test]
fn a_fixed_price_is_fixed() {
    let charge = ChargeRule::Fixed(1_234).with_est_tokens(7);
    assert_eq!(charge.cost(&post(CHAT, &json!({"max_tokens": 9}))), 1_234);
    assert_eq!(charge.cost(&post("/v1/other", &json!({}))), 1_234);
}

#[test]
fn azures_paths_are_known() {
    let path = "/openai/deployments/gpt-4o/chat/completions?api-version=2024-06-01";
    let body = json!({"messages": [{"content": "four"}], "max_tokens": 1});
    assert_eq!(both(path, body), (1 + 4 + 3 + 1, 3));
}

#[test]
fn absurd_lengths_cost_what_a_budget_takes_at_most() {
    let body = json!({"messages": [], "max_tokens": u64::MAX, "n": u64::MAX});
    assert_eq!(both(CHAT, body).0, MOST);
    let body = json!({"messages": [], "max_tokens": 1e300, "n": -3});
    assert_eq!(both(CHAT, body).0, MOST);
    let body = json!({"messages": [], "max_tokens": MOST - 100});
    assert!((MOST - 100..MOST).contains(&both(CHAT, body).0));
}

proptest! {
    #[test]
    fn hostile_bodies_never_panic(
        body in "[\\{\\}\\[\\]\",:0-9a-z ]{0,200}",
        path in "(/[a-z]{0,12}){0,4}",
    ) {
        let request = Request::post(if path.is_empty() { CHAT } else { &path })
            .body(Bytes::from(body)).expect("a request");
        ChargeRule::Safe.cost(&request);
        ChargeRule::OpenAi.cost(&request);
    }

    /// More text never costs less.
    #[test]
    fn cost_grows_with_the_prompt(text in "\\PC{0,60}", more in "\\PC{0,60}", asked in 0_u64..5_000) {
        let cost = |text: &str| both(CHAT, json!({"messages": [{"content": text}], "max_tokens": asked}));
        let (less, all) = (cost(&text), cost(&format!("{text}{more}")));
        prop_assert!(less.0 <= all.0 && less.1 <= all.1);
        prop_assert!(all.0 >= asked);
    }
}
