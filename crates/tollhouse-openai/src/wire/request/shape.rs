//! What a request's body holds, counted in one pass.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::content::{Content, Count};
use super::edit::{Edit, Streaming};

/// What a JSON body asks for, and the counts that costs are made of.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tollhouse_openai::Call;
///
/// let body = r#"{"model": "gpt-4o", "messages": [{"role": "user", "content": "Hello"}],
///               "max_tokens": 100, "n": 2}"#;
/// let request = Request::post("/v1/chat/completions").body(Bytes::from(body))?;
/// let call = Call::of(&request);
/// let shape = call.shape().unwrap();
/// assert_eq!((shape.text_bytes, shape.messages), (5, 1));
/// assert_eq!((shape.longest_answer, shape.answers), (Some(100), 2));
/// # Ok::<(), http::Error>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Shape {
    /// The model's name; none where it is missing or no text.
    pub model: Option<Box<str>>,
    /// Whether the answer is to come as a stream.
    pub streams: bool,
    /// UTF-8 bytes of all text sent to the model, escapes resolved.
    pub text_bytes: u64,
    /// Tokens sent as numbers.
    pub token_ids: u64,
    /// Images, sounds and files.
    pub images: u64,
    /// Messages, at least 1; instructions are one.
    pub messages: u64,
    /// Bytes of the JSON of tools and output formats.
    pub schema_bytes: u64,
    /// Whether there are tools that are functions.
    pub has_functions: bool,
    /// The longest answer asked for, in tokens.
    pub longest_answer: Option<u64>,
    /// How many answers of that length; at least 1.
    pub answers: u64,
    /// The provider adds input of its own: an earlier response, a
    /// conversation, a stored prompt.
    pub continues_elsewhere: bool,
}

impl Shape {
    /// Counts a body, and finds what would make its stream tell its usage;
    /// `None` where it is no JSON object.
    pub(super) fn read(body: &[u8]) -> Option<(Shape, Option<Edit>)> {
        // Spares the parser what is sure to be something else.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return None;
        }
        #[cfg(test)]
        crate::call::tests::count_a_reading();
        let fields: Fields<'_> = match std::str::from_utf8(body) {
            Ok(text) => serde_json::from_str(text),
            // It may be none in what nobody reads.
            Err(_) => serde_json::from_slice(body),
        }
        .ok()?;
        let edit = fields.streaming.edit(body);
        Some((fields.shape(), edit))
    }
}

/// The fields that matter. One that comes twice is an error, for nobody knows
/// which of them the provider takes.
#[derive(Default)]
struct Fields<'b> {
    model: Option<&'b RawValue>,
    messages: Option<Content>,
    input: Option<Content>,
    instructions: Option<Content>,
    prompt: Option<Content>,
    suffix: Option<Content>,
    tools: Option<&'b RawValue>,
    functions: Option<&'b RawValue>,
    response_format: Option<&'b RawValue>,
    text: Option<&'b RawValue>,
    max_tokens: Option<Count>,
    max_completion_tokens: Option<Count>,
    max_output_tokens: Option<Count>,
    n: Option<Count>,
    best_of: Option<Count>,
    previous_response_id: Option<Content>,
    conversation: Option<Content>,
    streaming: Streaming<'b>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "snake_case")]
enum Name {
    Model,
    Messages,
    Input,
    Instructions,
    Prompt,
    Suffix,
    Tools,
    Functions,
    ResponseFormat,
    Text,
    MaxTokens,
    MaxCompletionTokens,
    MaxOutputTokens,
    N,
    BestOf,
    PreviousResponseId,
    Conversation,
    Stream,
    StreamOptions,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct FieldsVisitor;

        impl<'de> Visitor<'de> for FieldsVisitor {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = Fields::default();
                while let Some(name) = map.next_key()? {
                    fields.take(name, &mut map)?;
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(FieldsVisitor)
    }
}

impl<'de> Fields<'de> {
    fn take<A: MapAccess<'de>>(&mut self, name: Name, map: &mut A) -> Result<(), A::Error> {
        match name {
            Name::Model => once(&mut self.model, map),
            Name::Messages => once(&mut self.messages, map),
            Name::Input => once(&mut self.input, map),
            Name::Instructions => once(&mut self.instructions, map),
            Name::Prompt => once(&mut self.prompt, map),
            Name::Suffix => once(&mut self.suffix, map),
            Name::Tools => once(&mut self.tools, map),
            Name::Functions => once(&mut self.functions, map),
            Name::ResponseFormat => once(&mut self.response_format, map),
            Name::Text => once(&mut self.text, map),
            Name::MaxTokens => once(&mut self.max_tokens, map),
            Name::MaxCompletionTokens => once(&mut self.max_completion_tokens, map),
            Name::MaxOutputTokens => once(&mut self.max_output_tokens, map),
            Name::N => once(&mut self.n, map),
            Name::BestOf => once(&mut self.best_of, map),
            Name::PreviousResponseId => once(&mut self.previous_response_id, map),
            Name::Conversation => once(&mut self.conversation, map),
            // What costs do not depend on does not spoil them.
            Name::Stream => {
                self.streaming.stream(map.next_value()?);
                Ok(())
            }
            Name::StreamOptions => {
                self.streaming.options(map.next_value()?);
                Ok(())
            }
            Name::Other => map.next_value::<IgnoredAny>().map(|_| ()),
        }
    }

    fn shape(&self) -> Shape {
        let text = [
            self.messages,
            self.input,
            self.instructions,
            self.prompt,
            self.suffix,
        ];
        let all = text.into_iter().flatten();
        let all = all.fold(Content::default(), Content::and);
        let schemas = [self.tools, self.functions, self.response_format, self.text];
        let schemas = schemas.into_iter().flatten().map(RawValue::get);
        // An empty field is as good as none.
        let schemas = schemas.filter(|json| *json != "null");
        let calls = [self.tools, self.functions].into_iter().flatten();
        let number = |count: Option<Count>| count.and_then(|count| count.0);
        // No array of these: one by value costs thousands of instructions, as it is compiled.
        let asked = number(self.max_tokens)
            .max(number(self.max_completion_tokens))
            .max(number(self.max_output_tokens));
        let content = Option::unwrap_or_default;
        let (instructions, prompt) = (content(self.instructions), content(self.prompt));
        let items = content(self.messages).items.max(content(self.input).items);
        let answers = number(self.n).max(number(self.best_of));
        let answers = answers.unwrap_or(1).max(1);
        Shape {
            model: self.model.and_then(decoded),
            streams: self.streaming.is_on(),
            text_bytes: all.text_bytes,
            token_ids: all.numbers,
            images: all.images,
            messages: items.max(1) + u64::from(instructions.text_bytes > 0),
            schema_bytes: schemas.map(|json| json.len() as u64).sum(),
            has_functions: calls
                .map(RawValue::get)
                .any(|json| json.contains("function")),
            longest_answer: asked,
            answers: answers.saturating_mul(prompt.items.max(1)),
            continues_elsewhere: content(self.previous_response_id).text_bytes > 0
                || content(self.conversation).text_bytes > 0
                || prompt.is_object,
        }
    }
}

fn once<'de, T, A>(slot: &mut Option<T>, map: &mut A) -> Result<(), A::Error>
where
    T: Deserialize<'de>,
    A: MapAccess<'de>,
{
    match slot.replace(map.next_value()?) {
        None => Ok(()),
        Some(_) => Err(A::Error::custom("a field that comes twice")),
    }
}

fn decoded(json: &RawValue) -> Option<Box<str>> {
    serde_json::from_str(json.get()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Read as if nobody had looked at the whole of it before.
    fn string_by_string(body: &[u8]) -> Option<Shape> {
        let fields: Fields<'_> = serde_json::from_slice(body).ok()?;
        Some(fields.shape())
    }

    fn shape(body: &[u8]) -> Option<Shape> {
        Shape::read(body).map(|(shape, _)| shape)
    }

    #[test]
    fn what_is_no_text_matters_only_where_it_is_read() {
        for (body, is_read) in [
            (&b"{\"model\":\"a\",\"user\":\"\xff\"}"[..], true),
            (b"{\"model\":\"a\",\"user\":[\"\xc3\"]}", true),
            (b"{\"model\":\"a\xff\"}", false),
            (b"{\"model\":\"a\",\"tools\":[\"\xff\"]}", false),
            (b"{\"model\":\"a\",\"\xff\":1}", false),
            (b"{\"model\":\"a\",\"input\":\"\xed\xa0\x80\"}", false),
            (b"{\"model\":\"a\"}\xff", false),
        ] {
            let named = shape(body).and_then(|shape| shape.model);
            assert_eq!(named.as_deref(), is_read.then_some("a"), "{body:?}");
            assert_eq!(shape(body), string_by_string(body), "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn a_body_is_read_alike_as_text_and_string_by_string(
            text in "[\\PC\"\\\\]{0,20}",
            field in "user|input|messages|n|tools",
            at in any::<prop::sample::Index>(),
            byte: u8,
            end in any::<prop::sample::Index>(),
        ) {
            let body = serde_json::json!({"model": "a", "max_tokens": 81, field: [{"role": text}]});
            let mut body = body.to_string().into_bytes();
            prop_assert_eq!(shape(&body), string_by_string(&body));
            let at = at.index(body.len() - 1) + 1;
            body[at] = byte;
            prop_assert_eq!(shape(&body), string_by_string(&body));
            body.truncate(end.index(body.len()).max(1));
            prop_assert_eq!(shape(&body), string_by_string(&body));
        }
    }
}
