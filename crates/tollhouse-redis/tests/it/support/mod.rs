//! A server, what stands between, and a process that behaves.

pub(crate) mod clock;
pub(crate) mod process;
pub(crate) mod server;
pub(crate) mod shim;
pub(crate) mod twins;

use std::time::Duration;

use tollhouse::shared::MeterTerms;
use tollhouse::{Per, Unit};

/// A limit of which all is used.
pub(crate) fn terms(unit: Unit, per: Per, limit: u64) -> MeterTerms {
    MeterTerms {
        unit,
        per,
        limit,
        rate: limit,
        capacity: limit,
        windowed: false,
    }
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}
