//! An OpenAI-style API as a tower service, and all that its answers tell.
//!
//! [`tollhouse`] knows how to wait and for what, but no provider. This crate
//! teaches it one wire, the one that OpenAI, Azure, Groq, Mistral, xAI,
//! OpenRouter, vLLM and many others speak with accents of their own:
//!
//! | question | answered by |
//! |---|---|
//! | How does a request get there? | [`OpenAi`], a [`Service`](tower_service::Service) over hyper and rustls |
//! | What does it ask for? | [`Call`], read once and kept with the request |
//! | What will it be charged? | [`ChargeRule`], a [`Cost`] |
//! | What does the account have left? | [`RateLimits`], read from headers |
//! | Is an unsuccessful answer worth another try, and when? | [`classify`], a [`Verdict`] |
//! | What was really used? | [`UsageMeter`], from JSON bodies and event streams |
//! | Which limits hold? | [`Policy`], from variables or code |
//! | And where each model has its own? | [`Account`], a pool for each, from a `tollhouse.toml` or code |
//! | Why did a call fail, and what now? | [`ApiError`] |
//!
//! [`AnswerReader`] hands `RateLimits`, `classify` and `UsageMeter` to the gates: it is their
//! [`Observe`], [`Classify`] and [`Usage`] in one. It finds what it needs in the response's
//! extensions, where `OpenAi` leaves it; put [`VerdictLayer`] around any other
//! client for the same.
//!
//! Everything of [`tollhouse`] is re-exported here; its plain `RateLimits` and
//! `Error` are shadowed by this crate's richer ones and stay reachable as
//! [`answer::RateLimits`] and [`error::Error`].
//!
//! # Features
//!
//! None is on by default.
//!
//! | feature | what it brings |
//! |---|---|
//! | `metrics` | the gates' metrics, told to a recorder of the crate `metrics` |
//! | `spans` | each call in a span with OpenTelemetry's attributes: the module `spans` |
//! | `reqwest` | a reqwest client behind a policy: `Policy::reqwest` |
//! | `async-openai` | async-openai's typed client behind a policy: `Policy::async_openai` |
//! | `axum` | [`ApiError`] as the response of an axum handler |
//!
//! # Guide
//!
//! [Beginning](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/start.md),
//! [every limit and what it is for](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/policy.md),
//! [several models in one account](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/account.md),
//! [which client, and how](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/clients.md),
//! [more out of a quota](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/tuning.md),
//! [metrics, logs, traces](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/observability.md),
//! [every symptom](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/guide/troubleshooting.md)
//! and [all other pages](https://github.com/tollhouse-rs/tollhouse/blob/main/docs/README.md).
//!
//! # Examples
//!
//! A client whose every clone keeps the account's limits, set by variables:
//!
//! ```no_run
//! # async fn ask() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! use bytes::Bytes;
//! use http::Request;
//! use tollhouse_openai::{ApiError, OpenAi, Policy};
//! use tower::{Layer, ServiceExt};
//!
//! let client = Policy::from_env()?.layer().layer(OpenAi::from_env()?);
//!
//! let body = r#"{"model": "gpt-4o-mini", "max_tokens": 100,
//!                "messages": [{"role": "user", "content": "Hi"}]}"#;
//! let request = Request::post("/v1/chat/completions").body(Bytes::from(body))?;
//! let answer = client.clone().oneshot(request).await?;
//! let answer = ApiError::check(answer).await?;
//! # let _ = answer;
//! # Ok(())
//! # }
//! ```
//!
//! What a provider's answer means, without any network:
//!
//! ```
//! use std::time::Duration;
//! use http::{HeaderMap, StatusCode};
//! use tollhouse_openai::{Scope, classify};
//!
//! let body = br#"{"error": {"message": "Rate limit reached on requests per day (RPD):
//!     Limit 200, Used 200, Requested 1. Please try again in 7m12s."}}"#;
//! let verdict = classify(StatusCode::TOO_MANY_REQUESTS, &HeaderMap::new(), body);
//! assert!(verdict.retry);
//! assert_eq!(verdict.after, Some(Duration::from_secs(432)));
//! assert_eq!(verdict.scope, Scope::RequestsPerDay);
//! ```

pub mod account;
pub mod adapters;
pub mod api_error;
pub mod call;
pub mod client;
pub mod layers;
pub mod policy;
pub mod wire;

pub use account::{Account, AccountConfig, SharedLedgerConfig};
pub use api_error::ApiError;
pub use call::{Call, RequestBody};
pub use client::{Error, OpenAi, OpenAiBuilder, ResponseBody, StreamingOpenAi};
pub use layers::include_usage::IncludeUsage;
#[cfg(feature = "spans")]
pub use layers::spans;
pub use layers::verdict::{VerdictLayer, WithVerdict};
pub use policy::AnswerReader;
pub use policy::{Limit, Policy, PolicyConfig, PolicyError};
pub use tollhouse::*;
pub use wire::cost::{ChargeRule, Estimator};
pub use wire::learned::LearnedFactor;
pub use wire::limits::RateLimits;
pub use wire::usage::{Asked, UsageMeter};
pub use wire::verdict::{Verdict, classify};

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;

/// The guide's example of an exporter compiles and runs.
#[cfg(all(doctest, feature = "metrics"))]
#[doc = include_str!("../../../docs/guide/observability.md")]
struct ObservabilityGuide;

/// The guide's programs compile, and those that need no network run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/start.md")]
struct StartGuide;

/// See [`StartGuide`].
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/policy.md")]
struct PolicyGuide;

/// See [`StartGuide`].
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/account.md")]
struct AccountGuide;

/// See [`StartGuide`].
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/clients.md")]
struct ClientsGuide;

/// See [`StartGuide`].
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/troubleshooting.md")]
struct TroubleshootingGuide;

/// See [`StartGuide`].
#[cfg(doctest)]
#[doc = include_str!("../../../docs/migrating.md")]
struct MigratingGuide;
