//! The accountant: what a provider counts, and what it refuses.
//!
//! Everything here is pure. It is told `now`, reads no clock, and its sums are
//! exact integers, so that a test can name the nanosecond at which a request
//! begins to fit.
//!
//! ```
//! use std::time::Duration;
//! use tokio::time::Instant;
//! use tollhouse_sim::Limits;
//! use tollhouse_sim::limits::{Account, Rejection, Rules};
//!
//! let start = Instant::now();
//! let limits = Limits {
//!     tokens_per_minute: Some(30_000),
//!     requests_per_minute: None,
//! };
//! let mut account = Account::new(limits, &Rules::default(), start, start);
//!
//! account.admit(start, 14_567).unwrap();
//! let Err(Rejection::Tokens(short)) = account.admit(start, 24_754) else {
//!     panic!()
//! };
//! assert_eq!((short.used, short.limit), (14_567, 30_000));
//! assert_eq!(short.wait, Duration::from_millis(18_642));
//! ```

mod account;
mod bucket;
mod clock;
mod log;
mod meter;

#[cfg(test)]
mod model_tests;
#[cfg(test)]
mod tests;

pub use account::{Account, Charge, Levels, Rejection, Rules};
pub(crate) use clock::Clock;
pub use meter::{Level, Shortfall};
