//! Asks chat streams for their usage, and keeps what comes of it to itself.
//!
//! A chat stream tells what it used only where `stream_options.include_usage`
//! asks for it; then one more event comes before the last, without choices and
//! with the usage. Callers who did not ask may not expect it: many read
//! `choices[0]` of every event. So [`IncludeUsage`], outside of whatever reads
//! the usage, asks in their stead and takes that event out again.
//!
//! * The request: `"include_usage": true` is put where it belongs, and nothing
//!   else of the body is touched. A body that asks already, is no stream or no
//!   JSON object, names a field twice, or goes to another endpoint passes as it
//!   is.
//! * The answer: every event but the extra one passes byte for byte. An event
//!   is held back only while it may be the extra one, which mostly is within
//!   the chunk that brings it; one of more than 16 KiB passes unhidden. The
//!   `"usage": null` that other events now have is left alone.
//!
//! Some servers that speak this wire refuse `stream_options`; hence an opt-in:
//! [`Policy::ask_for_usage`](crate::Policy::ask_for_usage).
//!
//! # Examples
//!
//! ```
//! use std::convert::Infallible;
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::{BodyExt, Full};
//! use tollhouse_openai::IncludeUsage;
//! use tower::{ServiceExt, service_fn};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() {
//! let provider = service_fn(|request: Request<Bytes>| async move {
//!     let asked = r#"{"stream_options":{"include_usage":true},"stream":true}"#;
//!     assert_eq!(request.body(), asked);
//!     let events = "data: {\"choices\":[{}],\"usage\":null}\n\n\
//!                   data: {\"choices\":[],\"usage\":{\"total_tokens\":7}}\n\n\
//!                   data: [DONE]\n\n";
//!     let answer = Response::builder().header("content-type", "text/event-stream");
//!     Ok::<_, Infallible>(answer.body(Full::from(events)).unwrap())
//! });
//! let client = IncludeUsage::new(provider);
//!
//! let request = Request::post("/v1/chat/completions").body(Bytes::from(r#"{"stream":true}"#));
//! let answer = client.oneshot(request.unwrap()).await.unwrap();
//! let events = answer.into_body().collect().await.unwrap().to_bytes();
//! assert_eq!(events, "data: {\"choices\":[{}],\"usage\":null}\n\ndata: [DONE]\n\n");
//! # }
//! ```

mod body;
mod filter;
mod service;

pub use body::WithoutUsage;
pub use service::{IncludeUsage, IncludeUsageFuture};

#[cfg(test)]
mod tests;
