//! The `tollhouse` command.

mod account;
mod batch;
mod cli;
mod demo;
mod failure;
mod logging;
mod plan;
mod policy_args;
mod pools;
mod prices;
mod print;
mod progress;
mod proxy;
mod reload;
#[cfg(unix)]
mod run;
mod signals;
mod sim;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    cli::main()
}
