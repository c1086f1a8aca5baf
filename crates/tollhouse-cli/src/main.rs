//! The `tollhouse` command.

mod account;
mod batch;
mod cli;
mod demo;
mod failure;
mod flags;
mod logging;
mod metrics;
mod plan;
mod policy_args;
mod pools;
mod prices;
mod print;
mod processes;
mod progress;
mod proxy;
mod reload;
#[cfg(unix)]
mod run;
mod shared;
mod signals;
mod sim;
mod wire;

use std::process::ExitCode;

/// A call makes a hundred small allocations, most of them headers; the system's allocator
/// takes a tenth of the proxy's time for them.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    cli::main()
}
