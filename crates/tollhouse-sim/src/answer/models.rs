//! `GET /v1/models` and `GET /v1/models/{id}`.

use serde_json::{Value, json};

use super::CREATED;

/// All models of these names.
pub(crate) fn list<'a>(names: impl Iterator<Item = &'a str>) -> Value {
    let models: Vec<_> = names.map(model).collect();
    json!({"object": "list", "data": models})
}

/// One model.
pub(crate) fn model(name: &str) -> Value {
    json!({"id": name, "object": "model", "created": CREATED, "owned_by": "tollhouse-sim"})
}
