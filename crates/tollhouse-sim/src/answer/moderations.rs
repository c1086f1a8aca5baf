//! `POST /v1/moderations`.

use serde_json::{Map, Value, json};

use super::Reply;
use crate::ask::{CATEGORIES, Flags};

pub(super) fn whole(reply: &Reply) -> Value {
    let results: Vec<_> = reply.ask.flags.iter().map(result).collect();
    json!({
        "id": format!("modr-{}", reply.id),
        "model": reply.ask.model,
        "results": results,
    })
}

fn result(flags: &Flags) -> Value {
    let each = |value: fn(bool) -> Value| -> Map<String, Value> {
        let all = CATEGORIES.iter().zip(flags);
        all.map(|(&name, &flagged)| (name.to_owned(), value(flagged)))
            .collect()
    };
    json!({
        "flagged": flags.contains(&true),
        "categories": each(Value::from),
        "category_scores": each(|flagged| json!(if flagged { 0.97 } else { 0.000_1 })),
        "category_applied_input_types": each(|_| json!(["text"])),
    })
}
