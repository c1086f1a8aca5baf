//! Runs a JSONL file of API requests through any `tower` service.
//!
//! Input and output are in the form of the OpenAI Batch API, so a file made for
//! it runs here as it is: now, through a service that keeps the account's
//! limits. This crate knows neither gates nor providers. It reads lines, hands
//! them to the service, at most [`look_ahead`](Batch::look_ahead) at once, and
//! writes each answer as one line as soon as it is there.
//!
//! # Examples
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use bytes::Bytes;
//! use http::{Request, Response};
//! use http_body_util::Full;
//! use tollhouse_batch::Batch;
//!
//! // Stands for the stack of gates around a client.
//! let service = tower::service_fn(async |request: Request<Bytes>| {
//!     assert_eq!(request.uri(), "/v1/embeddings");
//!     let answer = r#"{"data":[],"usage":{"total_tokens":3}}"#;
//!     Ok::<_, std::io::Error>(Response::new(Full::new(Bytes::from(answer))))
//! });
//!
//! let input = concat!(
//!     r#"{"custom_id":"a","method":"POST","url":"/v1/embeddings","body":{"input":"Hi"}}"#,
//!     "\n",
//!     r#"{"custom_id":"b","method":"GET","url":"/v1/models"}"#,
//!     "\n",
//! );
//! let (mut output, mut errors) = (Vec::new(), Vec::new());
//! let summary = Batch::new(service)
//!     .on_event(|event| eprintln!("{event:?}"))
//!     .run(input.as_bytes(), &mut output, &mut errors)
//!     .await?;
//!
//! assert_eq!((summary.ok, summary.bad_lines, summary.tokens), (1, 1, 3));
//! let output = String::from_utf8(output)?;
//! assert!(output.starts_with(r#"{"id":"batch_req_"#));
//! assert!(output.contains(
//!     r#""custom_id":"a","response":{"status_code":200,"request_id":null,"body":{"data":[],"#
//! ));
//! # Ok(())
//! # }
//! ```
//!
//! # Resuming
//!
//! [`Done::open`] opens a file of an earlier run, learns what it answers, and
//! repairs its last line if the run was killed while writing it. Lines whose
//! `custom_id` is [`Done`] are not sent again; one whose request was changed since is
//! told ([`Done::changed`]).
//!
//! # Stopping
//!
//! [`Batch::stop_handle`] ends a run in order: what the service has in hand is waited
//! for and written, which may take as long as it waits there for its turn. With
//! [`withdraw_unsent(true)`](Batch::withdraw_unsent) and a [`SentLayer`] around the
//! transport it is only what has left that is waited for, and all else is called back.
//! Dropping the run's future ends it at once. All can be resumed.
//!
//! # Memory
//!
//! Lines are read as they are needed and forgotten once answered. What grows
//! with the file is one hash for each `custom_id`, to find duplicates: about
//! 22 MB for a million lines, however long they are.
//!
//! # Planning
//!
//! [`Plan`] reads the same input and tells before anything is sent how long it
//! takes, which limit makes it so, and which lines can never be sent.

mod error;
mod event;
mod format;
mod input;
mod money;
mod output;
pub mod plan;
mod run;
mod summary;

pub use error::Error;
pub use event::{EndedBy, Event};
pub use format::{Count, Counted, Span};
pub use input::Changed;
pub use input::line::{BadLine, Problem, Request, endpoint};
pub use money::Money;
pub use output::completed::{Done, Tail};
pub use plan::{Limits, NotAdmitted, Plan};
pub use run::batch::Batch;
pub use run::events::Events;
pub use run::judge::{Failed, Judgement};
pub use run::request::client::Client;
pub use run::request::sent::{Sent, SentBody, SentFuture, SentLayer};
pub use run::spending::Prices;
pub use run::stop::Stop;
pub use run::stream::{Answered, Answers, Ask, NoAnswer};
pub use summary::{Percentiles, Summary};

/// The guide's examples about batches compile and run.
#[cfg(doctest)]
#[doc = include_str!("../../../docs/guide/batch.md")]
struct BatchGuide;
