//! An OpenAI-style API as a tower service.

pub mod answered;
pub mod client;
mod limits;
mod sse;
mod time;
mod usage;
mod verdict;
mod wire;

pub use answered::{Answered, AnsweredLayer};
pub use client::{Error, OpenAi, OpenAiBuilder, ResponseBody, ResponseFuture};
pub use limits::RateLimits;
pub use tollgate::*;
pub use usage::UsageMeter;
pub use verdict::{Verdict, classify};
pub use wire::Wire;
