use http::StatusCode;
use serde_json::{Map, Value};

/// What an error's body says to people.
///
/// What it means for machines is the [verdict's](crate::Verdict) to find out;
/// this keeps the provider's own spelling.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Said {
    /// Its code, or what comes nearest to one.
    pub(super) code: Option<String>,
    pub(super) message: Option<String>,
}

impl Said {
    /// Reads a body of any shape; what is not JSON says nothing.
    pub(super) fn read(status: StatusCode, body: &[u8]) -> Said {
        match serde_json::from_slice(body) {
            Ok(json) => Said::of_json(status, &json).unwrap_or_default(),
            Err(_) => Said::default(),
        }
    }

    fn of_json(status: StatusCode, json: &Value) -> Option<Said> {
        // Gemini's compatible endpoint puts an array around it.
        let root = match json {
            Value::Array(items) => items.first()?.as_object()?,
            json => json.as_object()?,
        };
        Some(match root.get("error") {
            Some(Value::Object(error)) => Said::of_fields(status, error),
            Some(Value::String(message)) => Said {
                message: Some(message.clone()),
                ..Said::of_fields(status, root)
            },
            _ => Said::of_fields(status, root),
        })
    }

    fn of_fields(status: StatusCode, fields: &Map<String, Value>) -> Said {
        let text = |key| fields.get(key)?.as_str().filter(|text| !text.is_empty());
        let code = ["code", "type", "status"]
            .iter()
            .filter_map(|key| word(fields.get(*key)?))
            // Many repeat the status as the code.
            .find(|word| word != status.as_str());
        Said {
            code,
            message: text("message")
                .or_else(|| text("detail"))
                .map(str::to_owned),
        }
    }
}

fn word(value: &Value) -> Option<String> {
    match value {
        Value::String(word) if !word.is_empty() => Some(word.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_shape_is_read_as_far_as_it_goes() {
        for (status, body, code, message) in [
            (
                429,
                r#"{"error":{"code":"rate_limit_exceeded","type":"tokens","message":"Wait."}}"#,
                Some("rate_limit_exceeded"),
                Some("Wait."),
            ),
            (
                500,
                r#"{"error":{"code":null,"type":"server_error","message":"Oops."}}"#,
                Some("server_error"),
                Some("Oops."),
            ),
            (
                429,
                r#"[{"error":{"code":429,"status":"RESOURCE_EXHAUSTED","message":"Wait."}}]"#,
                Some("RESOURCE_EXHAUSTED"),
                Some("Wait."),
            ),
            (
                429,
                r#"{"object":"error","code":1300,"type":null,"message":"Wait."}"#,
                Some("1300"),
                Some("Wait."),
            ),
            (
                429,
                r#"{"code":"limit","error":"Wait."}"#,
                Some("limit"),
                Some("Wait."),
            ),
            (404, r#"{"detail":"Not Found"}"#, None, Some("Not Found")),
            (400, r#"{"error":{"code":"400","message":""}}"#, None, None),
            (500, "[]", None, None),
            (500, "null", None, None),
            (502, "<html>Bad gateway</html>", None, None),
            (503, "", None, None),
            (500, r#"{"error":{"mess"#, None, None),
        ] {
            let status = StatusCode::from_u16(status).expect("a status");
            let said = Said::read(status, body.as_bytes());
            assert_eq!(said.code.as_deref(), code, "{body}");
            assert_eq!(said.message.as_deref(), message, "{body}");
        }
    }
}
