//! What the gates tell a metrics recorder: all of it here, and nothing without
//! the feature `metrics`.
//!
//! Without it every function here is empty and every type holds nothing, so the
//! compiler leaves no trace of them. With it they speak through the facade of
//! the crate `metrics`, to whatever recorder is installed when they do.
//!
//! A [queue](crate::queue) tells its counts and levels when its lock was let go
//! of, through its [`Desk`]: whoever changed something, and whoever looked, has
//! held one. So no gate knows of metrics, and a look at a budget refreshes its
//! gauges. Who is let in and handed on in one poll is told of once, with its
//! launch. Nothing here knows a queue or a rule, only the
//! [numbers](crate::rules::stats) that they show.

#[cfg(feature = "metrics")]
mod desk;
#[cfg(feature = "metrics")]
mod figures;
#[cfg(feature = "metrics")]
mod handles;
#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod on;

#[cfg(not(feature = "metrics"))]
use off as this;
#[cfg(feature = "metrics")]
use on as this;

#[cfg(feature = "metrics")]
pub use on::describe;

#[cfg(feature = "metrics")]
pub(crate) use desk::Desk;
#[cfg(not(feature = "metrics"))]
pub(crate) use off::Desk;
pub(crate) use this::{ON, retried, shared_ledger};

use std::sync::Arc;

/// What tells the gates of one policy, and of one pool of it, from those of others; told as
/// the labels `policy` and `pool`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Names {
    pub(crate) policy: Option<Arc<str>>,
    pub(crate) pool: Option<Arc<str>>,
}

impl Names {
    pub(crate) fn policy(policy: &str) -> Self {
        Names {
            policy: Some(policy.into()),
            pool: None,
        }
    }
}

/// Where somebody gave any.
pub(crate) type Name<'n> = Option<&'n Names>;
