//! An OpenAI-style API as a tower service.

pub mod answered;
pub mod client;
mod cost;
mod limits;
pub mod policy;
mod sse;
mod time;
mod usage;
mod verdict;
mod wire;

pub use answered::{Answered, AnsweredLayer};
pub use client::{Error, OpenAi, OpenAiBuilder, ResponseBody, ResponseFuture};
pub use cost::{Charge, ChargeRule, DEFAULT_EST_TOKENS};
pub use limits::RateLimits;
pub use policy::{Limit, Policy, PolicyError};
pub use tollgate::*;
pub use usage::UsageMeter;
pub use verdict::{Verdict, classify};
pub use wire::Wire;
