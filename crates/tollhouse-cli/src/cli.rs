//! What can be asked of the command, and how it starts and ends.

use std::num::NonZero;
use std::process::ExitCode;
use std::{io, thread};

use clap::{Parser, Subcommand};
use tokio::runtime::{Builder, Runtime};

use crate::failure::{self, Ended};
use crate::logging::Logging;
use crate::proxy::LogFormat;
#[cfg(unix)]
use crate::run;
use crate::{account, batch, demo, logging, plan, proxy, sim};

/// Keeps every call to an OpenAI-style API inside the account's limits.
#[derive(Debug, Parser)]
#[command(
    name = "tollhouse",
    version,
    max_term_width = 100,
    after_help = "Exit codes: 0 all done, 1 some requests failed, 2 bad usage, configuration \
                  or input, 130 interrupted (the same command goes on);\n\
                  run exits as COMMAND did.\n\
                  RUST_LOG=tollhouse=debug logs to stderr what the gates do."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,

    /// Log what the gates do to stderr; twice for more. RUST_LOG goes first
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 900)]
    verbose: u8,
}

#[derive(Debug, Subcommand)]
enum Command {
    Batch(Box<batch::Args>),
    Plan(Box<plan::Args>),
    Proxy(Box<proxy::Args>),
    #[cfg(unix)]
    Run(Box<run::Args>),
    #[cfg(unix)]
    Daemon(Box<run::daemon::Args>),
    Account(account::Args),
    Sim(sim::Args),
    Demo(demo::Args),
}

impl Command {
    /// A server says what it does without being asked.
    fn logging(&self) -> Logging {
        match self {
            Self::Proxy(args) => Logging {
                is_server: true,
                is_json: args.log_format == LogFormat::Json,
            },
            _ => Logging::default(),
        }
    }

    async fn run(self) -> Ended {
        match self {
            Self::Batch(args) => batch::run(*args).await,
            Self::Plan(args) => plan::run(*args).await,
            Self::Proxy(args) => proxy::run(*args).await,
            #[cfg(unix)]
            Self::Run(args) => run::run(*args).await,
            #[cfg(unix)]
            Self::Daemon(args) => run::daemon::run(*args).await,
            Self::Account(args) => account::run(args).await,
            Self::Sim(args) => sim::run(args).await,
            Self::Demo(args) => demo::run(args).await,
        }
    }
}

/// Runs the command that was asked for.
pub(crate) fn main() -> ExitCode {
    let cli = Cli::parse();
    let logging = logging::start(cli.verbose, cli.command.logging());
    let ended = logging.and_then(|writing| {
        let ended = in_runtime(cli.command);
        // All that was logged stands before what is said last.
        drop(writing);
        ended
    });
    failure::exit_code(ended)
}

fn in_runtime(command: Command) -> Ended {
    let runtime = runtime().map_err(|error| failure::because("cannot start the runtime", error))?;
    let ended = runtime.block_on(command.run());
    // Not waited for: a thread may be reading a terminal that says no more.
    runtime.shutdown_background();
    ended
}

/// On one core there is nobody to share work with, and being ready to share it would take
/// some of each call.
fn runtime() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let mut builder = match cores {
        1 => Builder::new_current_thread(),
        _ => Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
