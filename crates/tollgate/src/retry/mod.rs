//! Asking again, when that can help.
//!
//! [`RetryLayer`] belongs **outside** the gates: every attempt passes them
//! again and pays again, and while it waits between two attempts it holds no
//! slot, no tokens and no spacing. A [`Classify`](crate::Classify) decides
//! what is worth asking again; a [`Backoff`] decides how often and after how
//! long, where the answer did not say.
//!
//! tower has a retry of its own. This one differs where gates need it to:
//! readiness is sought inside the future and never held; the told delay and
//! what ran out are part of the decision; a call has a deadline over all its
//! attempts; and there is nothing to depend on but tower's traits.

mod backoff;
mod future;
mod layer;

pub use backoff::{Backoff, Delays};
pub use future::ResponseFuture;
pub use layer::{Retry, RetryLayer};
