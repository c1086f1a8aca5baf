//! Anything that a model is sent, counted without keeping it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Anything at all, counted.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Content {
    pub(super) text_bytes: u64,
    pub(super) images: u64,
    /// Numbers that stand in arrays: token ids.
    pub(super) numbers: u64,
    /// What it consists of: messages, inputs, prompts. An array of token ids is
    /// one.
    pub(super) items: u64,
    pub(super) is_object: bool,
}

impl Content {
    /// Both together, as parts of something.
    pub(super) fn and(self, other: Content) -> Content {
        Content {
            text_bytes: self.text_bytes + other.text_bytes,
            images: self.images + other.images,
            numbers: self.numbers + other.numbers,
            ..self
        }
    }
}

impl<'de> Deserialize<'de> for Content {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ContentVisitor)
    }
}

struct ContentVisitor;

impl<'de> Visitor<'de> for ContentVisitor {
    type Value = Content;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_str<E>(self, text: &str) -> Result<Content, E> {
        Ok(Content {
            text_bytes: text.len() as u64,
            items: 1,
            ..Content::default()
        })
    }

    fn visit_u64<E>(self, _: u64) -> Result<Content, E> {
        Ok(Content {
            numbers: 1,
            ..Content::default()
        })
    }

    fn visit_i64<E>(self, _: i64) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_f64<E>(self, _: f64) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_bool<E>(self, _: bool) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_unit<E>(self) -> Result<Content, E> {
        Ok(Content::default())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Content, A::Error> {
        let mut all = Content::default();
        while let Some(item) = seq.next_element::<Content>()? {
            all = all.and(item);
            all.items += u64::from(item.items > 0 || item.is_object);
        }
        // An array of nothing but numbers is one text.
        all.items = all.items.max(u64::from(all.numbers > 0));
        Ok(all)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Content, A::Error> {
        let mut all = Content {
            is_object: true,
            ..Content::default()
        };
        while let Some(field) = map.next_key::<Field>()? {
            match field {
                Field::Text => {
                    let part: Content = map.next_value()?;
                    all = all.and(Content { numbers: 0, ..part });
                }
                Field::Image => {
                    all.images += 1;
                    map.next_value::<IgnoredAny>()?;
                }
                Field::Label => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        Ok(all)
    }
}

/// What a field of a message or of a part of one holds.
enum Field {
    /// Text, or something with text in it.
    Text,
    /// A picture, sound or file: a link, an id or megabytes of base64, none of
    /// which are text.
    Image,
    /// A word for the API, not for the model.
    Label,
}

impl<'de> Deserialize<'de> for Field {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldVisitor;

        impl Visitor<'_> for FieldVisitor {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a field name")
            }

            fn visit_str<E>(self, name: &str) -> Result<Field, E> {
                Ok(match name {
                    "image_url" | "image" | "input_audio" | "audio" | "video_url" | "file"
                    | "file_data" | "file_id" | "file_url" => Field::Image,
                    "type" | "role" | "id" | "call_id" | "tool_call_id" | "detail" | "status"
                    | "filename" | "index" | "cache_control" => Field::Label,
                    _ => Field::Text,
                })
            }
        }

        deserializer.deserialize_str(FieldVisitor)
    }
}

/// A number, where it is one; anything else counts as not given.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Count(pub(super) Option<u64>);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CountVisitor)
    }
}

struct CountVisitor;

impl<'de> Visitor<'de> for CountVisitor {
    type Value = Count;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("anything")
    }

    fn visit_u64<E>(self, number: u64) -> Result<Count, E> {
        Ok(Count(Some(number)))
    }

    /// Clamped: it is below zero.
    fn visit_i64<E>(self, number: i64) -> Result<Count, E> {
        Ok(Count(Some(u64::try_from(number).unwrap_or(0))))
    }

    /// Clamps what is below zero, and above what fits.
    fn visit_f64<E>(self, number: f64) -> Result<Count, E> {
        Ok(Count(Some(number as u64)))
    }

    fn visit_bool<E>(self, _: bool) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_str<E>(self, _: &str) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_unit<E>(self) -> Result<Count, E> {
        Ok(Count(None))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Count, A::Error> {
        ContentVisitor.visit_seq(seq).map(|_| Count(None))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Count, A::Error> {
        ContentVisitor.visit_map(map).map(|_| Count(None))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn count(json: &str) -> Option<Option<u64>> {
        serde_json::from_str::<Count>(json)
            .ok()
            .map(|count| count.0)
    }

    #[test]
    fn a_count_is_a_number_of_any_form() {
        for (json, expected) in [
            ("0", Some(Some(0))),
            ("18446744073709551615", Some(Some(u64::MAX))),
            ("18446744073709551616", Some(Some(u64::MAX))),
            ("1e30", Some(Some(u64::MAX))),
            ("7.9", Some(Some(7))),
            ("-0", Some(Some(0))),
            ("-1", Some(Some(0))),
            ("-9223372036854775809", Some(Some(0))),
            ("-1e300", Some(Some(0))),
            ("null", Some(None)),
            ("true", Some(None)),
            (r#""81""#, Some(None)),
            (r#"[1, {"a": "b"}]"#, Some(None)),
            (r#"{"a": [1]}"#, Some(None)),
            // What is no JSON is none here, either, however deep it stands.
            ("1e999", None),
            ("[1e999]", None),
            (r#""\ud800""#, None),
            (r#"{"a": "\ud800"}"#, None),
            ("81x", None),
            ("[1", None),
        ] {
            assert_eq!(count(json), expected, "{json}");
        }
    }

    proptest! {
        #[test]
        fn a_count_is_what_a_whole_parser_takes_for_a_number(json in "[-0-9.e\"\\\\a\\[\\]{}:, ]{1,12}") {
            let whole = serde_json::from_str::<Value>(&json);
            let expected = whole.map(|value| match value {
                Value::Number(number) => number
                    .as_u64()
                    .or_else(|| number.as_f64().map(|number| number as u64)),
                _ => None,
            });
            prop_assert_eq!(count(&json), expected.ok());
        }

        #[test]
        fn any_number_counts(whole: u64, below: i64, real: f64) {
            prop_assert_eq!(count(&whole.to_string()), Some(Some(whole)));
            let clamped = u64::try_from(below).unwrap_or(0);
            prop_assert_eq!(count(&below.to_string()), Some(Some(clamped)));
            let real = json!(real).to_string();
            let parsed: Value = serde_json::from_str(&real).expect("JSON");
            let expected = parsed.as_f64().map(|real| real as u64);
            prop_assert_eq!(count(&real), Some(expected));
        }
    }
}
