//! Times as providers write them: durations, dates and instants.

mod duration;
mod wall;

pub(crate) use duration::{decimal, go_duration, milliseconds, prose_duration, seconds};
pub(crate) use wall::{epoch, http_date, now, rfc3339, until};

use std::time::Duration;

/// The longest time believed: no provider counts anything by more than a
/// year, and every instant computed from it stays far from overflow.
pub(crate) const LONGEST: Duration = Duration::from_secs(366 * 86_400);
