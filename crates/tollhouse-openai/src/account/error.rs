//! What is wrong with an account's description.

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::policy::PolicyError;
use crate::policy::value::{Allowed, Value};

/// Why an account cannot be as it is described: everything that is wrong at once, each
/// with its place.
///
/// # Examples
///
/// ```
/// use tollhouse_openai::Account;
///
/// let file = "
/// [models.\"gpt-4o*\"]
/// token_per_minute = 30000
/// headroom = 2
/// ";
/// assert_eq!(
///     Account::from_toml(file).unwrap_err().to_string(),
///     "line 3, [models.\"gpt-4o*\"]: token_per_minute is not known: tokens_per_minute is \
///      meant, perhaps; line 4, [models.\"gpt-4o*\"]: headroom is 2: allowed is a number \
///      from 0 to 0.9",
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct AccountError {
    file: Option<PathBuf>,
    problems: Vec<Problem>,
}

/// Past so many it helps nobody to be told of more in one sentence.
const MOST_TOLD: usize = 20;

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    line: Option<usize>,
    section: String,
    /// Where its line is looked for.
    key: Option<Cow<'static, str>>,
    what: String,
}

impl AccountError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        AccountError {
            file: None,
            problems,
        }
    }

    pub(super) fn of_file(mut self, path: &Path) -> Self {
        self.file = Some(path.to_owned());
        self
    }

    /// Both, at once.
    pub(super) fn and(mut self, other: AccountError) -> Self {
        self.problems.extend(other.problems);
        self
    }

    /// All that is wrong, in the order of the file.
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl From<PolicyError> for AccountError {
    fn from(error: PolicyError) -> Self {
        let bad = error.settings().iter();
        AccountError::new(bad.map(|bad| Problem::said("", bad.to_string())).collect())
    }
}

impl Problem {
    pub(super) fn said(section: impl Into<String>, what: impl Into<String>) -> Self {
        Problem {
            line: None,
            section: section.into(),
            key: None,
            what: what.into(),
        }
    }

    pub(super) fn value(section: &str, key: &'static str, value: &Value, allowed: Allowed) -> Self {
        let what = format!("{key} is {}: allowed is {allowed}", allowed.told(value));
        Problem::said(section, what).at_key(key)
    }

    pub(super) fn at_key(mut self, key: impl Into<Cow<'static, str>>) -> Self {
        self.key = Some(key.into());
        self
    }

    pub(super) fn at_line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    pub(super) fn key(&self) -> Option<&str> {
        self.key.as_deref()
    }

    /// The line of the file, the first being 1; `None` where no file is spoken of.
    pub fn line(&self) -> Option<usize> {
        self.line
    }

    /// The section as it is written in the file; empty where it is none's.
    pub fn section(&self) -> &str {
        &self.section
    }

    /// What is wrong, and what is allowed.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for AccountError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(file) = &self.file {
            write!(f, "{}: ", file.display())?;
        }
        for (n, problem) in self.problems.iter().take(MOST_TOLD).enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{problem}")?;
        }
        match self.problems.len().saturating_sub(MOST_TOLD) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Problem {
            line,
            section,
            what,
            ..
        } = self;
        match (line, &**section) {
            (Some(line), "") => write!(f, "line {line}: {what}"),
            (Some(line), section) => write!(f, "line {line}, {section}: {what}"),
            (None, "") => f.write_str(what),
            (None, section) => write!(f, "{section}: {what}"),
        }
    }
}

impl fmt::Debug for AccountError {
    /// The sentence, as `Display`: it is what a `main` prints that returns its errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for AccountError {}
