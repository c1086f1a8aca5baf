//! The wire, the client and the whole policy.

mod account;
mod fixtures;
mod fuzz_corpora;
mod hyper_client;
mod panics;
mod retry;
mod setters;
mod streams;
mod support;
mod tls;
mod uploads;
mod upstreams;
