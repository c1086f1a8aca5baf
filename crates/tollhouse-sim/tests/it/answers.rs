//! The shapes of answers.

use serde_json::{Value, json};
use tollhouse_sim::{Answers, Sim};

use crate::client::{call, chat, generous, get, hello, streamed};

/// The text of a chat's stream.
fn streamed_text(chunks: &[Value], index: u64) -> String {
    let choices = chunks.iter().filter_map(|chunk| chunk["choices"].get(0));
    let mine = choices.filter(|choice| choice["index"] == index);
    mine.filter_map(|choice| choice["delta"]["content"].as_str())
        .collect()
}

fn word_count(text: &str) -> u64 {
    text.split(' ').count() as u64
}

#[tokio::test(start_paused = true)]
async fn chat_is_answered_whole() {
    let answer = chat(&generous(), &hello(50)).await;
    assert_eq!(answer.status, 200);
    assert_eq!(answer.header("content-type"), "application/json");
    assert!(answer.header("x-request-id").starts_with("req_"));
    assert_eq!(answer.header("openai-processing-ms"), "0");
    let body = answer.json();
    assert_eq!(body["object"], "chat.completion");
    assert_eq!(body["model"], "gpt-4o");
    let choice = &body["choices"][0];
    assert_eq!(choice["message"]["role"], "assistant");
    assert_eq!(choice["finish_reason"], "stop");
    let text = choice["message"]["content"].as_str().unwrap();
    let usage = &body["usage"];
    // 8 bytes are 2 tokens; 4 for the message, 3 for the conversation.
    assert_eq!(usage["prompt_tokens"], 9);
    let tokens = usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(tokens, word_count(text));
    assert!((1..=50).contains(&tokens));
    assert_eq!(usage["total_tokens"], 9 + tokens);
}

#[tokio::test(start_paused = true)]
async fn same_request_gets_same_answer_streamed_or_not() {
    let whole = chat(&generous(), &hello(80)).await;
    let again = chat(&generous(), &hello(80)).await;
    assert_eq!(whole.bytes, again.bytes);
    let stream = chat(&generous(), &streamed(hello(80))).await;
    let text = &whole.json()["choices"][0]["message"]["content"];
    assert_eq!(*text, streamed_text(&stream.chunks(), 0));

    let other = chat(&generous(), &hello(81)).await;
    assert_ne!(*text, other.json()["choices"][0]["message"]["content"]);
}

#[tokio::test(start_paused = true)]
async fn chat_stream_goes_from_role_to_done() {
    let answer = chat(&generous(), &streamed(hello(40))).await;
    assert_eq!(
        answer.header("content-type"),
        "text/event-stream; charset=utf-8"
    );
    let events = answer.events();
    assert_eq!(events.last().unwrap(), "[DONE]");
    let chunks = answer.chunks();
    let delta = |at: usize| chunks[at]["choices"][0]["delta"].clone();
    assert_eq!(
        delta(0),
        json!({"role": "assistant", "content": "", "refusal": null})
    );
    let last = chunks.len() - 1;
    assert_eq!(delta(last), json!({}));
    assert_eq!(chunks[last]["choices"][0]["finish_reason"], "stop");
    for chunk in &chunks {
        assert_eq!(chunk["object"], "chat.completion.chunk");
        assert!(chunk.get("usage").is_none());
    }
    // One token a chunk.
    assert_eq!(word_count(&streamed_text(&chunks, 0)), last as u64 - 1);
}

#[tokio::test(start_paused = true)]
async fn chat_stream_ends_with_usage_where_asked() {
    let mut body = streamed(hello(40));
    body["stream_options"] = json!({"include_usage": true});
    let chunks = chat(&generous(), &body).await.chunks();
    let (last, others) = chunks.split_last().unwrap();
    assert_eq!(last["choices"], json!([]));
    let whole = chat(&generous(), &hello(40)).await.json();
    assert_eq!(last["usage"], whole["usage"]);
    assert!(
        others
            .iter()
            .all(|chunk| chunk["usage"].is_null() && chunk.get("usage").is_some())
    );
}

#[tokio::test(start_paused = true)]
async fn several_choices_differ_and_are_streamed_side_by_side() {
    let mut body = hello(60);
    body["n"] = json!(3);
    let whole = chat(&generous(), &body).await.json();
    let chunks = chat(&generous(), &streamed(body)).await.chunks();
    let mut tokens = 0;
    for index in 0..3 {
        let choice = &whole["choices"][index as usize];
        assert_eq!(choice["index"], index);
        let text = choice["message"]["content"].as_str().unwrap();
        assert_eq!(text, streamed_text(&chunks, index));
        tokens += word_count(text);
    }
    assert_eq!(whole["usage"]["completion_tokens"], tokens);
    let texts: std::collections::HashSet<_> = (0..3).map(|i| streamed_text(&chunks, i)).collect();
    assert_eq!(texts.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn answers_use_four_tenths_of_the_asked_length() {
    let sim = generous();
    let mut tokens = 0;
    let mut cut_off = 0;
    for number in 0..400 {
        let mut body = hello(100);
        body["user"] = json!(number.to_string());
        let body = chat(&sim, &body).await.json();
        let used = body["usage"]["completion_tokens"].as_u64().unwrap();
        assert!((1..=100).contains(&used), "{used}");
        let is_cut = body["choices"][0]["finish_reason"] == "length";
        assert!(!is_cut || used == 100);
        cut_off += u64::from(is_cut);
        tokens += used;
    }
    let mean = tokens as f64 / 400.0;
    assert!((37.0..43.0).contains(&mean), "{mean}");
    // 2 % of a log-normal lie above two and a half times its mean.
    assert!((2..20).contains(&cut_off), "{cut_off}");
}

#[tokio::test(start_paused = true)]
async fn completions_are_answered_for_each_prompt() {
    let body = json!({"model": "gpt-4o", "prompt": ["Once", "Twice upon"], "max_tokens": 20});
    let whole = call(&generous(), "/v1/completions", &body).await.json();
    assert_eq!(whole["object"], "text_completion");
    assert_eq!(whole["choices"].as_array().unwrap().len(), 2);
    // 14 bytes are 4 tokens.
    assert_eq!(whole["usage"]["prompt_tokens"], 4);

    let answer = call(&generous(), "/v1/completions", &streamed(body)).await;
    let chunks = answer.chunks();
    for index in 0..2 {
        let choices = chunks.iter().map(|chunk| &chunk["choices"][0]);
        let mine = choices.filter(|choice| choice["index"] == index);
        let text: String = mine.filter_map(|choice| choice["text"].as_str()).collect();
        assert_eq!(whole["choices"][index]["text"], text);
    }
    assert_eq!(answer.events().last().unwrap(), "[DONE]");
}

#[tokio::test(start_paused = true)]
async fn response_is_answered_whole() {
    let body = json!({
        "model": "gpt-4o", "instructions": "Be brief.", "input": "Who goes there?",
        "max_output_tokens": 100,
    });
    let body = call(&generous(), "/v1/responses", &body).await.json();
    assert_eq!(
        (&body["object"], &body["status"]),
        (&json!("response"), &json!("completed"))
    );
    // 24 bytes are 6 tokens; 4 for each of two messages, 3 for the whole.
    assert_eq!(body["usage"]["input_tokens"], 17);
    let text = body["output"][0]["content"][0]["text"].as_str().unwrap();
    assert_eq!(body["usage"]["output_tokens"], word_count(text));
}

#[tokio::test(start_paused = true)]
async fn response_stream_ends_completed_with_usage_and_without_done() {
    let body = json!({"model": "gpt-4o", "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "Who goes there?"}]},
    ], "max_output_tokens": 30});
    let whole = call(&generous(), "/v1/responses", &body).await.json();
    let answer = call(&generous(), "/v1/responses", &streamed(body)).await;
    let events = answer.chunks();
    let types: Vec<_> = events.iter().map(|e| e["type"].as_str().unwrap()).collect();
    assert_eq!(
        types[..4],
        [
            "response.created",
            "response.in_progress",
            "response.output_item.added",
            "response.content_part.added"
        ]
    );
    assert_eq!(types.last(), Some(&"response.completed"));
    assert_eq!(events.last().unwrap()["response"], whole);
    assert!(events[0]["response"]["usage"].is_null());
    for (number, event) in events.iter().enumerate() {
        assert_eq!(event["sequence_number"], number);
    }
    let deltas = events.iter().filter_map(|event| event["delta"].as_str());
    assert_eq!(
        whole["output"][0]["content"][0]["text"],
        deltas.collect::<String>()
    );
    // Named events: the name is the type.
    let text = std::str::from_utf8(&answer.bytes).unwrap();
    let names = text.lines().filter_map(|line| line.strip_prefix("event: "));
    assert_eq!(names.collect::<Vec<_>>(), types);
}

#[tokio::test(start_paused = true)]
async fn response_cut_off_by_its_length_is_incomplete() {
    // As long as asked on average: well over a third wants to be longer.
    let answers = Answers {
        share: 1.0,
        ..Answers::default()
    };
    let sim = Sim::builder().answers(answers).build().unwrap();
    for number in 0..50 {
        let input = number.to_string();
        let body = json!({"model": "gpt-4o", "input": input, "max_output_tokens": 20});
        let whole = call(&sim, "/v1/responses", &body).await.json();
        if whole["status"] == "incomplete" {
            assert_eq!(whole["usage"]["output_tokens"], 20);
            assert_eq!(whole["incomplete_details"]["reason"], "max_output_tokens");
            let events = call(&sim, "/v1/responses", &streamed(body)).await.chunks();
            assert_eq!(events.last().unwrap()["type"], "response.incomplete");
            return;
        }
    }
    panic!("no answer was cut off");
}

#[tokio::test(start_paused = true)]
async fn embeddings_are_made_for_each_input() {
    let table = [
        (json!("Four bytes and more"), 1, 5),
        (json!(["one", "two", "three"]), 3, 3),
        (json!([1, 2, 3, 4, 5]), 1, 5),
        (json!([[1, 2, 3], [4, 5]]), 2, 5),
    ];
    for (input, count, tokens) in table {
        let body = json!({"model": "text-embedding-3-small", "input": input, "dimensions": 8});
        let body = call(&generous(), "/v1/embeddings", &body).await.json();
        let data = body["data"].as_array().unwrap();
        assert_eq!(data.len(), count, "{input}");
        assert!(
            data.iter()
                .all(|item| item["embedding"].as_array().unwrap().len() == 8)
        );
        assert_eq!(
            body["usage"],
            json!({"prompt_tokens": tokens, "total_tokens": tokens})
        );
    }
}

#[tokio::test(start_paused = true)]
async fn embeddings_are_packed_where_asked() {
    let body = json!({
        "model": "m", "input": "x", "dimensions": 3, "encoding_format": "base64",
    });
    let body = call(&generous(), "/v1/embeddings", &body).await.json();
    // 12 bytes are 16 digits.
    assert_eq!(body["data"][0]["embedding"].as_str().unwrap().len(), 16);
}

#[tokio::test(start_paused = true)]
async fn models_are_listed_and_looked_up() {
    let sim = generous();
    let list = get(&sim, "/v1/models").await.json();
    assert_eq!(list["object"], "list");
    let names: Vec<_> = list["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|m| &m["id"])
        .collect();
    assert!(names.contains(&&json!("gpt-4o")), "{names:?}");
    assert_eq!(
        get(&sim, "/v1/models/gpt-4o").await.json()["object"],
        "model"
    );
    assert_eq!(sim.report().arrived, 0);
}
