//! `POST /v1/chat/completions`.

use std::iter;

use serde_json::{Value, json};

use super::{CREATED, Frame, Frames, Reply, sse};

pub(super) fn whole(reply: &Reply) -> Value {
    let choice = |(index, text): (usize, &super::Text)| {
        json!({
            "index": index,
            "message": {
                "role": "assistant",
                "content": text.whole(),
                "refusal": null,
                "annotations": [],
            },
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

pub(super) fn stream(reply: Reply) -> Frames {
    let end = reply.steps().saturating_sub(1);
    let chunk = Chunk::of(&reply);
    let choices = reply.choices.clone();
    let opening = {
        let chunk = chunk.clone();
        let delta = json!({"role": "assistant", "content": "", "refusal": null});
        (0..choices.len()).map(move |index| chunk.delta(0, 0, index, &delta, None))
    };
    let content = {
        let chunk = chunk.clone();
        reply.tokens_in_time().map(move |(step, index, token)| {
            chunk.delta(step, 1, index, &json!({"content": token}), None)
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
