//! A run: lines go out through the service, answers come back, outages are
//! waited out.
//!
//! [`batch`] has the settings, [`files`] the loop from file to file and
//! [`stream`] the one without files. Each line goes as a [`request`]; what comes
//! back without an answer tells of the provider's [`health`], and [`settle`]
//! decides what becomes of it.

pub(crate) mod batch;
pub(crate) mod events;
mod files;
mod health;
pub(crate) mod judge;
mod latencies;
mod max_failures;
mod parked;
pub(crate) mod request;
mod settings;
mod settle;
pub(crate) mod spending;
pub(crate) mod stop;
pub(crate) mod stream;
