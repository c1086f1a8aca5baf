//! Puts the question into a request's body.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use http::header::CONTENT_LENGTH;
use http::{HeaderValue, Method, Request};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::wire::cost::Endpoint;

/// Asks for the usage of a chat stream that has not asked; `true` if it did.
pub(super) fn ask(request: &mut Request<Bytes>) -> bool {
    let is_chat = Endpoint::of(request.uri().path()) == Endpoint::Chat;
    if !is_chat || request.method() != Method::POST {
        return false;
    }
    let Some(edit) = edit(request.body()) else {
        return false;
    };
    let body = edit.apply(request.body());
    if let Some(length) = request.headers_mut().get_mut(CONTENT_LENGTH) {
        *length = HeaderValue::from(body.len());
    }
    *request.body_mut() = body;
    true
}

/// What to put in place of which bytes.
#[derive(Debug, PartialEq, Eq)]
struct Edit {
    replaced: Range<usize>,
    text: &'static str,
}

impl Edit {
    fn apply(self, body: &[u8]) -> Bytes {
        let mut edited = BytesMut::with_capacity(body.len() + self.text.len());
        edited.extend_from_slice(&body[..self.replaced.start]);
        edited.extend_from_slice(self.text.as_bytes());
        edited.extend_from_slice(&body[self.replaced.end..]);
        edited.freeze()
    }
}

/// The fields that matter, where they stand. A name that comes twice is an
/// error, for nobody knows which one the provider takes.
#[derive(Deserialize)]
struct Body<'b> {
    #[serde(borrow, default, deserialize_with = "present")]
    stream: Option<&'b RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    stream_options: Option<&'b RawValue>,
}

#[derive(Deserialize)]
struct Options<'b> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'b RawValue>,
}

/// Tells a `null` from nothing.
fn present<'b, D: Deserializer<'b>>(deserializer: D) -> Result<Option<&'b RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
}

/// The edit that makes a body ask, unless it asks already or cannot.
fn edit(body: &[u8]) -> Option<Edit> {
    let start = opening(body)?;
    let fields: Body<'_> = serde_json::from_slice(body).ok()?;
    if fields.stream?.get() != "true" {
        return None;
    }
    let Some(options) = fields.stream_options else {
        return Some(Edit {
            replaced: start..start,
            // There is a field after it: the stream's own.
            text: r#""stream_options":{"include_usage":true},"#,
        });
    };
    let at = place(body, options);
    if options.get() == "null" {
        return Some(Edit {
            replaced: at,
            text: r#"{"include_usage":true}"#,
        });
    }
    edit_options(body, at)
}

fn edit_options(body: &[u8], at: Range<usize>) -> Option<Edit> {
    let options = &body[at.clone()];
    let start = opening(options)?;
    let fields: Options<'_> = serde_json::from_slice(options).ok()?;
    if let Some(asked) = fields.include_usage {
        let replaced = place(body, asked);
        return (asked.get() != "true").then_some(Edit {
            replaced,
            text: "true",
        });
    }
    let is_empty = options[start..].trim_ascii_start().first() == Some(&b'}');
    let start = at.start + start;
    Some(Edit {
        replaced: start..start,
        text: if is_empty {
            r#""include_usage":true"#
        } else {
            r#""include_usage":true,"#
        },
    })
}

/// Where the first field of an object stands. An array would pass for the
/// fields in their order.
fn opening(json: &[u8]) -> Option<usize> {
    let at = json.iter().position(|byte| !byte.is_ascii_whitespace())?;
    (json[at] == b'{').then_some(at + 1)
}

/// Where in `body` a value that was borrowed from it stands.
fn place(body: &[u8], value: &RawValue) -> Range<usize> {
    let start = value.get().as_ptr().addr() - body.as_ptr().addr();
    start..start + value.get().len()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited(body: &str) -> Option<String> {
        let edit = edit(body.as_bytes())?;
        let edited = edit.apply(body.as_bytes());
        Some(String::from_utf8(edited.to_vec()).expect("text"))
    }

    #[test]
    fn the_question_goes_where_it_belongs_and_nothing_else_changes() {
        for (body, expected) in [
            (
                r#" { "stream" : true ,"b":1.50}"#,
                r#" {"stream_options":{"include_usage":true}, "stream" : true ,"b":1.50}"#,
            ),
            (
                r#"{"stream_options":null,"stream":true}"#,
                r#"{"stream_options":{"include_usage":true},"stream":true}"#,
            ),
            (
                r#"{"stream":true,"stream_options": { } }"#,
                r#"{"stream":true,"stream_options": {"include_usage":true } }"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_obfuscation":false}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true,"include_obfuscation":false}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"a":{"include_usage":true},"include_usage": false}}"#,
                r#"{"stream":true,"stream_options":{"a":{"include_usage":true},"include_usage": true}}"#,
            ),
            (
                r#"{"stream":true,"stream_options":{"include_usage":null}}"#,
                r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            ),
            (
                r#"{"str\u0065am":true,"x":"\"stream_options\":{}"}"#,
                r#"{"stream_options":{"include_usage":true},"str\u0065am":true,"x":"\"stream_options\":{}"}"#,
            ),
        ] {
            assert_eq!(edited(body).as_deref(), Some(expected), "{body}");
            assert_eq!(edited(expected), None, "asked once is asked");
        }
    }

    #[test]
    fn what_asks_already_or_cannot_ask_is_left_alone() {
        for body in [
            "",
            "{}",
            "[true,{}]",
            r#"{"stream":false}"#,
            r#"{"stream":null}"#,
            r#"{"stream":"true"}"#,
            r#"{"stream":true"#,
            r#"{"stream":true}}"#,
            r#"{"stream":true,"stream":true}"#,
            r#"{"stream":true,"stream_options":{"include_usage":true}}"#,
            r#"{"stream":true,"stream_options":{},"stream_options":{}}"#,
            r#"{"stream":true,"stream_options":[]}"#,
            r#"{"stream":true,"stream_options":7}"#,
            r#"{"messages":[{"stream":true}]}"#,
        ] {
            assert_eq!(edited(body), None, "{body}");
        }
    }

    #[test]
    fn only_posts_to_chat_are_asked_and_a_told_length_is_corrected() {
        let body = r#"{"stream":true}"#;
        let with = |method: &str, path: &str| {
            let request = Request::builder().method(method).uri(path);
            let request = request.header("content-length", "15");
            request.body(Bytes::from(body)).expect("a request")
        };
        let mut chat = with("POST", "/v1/chat/completions");
        assert!(ask(&mut chat));
        let length = chat.body().len().to_string();
        assert_eq!(chat.headers()["content-length"], length);
        for (method, path) in [
            ("POST", "/v1/responses"),
            ("POST", "/v1/completions"),
            ("GET", "/v1/chat/completions"),
        ] {
            let mut other = with(method, path);
            assert!(!ask(&mut other), "{method} {path}");
            assert_eq!(other.body(), body);
        }
    }
}
