//! `tollhouse account`: what the file that describes an account says, and how the account
//! stands that processes share.

mod admin;
mod check;
mod drift;
mod file;
mod import;
mod numbers;
mod show;
mod status;

use crate::failure::Ended;

/// Look at the file that describes an account, or write it; look at an account that is shared
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    Check(check::Args),
    Show(Box<show::Args>),
    Import(import::Args),
    Status(status::Args),
}

/// Does what is asked for.
pub(crate) async fn run(args: Args) -> Ended {
    match args.command {
        Command::Check(args) => check::run(&args),
        Command::Show(args) => show::run(&args),
        Command::Import(args) => import::run(args).await,
        Command::Status(args) => status::run(&args).await,
    }
}
