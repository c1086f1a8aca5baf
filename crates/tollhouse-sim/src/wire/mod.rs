//! The HTTP face.

mod body;
pub(crate) mod go_duration;
mod handler;
mod headers;
mod router;
mod service;

pub(crate) use router::router;
pub use service::{ResponseFuture, SimService};
