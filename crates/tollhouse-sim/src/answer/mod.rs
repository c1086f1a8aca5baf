//! What is answered: made up, but always the same for the same request.

mod chat;
mod completions;
mod embeddings;
mod models;
mod moderations;
mod responses;
mod sse;
mod text;

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Value, json};

use crate::ask::{Ask, Choice, Endpoint, Format, Named};
use crate::config::Answers;
use crate::error::ApiError;
use crate::random::{Hash, Rng};
use crate::schema::satisfy;
use crate::words::word;
pub(crate) use models::{Page, list, model, rate_limits};
use text::{Kind, Text, tokens_of};

/// When every answer was made, in Unix seconds: 2026-01-01. A real time would
/// make two runs differ.
const CREATED: u64 = 1_767_225_600;
/// How widely the lengths of answers are spread around their mean.
const SIGMA: f64 = 0.5;
/// The longest answer, in tokens, where no length was asked.
const LONGEST: u64 = 128_000;

/// A piece of a body, and when it is due.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    /// Due so many tokens after the first.
    pub(crate) step: u64,
    /// Tokens of the answer in it.
    pub(crate) tokens: u64,
    pub(crate) data: Bytes,
}

/// The pieces of a body, in order, made as they are asked for.
pub(crate) type Frames = Box<dyn Iterator<Item = Frame> + Send>;

/// A body that is not a stream.
pub(crate) enum Whole {
    Bytes(Bytes),
    /// One that is long, and is made as it is sent.
    Pieces(Frames),
}

/// An answer that has been thought of, but not yet said.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    ask: Ask,
    /// Sixteen hex digits that ids are made of.
    id: String,
    choices: Vec<Text>,
    seed: u64,
}

/// What a token of a text takes while its whole answer is made.
const TOKEN_BYTES: u64 = 32;
/// What a token of JSON takes beside that.
const JSON_TOKEN_BYTES: u64 = 48;
/// What a choice takes beside its text: whole, and streamed.
const CHOICE_BYTES: u64 = 2_048;
const STREAMED_CHOICE_BYTES: u64 = 128;

impl Reply {
    /// # Errors
    ///
    /// Nothing satisfies a schema that it must satisfy.
    pub(crate) fn new(ask: Ask, seed: u64, answers: &Answers) -> Result<Self, ApiError> {
        let seed = Hash::default()
            .add(&seed.to_le_bytes())
            .add(&ask.hash.to_le_bytes())
            .finish();
        let choices = if ask.endpoint.generates() {
            ask.choices
        } else {
            0
        };
        let choices: Result<_, _> = (0..choices)
            .map(|index| choose(Rng::nth(seed, index), &ask, answers))
            .collect();
        Ok(Self {
            choices: choices?,
            ask,
            id: format!("{seed:016x}"),
            seed,
        })
    }

    /// What was asked.
    pub(crate) fn ask(&self) -> &Ask {
        &self.ask
    }

    /// Bytes that are held while it is sent, at most.
    pub(crate) fn weight(&self) -> u64 {
        if !self.ask.endpoint.generates() {
            // Made piece by piece, but for what is flagged.
            return self.ask.dimensions * 64 + self.ask.flags.len() as u64 * 4_096;
        }
        let json = |text: &&Text| !matches!(text.kind, Kind::Words);
        let json: u64 = self
            .choices
            .iter()
            .filter(json)
            .map(|text| text.tokens)
            .sum();
        // Its last events repeat the whole text.
        let whole = !self.ask.stream || self.ask.endpoint == Endpoint::Responses;
        let (each, tokens) = match whole {
            true => (CHOICE_BYTES, self.tokens()),
            false => (STREAMED_CHOICE_BYTES, 0),
        };
        each * self.choices.len() as u64 + tokens * TOKEN_BYTES + json * JSON_TOKEN_BYTES
    }

    /// Tokens of all choices.
    pub(crate) fn tokens(&self) -> u64 {
        self.choices.iter().map(|text| text.tokens).sum()
    }

    /// Tokens of the longest choice: choices are generated side by side.
    pub(crate) fn steps(&self) -> u64 {
        self.choices
            .iter()
            .map(|text| text.tokens)
            .max()
            .unwrap_or(0)
    }

    /// The model that was asked.
    pub(crate) fn model(&self) -> &str {
        &self.ask.model
    }

    /// Whether it was asked to be a stream.
    pub(crate) fn is_streamed(&self) -> bool {
        self.ask.stream
    }

    /// The whole answer, laid out over several lines as OpenAI's are.
    pub(crate) fn whole(&self) -> Whole {
        Whole::Bytes(pretty(&match self.ask.endpoint {
            Endpoint::Chat => chat::whole(self),
            Endpoint::Completions => completions::whole(self),
            Endpoint::Responses => responses::whole(self),
            Endpoint::Moderations => moderations::whole(self),
            Endpoint::Embeddings => return Whole::Pieces(embeddings::pieces(self)),
        }))
    }

    /// The answer as a stream of server-sent events.
    pub(crate) fn stream(self) -> Frames {
        match self.ask.endpoint {
            Endpoint::Chat => chat::stream(self),
            Endpoint::Completions => completions::stream(self),
            Endpoint::Responses => responses::stream(self),
            // Nobody can ask for it: `stream` is not read there.
            Endpoint::Embeddings | Endpoint::Moderations => Box::new(std::iter::empty()),
        }
    }

    /// Every token of every choice in the order of generation, as its step,
    /// its choice and its text.
    fn tokens_in_time(&self) -> impl Iterator<Item = (u64, usize, String)> + Send + use<> {
        let choices = self.choices.clone();
        (0..self.steps()).flat_map(move |step| {
            let present = |(index, text): (usize, &Text)| Some((step, index, text.token(step)?));
            let tokens: Vec<_> = choices.iter().enumerate().filter_map(present).collect();
            tokens
        })
    }
}

fn choose(mut rng: Rng, ask: &Ask, answers: &Answers) -> Result<Text, ApiError> {
    let most = ask.length.unwrap_or(LONGEST);
    let kind = kind(&mut rng, ask, answers)?;
    let tokens = match &kind {
        Kind::Json(tokens)
        | Kind::Call {
            arguments: tokens, ..
        } => tokens.len() as u64,
        Kind::Words => {
            let mean = ask
                .length
                .map_or(answers.tokens as f64, |asked| asked as f64 * answers.share);
            rng.log_normal(mean, SIGMA).round() as u64
        }
    };
    Ok(Text {
        seed: rng.next(),
        tokens: tokens.clamp(1, most),
        cut_off: tokens > most,
        kind,
    })
}

/// What an answer is made of: a tool's arguments, JSON, or words.
fn kind(rng: &mut Rng, ask: &Ask, answers: &Answers) -> Result<Kind, ApiError> {
    let form = &ask.form;
    let calls = match form.choice {
        Choice::May => rng.share() < answers.tool_calls,
        Choice::Must | Choice::MustThis => true,
        Choice::Never => false,
    };
    if calls {
        let tool = &form.tools[rng.below(form.tools.len() as u64) as usize];
        return Ok(Kind::Call {
            name: tool.name.as_str().into(),
            arguments: json_for(tool, rng)?,
            finish: if form.choice == Choice::MustThis {
                "stop"
            } else {
                "tool_calls"
            },
        });
    }
    Ok(match &form.format {
        Format::Text => Kind::Words,
        Format::Object => Kind::Json(tokens_of(&json!({"answer": word(rng)}).to_string())),
        Format::Schema(schema) => Kind::Json(json_for(schema, rng)?),
    })
}

fn json_for(named: &Named, rng: &mut Rng) -> Result<Arc<[Box<str>]>, ApiError> {
    let made = satisfy(&named.schema, rng).map_err(|flaw| named.flawed(&flaw))?;
    Ok(tokens_of(&made.to_string()))
}

pub(crate) fn pretty(body: &Value) -> Bytes {
    let mut body = serde_json::to_vec_pretty(body).expect("a value is JSON");
    body.push(b'\n');
    body.into()
}
