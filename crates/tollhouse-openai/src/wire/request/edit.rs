//! What makes a chat stream tell its usage.

use std::ops::Range;

use bytes::{Bytes, BytesMut};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

/// What to put in place of which bytes of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Edit {
    replaced: Range<usize>,
    text: &'static str,
}

impl Edit {
    pub(crate) fn apply(&self, body: &[u8]) -> Bytes {
        let mut edited = BytesMut::with_capacity(body.len() + self.text.len());
        edited.extend_from_slice(&body[..self.replaced.start]);
        edited.extend_from_slice(self.text.as_bytes());
        edited.extend_from_slice(&body[self.replaced.end..]);
        edited.freeze()
    }
}

/// The two fields of a body that an edit depends on, where they stand.
#[derive(Default)]
pub(super) struct Streaming<'b> {
    stream: Option<&'b RawValue>,
    options: Option<&'b RawValue>,
    /// One of them came twice: nobody knows which one the provider takes.
    twice: bool,
}

impl<'b> Streaming<'b> {
    pub(super) fn stream(&mut self, value: &'b RawValue) {
        self.twice |= self.stream.replace(value).is_some();
    }

    pub(super) fn options(&mut self, value: &'b RawValue) {
        self.twice |= self.options.replace(value).is_some();
    }

    pub(super) fn is_on(&self) -> bool {
        self.stream.is_some_and(|stream| stream.get() == "true")
    }

    /// The edit that makes a body ask, unless it asks already or cannot.
    pub(super) fn edit(&self, body: &[u8]) -> Option<Edit> {
        let start = opening(body)?;
        if !self.is_on() || self.twice {
            return None;
        }
        let Some(options) = self.options else {
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
}

/// A name that comes twice is an error here, too.
#[derive(Deserialize)]
struct Options<'b> {
    #[serde(borrow, default, deserialize_with = "present")]
    include_usage: Option<&'b RawValue>,
}

/// Tells a `null` from nothing.
fn present<'b, D: Deserializer<'b>>(deserializer: D) -> Result<Option<&'b RawValue>, D::Error> {
    <&RawValue>::deserialize(deserializer).map(Some)
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
    use super::super::Shape;

    fn edited(body: &str) -> Option<String> {
        let (_, edit) = Shape::read(body.as_bytes())?;
        let edit = edit?;
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
}
