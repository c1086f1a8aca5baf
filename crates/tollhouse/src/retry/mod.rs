//! Asking again, when that can help.
//!
//! [`RetryLayer`] belongs **outside** the gates: every attempt passes them
//! again and pays again, and while it waits between two attempts it holds no
//! slot, no tokens and no spacing. A [`Classify`](crate::Classify) decides
//! what is worth asking again; a [`Backoff`] decides how often and after how
//! long, where the answer did not say.
//!
//! A [`RetryBudget`] keeps an outage from being doubled by those who wait for
//! its end, and a [`Mark`] tells the provider and the caller which attempt it
//! is.
//!
//! tower has a retry of its own. This one differs where gates need it to:
//! readiness is sought inside the future and never held; the told delay and
//! what ran out are part of the decision; a call has a deadline over all its
//! attempts; and there is nothing to depend on but tower's traits.

mod allowance;
mod backoff;
mod budget;
mod future;
mod layer;
mod mark;
mod plan;
mod terms;

pub use backoff::{Backoff, Delays};
pub use budget::RetryBudget;
pub use future::ResponseFuture;
pub use layer::{Retry, RetryLayer};
pub use mark::{Attempts, Mark, Unmarked};

#[cfg(test)]
mod tests;
