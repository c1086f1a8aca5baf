//! `tollhouse account check`: whether a file is as it should be.

use std::collections::BTreeSet;
use std::path::PathBuf;

use tollhouse_openai::AccountConfig;
use tollhouse_openai::account::AccountError;

use super::numbers;
use crate::failure::{Ended, Exit};
use crate::logging;
use crate::print::{Counted, to_stdout};
use crate::shared;

/// Check a file: everything that is wrong, each with its line; else a line for each pool
///
/// Reads no environment. Exit code 2 where something is wrong.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// What describes the account
    #[arg(value_name = "FILE.toml")]
    file: PathBuf,
}

pub(super) fn run(args: &Args) -> Ended {
    let config = match AccountConfig::open(&args.file) {
        Ok(config) => config,
        Err(error) => {
            say(args, &error);
            return Ok(Exit::BadInput);
        }
    };
    if let Some(shared) = config.shared.as_ref().filter(|it| it.redis.is_some())
        && let Err(error) = shared::ledger(shared)
    {
        let file = args.file.display();
        logging::say(format_args!("{file}: [shared]: redis: {error}"));
        logging::say(format_args!("error: {file} has 1 fault"));
        return Ok(Exit::BadInput);
    }
    to_stdout(numbers::of_pools(&config))?;
    to_stdout(of_tokens(&config))?;
    Ok(Exit::Done)
}

/// How many there are, and never which.
fn of_tokens(config: &AccountConfig) -> String {
    let callers: BTreeSet<_> = config.tokens().map(|(caller, _)| caller).collect();
    let callers = Counted(callers.len() as u64, "caller");
    match config.tokens().count() as u64 {
        0 => String::new(),
        tokens => format!("{} of {callers}\n", Counted(tokens, "token")),
    }
}

/// A line for each fault, in the form that editors jump to.
fn say(args: &Args, error: &AccountError) {
    let file = args.file.display();
    let problems = error.problems();
    for problem in problems {
        let place = match (problem.line(), problem.section()) {
            (Some(line), "") => format!("{file}:{line}"),
            (Some(line), section) => format!("{file}:{line}: {section}"),
            (None, "") => file.to_string(),
            (None, section) => format!("{file}: {section}"),
        };
        logging::say(format_args!("{place}: {}", problem.what()));
    }
    let faults = Counted(problems.len() as u64, "fault");
    logging::say(format_args!("error: {file} has {faults}"));
}
