//! What the libraries say of themselves, on stderr.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::failure::{self, BoxError};

/// Starts to log where `RUST_LOG` or `-v` ask for it.
///
/// # Errors
///
/// `RUST_LOG` is no filter.
pub(crate) fn start(verbose: u8) -> Result<(), BoxError> {
    let Some(filter) = filter(verbose)? else {
        return Ok(());
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none())
        .try_init()
        .map_err(|error| failure::because("cannot start to log", error))
}

fn filter(verbose: u8) -> Result<Option<EnvFilter>, BoxError> {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let directives = match (asked.trim(), verbose) {
        ("", 0) => return Ok(None),
        ("", 1) => "tollhouse=info,tollhouse_openai=info,tollhouse_batch=info,tollhouse_sim=info",
        ("", _) => {
            "tollhouse=debug,tollhouse_openai=debug,tollhouse_batch=debug,tollhouse_sim=debug"
        }
        (asked, _) => asked,
    };
    let filter = EnvFilter::try_new(directives).map_err(|error| {
        failure::because(
            format!(
                "RUST_LOG is {directives:?}; allowed are filters such as info or tollhouse=debug"
            ),
            error,
        )
    })?;
    Ok(Some(filter))
}
