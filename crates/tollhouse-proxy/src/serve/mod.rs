//! From a socket to the handler that answers, and from its answer to the socket.

mod listen;
mod outgoing;
mod refused;
mod request_id;
mod routes;
mod status;

pub(crate) use listen::serve;
pub use listen::{Drained, Served};
pub(crate) use routes::router;
