//! The HTTP face.

mod body;
mod handler;
mod headers;
mod receive;
mod router;
mod service;

pub(crate) use router::router;
pub use service::{ResponseFuture, SimService};
