//! The fields of a request's object, with OpenAI's words for what is wrong.

use serde_json::{Map, Value};

use crate::error::ApiError;

/// An object's fields; `null` is as good as absent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a>(pub(super) &'a Map<String, Value>);

/// What an absent object's fields are.
static NOTHING: std::sync::LazyLock<Map<String, Value>> = std::sync::LazyLock::new(Map::new);

impl<'a> Fields<'a> {
    pub(super) fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn required(&self, name: &str) -> Result<&'a Value, ApiError> {
        self.get(name).ok_or_else(|| ApiError::missing(name))
    }

    /// As [`required`](Self::required), for a field of what stands at `place`.
    pub(super) fn required_at(&self, place: &str, name: &str) -> Result<&'a Value, ApiError> {
        let missing = || ApiError::missing(&format!("{place}.{name}"));
        self.get(name).ok_or_else(missing)
    }

    pub(super) fn flag(&self, name: &str) -> Result<bool, ApiError> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(other) => Err(ApiError::wrong_type(name, "a boolean", kind(other))),
        }
    }

    pub(super) fn integer(
        &self,
        name: &str,
        least: u64,
        most: u64,
    ) -> Result<Option<u64>, ApiError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        let number = value
            .as_u64()
            .ok_or_else(|| ApiError::wrong_type(name, "an unsigned integer", kind(value)))?;
        if number < least {
            return Err(ApiError::below(name, least, number));
        }
        if number > most {
            return Err(ApiError::above(name, most, number));
        }
        Ok(Some(number))
    }

    pub(super) fn object(&self, name: &str) -> Result<Fields<'a>, ApiError> {
        match self.get(name) {
            None => Ok(Fields(&NOTHING)),
            Some(Value::Object(object)) => Ok(Fields(object)),
            Some(other) => Err(ApiError::wrong_type(name, "an object", kind(other))),
        }
    }
}

/// What kind of value it is, in OpenAI's words.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a decimal number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
