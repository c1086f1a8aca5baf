//! A simulated OpenAI-style provider that enforces limits as the real one
//! does: the other side, for tests, demos and benches.
//!
//! It counts tokens and requests a minute for each model, answers in OpenAI's
//! shapes, refuses in OpenAI's words, tells in OpenAI's headers, and reports
//! what it saw. It shares no code with the limiters that are tried against it,
//! so that a mistake is not made twice.
//!
//! # Examples
//!
//! In the process it is a tower service, and runs in virtual time:
//!
//! ```
//! use bytes::Bytes;
//! use tollhouse_sim::Sim;
//! use tower::ServiceExt;
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let sim = Sim::builder().tokens_per_minute(1_000).build()?;
//! let ask = |length: u32| {
//!     let body = format!(
//!         r#"{{"model": "gpt-4o", "max_tokens": {length},
//!             "messages": [{{"role": "user", "content": "Hi there"}}]}}"#
//!     );
//!     http::Request::post("/v1/chat/completions").body(Bytes::from(body))
//! };
//!
//! // 8 bytes are 2 tokens, the message is 1, the chat is 1: 4 and what is asked.
//! let answer = sim.service().oneshot(ask(900)?).await?;
//! assert_eq!(answer.status(), 200);
//! assert_eq!(answer.headers()["x-ratelimit-remaining-tokens"], "96");
//! assert_eq!(answer.headers()["x-ratelimit-reset-tokens"], "54.24s");
//!
//! let refused = sim.service().oneshot(ask(900)?).await?;
//! assert_eq!(refused.status(), 429);
//! assert_eq!(sim.report().total.rejected.tokens, 1);
//! # Ok(())
//! # }
//! ```
//!
//! On a socket it is a server for any client ([`Sim::spawn`], [`Sim::serve`]).
//!
//! # Two clocks
//!
//! The provider starts its clock, and fills its buckets, when the first call
//! arrives. Everything that is *configured* is in its own time: minutes,
//! latencies, storms. Everything that a client is *told* is in the client's
//! time: resets, delays, `openai-processing-ms`, and the times of the
//! [`Report`]. A [`speed`](Config::speed) of 60 puts 60 s of the one into 1 s
//! of the other.
//!
//! So a limit of 30,000 tokens stays 30,000 in the headers and in the error
//! texts, and is for one *provider's* minute. At speed 60 a client that counts
//! real minutes has to be told 60 times as much, and that no more than 30,000
//! may come at once.
//!
//! # Parts
//!
//! * [`Sim`], made by a [`Builder`] or from a [`Config`]: the provider.
//! * [`SimService`], `Router`, [`Served`]: its faces.
//! * [`Report`]: what it saw.
//! * [`limits`]: the accountant alone, told the time and free of I/O.

mod answer;
mod ask;
mod builder;
mod call;
mod config;
mod error;
mod go_duration;
pub mod limits;
mod memory;
mod provider;
mod random;
mod report;
mod schema;
mod serve;
mod sim;
mod tallies;
mod wire;
mod words;

pub use builder::Builder;
pub use config::{
    Answers, Bounds, ChargeRule, Claim, Config, ConfigError, Enforcement, Faults, Headers, Latency,
    Limits, RequestEnforcement, Storm,
};
pub use report::{Faulted, Rejected, Report, Tally};
pub use serve::Served;
pub use sim::Sim;
pub use wire::{ResponseFuture, SimService};
