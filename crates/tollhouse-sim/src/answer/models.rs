//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde_json::{Value, json};

use super::CREATED;
use crate::config::Limits;

/// What stands for no limit there, where a number has to be told: 2^53 - 1,
/// which every reader of JSON knows exactly.
const NO_LIMIT: u64 = (1 << 53) - 1;

/// The limits as OpenAI's admin API tells them:
/// `GET /v1/organization/projects/{id}/rate_limits`.
pub(crate) fn rate_limits(models: &[(&str, Limits)]) -> Value {
    let limit = |(model, limits): &(&str, Limits)| {
        json!({
            "object": "project.rate_limit",
            "id": format!("rl-{model}"),
            "model": model,
            "max_requests_per_1_minute": limits.requests_per_minute.unwrap_or(NO_LIMIT),
            "max_tokens_per_1_minute": limits.tokens_per_minute.unwrap_or(NO_LIMIT),
        })
    };
    let data: Vec<_> = models.iter().map(limit).collect();
    let id = |limit: Option<&Value>| limit.map(|limit| limit["id"].clone());
    json!({
        "object": "list",
        "first_id": id(data.first()),
        "last_id": id(data.last()),
        "data": data,
        "has_more": false,
    })
}

/// All models of these names.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> Value {
    let models: Vec<_> = names.map(model).collect();
    json!({"object": "list", "data": models})
}

/// One model.
pub(crate) fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "tollhouse-sim"})
}
