//! What a request asks for, read from its body.

mod fields;
mod flags;
mod form;
mod input;

use serde_json::{Map, Value};

use crate::config::ChargeRule;
use crate::error::ApiError;
use crate::random::Hash;
use fields::Fields;
pub(crate) use flags::{CATEGORIES, Flags};
pub(crate) use form::{Choice, Form, Format, Named};
use input::Input;

/// The most tokens that one answer may be asked to have.
const MOST_TOKENS: u64 = 128_000;
/// The most answers that one request may ask for.
const MOST_CHOICES: u64 = 128;
/// What an answer was charged whose length was not asked (measured on OpenAI's
/// chat until March 2025).
const UNASKED_LENGTH: u64 = 16;
/// OpenAI's guess of a response's length, without and with function tools.
const RESPONSE_GUESS: u64 = 19;
const RESPONSE_GUESS_WITH_TOOLS: u64 = 217;
/// The length of an embedding where none is asked.
const DIMENSIONS: u64 = 1_536;

/// What can be called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Chat,
    Completions,
    Responses,
    Embeddings,
    Moderations,
}

impl Endpoint {
    /// The names of the asked length, the one that wins first.
    fn length_names(self) -> &'static [&'static str] {
        match self {
            Self::Chat => &["max_completion_tokens", "max_tokens"],
            Self::Completions => &["max_tokens"],
            Self::Responses => &["max_output_tokens"],
            Self::Embeddings | Self::Moderations => &[],
        }
    }

    /// The model where none is named, if there is one.
    fn usual_model(self) -> Option<&'static str> {
        (self == Self::Moderations).then_some("omni-moderation-latest")
    }

    /// Whether answers are made of tokens.
    pub(crate) fn generates(self) -> bool {
        !matches!(self, Self::Embeddings | Self::Moderations)
    }

    /// The error for a model that does not exist.
    pub(crate) fn unknown_model(self, model: &str) -> ApiError {
        match self {
            Self::Responses => ApiError::unknown_model_for_responses(model),
            _ => ApiError::unknown_model(model),
        }
    }
}

/// One request, understood.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    pub(crate) endpoint: Endpoint,
    pub(crate) model: String,
    input: Input,
    /// Answers wanted.
    pub(crate) choices: u64,
    /// The asked length of each answer, in tokens.
    pub(crate) length: Option<u64>,
    pub(crate) stream: bool,
    /// Whether a chat's stream ends with its usage.
    pub(crate) include_usage: bool,
    pub(crate) form: Form,
    /// What each text that is moderated is flagged as.
    pub(crate) flags: Vec<Flags>,
    /// Numbers in an embedding.
    pub(crate) dimensions: u64,
    /// Whether embeddings are packed as base64.
    pub(crate) base64: bool,
    /// The same for the same question, streamed or not.
    pub(crate) hash: u64,
}

/// The model a body names, and the object that names it.
pub(crate) fn open(
    endpoint: Endpoint,
    body: &[u8],
) -> Result<(String, Map<String, Value>), ApiError> {
    let Ok(Value::Object(object)) = serde_json::from_slice(body) else {
        return Err(ApiError::not_json());
    };
    let model = match (object.get("model"), endpoint.usual_model()) {
        (Some(Value::String(model)), _) if !model.is_empty() => model.clone(),
        (None | Some(Value::Null), Some(model)) => model.to_owned(),
        _ => return Err(ApiError::no_model()),
    };
    Ok((model, object))
}

impl Ask {
    pub(crate) fn read(
        endpoint: Endpoint,
        model: String,
        body: &Map<String, Value>,
    ) -> Result<Self, ApiError> {
        let fields = Fields(body);
        let input = Input::read(endpoint, &fields)?;
        let each = match endpoint {
            Endpoint::Chat | Endpoint::Completions => fields.integer("n", 1, MOST_CHOICES)?,
            _ => None,
        };
        Ok(Self {
            endpoint,
            model,
            choices: each.unwrap_or(1) * input.items,
            length: length(endpoint, &fields)?,
            stream: endpoint.generates() && fields.flag("stream")?,
            include_usage: fields.object("stream_options")?.flag("include_usage")?,
            form: Form::read(endpoint, &fields)?,
            flags: match endpoint {
                Endpoint::Moderations => flags::read(&fields)?,
                _ => vec![],
            },
            dimensions: fields
                .integer("dimensions", 1, 4_096)?
                .unwrap_or(DIMENSIONS),
            base64: fields.get("encoding_format") == Some(&Value::from("base64")),
            hash: hash(endpoint, body),
            input,
        })
    }

    /// What it is charged when it is admitted.
    pub(crate) fn charge(&self, rule: ChargeRule) -> u64 {
        let asked = self.choices * self.length.unwrap_or(UNASKED_LENGTH);
        match (rule, self.endpoint) {
            (_, Endpoint::Embeddings | Endpoint::Moderations) => self.input.charged(self.endpoint),
            (ChargeRule::AsRequested, _) => self.input.charged(self.endpoint) + asked,
            (ChargeRule::OpenAi, _) => self.input.charged(self.endpoint) + self.guess(),
        }
    }

    fn guess(&self) -> u64 {
        match (self.endpoint, self.input.has_tools()) {
            (Endpoint::Responses, false) => RESPONSE_GUESS,
            (Endpoint::Responses, true) => RESPONSE_GUESS_WITH_TOOLS,
            _ => 0,
        }
    }

    /// What its prompt really uses.
    pub(crate) fn prompt_tokens(&self) -> u64 {
        self.input.used(self.endpoint)
    }

    /// Texts in the input of an embedding.
    pub(crate) fn items(&self) -> u64 {
        self.input.items
    }
}

fn length(endpoint: Endpoint, fields: &Fields<'_>) -> Result<Option<u64>, ApiError> {
    for name in endpoint.length_names() {
        let length = fields.integer(name, 1, MOST_TOKENS)?;
        if length.is_some() {
            return Ok(length);
        }
    }
    Ok(None)
}

/// Of everything but how the answer is delivered.
fn hash(endpoint: Endpoint, body: &Map<String, Value>) -> u64 {
    body.iter()
        .filter(|(name, _)| !matches!(name.as_str(), "stream" | "stream_options"))
        .fold(
            Hash::default().add(&[endpoint as u8]),
            |hash, (name, value)| hash.add(name.as_bytes()).add_json(value),
        )
        .finish()
}
