//! Which settings are allowed.

use std::time::Duration;

use super::{Answers, Bounds, Config, ConfigError, Enforcement, Faults, Latency, Limits};

/// Far above every real limit, and low enough for all sums to be exact.
const MOST: u64 = 1_000_000_000_000;
const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

impl Config {
    /// Checks every setting.
    ///
    /// # Errors
    ///
    /// The first one that is not allowed.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_sim::Config;
    ///
    /// let mut config = Config::default();
    /// assert!(config.validate().is_ok());
    /// config.others = 1.0;
    /// assert_eq!(config.validate().unwrap_err().place(), "others");
    /// ```
    pub fn validate(&self) -> Result<(), ConfigError> {
        require(
            (0.001..=60_000.0).contains(&self.speed),
            "speed",
            self.speed,
            "0.001 to 60000",
        )?;
        self.limits.validate("limits")?;
        for (name, limits) in &self.models {
            require(
                !name.is_empty(),
                "models",
                "\"\"",
                "names that are not empty",
            )?;
            limits.validate(&format!("models.{name}"))?;
        }
        share("start_level", self.start_level)?;
        require(
            (0.0..1.0).contains(&self.others),
            "others",
            self.others,
            "0 up to but not 1",
        )?;
        share("headers.missing", self.headers.missing)?;
        self.faults.validate()?;
        self.latency.validate()?;
        self.answers.validate()?;
        self.bounds.validate()?;
        self.validate_times()?;
        let key_is_empty = self.api_key.as_ref().is_some_and(String::is_empty);
        require(!key_is_empty, "api_key", "empty", "a key, or none at all")
    }

    fn validate_times(&self) -> Result<(), ConfigError> {
        if let Enforcement::FixedMinute { phase } = self.enforcement {
            require(
                phase < MINUTE,
                "enforcement.fixed-minute.phase",
                format_args!("{phase:?}"),
                "less than 60 s",
            )?;
        }
        let Some(storm) = self.storm else {
            return Ok(());
        };
        require(
            storm.from < storm.until && storm.until <= DAY,
            "storm.until",
            format_args!("{:?}", storm.until),
            "later than storm.from, at most a day",
        )
    }
}

impl Limits {
    fn validate(&self, place: &str) -> Result<(), ConfigError> {
        let limits = [
            ("tokens_per_minute", self.tokens_per_minute),
            ("requests_per_minute", self.requests_per_minute),
        ];
        for (name, limit) in limits {
            let limit = limit.unwrap_or(MOST);
            let allowed = (1..=MOST).contains(&limit);
            let place = format!("{place}.{name}");
            require(allowed, &place, limit, "1 to 10^12, or none at all")?;
        }
        Ok(())
    }
}

impl Faults {
    fn validate(&self) -> Result<(), ConfigError> {
        share("faults.server_error", self.server_error)?;
        share("faults.unavailable", self.unavailable)?;
        share("faults.reset", self.reset)?;
        share("faults.cut", self.cut)?;
        let sum = self.server_error + self.unavailable + self.reset;
        require(
            sum <= 1.0,
            "the sum of faults.server_error, faults.unavailable and faults.reset",
            sum,
            "at most 1",
        )
    }
}

impl Latency {
    fn validate(&self) -> Result<(), ConfigError> {
        let times = [
            ("latency.first_token", self.first_token),
            ("latency.per_token", self.per_token),
        ];
        for (place, time) in times {
            require(
                time <= DAY,
                place,
                format_args!("{time:?}"),
                "at most a day",
            )?;
        }
        share("latency.spread", self.spread)
    }
}

impl Answers {
    fn validate(&self) -> Result<(), ConfigError> {
        require(
            self.share > 0.0 && self.share <= 1.0,
            "answers.share",
            self.share,
            "above 0, at most 1",
        )?;
        require(
            (1..=100_000).contains(&self.tokens),
            "answers.tokens",
            self.tokens,
            "1 to 100000",
        )?;
        share("answers.tool_calls", self.tool_calls)
    }
}

impl Bounds {
    fn validate(&self) -> Result<(), ConfigError> {
        let bounds = [
            ("bounds.body_bytes", self.body_bytes),
            ("bounds.memory_bytes", self.memory_bytes),
        ];
        for (place, bytes) in bounds {
            require((1..=MOST).contains(&bytes), place, bytes, "1 to 10^12")?;
        }
        require(
            !self.body_time.is_zero() && self.body_time <= DAY,
            "bounds.body_seconds",
            format_args!("{:?}", self.body_time),
            "more than 0 s, at most a day",
        )?;
        require(
            (1..=1_000_000).contains(&self.models),
            "bounds.models",
            self.models,
            "1 to 1000000",
        )
    }
}

fn share(place: &str, value: f64) -> Result<(), ConfigError> {
    require((0.0..=1.0).contains(&value), place, value, "0 to 1")
}

fn require(
    holds: bool,
    place: &str,
    value: impl std::fmt::Display,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if holds {
        return Ok(());
    }
    Err(ConfigError::new(place, value, allowed))
}
