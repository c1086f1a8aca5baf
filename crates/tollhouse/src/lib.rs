//! Tower layers that keep every call inside an account's limits.
//!
//! An account with a rate-limited API may have so many calls in flight and
//! spend so many tokens and requests a minute. These layers hold that for
//! everybody who calls through the service they are put around, and for every
//! clone of it: batch jobs, request handlers and scripts at once. They **wait**
//! where others reject, **reserve before sending** where others charge
//! afterwards, and let first in who came first.
//!
//! | layer | keeps |
//! |---|---|
//! | [`ConcurrencyLayer`] | so many calls in flight, streams until their last byte |
//! | [`TpmBudgetLayer`] | so many tokens, and requests, a minute: a [`TokenBudget`] |
//! | [`StaggerLayer`] | so long between two launches |
//! | [`RetryLayer`] | asking again where that can help, holding nothing meanwhile |
//! | [`GateLayer`] | several of the first three as one; with [`Keyed`], each for itself by model, tenant or host |
//!
//! They know neither HTTP client nor provider. What a request costs, what its
//! answer used and whether to ask again is told to them by closures, or by the
//! traits in [`answer`]; the crate `tollhouse-openai` implements those for
//! OpenAI-style APIs.
//!
//! # Examples
//!
//! Stacked around any service that can be cloned, here in virtual time:
//!
//! ```
//! use std::time::Duration;
//!
//! use tokio::time::Instant;
//! use tollhouse::{ConcurrencyLayer, StaggerLayer, TokenBudget, TpmBudgetLayer};
//! use tower::{ServiceBuilder, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread", start_paused = true)]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let budget = TokenBudget::per_minute(30_000).headroom(0.15).build()?;
//! let client = ServiceBuilder::new()
//!     .layer(ConcurrencyLayer::new(3).until_response())
//!     .layer(TpmBudgetLayer::new(budget, |prompt: &&str| prompt.len() as u64).until_response())
//!     .layer(StaggerLayer::new(Duration::from_secs(15)))
//!     .service(service_fn(async |prompt: &str| Ok::<_, tollhouse::Error>(prompt.len())));
//!
//! let start = Instant::now();
//! let ask = |prompt| client.clone().oneshot(prompt);
//! let (first, second) = tokio::join!(ask("How deep is the sea?"), ask("Why?"));
//! assert_eq!((first?, second?), (20, 4));
//! assert_eq!(start.elapsed(), Duration::from_secs(15));
//! # Ok(())
//! # }
//! ```
//!
//! Answers that are `http::Response`s hold their pass to the end of their body
//! and need no `until_response`.
//!
//! # Ordering
//!
//! ```text
//! Retry            outermost: every attempt pays again, no backoff holds a slot
//!   Concurrency    only requests about to go out hold tokens
//!     TpmBudget    tokens and requests a minute
//!       Stagger    innermost: launches are exactly spaced
//!         client
//! ```
//!
//! With Retry inside Concurrency, three calls that back off would close the
//! gate for everybody; with Concurrency inside TpmBudget, tokens would lie
//! reserved for requests that wait for a slot; with Stagger further out, later
//! waits would bunch launches again. [`GateLayer`] fuses the inner three into
//! one service, and then everything is given back to a caller who leaves before
//! the launch, whichever gate it waited at.
//!
//! # Cloning
//!
//! Clones of a layer, and all services made from it, share its slots, its
//! budget, its spacing. A [`TokenBudget`] is a handle; clones share it.
//!
//! # Cancellation
//!
//! Dropping a call leaves its line and gives back everything that was not
//! launched. After the launch the charge stands, and the slot is free.
//!
//! # Back-pressure
//!
//! `poll_ready` of every layer here is always ready, because the cost of a
//! request is known only in `call`. Who would rather be refused than wait too
//! long says so: `max_waiting` and `max_wait` of a budget,
//! [`ConcurrencyLayer::bounded`]. See [`Refused`].
//!
//! # Traces
//!
//! Each gate emits `tracing` events: `waiting`, `admitted`, `lapsed` and `refused`, with
//! the gate's name, the cost and, at their end, the time waited; a budget `held`,
//! `slowed` and `limits learned`, and a retry `retrying`. None holds a request's content.
//!
//! # Metrics
//!
//! With the feature `metrics`, the gates tell the recorder of the crate
//! `metrics` how long calls wait, how many wait and are in flight, how the
//! budget stands, and what the provider refuses. Without it nothing of that is
//! compiled. [A page of the
//! guide](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/observability.md)
//! lists all.
//!
//! # Tests
//!
//! All waiting is tokio's time, so tests pause the clock and take no time. With
//! the feature `testing` the module `testing` has a scripted provider, and a
//! recorder that can be asked whether a limit was kept; [a page of the
//! guide](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/testing.md)
//! shows both.
//!
//! # Guide
//!
//! [Why there are no 429s, and how the crate is
//! built](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/architecture.md);
//! [every word](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/glossary.md); [a gate of your
//! own](https://github.com/tollhouse-rs/tollhouse/blob/main/examples/own_gate.rs) and [a
//! provider of your own](https://github.com/tollhouse-rs/tollhouse/blob/main/examples/own_provider.rs);
//! and [all other pages](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/README.md).

#[macro_use]
mod accessors;
pub mod answer;
mod ask;
pub mod budget;
mod charge;
pub mod concurrency;
pub mod error;
pub mod gate;
pub mod gated;
pub mod keyed;
mod queue;
pub mod retry;
mod rules;
pub mod shared;
pub mod stagger;
mod telemetry;
#[cfg(feature = "testing")]
pub mod testing;
mod time;

pub use answer::{
    Classify, Cost, Decision, Denial, End, Meter, Observation, Observe, RateLimits, Scope,
    Unmetered, Unobserved, Usage,
};
pub use ask::{Arrival, Ask, Caller, Deadline};
pub use budget::{
    AccountSlots, AccountSlotsSnapshot, Accounting, CallerSnapshot, ConfigError, MeterSnapshot,
    NextInLine, Reservation, Snapshot, TokenBudget, TokenBudgetBuilder, TpmBudgetLayer, Window,
};
pub use charge::{Charge, Per, Unit};
pub use concurrency::ConcurrencyLayer;
pub use error::{BoxError, Error, Refused};
pub use gate::{Gate, Pass, PassFor};
pub use gated::{By, GateLayer, Gated, UntilBodyEnd, UntilResponse};
pub use keyed::Keyed;
pub use retry::{Attempts, Backoff, Mark, RetryBudget, RetryLayer};
pub use stagger::StaggerLayer;
#[cfg(feature = "metrics")]
pub use telemetry::describe as describe_metrics;

/// The guide's examples about tests compile and run.
#[cfg(all(doctest, feature = "testing"))]
#[doc = include_str!("../../../docs/guide/testing.md")]
struct TestingGuide;
