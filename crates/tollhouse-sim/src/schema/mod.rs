//! JSON that satisfies a JSON Schema, and what a strict schema must have.

mod make;
mod number;
mod pattern;
mod strict;
mod text;

use std::fmt;

pub(crate) use make::satisfy;
pub(crate) use strict::check_strict;

/// What is wrong with a schema, and where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Flaw {
    /// The way from the root, as OpenAI tells it: `('properties', 'name')`.
    context: Vec<String>,
    what: String,
}

impl Flaw {
    fn new(context: &[String], what: impl Into<String>) -> Self {
        Self {
            context: context.to_vec(),
            what: what.into(),
        }
    }
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let quoted: Vec<_> = self.context.iter().map(|at| format!("'{at}'")).collect();
        // As Python writes a tuple.
        let comma = if quoted.len() == 1 { "," } else { "" };
        write!(
            f,
            "In context=({}{comma}), {}",
            quoted.join(", "),
            self.what
        )
    }
}
