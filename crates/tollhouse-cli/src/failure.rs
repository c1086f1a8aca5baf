//! How a command ends: with an exit code, or with one clear line.

use std::error::Error;
use std::fmt;
use std::io::{self, Write};
use std::process::ExitCode;

/// An error on its way to that line.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// How a command ended.
pub(crate) type Ended = Result<Exit, BoxError>;

/// An end that needs no error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Exit {
    /// All done.
    Done,
    /// Some requests failed.
    SomeFailed,
    /// Some of the input is no request, or can never be sent.
    BadInput,
    /// Stopped by the user; the same command goes on.
    Interrupted,
    /// As another command did.
    As(u8),
}

impl Exit {
    fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::SomeFailed => 1,
            Exit::BadInput => 2,
            Exit::Interrupted => 130,
            Exit::As(code) => code,
        }
    }
}

/// What was tried when something else failed.
#[derive(Debug)]
struct Because {
    what: String,
    source: BoxError,
}

/// An error in our own words.
pub(crate) fn error(what: impl Into<String>) -> BoxError {
    what.into().into()
}

/// An error in our own words, with what caused it.
pub(crate) fn because(what: impl Into<String>, source: impl Into<BoxError>) -> BoxError {
    Box::new(Because {
        what: what.into(),
        source: source.into(),
    })
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)
    }
}

impl Error for Because {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.source)
    }
}

/// Says what went wrong, if anything did, and ends.
pub(crate) fn exit_code(ended: Ended) -> ExitCode {
    let exit = ended.unwrap_or_else(|error| {
        // All that was logged is written, and whoever does not read this reads the code.
        let _ = writeln!(io::stderr(), "error: {}", with_causes(&*error));
        Exit::BadInput
    });
    ExitCode::from(exit.code())
}

/// The error and all that caused it, in one line. Where an error repeats its
/// cause in its own words, the cause is not said twice.
pub(crate) fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut line = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let text = cause.to_string();
        if !line.contains(&text) {
            line.push_str(": ");
            line.push_str(&text);
        }
        source = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_follow_in_one_line_and_are_not_repeated() {
        let inner = because("cannot open x", error("no such file"));
        assert_eq!(with_causes(&*inner), "cannot open x: no such file");
        let outer = because("the end: cannot open x", inner);
        assert_eq!(with_causes(&*outer), "the end: cannot open x: no such file");
    }
}
