//! What the gates tell a metrics recorder: all of it here, and nothing without
//! the feature `metrics`.
//!
//! Without it every function here is empty and every type holds nothing, so the
//! compiler leaves no trace of them. With it they speak through the facade of
//! the crate `metrics`, to whatever recorder is installed when they do.
//!
//! Counts and levels are told when a [queue](crate::queue) is let go of, by its
//! [`Guard`]: whoever changed something, and whoever looked, has held one. So
//! no gate knows of metrics, and a look at a budget refreshes its gauges.

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

pub(crate) use this::{Guard, ON, Tally, Tell, admitted, guard, refused, retried};

use std::sync::Arc;

/// What tells the gates of one policy from those of another; told as the label
/// `policy`.
pub(crate) type Name<'n> = Option<&'n Arc<str>>;
