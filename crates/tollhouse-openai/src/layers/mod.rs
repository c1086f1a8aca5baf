//! Middleware around the client, each for itself.

pub mod include_usage;
#[cfg(feature = "spans")]
pub mod spans;
pub mod verdict;
