//! The ledger against a real `redis-server`, which is killed, paused and cut off.

mod addresses;
mod exchange;
mod failures;
mod hostile;
mod layouts;
mod passing;
mod random;
mod support;
mod tags;
