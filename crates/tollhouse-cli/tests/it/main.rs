//! The command as a process, against the simulated provider on a socket.

mod account;
mod batch;
mod batch_page;
mod broken;
mod common;
mod configuration;
mod hour;
mod kills;
mod outage;
mod plan;
mod proxy;
mod reload;
#[cfg(target_os = "linux")]
mod run;
mod sim_and_demo;
#[cfg(target_os = "linux")]
mod sim_memory;
