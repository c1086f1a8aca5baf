//! `POST /v1/responses`.

use serde_json::{Value, json};

use super::text::Text;
use super::{CREATED, Frames, Reply, sse};
use crate::ask::{Choice, Format};

pub(super) fn whole(reply: &Reply) -> Value {
    let text = the_text(reply);
    let mut body = response(reply, status(&text));
    body["output"] = json!([item(reply, status(&text), &text.whole())]);
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
    let is_call = text.call().is_some();
    let deltas = reply.tokens_in_time().map(move |(step, _, token)| {
        let mut delta = json!({"item_id": item_id, "output_index": 0, "delta": token});
        if is_call {
            return (step, 1, "response.function_call_arguments.delta", delta);
        }
        delta["content_index"] = json!(0);
        delta["logprobs"] = json!([]);
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

fn opening(reply: &Reply) -> Vec<Event> {
    let begun = json!({"response": response(reply, "in_progress")});
    let added = json!({"output_index": 0, "item": item(reply, "in_progress", "")});
    let mut events = vec![
        ("response.created", begun.clone()),
        ("response.in_progress", begun),
        ("response.output_item.added", added),
    ];
    if the_text(reply).call().is_none() {
        let mut part_added = place(reply);
        part_added["part"] = part("");
        events.push(("response.content_part.added", part_added));
    }
    events
}

fn closing(reply: &Reply, text: &Text) -> Vec<Event> {
    let said = text.whole();
    let mut events = match text.call() {
        Some((name, _)) => {
            let done = json!({
                "item_id": item_id(reply), "output_index": 0, "name": name, "arguments": said,
            });
            vec![("response.function_call_arguments.done", done)]
        }
        None => {
            let (mut text_done, mut part_done) = (place(reply), place(reply));
            text_done["text"] = json!(said);
            text_done["logprobs"] = json!([]);
            part_done["part"] = part(&said);
            vec![
                ("response.output_text.done", text_done),
                ("response.content_part.done", part_done),
            ]
        }
    };
    let item = item(reply, status(text), &said);
    let last = if text.cut_off {
        "response.incomplete"
    } else {
        "response.completed"
    };
    let item_done = json!({"output_index": 0, "item": item});
    events.push(("response.output_item.done", item_done));
    events.push((last, json!({"response": whole(reply)})));
    events
}

/// Where the text stands.
fn place(reply: &Reply) -> Value {
    json!({"item_id": item_id(reply), "output_index": 0, "content_index": 0})
}

/// A response has one text.
fn the_text(reply: &Reply) -> Text {
    reply.choices[0].clone()
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
        "text": {"format": format(reply)},
        "tool_choice": tool_choice(reply),
        "tools": [],
        "usage": null,
        "metadata": {},
    })
}

fn format(reply: &Reply) -> Value {
    match &reply.ask.form.format {
        Format::Text => json!({"type": "text"}),
        Format::Object => json!({"type": "json_object"}),
        Format::Schema(named) => json!({
            "type": "json_schema", "name": named.name, "schema": named.schema,
        }),
    }
}

fn tool_choice(reply: &Reply) -> Value {
    let form = &reply.ask.form;
    match (form.choice, form.tools.as_slice()) {
        (Choice::Must, _) => json!("required"),
        (Choice::MustThis, [tool, ..]) => json!({"type": "function", "name": tool.name}),
        _ => json!("auto"),
    }
}

fn item_id(reply: &Reply) -> String {
    let kind = match the_text(reply).call() {
        None => "msg",
        Some(_) => "fc",
    };
    format!("{kind}_{}", reply.id)
}

/// A message, or the call of a function; empty until it has begun.
fn item(reply: &Reply, status: &str, said: &str) -> Value {
    let id = item_id(reply);
    if let Some((name, call_id)) = the_text(reply).call() {
        return json!({
            "id": id, "type": "function_call", "status": status,
            "name": name, "call_id": call_id, "arguments": said,
        });
    }
    let content = if said.is_empty() {
        json!([])
    } else {
        json!([part(said)])
    };
    json!({
        "id": id, "type": "message", "status": status,
        "content": content, "role": "assistant",
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
