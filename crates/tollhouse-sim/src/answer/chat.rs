//! `POST /v1/chat/completions`.

use std::iter;

use serde_json::{Value, json};

use super::text::Text;
use super::{CREATED, Frame, Frames, Reply, sse};

pub(super) fn whole(reply: &Reply) -> Value {
    let choice = |(index, text): (usize, &Text)| {
        json!({
            "index": index,
            "message": message(text),
            "logprobs": null,
            "finish_reason": text.finish_reason(),
        })
    };
    let choices: Vec<_> = reply.choices.iter().enumerate().map(choice).collect();
    json!({
        "id": format!("chatcmpl-{}", reply.id),
        "object": "chat.completion",
        "created": CREATED,
        "model": reply.ask.model,
        "choices": choices,
        "usage": usage(reply),
        "service_tier": "default",
        "system_fingerprint": "fp_sim",
    })
}

fn message(text: &Text) -> Value {
    let mut message = json!({
        "role": "assistant",
        "content": null,
        "refusal": null,
        "annotations": [],
    });
    match text.call() {
        None => message["content"] = json!(text.whole()),
        Some((name, id)) => {
            let function = json!({"name": name, "arguments": text.whole()});
            message["tool_calls"] = json!([{"id": id, "type": "function", "function": function}]);
        }
    }
    message
}

/// What a stream begins with.
fn opening(text: &Text) -> Value {
    let Some((name, id)) = text.call() else {
        return json!({"role": "assistant", "content": "", "refusal": null});
    };
    let function = json!({"name": name, "arguments": ""});
    let call = json!([{"index": 0, "id": id, "type": "function", "function": function}]);
    json!({"role": "assistant", "content": null, "tool_calls": call, "refusal": null})
}

fn token_delta(text: &Text, token: &str) -> Value {
    match text.call() {
        None => json!({"content": token}),
        Some(_) => json!({"tool_calls": [{"index": 0, "function": {"arguments": token}}]}),
    }
}

pub(super) fn stream(reply: Reply) -> Frames {
    let end = reply.steps().saturating_sub(1);
    let chunk = Chunk::of(&reply);
    let choices = reply.choices.clone();
    let opening = {
        let chunk = chunk.clone();
        let texts = choices.clone().into_iter().enumerate();
        texts.map(move |(index, text)| chunk.delta(0, 0, index, &opening(&text), None))
    };
    let content = {
        let (chunk, texts) = (chunk.clone(), choices.clone());
        reply.tokens_in_time().map(move |(step, index, token)| {
            let delta = token_delta(&texts[index], &token);
            chunk.delta(step, 1, index, &delta, None)
        })
    };
    let closing = {
        let chunk = chunk.clone();
        choices.into_iter().enumerate().map(move |(index, text)| {
            chunk.delta(end, 0, index, &json!({}), Some(text.finish_reason()))
        })
    };
    let usage = reply
        .ask
        .include_usage
        .then(|| chunk.usage(end, &usage(&reply)));
    Box::new(
        opening
            .chain(content)
            .chain(closing)
            .chain(usage)
            .chain(iter::once(sse::done(end))),
    )
}

/// What the chunks of one stream have in common.
#[derive(Clone)]
struct Chunk(Value);

impl Chunk {
    fn of(reply: &Reply) -> Self {
        let mut chunk = json!({
            "id": format!("chatcmpl-{}", reply.id),
            "object": "chat.completion.chunk",
            "created": CREATED,
            "model": reply.ask.model,
            "service_tier": "default",
            "system_fingerprint": "fp_sim",
        });
        if reply.ask.include_usage {
            chunk["usage"] = Value::Null;
        }
        Self(chunk)
    }

    fn delta(
        &self,
        step: u64,
        tokens: u64,
        index: usize,
        delta: &Value,
        finish: Option<&str>,
    ) -> Frame {
        let mut chunk = self.0.clone();
        chunk["choices"] = json!([{
            "index": index,
            "delta": delta,
            "logprobs": null,
            "finish_reason": finish,
        }]);
        sse::data(step, tokens, &chunk)
    }

    fn usage(&self, step: u64, usage: &Value) -> Frame {
        let mut chunk = self.0.clone();
        chunk["choices"] = json!([]);
        chunk["usage"] = usage.clone();
        sse::data(step, 0, &chunk)
    }
}

/// What chats and completions used.
pub(super) fn usage(reply: &Reply) -> Value {
    let (prompt, completion) = (reply.ask.prompt_tokens(), reply.tokens());
    json!({
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": 0, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": 0,
            "audio_tokens": 0,
            "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    })
}
