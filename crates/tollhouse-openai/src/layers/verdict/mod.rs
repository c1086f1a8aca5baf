//! A middleware that reads what an answer tells before handing it on.
//!
//! A provider's reasons stand in the body of an unsuccessful answer, which the
//! gates cannot read without taking it from the caller. So it is read here, at
//! the bottom of the stack: what it means is left in the response's extensions
//! as a [`Verdict`], beside the [`RateLimits`] of the headers, and the body
//! goes on byte for byte as it came. Whoever decides about retries or budgets
//! further up has it all in the head.
//!
//! [`OpenAi`](crate::OpenAi) has it built in. Around any other client:
//!
//! ```
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollhouse_openai::{VerdictLayer, RateLimits, Verdict};
//! use tower::{Layer, ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let client = service_fn(|_: Request<Full<Bytes>>| async {
//!     let busy = Full::from(r#"{"error": "Server overloaded"}"#);
//!     let answer = Response::builder().status(503).body(busy);
//!     Ok::<_, Infallible>(answer.expect("a response"))
//! });
//! let client = VerdictLayer::new().layer(client);
//!
//! let response = client.oneshot(Request::default()).await.unwrap();
//! assert!(response.extensions().get::<Verdict>().unwrap().retry);
//! assert!(response.extensions().get::<RateLimits>().is_some());
//! let body = response.into_body().collect().await.unwrap().to_bytes();
//! assert_eq!(body, r#"{"error": "Server overloaded"}"#);
//! # }
//! ```

mod body;
mod future;
mod layer;
mod service;

#[cfg(test)]
mod tests;

pub use body::VerdictBody;
pub use future::VerdictFuture;
pub use layer::VerdictLayer;
pub use service::WithVerdict;

#[cfg(doc)]
use crate::{RateLimits, Verdict};
