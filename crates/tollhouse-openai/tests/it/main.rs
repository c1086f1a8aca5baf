//! The wire, the client and the whole policy.

mod fixtures;
mod fuzz_corpora;
mod retry;
mod streams;
mod tls;
mod uploads;
