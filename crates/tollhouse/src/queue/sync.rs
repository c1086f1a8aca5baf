//! The locks of a queue: those of `std`, or the ones that let a model checker choose
//! who runs next; see `model.rs`.

#[cfg(not(all(test, tollhouse_model)))]
pub(super) use std::sync::{Mutex, MutexGuard};

#[cfg(all(test, tollhouse_model))]
pub(super) use shuttle::sync::{Mutex, MutexGuard};
