//! What is answered: made up, but always the same for the same request.

mod chat;
mod completions;
mod embeddings;
mod models;
mod responses;
mod sse;
mod text;

use bytes::Bytes;
use serde_json::Value;

use crate::ask::{Ask, Endpoint};
use crate::config::Answers;
use crate::draw::{Draw, Hash};
pub(crate) use models::{list, model};
use text::Text;

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

/// An answer that has been thought of, but not yet said.
#[derive(Clone, Debug)]
pub(crate) struct Reply {
    ask: Ask,
    /// Sixteen hex digits that ids are made of.
    id: String,
    choices: Vec<Text>,
    seed: u64,
}

impl Reply {
    pub(crate) fn new(ask: Ask, seed: u64, answers: &Answers) -> Self {
        let seed = Hash::new()
            .add(&seed.to_le_bytes())
            .add(&ask.hash.to_le_bytes())
            .finish();
        let choices = match ask.endpoint {
            Endpoint::Embeddings => 0,
            _ => ask.choices,
        };
        let choices = (0..choices)
            .map(|index| choose(Draw::nth(seed, index), ask.length, answers))
            .collect();
        Self {
            ask,
            id: format!("{seed:016x}"),
            choices,
            seed,
        }
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
    pub(crate) fn whole(&self) -> Bytes {
        pretty(&match self.ask.endpoint {
            Endpoint::Chat => chat::whole(self),
            Endpoint::Completions => completions::whole(self),
            Endpoint::Responses => responses::whole(self),
            Endpoint::Embeddings => embeddings::whole(self),
        })
    }

    /// The answer as a stream of server-sent events.
    pub(crate) fn stream(self) -> Frames {
        match self.ask.endpoint {
            Endpoint::Chat => chat::stream(self),
            Endpoint::Completions => completions::stream(self),
            Endpoint::Responses => responses::stream(self),
            // Nobody can ask for it: `stream` is not read there.
            Endpoint::Embeddings => Box::new(std::iter::empty()),
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

fn choose(mut draw: Draw, asked: Option<u64>, answers: &Answers) -> Text {
    let most = asked.unwrap_or(LONGEST);
    let mean = asked.map_or(answers.tokens as f64, |asked| asked as f64 * answers.share);
    let tokens = draw.log_normal(mean, SIGMA).round() as u64;
    Text {
        seed: draw.next(),
        tokens: tokens.clamp(1, most),
        cut_off: tokens > most,
    }
}

pub(crate) fn pretty(body: &Value) -> Bytes {
    let mut body = serde_json::to_vec_pretty(body).expect("a value is JSON");
    body.push(b'\n');
    body.into()
}
