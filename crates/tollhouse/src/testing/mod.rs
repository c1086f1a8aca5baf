//! For tests of code that calls through gates: a provider that answers as
//! scripted, and a record that can be asked whether a limit was kept.
//!
//! Put the [`Recorder`] directly around the provider, inside the gates: it sees
//! the requests as they are launched, and their answers to the last byte. It
//! goes around any service: a [`ScriptedProvider`], `tower_test::mock`, a
//! simulated provider, a function.
//!
//! With the feature `testing`, which is meant for `[dev-dependencies]`. Nothing
//! here crosses a socket, so everything runs on tokio's paused clock: a test of
//! a limit by the minute takes no time and can demand the exact instant.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use tollhouse::ConcurrencyLayer;
//! use tollhouse::testing::{Recorder, Reply, ScriptedProvider};
//! use tower::{Layer, ServiceExt};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() {
//! let provider = ScriptedProvider::new(|n, question: &&str| {
//!     Reply::ok(format!("answer {n} to {question}")).after(Duration::from_secs(2))
//! });
//! let recorder = Recorder::new().until_response();
//! let client = ConcurrencyLayer::new(3)
//!     .until_response()
//!     .layer(recorder.layer(provider));
//!
//! let calls: Vec<_> = (0..10)
//!     .map(|_| tokio::spawn(client.clone().oneshot("Why?")))
//!     .collect();
//! for call in calls {
//!     call.await.expect("no panic").expect("an answer");
//! }
//! recorder.assert_in_flight_at_most(3);
//! let launches = recorder.launches();
//! assert_eq!(launches.len(), 10);
//! assert_eq!(launches[9], Duration::from_secs(6));
//! # }
//! ```

mod assertions;
mod provider;
mod recorder;
#[cfg(test)]
mod tests;

pub use provider::{Reply, ReplyFuture, ScriptedProvider};
pub use recorder::{Call, Free, Recorded, Recorder, Trace};
