use std::borrow::Cow;
use std::fmt;

use super::value::{Allowed, Value};

/// Settings of a policy whose values are not allowed; all of them, so that
/// one look is enough.
///
/// # Examples
///
/// ```
/// use tollhouse_openai::Policy;
///
/// let error = Policy::from_vars(|name| match name {
///     "OPENAI_MAX_CONCURRENCY" => Some("0".to_owned()),
///     "OPENAI_TPM_HEADROOM" => Some("95%".to_owned()),
///     _ => None,
/// })
/// .unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "OPENAI_MAX_CONCURRENCY=\"0\": allowed is a whole number from 1 to 1000000; \
///  OPENAI_TPM_HEADROOM=\"95%\": allowed is a number from 0 to 0.9",
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct PolicyError {
    bad: Vec<BadSetting>,
}

/// One setting, a variable or a key, whose value is not allowed.
///
/// # Examples
///
/// ```
/// use tollhouse_openai::Policy;
///
/// let vars = |name: &str| (name == "OPENAI_RPM_LIMIT").then(|| "0".to_owned());
/// let error = Policy::from_vars(vars).unwrap_err();
/// let bad = &error.settings()[0];
/// assert_eq!((bad.name(), bad.value()), ("OPENAI_RPM_LIMIT", "0"));
/// assert_eq!(
///     bad.allowed(),
///     "a whole number from 1 to 1000000000000, auto or unlimited"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadSetting {
    name: Cow<'static, str>,
    value: String,
    allowed: String,
    kind: Kind,
}

/// What it is, and so how it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Variable,
    /// Of a [`PolicyConfig`](super::PolicyConfig).
    Key,
    /// A slip of the one that is allowed.
    Misspelt,
}

impl PolicyError {
    pub(super) fn new(bad: Vec<BadSetting>) -> Self {
        PolicyError { bad }
    }

    /// Both, at once.
    pub(super) fn with(mut self, other: PolicyError) -> Self {
        self.bad.extend(other.bad);
        self
    }

    /// The bad settings, in the order of the policy's table.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::Policy;
    ///
    /// let vars = |name: &str| (name == "OPENAI_TPM_LIMIT").then(|| "many".to_owned());
    /// let error = Policy::from_vars(vars).unwrap_err();
    /// let names: Vec<&str> = error.settings().iter().map(|bad| bad.name()).collect();
    /// assert_eq!(names, ["OPENAI_TPM_LIMIT"]);
    /// ```
    pub fn settings(&self) -> &[BadSetting] {
        &self.bad
    }
}

impl BadSetting {
    pub(crate) fn of_variable(name: &'static str, value: &str, allowed: Allowed) -> Self {
        BadSetting {
            name: name.into(),
            value: value.to_owned(),
            allowed: allowed.to_string(),
            kind: Kind::Variable,
        }
    }

    pub(crate) fn of_key(name: &'static str, value: &Value, allowed: Allowed) -> Self {
        BadSetting {
            name: name.into(),
            value: allowed.told(value),
            allowed: allowed.to_string(),
            kind: Kind::Key,
        }
    }

    pub(super) fn misspelt(name: String, meant: &'static str) -> Self {
        BadSetting {
            name: name.into(),
            value: String::new(),
            allowed: meant.to_owned(),
            kind: Kind::Misspelt,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its value.
    pub fn value(&self) -> &str {
        &self.value
    }

    /// What would be allowed.
    pub fn allowed(&self) -> &str {
        &self.allowed
    }
}

impl fmt::Display for PolicyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, bad) in self.bad.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            write!(f, "{separator}{bad}")?;
        }
        Ok(())
    }
}

impl fmt::Display for BadSetting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadSetting {
            name,
            value,
            allowed,
            kind,
        } = self;
        match kind {
            Kind::Variable => write!(f, "{name}={value:?}: allowed is {allowed}"),
            Kind::Key => write!(f, "{name} is {value}: allowed is {allowed}"),
            Kind::Misspelt => write!(f, "{name} is not known: {allowed} is meant, perhaps"),
        }
    }
}

impl fmt::Debug for PolicyError {
    /// The sentence, as `Display`: it is what a `main` prints that returns its errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for PolicyError {}
