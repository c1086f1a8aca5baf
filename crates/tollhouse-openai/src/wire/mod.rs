//! What providers really send and charge: pure facts of the wire, no client and no
//! clock but for what headers date themselves by.

pub mod cost;
pub(crate) mod json;
pub(crate) mod learned;
pub(crate) mod limits;
pub(crate) mod request;
pub(crate) mod sse;
pub(crate) mod time;
pub(crate) mod transport_error;
pub mod usage;
pub(crate) mod verdict;
