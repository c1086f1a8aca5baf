//! What the libraries say of themselves, on stderr.

mod fields;
mod lines;

use std::fmt::Display;
use std::io::{IsTerminal, Write};
use std::panic;
use std::sync::{Arc, OnceLock};

use tracing::Level;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::writer::BoxMakeWriter;

use crate::failure::{self, BoxError};
use crate::print::Counted;
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
    let Some(mut filter) = filter(verbose, logging.is_server)? else {
        return Ok(None);
    };
    if logging.is_json {
        // It is told whatever is logged beside it, as it is in words.
        filter = filter.add_directive(SAID.parse().expect("a target is a directive"));
    }
    let (writer, writing) = writer(logging)?;
    let colours = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        // A line that nobody takes is lost; told on stderr, that would be a panic.
        .log_internal_errors(false)
        .with_ansi(colours && !logging.is_json);
    let started = match logging.is_json {
        true => {
            IS_JSON.get_or_init(|| ());
            panic::set_hook(Box::new(|told| tracing::error!(target: SAID, "{told}")));
            subscriber.json().flatten_event(true).try_init()
        }
        false => subscriber.fmt_fields(Fields).try_init(),
    };
    started.map_err(|error| failure::because("cannot start to log", error))?;
    Ok(writing)
}

/// Where a server's lines go.
static LINES: OnceLock<Arc<Lines>> = OnceLock::new();

/// The target of what a server says of itself where each line is an object.
pub(crate) const SAID: &str = "tollhouse_cli";

/// Whether each line is an object.
static IS_JSON: OnceLock<()> = OnceLock::new();

/// Whether each line is to be an object.
pub(crate) fn is_json() -> bool {
    IS_JSON.get().is_some()
}

/// What a server says of itself, of this level where lines are objects: as one of them.
pub(crate) fn tell(level: Level, line: impl Display) {
    match level {
        _ if !is_json() => say(line),
        Level::WARN => tracing::warn!(target: SAID, "{line}"),
        _ => tracing::info!(target: SAID, "{line}"),
    }
}

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
fn writer(logging: Logging) -> Result<(BoxMakeWriter, Option<Writing>), BoxError> {
    if !logging.is_server {
        return Ok((BoxMakeWriter::new(std::io::stderr), None));
    }
    let dropped = match logging.is_json {
        true => dropped_as_object,
        false => dropped_in_words,
    };
    let started = Lines::start(std::io::stderr(), dropped);
    let (lines, writing) =
        started.map_err(|error| failure::because("cannot start to log", error))?;
    let lines = LINES.get_or_init(|| lines);
    Ok((BoxMakeWriter::new(Arc::clone(lines)), Some(writing)))
}

fn dropped_in_words(dropped: u64) -> String {
    let lines = Counted(dropped, "line");
    match dropped {
        1 => format!("{lines} of the log was dropped: nobody took it."),
        _ => format!("{lines} of the log were dropped: nobody took them."),
    }
}

/// As one of the log's own, which would find no room either.
fn dropped_as_object(dropped: u64) -> String {
    let mut time = String::new();
    // Without a time the line tells as much.
    let _ = SystemTime.format_time(&mut Writer::new(&mut time));
    let object = serde_json::json!({
        "timestamp": time,
        "level": "WARN",
        "message": dropped_in_words(dropped),
        "dropped": dropped,
        "target": SAID,
    });
    object.to_string()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_dropped_is_told_as_the_log_is_written() {
        let words = "3 lines of the log were dropped: nobody took them.";
        assert_eq!(dropped_in_words(3), words);
        let told: serde_json::Value = serde_json::from_str(&dropped_as_object(3)).expect("JSON");
        assert_eq!(
            (&told["message"], &told["dropped"]),
            (&words.into(), &3.into())
        );
        assert_eq!(told["level"], "WARN");
        let time = told["timestamp"].as_str().expect("a time");
        assert!(time.ends_with('Z'), "{time}");
    }
}
