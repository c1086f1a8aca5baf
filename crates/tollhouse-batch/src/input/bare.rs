//! Lines that are a request's body and nothing else.

use std::borrow::Cow;

use http::Uri;
use serde::Deserialize;
use serde::de::IgnoredAny;

/// The name that the body in a line is given.
pub(crate) fn custom_id(line: u64) -> String {
    format!("line-{line}")
}

/// The endpoint that a body was made for, by the fields that only its requests
/// have; `None` where none of them is there.
pub(crate) fn endpoint(body: &[u8]) -> Option<Uri> {
    let fields: Fields<'_> = serde_json::from_slice(body).ok()?;
    let path = fields.endpoint()?;
    Some(Uri::from_static(path))
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    model: Option<Cow<'a, str>>,
    messages: Option<IgnoredAny>,
    prompt: Option<IgnoredAny>,
    input: Option<IgnoredAny>,
}

impl Fields<'_> {
    fn endpoint(&self) -> Option<&'static str> {
        if self.messages.is_some() {
            return Some("/v1/chat/completions");
        }
        if self.prompt.is_some() {
            return Some("/v1/completions");
        }
        self.input.as_ref()?;
        // Three endpoints take an input; the model's name tells them apart.
        let is = |part| {
            self.model
                .as_ref()
                .is_some_and(|model| model.contains(part))
        };
        Some(match () {
            () if is("embed") => "/v1/embeddings",
            () if is("moderation") => "/v1/moderations",
            () => "/v1/responses",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fields_tell_the_endpoint() {
        let cases = [
            (
                r#"{"model":"gpt-4o","messages":[]}"#,
                Some("/v1/chat/completions"),
            ),
            (
                r#"{"model":"davinci","prompt":"a"}"#,
                Some("/v1/completions"),
            ),
            (r#"{"model":"gpt-4o","input":"a"}"#, Some("/v1/responses")),
            (
                r#"{"model":"text-embedding-3-small","input":["a"]}"#,
                Some("/v1/embeddings"),
            ),
            (
                r#"{"model":"omni-moderation-latest","input":"a"}"#,
                Some("/v1/moderations"),
            ),
            (r#"{"input":"a"}"#, Some("/v1/responses")),
            (r#"{"model":"gpt-4o"}"#, None),
            ("{}", None),
        ];
        for (body, path) in cases {
            let endpoint = endpoint(body.as_bytes());
            assert_eq!(endpoint.as_ref().map(Uri::path), path, "{body}");
        }
    }
}
