//! `tollhouse account check`: whether a file is as it should be.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tollhouse_openai::AccountConfig;
use tollhouse_openai::account::{AccountError, Problem};

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
    match look(&args.file) {
        Ok(config) => {
            to_stdout(numbers::of_pools(&config))?;
            to_stdout(of_tokens(&config))?;
            Ok(Exit::Done)
        }
        Err(faults) => {
            faults.iter().for_each(logging::say);
            let faults = Counted(faults.len() as u64, "fault");
            logging::say(format_args!("error: {} has {faults}", args.file.display()));
            Ok(Exit::BadInput)
        }
    }
}

/// What the file says, or a line for each fault.
fn look(file: &Path) -> Result<AccountConfig, Vec<String>> {
    let config = AccountConfig::open(file).map_err(|error| lines(file, &error))?;
    let shared = config.shared.as_ref().filter(|it| it.redis.is_some());
    match shared.map(shared::ledger) {
        Some(Err(error)) => Err(vec![format!(
            "{}: [shared]: redis: {error}",
            file.display()
        )]),
        Some(Ok(_)) | None => Ok(config),
    }
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

/// In the form that editors jump to.
fn lines(file: &Path, error: &AccountError) -> Vec<String> {
    let file = file.display();
    let line = |problem: &Problem| {
        let place = match (problem.line(), problem.section()) {
            (Some(line), "") => format!("{file}:{line}"),
            (Some(line), section) => format!("{file}:{line}: {section}"),
            (None, "") => file.to_string(),
            (None, section) => format!("{file}: {section}"),
        };
        format!("{place}: {}", problem.what())
    };
    error.problems().iter().map(line).collect()
}
