//! The policy around the clients that people already use.
//!
//! | client | feature | see |
//! |---|---|---|
//! | reqwest | `reqwest` | `Policy::reqwest`, `Account::reqwest` |
//! | async-openai | `async-openai` | `Policy::async_openai`, `Account::async_openai` |
//! | any other `Service<http::Request<B>>` | none | [`WholeBodyLayer`], [`FromBytesLayer`] |
//! | axum, for answers to one's own callers | `axum` | [`ApiError`](crate::ApiError) is a response |
//!
//! Every one of them goes through [`Policy::layer`](crate::Policy::layer) or
//! [`Account::layer`](crate::Account::layer), so all that hold clones of one policy or
//! account share its limits, whatever their client.

#[cfg(feature = "async-openai")]
pub mod async_openai;
#[cfg(feature = "axum")]
mod axum;
pub mod from_bytes;
#[cfg(feature = "reqwest")]
pub mod reqwest;
pub mod whole_body;

pub use from_bytes::{FromBytes, FromBytesLayer};
pub use whole_body::{WholeBody, WholeBodyLayer};

#[cfg(feature = "reqwest")]
mod ready;
