//! What is wrong with a bad budget.

use std::fmt;

/// What is wrong with a configuration: each bad value, and what is allowed.
///
/// # Examples
///
/// ```
/// use tollhouse::TokenBudget;
///
/// let error = TokenBudget::per_minute(30_000)
///     .headroom(1.5)
///     .burst(0)
///     .build()
///     .unwrap_err();
/// assert_eq!(
///     error.to_string(),
///     "headroom is 1.5, allowed is 0 to 0.9; burst is 0, allowed is 1 or more",
/// );
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct ConfigError {
    pub(super) faults: Vec<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) name: String,
    pub(super) value: String,
    pub(super) allowed: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            let Fault {
                name,
                value,
                allowed,
            } = fault;
            write!(f, "{separator}{name} is {value}, allowed is {allowed}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for ConfigError {
    /// The sentence, as `Display`: it is what a `main` prints that returns its errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for ConfigError {}
