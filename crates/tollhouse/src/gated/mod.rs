//! The one service, its future and the held body, for every gate.
//!
//! A walk through a call: [`Gated`] asks its gate for a pass; the
//! [future](future::ResponseFuture) waits until the pass is admitted, readies
//! its own clone of the inner service and calls it; the head of the answer is
//! shown to the pass; and the pass goes on with the answer's
//! [body](body::HeldBody) to its last byte, where it ends.
//!
//! # Why gates admit in `call`
//!
//! The cost of a request is known only in `call`, and fairness needs to know
//! who asks. So `poll_ready` of a gate is always ready and reserves nothing:
//! an idle ready clone starves nobody, and callers that clone the whole stack
//! for every call are as welcome as any. Who wants back-pressure asks for it
//! with `max_waiting` or `max_wait`, and is refused at once.

pub mod body;
mod by;
pub mod future;
mod layer;
mod service;

pub use by::By;
pub use layer::GateLayer;
pub use service::{Gated, Hold, UntilBodyEnd, UntilResponse};
