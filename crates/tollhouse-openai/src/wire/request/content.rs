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
        let number = Option::<Number>::deserialize(deserializer)?;
        Ok(Count(match number {
            Some(Number::Whole(number)) => Some(number),
            // Clamps what is below zero, and above what fits.
            Some(Number::Real(number)) => Some(number as u64),
            Some(Number::Other(_)) | None => None,
        }))
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Number {
    Whole(u64),
    Real(f64),
    Other(IgnoredAny),
}
