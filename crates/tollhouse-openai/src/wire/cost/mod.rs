//! What a request will be charged, decided before it is sent.
//!
//! Nobody can copy a provider's own sum, and it has changed overnight; so the
//! default errs on the safe side, and what the provider's headers and the real
//! usage say later sets it right. A [`ChargeRule`] puts a price on what is known of
//! a request; nothing is read here.

mod estimate;

#[cfg(test)]
mod tests;

pub(crate) use estimate::Estimate;

use super::request::{Endpoint, RequestFacts, Shape};

/// The tokens charged to a request that does not say how long its answer may
/// be: `OPENAI_EST_TOKENS_PER_RUN` by default.
pub const DEFAULT_EST_TOKENS: u64 = 7_000;

/// The flat price of an image in a prompt, in tokens: as measured on OpenAI's
/// chat completions, whatever the image's size.
const IMAGE: u64 = 765;

/// How a provider charges at admission.
///
/// Text counts a token for every four bytes of UTF-8, rounded up once a request.
/// Everything but chat completions, responses, completions, embeddings and
/// moderations, and every body that is not JSON, is charged a quarter of its
/// bytes plus the estimate for a run. Reading (`GET`) costs no tokens, nor does
/// keeping files, batches and the like.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tollhouse_openai::{ChargeRule, Cost};
///
/// // 20 bytes of text make 5 tokens; 4 for the message and 3 for the reply's
/// // start; two answers of up to 100.
/// let body = r#"{"messages": [{"role": "user", "content": "How far is the moon"}],
///               "max_tokens": 100, "n": 2}"#;
/// let request = Request::post("/v1/chat/completions").body(Bytes::from(body)).unwrap();
/// assert_eq!(ChargeRule::Safe.cost(&request), 5 + 4 + 3 + 2 * 100);
///
/// // OpenAI itself counts one for the message, one more, and no output.
/// assert_eq!(ChargeRule::OpenAi.cost(&request), 5 + 1 + 1);
/// assert_eq!(ChargeRule::Fixed(500).cost(&request), 500);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChargeRule {
    /// The prompt, its tools and its asked output length, times `n`: safe with
    /// every provider, and what Azure, Groq and Cerebras charge. Where no
    /// length is asked for, at least the estimate for a run.
    ///
    /// Four tokens a message and three for the reply's start are added, exact on
    /// 394 of 415 recorded prompts.
    #[default]
    Safe,
    /// As measured on OpenAI since March 2025: a chat's text, one token a
    /// message and one more, but neither tools nor output (327 of 329 within
    /// 2); for responses, the input and a guess of the output, 19 tokens, or
    /// 217 with function tools (103 of 110 within 1).
    OpenAi,
    /// The same number for every request that costs anything.
    Fixed(u64),
}

impl ChargeRule {
    /// This rule with another estimate for a run than
    /// [`DEFAULT_EST_TOKENS`].
    pub fn with_est_tokens(self, est_tokens: u64) -> Estimator {
        Estimator {
            rule: self,
            est_tokens,
        }
    }
}

/// The most that a setting may name, or one request cost, of tokens or anything else: above
/// it a number can only be a slip, and sums of it stay far from overflow. A budget takes no
/// more for one request, whatever that asks for.
pub(crate) const MOST: u64 = 1_000_000_000_000;

/// A [`ChargeRule`] and the estimate for requests whose length cannot be told.
///
/// # Examples
///
/// As the cost of a budget without a policy:
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Empty;
/// use tollhouse_openai::{ChargeRule, TokenBudget, TpmBudgetLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let budget = TokenBudget::per_minute(30_000).build()?;
/// let charge = ChargeRule::Safe.with_est_tokens(1_200);
/// let client =
///     TpmBudgetLayer::new(budget.clone(), charge).layer(service_fn(async |_: Request<Bytes>| {
///         Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
///     }));
/// let request = Request::post("/v1/responses").body(Bytes::from(r#"{"input": "Hi"}"#))?;
/// client.oneshot(request).await?;
/// assert_eq!(budget.snapshot().level, 28_800);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Estimator {
    rule: ChargeRule,
    est_tokens: u64,
}

impl Estimator {
    /// What a request may be charged; `None` where it costs no tokens: what
    /// runs no model, and what is streamed and cannot be read.
    pub(crate) fn estimate<'c>(&self, facts: &'c RequestFacts) -> Option<Estimate<'c>> {
        if facts.is_read || facts.endpoint == Endpoint::Storage {
            return None;
        }
        let bytes = facts.bytes?;
        let (prompt, upfront, tokens) = match (facts.endpoint, &facts.shape) {
            (Endpoint::Images | Endpoint::Audio | Endpoint::Other, _) | (_, None) => {
                self.of_bytes(bytes)
            }
            (endpoint, Some(shape)) => self.of_shape(endpoint, shape),
        };
        Some(Estimate {
            endpoint: facts.endpoint,
            model: facts.model(),
            prompt: prompt.min(MOST),
            upfront: upfront.min(MOST),
            tokens: tokens.min(MOST),
        })
    }

    /// The prompt, the least that may be charged, and what it is safe to expect.
    fn of_shape(&self, endpoint: Endpoint, shape: &Shape) -> (u64, u64, u64) {
        let prompt = input(endpoint, shape);
        let (upfront, tokens) = match self.rule {
            ChargeRule::Safe => self.safe(endpoint, shape, prompt),
            ChargeRule::OpenAi => {
                let charge = openai(endpoint, shape);
                (charge, charge)
            }
            ChargeRule::Fixed(tokens) => (tokens, tokens),
        };
        // What the provider adds from its own memory cannot be seen from here.
        let unseen = shape.continues_elsewhere && !matches!(self.rule, ChargeRule::Fixed(_));
        let least = if unseen { self.est_tokens } else { 0 };
        (prompt, upfront, tokens.max(least))
    }

    fn of_bytes(&self, bytes: u64) -> (u64, u64, u64) {
        let prompt = quarter(bytes);
        match self.rule {
            ChargeRule::Fixed(tokens) => (prompt, tokens, tokens),
            _ => (prompt, prompt, prompt.saturating_add(self.est_tokens)),
        }
    }

    /// The least that may be charged, and what it is safe to expect.
    fn safe(&self, endpoint: Endpoint, shape: &Shape, input: u64) -> (u64, u64) {
        if !endpoint.writes() {
            return (input, input);
        }
        // The API's oldest default; mostly the estimate is what counts.
        let length = shape.longest_answer.unwrap_or(16);
        let asked = input.saturating_add(length.saturating_mul(shape.answers));
        match shape.longest_answer {
            Some(_) => (asked, asked),
            None => (asked, asked.max(self.est_tokens)),
        }
    }
}

/// The tokens of all that is sent.
fn input(endpoint: Endpoint, shape: &Shape) -> u64 {
    let messages = match endpoint {
        Endpoint::Chat | Endpoint::Responses => shape.messages.saturating_mul(4) + 3,
        _ => 0,
    };
    content(shape)
        .saturating_add(messages)
        .saturating_add(quarter(shape.schema_bytes))
}

fn openai(endpoint: Endpoint, shape: &Shape) -> u64 {
    match endpoint {
        Endpoint::Chat => content(shape) + shape.messages + 1,
        Endpoint::Responses if shape.has_functions => input(endpoint, shape) + 217,
        Endpoint::Responses => input(endpoint, shape) + 19,
        _ => content(shape),
    }
}

/// The tokens of text, token ids and images.
fn content(shape: &Shape) -> u64 {
    quarter(shape.text_bytes) + shape.token_ids + shape.images * IMAGE
}

fn quarter(bytes: u64) -> u64 {
    bytes.div_ceil(4)
}
