//! Tower layers that keep every call inside an account's limits.

pub mod answer;

pub use answer::{
    Classify, Cost, Decision, Denial, End, Meter, Observation, Observe, RateLimits, Scope,
    Unmetered, Unobserved, Usage,
};
