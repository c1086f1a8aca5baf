//! What a request's body holds, counted in one pass without keeping it.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;

/// The counts that costs are made of.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Shape<'b> {
    /// The model's name, in JSON.
    pub(super) model: Option<&'b str>,
    /// UTF-8 bytes of all text sent to the model.
    pub(super) text_bytes: u64,
    /// Tokens sent as numbers.
    pub(super) token_ids: u64,
    /// Images, sounds and files.
    pub(super) images: u64,
    pub(super) messages: u64,
    /// Bytes of the JSON of tools and output formats.
    pub(super) schema_bytes: u64,
    pub(super) has_functions: bool,
    /// The longest answer asked for, in tokens.
    pub(super) asked_output: Option<u64>,
    /// How many answers of that length; at least 1.
    pub(super) answers: u64,
    /// The provider adds input of its own: an earlier response, a
    /// conversation, a stored prompt.
    pub(super) continues_elsewhere: bool,
}

impl<'b> Shape<'b> {
    /// Counts a body; `None` where it is no JSON object.
    pub(super) fn read(body: &'b [u8]) -> Option<Self> {
        // An array would pass for the fields in their order.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        let fields: Fields<'b> = serde_json::from_slice(body).ok()?;
        Some(fields.shape())
    }
}

/// The fields that matter; all others are skipped.
#[derive(Deserialize)]
#[serde(default)]
struct Fields<'b> {
    #[serde(borrow)]
    model: Option<&'b RawValue>,
    messages: Content,
    input: Content,
    instructions: Content,
    prompt: Content,
    suffix: Content,
    #[serde(borrow)]
    tools: Option<&'b RawValue>,
    #[serde(borrow)]
    functions: Option<&'b RawValue>,
    #[serde(borrow)]
    response_format: Option<&'b RawValue>,
    #[serde(borrow)]
    text: Option<&'b RawValue>,
    max_tokens: Count,
    max_completion_tokens: Count,
    max_output_tokens: Count,
    n: Count,
    best_of: Count,
    previous_response_id: Content,
    conversation: Content,
}

impl Default for Fields<'_> {
    fn default() -> Self {
        let (content, count) = (Content::default(), Count::default());
        Fields {
            model: None,
            messages: content,
            input: content,
            instructions: content,
            prompt: content,
            suffix: content,
            tools: None,
            functions: None,
            response_format: None,
            text: None,
            max_tokens: count,
            max_completion_tokens: count,
            max_output_tokens: count,
            n: count,
            best_of: count,
            previous_response_id: content,
            conversation: content,
        }
    }
}

impl<'b> Fields<'b> {
    fn shape(&self) -> Shape<'b> {
        let text = [
            self.messages,
            self.input,
            self.instructions,
            self.prompt,
            self.suffix,
        ];
        let all = text.into_iter().fold(Content::default(), Content::and);
        let schemas = [self.tools, self.functions, self.response_format, self.text];
        let schemas = schemas.into_iter().flatten().map(RawValue::get);
        let calls = [self.tools, self.functions].into_iter().flatten();
        let asked = [
            self.max_tokens,
            self.max_completion_tokens,
            self.max_output_tokens,
        ];
        let answers = self.n.0.max(self.best_of.0).unwrap_or(1).max(1);
        Shape {
            model: self.model.map(RawValue::get),
            text_bytes: all.text_bytes,
            token_ids: all.numbers,
            images: all.images,
            messages: self.messages.items.max(self.input.items).max(1)
                + u64::from(self.instructions.text_bytes > 0),
            schema_bytes: schemas.map(|json| json.len() as u64).sum(),
            has_functions: calls
                .map(RawValue::get)
                .any(|json| json.contains("function")),
            asked_output: asked.into_iter().filter_map(|asked| asked.0).max(),
            answers: answers.saturating_mul(self.prompt.items.max(1)),
            continues_elsewhere: self.previous_response_id.text_bytes > 0
                || self.conversation.text_bytes > 0
                || self.prompt.is_object,
        }
    }
}

/// Anything at all, counted.
#[derive(Clone, Copy, Debug, Default)]
struct Content {
    text_bytes: u64,
    images: u64,
    /// Numbers that stand in arrays: token ids.
    numbers: u64,
    /// What it consists of: messages, inputs, prompts. An array of token ids is
    /// one.
    items: u64,
    is_object: bool,
}

impl Content {
    /// Both together, as parts of something.
    fn and(self, other: Content) -> Content {
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
struct Count(Option<u64>);

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
