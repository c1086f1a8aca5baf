//! `POST /v1/completions`.

use std::iter;

use serde_json::{Value, json};

use super::chat::usage;
use super::{CREATED, Frames, Reply, sse};

pub(super) fn whole(reply: &Reply) -> Value {
    let texts = reply.choices.iter().enumerate();
    let choices = texts
        .map(|(index, text)| choice(index, &text.whole(), Some(text.finish_reason())))
        .collect();
    let mut body = body(reply, choices);
    body["usage"] = usage(reply);
    body
}

pub(super) fn stream(reply: Reply) -> Frames {
    let end = reply.steps().saturating_sub(1);
    let content = reply.tokens_in_time();
    let closing = (reply.choices.clone().into_iter().enumerate())
        .map(move |(index, text)| (end, 0, choice(index, "", Some(text.finish_reason()))));
    let include_usage = reply.ask.include_usage;
    let last = include_usage.then(|| {
        let mut last = body(&reply, vec![]);
        last["usage"] = usage(&reply);
        sse::data(end, 0, &last)
    });
    let chunks = content
        .map(|(step, index, token)| (step, 1, choice(index, &token, None)))
        .chain(closing)
        .map(move |(step, tokens, choice)| {
            let mut chunk = body(&reply, vec![choice]);
            if include_usage {
                chunk["usage"] = Value::Null;
            }
            sse::data(step, tokens, &chunk)
        });
    Box::new(chunks.chain(last).chain(iter::once(sse::done(end))))
}

fn choice(index: usize, text: &str, finish: Option<&str>) -> Value {
    json!({"text": text, "index": index, "logprobs": null, "finish_reason": finish})
}

fn body(reply: &Reply, choices: Vec<Value>) -> Value {
    json!({
        "id": format!("cmpl-{}", reply.id),
        "object": "text_completion",
        "created": CREATED,
        "model": reply.ask.model,
        "choices": choices,
    })
}
