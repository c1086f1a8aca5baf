//! The size of a prompt.

use serde_json::Value;

use super::Endpoint;
use super::fields::{Fields, kind};
use crate::error::ApiError;

/// What an image costs, whatever its size (measured on OpenAI's chat).
const IMAGE_TOKENS: u64 = 765;

/// The most texts in one request.
const MOST_TEXTS: usize = 2_048;

/// What a prompt is made of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Input {
    /// UTF-8 bytes of all content.
    bytes: u64,
    /// Tokens given as numbers.
    ids: u64,
    images: u64,
    messages: u64,
    /// Bytes of the schemas of tools: free at admission, but used.
    tool_bytes: u64,
    /// Prompts or texts, each answered by itself; 1 for a conversation.
    pub(super) items: u64,
}

impl Input {
    pub(super) fn read(endpoint: Endpoint, fields: &Fields<'_>) -> Result<Self, ApiError> {
        match endpoint {
            Endpoint::Chat => Self::chat(fields),
            Endpoint::Responses => Self::responses(fields),
            Endpoint::Completions => Self::texts("prompt", fields),
            Endpoint::Embeddings => Self::texts("input", fields),
            Endpoint::Moderations => Self::moderated(fields),
        }
    }

    fn chat(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let messages = elements("messages", fields.required("messages")?)?;
        let mut input = Self::conversation(fields);
        for (index, message) in messages.iter().enumerate() {
            input.message("messages", index, message)?;
        }
        Ok(input)
    }

    fn responses(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let mut input = Self::conversation(fields);
        if let Some(Value::String(instructions)) = fields.get("instructions") {
            input.messages += 1;
            input.text(instructions);
        }
        match fields.required("input")? {
            Value::String(text) => {
                input.messages += 1;
                input.text(text);
            }
            items => {
                for (index, item) in elements("input", items)?.iter().enumerate() {
                    input.message("input", index, item)?;
                }
            }
        }
        Ok(input)
    }

    fn conversation(fields: &Fields<'_>) -> Self {
        let tools = fields.get("tools").map_or(0, length);
        Self {
            items: 1,
            tool_bytes: tools,
            ..Self::default()
        }
    }

    fn message(&mut self, name: &str, index: usize, message: &Value) -> Result<(), ApiError> {
        let Value::Object(message) = message else {
            let place = format!("{name}[{index}]");
            return Err(ApiError::wrong_type(&place, "an object", kind(message)));
        };
        self.messages += 1;
        // What a function returned stands under its own name in responses.
        for content in ["content", "output"]
            .iter()
            .filter_map(|&at| message.get(at))
        {
            self.content(content);
        }
        Ok(())
    }

    fn content(&mut self, content: &Value) {
        match content {
            Value::String(text) => self.text(text),
            Value::Array(parts) => parts.iter().for_each(|part| self.part(part)),
            // An assistant's message that only calls tools has none.
            _ => {}
        }
    }

    fn part(&mut self, part: &Value) {
        if let Some(Value::String(text)) = part.get("text") {
            self.text(text);
        }
        if part.get("image_url").is_some() {
            self.images += 1;
        }
    }

    fn text(&mut self, text: &str) {
        self.bytes += text.len() as u64;
    }

    /// A string, strings, or parts of one message.
    fn moderated(fields: &Fields<'_>) -> Result<Self, ApiError> {
        let mut input = Self {
            items: 1,
            ..Self::default()
        };
        match fields.required("input")? {
            Value::String(text) => input.text(text),
            value => {
                let elements = elements("input", value)?;
                if elements.len() > MOST_TEXTS {
                    return Err(ApiError::too_many("input", MOST_TEXTS, elements.len()));
                }
                for (index, element) in elements.iter().enumerate() {
                    match element {
                        Value::String(text) => input.text(text),
                        Value::Object(_) => input.part(element),
                        other => {
                            let place = format!("input[{index}]");
                            let expected = "a string or an object";
                            return Err(ApiError::wrong_type(&place, expected, kind(other)));
                        }
                    }
                }
            }
        }
        Ok(input)
    }

    /// A string, strings, the numbers of one token array, or token arrays.
    fn texts(name: &str, fields: &Fields<'_>) -> Result<Self, ApiError> {
        let mut input = Self::default();
        match fields.required(name)? {
            Value::String(text) => {
                input.items = 1;
                input.text(text);
            }
            value => {
                let elements = elements(name, value)?;
                input.items = texts_in(name, elements)?;
                for (index, element) in elements.iter().enumerate() {
                    input.element(name, index, element)?;
                }
            }
        }
        Ok(input)
    }

    fn element(&mut self, name: &str, index: usize, element: &Value) -> Result<(), ApiError> {
        match element {
            Value::String(text) => self.text(text),
            Value::Number(_) => self.ids += 1,
            Value::Array(ids) => self.ids += ids.len() as u64,
            other => {
                let place = format!("{name}[{index}]");
                let expected = "a string or an array of integers";
                return Err(ApiError::wrong_type(&place, expected, kind(other)));
            }
        }
        Ok(())
    }

    pub(super) fn has_tools(&self) -> bool {
        self.tool_bytes > 0
    }

    /// What OpenAI takes for the prompt at admission. For responses that is
    /// what it really uses; elsewhere a sum that ignores tools.
    pub(super) fn charged(&self, endpoint: Endpoint) -> u64 {
        match endpoint {
            Endpoint::Chat => self.content_tokens() + self.messages + 1,
            Endpoint::Responses => self.used(endpoint),
            Endpoint::Completions | Endpoint::Embeddings | Endpoint::Moderations => {
                self.content_tokens()
            }
        }
    }

    /// What the prompt really uses: 4 tokens for each message and 3 for a
    /// conversation are what its markup takes.
    pub(super) fn used(&self, endpoint: Endpoint) -> u64 {
        let markup = match endpoint {
            Endpoint::Chat | Endpoint::Responses => 4 * self.messages + 3,
            Endpoint::Completions | Endpoint::Embeddings | Endpoint::Moderations => 0,
        };
        self.content_tokens() + self.tool_bytes.div_ceil(4) + markup
    }

    fn content_tokens(&self) -> u64 {
        self.bytes.div_ceil(4) + self.ids + self.images * IMAGE_TOKENS
    }
}

/// Of a value's JSON, without a copy of it.
pub(super) fn length(value: &Value) -> u64 {
    struct Count(u64);
    impl std::io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0 += bytes.len() as u64;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    serde_json::to_writer(&mut count, value).expect("a count takes everything");
    count.0
}

fn elements<'a>(name: &str, value: &'a Value) -> Result<&'a [Value], ApiError> {
    match value {
        Value::Array(elements) if elements.is_empty() => Err(ApiError::empty(name)),
        Value::Array(elements) => Ok(elements),
        other => Err(ApiError::wrong_type(name, "an array", kind(other))),
    }
}

/// Numbers are the tokens of one text.
fn texts_in(name: &str, elements: &[Value]) -> Result<u64, ApiError> {
    if elements.iter().all(Value::is_number) {
        return Ok(1);
    }
    if elements.len() > MOST_TEXTS {
        return Err(ApiError::too_many(name, MOST_TEXTS, elements.len()));
    }
    Ok(elements.len() as u64)
}
