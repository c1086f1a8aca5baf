use std::borrow::Cow;
use std::fmt;

/// Variables of a policy whose values are not allowed; all of them, so that
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    bad: Vec<BadVariable>,
}

/// One variable whose value is not allowed.
///
/// # Examples
///
/// ```
/// use tollhouse_openai::Policy;
///
/// let vars = |name: &str| (name == "OPENAI_RPM_LIMIT").then(|| "0".to_owned());
/// let error = Policy::from_vars(vars).unwrap_err();
/// let bad = &error.variables()[0];
/// assert_eq!((bad.name(), bad.value()), ("OPENAI_RPM_LIMIT", "0"));
/// assert_eq!(
///     bad.allowed(),
///     "a whole number from 1 to 1000000000000, or auto"
/// );
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVariable {
    name: Cow<'static, str>,
    value: String,
    allowed: String,
    /// The known one that it is a slip of.
    meant: Option<&'static str>,
}

impl PolicyError {
    pub(super) fn new(bad: Vec<BadVariable>) -> Self {
        PolicyError { bad }
    }

    /// Both, at once.
    pub(super) fn with(mut self, other: PolicyError) -> Self {
        self.bad.extend(other.bad);
        self
    }

    /// The bad variables, in the order of the policy's table.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::Policy;
    ///
    /// let vars = |name: &str| (name == "OPENAI_TPM_LIMIT").then(|| "many".to_owned());
    /// let error = Policy::from_vars(vars).unwrap_err();
    /// let names: Vec<&str> = error.variables().iter().map(|bad| bad.name()).collect();
    /// assert_eq!(names, ["OPENAI_TPM_LIMIT"]);
    /// ```
    pub fn variables(&self) -> &[BadVariable] {
        &self.bad
    }
}

impl BadVariable {
    pub(super) fn new(name: &'static str, value: &str, allowed: String) -> Self {
        BadVariable {
            name: name.into(),
            value: value.to_owned(),
            allowed,
            meant: None,
        }
    }

    pub(super) fn misspelt(name: String, meant: &'static str) -> Self {
        BadVariable {
            name: name.into(),
            value: String::new(),
            allowed: meant.to_owned(),
            meant: Some(meant),
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

impl fmt::Display for BadVariable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadVariable {
            name,
            value,
            allowed,
            meant,
        } = self;
        if let Some(meant) = meant {
            return write!(f, "{name} is not known: {meant} is meant, perhaps");
        }
        write!(f, "{name}={value:?}: allowed is {allowed}")
    }
}

impl std::error::Error for PolicyError {}
