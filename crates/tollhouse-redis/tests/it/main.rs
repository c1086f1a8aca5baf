//! The ledger against a real `redis-server`, which is killed, paused and cut off.

mod exchange;
mod failures;
mod random;
mod support;
