//! `GET /v1/models`, `GET /v1/models/{id}`, and the limits of the admin API.

use serde::Deserialize;
use serde_json::{Value, json};

use super::CREATED;
use crate::config::Limits;
use crate::error::ApiError;

/// What stands for no limit there, where a number has to be told: 2^53 - 1,
/// which every reader of JSON knows exactly.
const NO_LIMIT: u64 = (1 << 53) - 1;

/// A model and what is allowed of it.
pub(crate) type Listed<'m> = (&'m str, Limits);

/// The most that one page of limits has, and what it has unless less is asked.
const PAGE: usize = 100;

/// Which page of a list is asked for; `after` and `before` are ids in it.
#[derive(Debug, Default, Deserialize)]
pub(crate) struct Page {
    limit: Option<usize>,
    after: Option<String>,
    before: Option<String>,
}

/// The limits as OpenAI's admin API tells them:
/// `GET /v1/organization/projects/{id}/rate_limits`.
///
/// # Errors
///
/// A page of no or too many limits, or one beside an id that is not listed.
pub(crate) fn rate_limits(models: &[Listed<'_>], page: &Page) -> Result<Value, ApiError> {
    let (shown, has_more) = page.of(models)?;
    let data: Vec<_> = shown.iter().map(rate_limit).collect();
    let id = |limit: Option<&Value>| limit.map(|limit| limit["id"].clone());
    Ok(json!({
        "object": "list",
        "first_id": id(data.first()),
        "last_id": id(data.last()),
        "data": data,
        "has_more": has_more,
    }))
}

fn rate_limit((model, limits): &Listed<'_>) -> Value {
    json!({
        "object": "project.rate_limit",
        "id": rate_limit_id(model),
        "model": model,
        "max_requests_per_1_minute": limits.requests_per_minute.unwrap_or(NO_LIMIT),
        "max_tokens_per_1_minute": limits.tokens_per_minute.unwrap_or(NO_LIMIT),
    })
}

fn rate_limit_id(model: &str) -> String {
    format!("rl-{model}")
}

impl Page {
    /// The part of a list that this page has, and whether there is more beyond
    /// it in the direction of reading: backwards where only `before` is given.
    fn of<'a, 'm>(&self, all: &'a [Listed<'m>]) -> Result<(&'a [Listed<'m>], bool), ApiError> {
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=PAGE).contains(&limit) {
            let limit = limit.to_string();
            return Err(ApiError::bad_value("limit", &limit, "1 to 100"));
        }
        let start = find(all, "after", self.after.as_deref())?.map_or(0, |at| at + 1);
        let end = find(all, "before", self.before.as_deref())?.unwrap_or(all.len());
        let between = all.get(start..end).unwrap_or_default();
        let left_out = between.len().saturating_sub(limit);
        let backwards = self.after.is_none() && self.before.is_some();
        let shown = match backwards {
            true => &between[left_out..],
            false => &between[..between.len() - left_out],
        };
        Ok((shown, left_out > 0))
    }
}

/// Where the limit with this id stands.
fn find(all: &[Listed<'_>], param: &str, id: Option<&str>) -> Result<Option<usize>, ApiError> {
    let Some(id) = id else {
        return Ok(None);
    };
    let at = all.iter().position(|(model, _)| rate_limit_id(model) == id);
    at.map(Some)
        .ok_or_else(|| ApiError::bad_value(param, id, "the ids of this list"))
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
