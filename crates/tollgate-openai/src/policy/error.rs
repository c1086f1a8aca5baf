use std::fmt;

/// Variables of a policy whose values are not allowed; all of them, so that
/// one look is enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyError {
    bad: Vec<BadVariable>,
}

/// One variable whose value is not allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BadVariable {
    name: &'static str,
    value: String,
    allowed: String,
}

impl PolicyError {
    pub(super) fn new(bad: Vec<BadVariable>) -> Self {
        PolicyError { bad }
    }

    /// The bad variables, in the order of the policy's table.
    pub fn variables(&self) -> &[BadVariable] {
        &self.bad
    }
}

impl BadVariable {
    pub(super) fn new(name: &'static str, value: &str, allowed: String) -> Self {
        BadVariable {
            name,
            value: value.to_owned(),
            allowed,
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.name
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
        } = self;
        write!(f, "{name}={value:?}: allowed is {allowed}")
    }
}

impl std::error::Error for PolicyError {}
