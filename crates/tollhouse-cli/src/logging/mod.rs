//! What the libraries say of themselves, on stderr.

mod fields;
mod lines;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::sync::{Arc, OnceLock};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::failure::{self, BoxError};
use fields::Fields;
use lines::Lines;
pub(crate) use lines::Writing;

/// How a command logs.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Logging {
    /// Whether it logs its calls without being asked.
    pub(crate) is_server: bool,
    /// Whether a line is a JSON object.
    pub(crate) is_json: bool,
}

/// Starts to log where `RUST_LOG` or `-v` ask for it, or the command does. A server's lines
/// are written until what is returned is dropped.
///
/// # Errors
///
/// `RUST_LOG` is no filter.
pub(crate) fn start(verbose: u8, logging: Logging) -> Result<Option<Writing>, BoxError> {
    let Some(filter) = filter(verbose, logging.is_server)? else {
        return Ok(None);
    };
    let (writer, writing) = writer(logging.is_server)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // A line that nobody takes is lost; told on stderr, that would be a panic.
        .log_internal_errors(false)
        .with_ansi(colours && !logging.is_json);
    let started = match logging.is_json {
        true => subscriber.json().flatten_event(true).try_init(),
        false => subscriber.fmt_fields(Fields).try_init(),
    };
    started.map_err(|error| failure::because("cannot start to log", error))?;
    Ok(writing)
}

/// Where a server's lines go.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// Says a line on stderr. One that nobody takes any more is lost, and keeps nobody from going
/// on; a server's comes after all that it has logged.
pub(crate) fn say(line: impl Display) {
    let line = format!("{line}\n");
    let _ = match LINES.get() {
        Some(lines) => (&**lines).write_all(line.as_bytes()),
        None => std::io::stderr().write_all(line.as_bytes()),
    };
}

/// Others than servers say little, and draw their progress in between.
fn writer(is_server: bool) -> Result<(BoxMakeWriter, Option<Writing>), BoxError> {
    if !is_server {
        return Ok((BoxMakeWriter::new(std::io::stderr), None));
    }
    let started = Lines::start(std::io::stderr());
    let (lines, writing) =
        started.map_err(|error| failure::because("cannot start to log", error))?;
    let lines = LINES.get_or_init(|| lines);
    Ok((BoxMakeWriter::new(Arc::clone(lines)), Some(writing)))
}

fn filter(verbose: u8, is_server: bool) -> Result<Option<EnvFilter>, BoxError> {
    let asked = std::env::var("RUST_LOG").unwrap_or_default();
    let directives = match (asked.trim(), verbose) {
        ("", 0) if is_server => "tollhouse_proxy=info,tollhouse::shared=info",
        ("", 0) => return Ok(None),
        ("", 1) => {
            "tollhouse=info,tollhouse_openai=info,tollhouse_batch=info,tollhouse_proxy=info,\
             tollhouse_sim=info"
        }
        ("", _) => {
            "tollhouse=debug,tollhouse_openai=debug,tollhouse_batch=debug,tollhouse_proxy=debug,\
             tollhouse_sim=debug"
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
