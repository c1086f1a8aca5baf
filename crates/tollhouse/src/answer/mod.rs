//! What an answer tells: its real usage, the provider's view of the account,
//! and whether asking again can help.
//!
//! The gates know no provider. Whoever wraps one teaches them to read its
//! answers by implementing these small traits; closures do for the simple
//! cases.

mod account;
mod retry;
mod usage;

pub use account::{Denial, Observation, Observe, RateLimits, Scope, Unobserved};
pub use retry::{Classify, Decision};
pub use usage::{Cost, End, Meter, Unmetered, Usage};
