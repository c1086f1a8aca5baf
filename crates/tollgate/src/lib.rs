//! Tower layers that keep every call inside an account's limits.

pub mod answer;
pub mod budget;
pub mod concurrency;
pub mod error;
pub mod gate;
pub mod gated;
mod line;
mod queue;
mod random;
pub mod retry;
mod rules;
pub mod stagger;

pub use answer::{
    Classify, Cost, Decision, Denial, End, Meter, Observation, Observe, RateLimits, Scope,
    Unmetered, Unobserved, Usage,
};
pub use budget::{
    Accounting, ConfigError, Reservation, Snapshot, TokenBudget, TokenBudgetBuilder,
    TpmBudgetLayer, Window,
};
pub use concurrency::ConcurrencyLayer;
pub use error::{BoxError, Error, Refused};
pub use gate::{Gate, Pass, PassFor};
pub use gated::{GateLayer, Gated, UntilBodyEnd, UntilResponse};
pub use retry::{Backoff, RetryLayer};
pub use stagger::StaggerLayer;
