//! An OpenAI-style API as a tower service.

mod limits;
mod sse;
mod time;
mod usage;
mod verdict;

pub use limits::RateLimits;
pub use tollgate::*;
pub use usage::UsageMeter;
pub use verdict::{Verdict, classify};
