//! What is wrong with a configuration.

use std::fmt;

/// A setting that is not allowed: which one, its value, and what is allowed.
///
/// # Examples
///
/// ```
/// use tollhouse_sim::{Config, Sim};
///
/// let config: Config = serde_json::from_str(r#"{"faults": {"reset": 1.5}}"#)?;
/// let error = Sim::new(config).unwrap_err();
/// assert_eq!(error.place(), "faults.reset");
/// assert_eq!(error.to_string(), "faults.reset is 1.5; allowed: 0 to 1");
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    place: String,
    value: String,
    allowed: &'static str,
}

impl ConfigError {
    pub(super) fn new(
        place: impl Into<String>,
        value: impl fmt::Display,
        allowed: &'static str,
    ) -> Self {
        Self {
            place: place.into(),
            value: value.to_string(),
            allowed,
        }
    }

    /// The setting, as a path: `faults.reset`.
    pub fn place(&self) -> &str {
        &self.place
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            place,
            value,
            allowed,
        } = self;
        write!(f, "{place} is {value}; allowed: {allowed}")
    }
}

impl std::error::Error for ConfigError {}
