//! What is counted, and how.

use std::fmt;
use std::time::Duration;

use serde::de::value::MapAccessDeserializer;
use serde::de::{Deserializer, Error, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::seconds;

/// The limits of one model; `None` is no limit, and then no headers about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Tokens in one provider's minute.
    pub tokens_per_minute: Option<u64>,
    /// Requests in one provider's minute.
    pub requests_per_minute: Option<u64>,
}

impl Default for Limits {
    /// gpt-4o on the first paid tier.
    fn default() -> Self {
        Self {
            tokens_per_minute: Some(30_000),
            requests_per_minute: Some(500),
        }
    }
}

/// How a minute is counted.
///
/// # Examples
///
/// What fits 45 s after all tokens of a minute were used, which was 30 s into
/// the minute of the clock:
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse_sim::limits::{Account, Rules};
/// use tollhouse_sim::{Enforcement, Limits};
///
/// let remaining = |enforcement| {
///     let rules = Rules {
///         enforcement,
///         ..Rules::default()
///     };
///     let limits = Limits {
///         tokens_per_minute: Some(1_000),
///         requests_per_minute: None,
///     };
///     let start = Instant::now();
///     let mut account = Account::new(limits, &rules, start, start);
///     account.admit(start, 1_000).unwrap();
///     account
///         .levels(start + Duration::from_secs(45))
///         .tokens
///         .unwrap()
///         .remaining
/// };
/// let phase = Duration::from_secs(30);
/// assert_eq!(remaining(Enforcement::Continuous), 750);
/// assert_eq!(remaining(Enforcement::FixedMinute { phase }), 1_000);
/// assert_eq!(remaining(Enforcement::SlidingMinute), 0);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Enforcement {
    /// A bucket of L that regains L a minute: OpenAI.
    #[default]
    Continuous,
    /// A counter that starts again each minute of the provider's clock: Azure.
    FixedMinute {
        /// How much of its minute has passed when the first call arrives; less
        /// than 60 s.
        #[serde(with = "seconds")]
        phase: Duration,
    },
    /// Whatever the last 60 s used, however they are aligned.
    SlidingMinute,
}

/// [`Enforcement`] as its own form reads.
#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Written {
    Continuous,
    FixedMinute {
        #[serde(with = "seconds", default)]
        phase: Duration,
    },
    SlidingMinute,
}

impl From<Written> for Enforcement {
    fn from(written: Written) -> Self {
        match written {
            Written::Continuous => Self::Continuous,
            Written::FixedMinute { phase } => Self::FixedMinute { phase },
            Written::SlidingMinute => Self::SlidingMinute,
        }
    }
}

impl<'de> Deserialize<'de> for Enforcement {
    /// Each may be its name alone, as each flag is; `fixed-minute` with its default then.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Reader;

        impl<'de> Visitor<'de> for Reader {
            type Value = Enforcement;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(
                    "\"continuous\", \"fixed-minute\", {\"fixed-minute\": {\"phase\": 12.5}} or \
                     \"sliding-minute\"",
                )
            }

            fn visit_str<E: Error>(self, name: &str) -> Result<Enforcement, E> {
                match name {
                    "fixed-minute" => Ok(Enforcement::FixedMinute {
                        phase: Duration::ZERO,
                    }),
                    _ => Written::deserialize(name.into_deserializer()).map(Into::into),
                }
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Enforcement, A::Error> {
                Written::deserialize(MapAccessDeserializer::new(map)).map(Into::into)
            }
        }

        deserializer.deserialize_any(Reader)
    }
}

/// Whether a request limit of R a minute is enforced as such.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RequestEnforcement {
    /// Counted as tokens are.
    #[default]
    PerMinute,
    /// "60,000 requests/minute may be enforced as 1,000 requests/second"
    /// (OpenAI's guide to rate limits): a bucket of one second's worth, R / 60
    /// rounded up, that regains R a minute. Headers go on speaking of the
    /// minute.
    PerSecond,
}

/// What a request is charged when it is admitted.
///
/// Prompts are measured as OpenAI was seen to do: a quarter of the UTF-8 bytes
/// of all content, rounded up, plus one per message plus one for a chat; the
/// same quarter for completions and embeddings; the exact length of token
/// arrays; 765 for each image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ChargeRule {
    /// The prompt, plus `n` times the asked length (16 where none is asked):
    /// OpenAI until March 2025, and as Azure, Groq and Cerebras do.
    #[default]
    AsRequested,
    /// The prompt alone; for responses plus a guess of the answer: 19 tokens,
    /// or 217 with function tools. OpenAI since March 2025.
    #[serde(rename = "openai")]
    OpenAi,
}
