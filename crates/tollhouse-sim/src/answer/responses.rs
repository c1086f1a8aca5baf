//! `POST /v1/responses`.

use serde_json::{Value, json};

use super::text::Text;
use super::{CREATED, Frames, Reply, sse};

pub(super) fn whole(reply: &Reply) -> Value {
    let text = the_text(reply);
    let mut body = response(reply, status(&text));
    body["output"] = json!([item(reply, status(&text), &[part(&text.whole())])]);
    body["usage"] = usage(reply);
    if text.cut_off {
        body["incomplete_details"] = json!({"reason": "max_output_tokens"});
    }
    body
}

pub(super) fn stream(reply: Reply) -> Frames {
    let text = the_text(&reply);
    let end = reply.steps().saturating_sub(1);
    let item_id = item_id(&reply);
    let deltas = reply.tokens_in_time().map(move |(step, _, token)| {
        let delta = json!({
            "item_id": item_id, "output_index": 0, "content_index": 0,
            "delta": token, "logprobs": [],
        });
        (step, 1, "response.output_text.delta", delta)
    });
    let opening = opening(&reply).into_iter();
    let closing = closing(&reply, &text).into_iter();
    let events = (opening.map(|(name, data)| (0, 0, name, data)))
        .chain(deltas)
        .chain(closing.map(move |(name, data)| (end, 0, name, data)));
    Box::new(
        (0_u64..)
            .zip(events)
            .map(|(number, (step, tokens, name, mut data))| {
                data["type"] = json!(name);
                data["sequence_number"] = json!(number);
                sse::event(step, tokens, name, &data)
            }),
    )
}

type Event = (&'static str, Value);

fn opening(reply: &Reply) -> [Event; 4] {
    let begun = json!({"response": response(reply, "in_progress")});
    [
        ("response.created", begun.clone()),
        ("response.in_progress", begun),
        (
            "response.output_item.added",
            json!({"output_index": 0, "item": item(reply, "in_progress", &[])}),
        ),
        (
            "response.content_part.added",
            json!({
                "item_id": item_id(reply), "output_index": 0, "content_index": 0,
                "part": part(""),
            }),
        ),
    ]
}

fn closing(reply: &Reply, text: &Text) -> [Event; 4] {
    let said = text.whole();
    let place = json!({"item_id": item_id(reply), "output_index": 0, "content_index": 0});
    let mut text_done = place.clone();
    text_done["text"] = json!(said);
    text_done["logprobs"] = json!([]);
    let mut part_done = place;
    part_done["part"] = part(&said);
    let item = item(reply, status(text), &[part(&said)]);
    let last = if text.cut_off {
        "response.incomplete"
    } else {
        "response.completed"
    };
    [
        ("response.output_text.done", text_done),
        ("response.content_part.done", part_done),
        (
            "response.output_item.done",
            json!({"output_index": 0, "item": item}),
        ),
        (last, json!({"response": whole(reply)})),
    ]
}

/// A response has one text.
fn the_text(reply: &Reply) -> Text {
    reply.choices[0]
}

fn status(text: &Text) -> &'static str {
    if text.cut_off {
        "incomplete"
    } else {
        "completed"
    }
}

fn response(reply: &Reply, status: &str) -> Value {
    json!({
        "id": format!("resp_{}", reply.id),
        "object": "response",
        "created_at": CREATED,
        "status": status,
        "background": false,
        "error": null,
        "incomplete_details": null,
        "max_output_tokens": reply.ask.length,
        "model": reply.ask.model,
        "output": [],
        "parallel_tool_calls": true,
        "service_tier": "default",
        "tools": [],
        "usage": null,
        "metadata": {},
    })
}

fn item_id(reply: &Reply) -> String {
    format!("msg_{}", reply.id)
}

fn item(reply: &Reply, status: &str, content: &[Value]) -> Value {
    json!({
        "id": item_id(reply),
        "type": "message",
        "status": status,
        "content": content,
        "role": "assistant",
    })
}

fn part(text: &str) -> Value {
    json!({"type": "output_text", "annotations": [], "logprobs": [], "text": text})
}

fn usage(reply: &Reply) -> Value {
    let (input, output) = (reply.ask.prompt_tokens(), reply.tokens());
    json!({
        "input_tokens": input,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": output,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": input + output,
    })
}
