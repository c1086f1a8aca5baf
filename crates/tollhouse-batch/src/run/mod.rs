//! A run: lines go out through the service, answers come back, outages are
//! waited out.
//!
//! [`batch`] has the settings, [`files`] the loop from file to file and
//! [`stream`] the one without files. A request goes as a [`task`] through one
//! [`call`]; its [`tracker`] knows whether it is under way, a [`recall`] ends
//! it early, and [`settle`] decides what becomes of it once it is back.

pub(crate) mod batch;
mod call;
mod case;
pub(crate) mod client;
pub(crate) mod events;
mod files;
mod health;
pub(crate) mod judge;
mod latencies;
mod max_failures;
mod outage;
mod parked;
mod pulse;
mod recall;
mod room;
pub(crate) mod sent;
mod settings;
mod settle;
pub(crate) mod spending;
pub(crate) mod stop;
pub(crate) mod stream;
pub(crate) mod task;
mod tracker;
