//! One limit, what it allows, and the time that it alone takes.

use std::fmt;

use serde::{Serialize, Serializer};
use tokio::time::Duration;

use crate::format::{Count, Span, as_seconds};

const MINUTE: Duration = Duration::from_secs(60);
const DAY: Duration = Duration::from_secs(86_400);

/// Which limit.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::plan::{Limit, Limits, Plan};
///
/// let limits = Limits::new()
///     .tokens_per_minute(60_000)
///     .requests_per_minute(60);
/// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(121);
/// let plan = Plan::read(input.as_bytes(), |_| 100, limits).await?;
/// assert_eq!(plan.binding, Some(Limit::Requests));
/// assert_eq!(Limit::Requests.to_string(), "requests a minute");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// Tokens a minute.
    Tokens,
    /// Requests a minute.
    Requests,
    /// Tokens of prompts a minute.
    InputTokens,
    /// Tokens of answers a minute.
    OutputTokens,
    /// Images a minute.
    Images,
    /// Tokens a day.
    TokensPerDay,
    /// Requests a day.
    RequestsPerDay,
    /// The least time between two launches.
    Stagger,
    /// Requests in flight at once.
    Concurrency,
}

/// One limit and the time that it alone takes.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tollhouse_batch::plan::{Allowed, Limit, Limits, Plan};
///
/// let limits = Limits::new().stagger(Duration::from_secs(15));
/// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(5);
/// let plan = Plan::read(input.as_bytes(), |_| 100, limits).await?;
/// let stagger = &plan.times[0];
/// assert_eq!(stagger.limit, Limit::Stagger);
/// assert_eq!(stagger.allowed, Allowed::OneEach(Duration::from_secs(15)));
/// assert_eq!(stagger.time, Duration::from_secs(60));
/// // Half of the minute, over four gaps.
/// assert_eq!(
///     stagger.to_halve,
///     Some(Allowed::OneEach(Duration::from_millis(7_500)))
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct LimitTime {
    /// Which limit.
    pub limit: Limit,
    /// What it allows.
    pub allowed: Allowed,
    /// From the first launch to the last (to the last answer, for
    /// [`Limit::Concurrency`]), if nothing else limited.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub time: Duration,
    /// What it would have to allow for the batch to take half of its time, if
    /// it allows less. Where several limits have it, all of them would.
    pub to_halve: Option<Allowed>,
}

/// What a limit allows. As JSON it is a number: a count or seconds.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse_batch::plan::Allowed;
///
/// assert_eq!(Allowed::PerMinute(30_000).to_string(), "30,000");
/// let each = Allowed::OneEach(Duration::from_millis(7_500));
/// assert_eq!(each.to_string(), "7.5s");
/// assert_eq!(serde_json::to_value(each)?, 7.5);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Allowed {
    /// So many a minute.
    PerMinute(u64),
    /// So many a day.
    PerDay(u64),
    /// One in so much time.
    OneEach(Duration),
    /// So many at once.
    AtOnce(u64),
}

impl Limit {
    /// In which time it allows what it allows.
    fn period(self) -> Duration {
        match self {
            Self::TokensPerDay | Self::RequestsPerDay => DAY,
            _ => MINUTE,
        }
    }

    pub(super) fn allows(self, amount: u64) -> Allowed {
        match self {
            Self::TokensPerDay | Self::RequestsPerDay => Allowed::PerDay(amount),
            _ => Allowed::PerMinute(amount),
        }
    }

    /// (count - amount) / amount periods: as much is there at first.
    pub(super) fn takes(self, count: u64, amount: u64) -> Duration {
        let missing = count.saturating_sub(amount);
        times(self.period(), missing as f64 / amount as f64)
    }

    /// What it counts.
    pub(super) fn counts(self) -> &'static str {
        match self {
            Self::Tokens | Self::TokensPerDay => "token",
            Self::InputTokens => "input token",
            Self::OutputTokens => "output token",
            Self::Images => "image",
            _ => "request",
        }
    }
}

impl LimitTime {
    pub(super) fn new(limit: Limit, allowed: Allowed, time: Duration) -> Self {
        Self {
            limit,
            allowed,
            time,
            to_halve: None,
        }
    }
}

pub(super) fn at_rate(count: u64, per_minute: u64) -> Duration {
    times(MINUTE, count as f64 / per_minute as f64)
}

/// For ever, where a limit allows nothing; no time, where nothing is asked.
pub(super) fn times(time: Duration, factor: f64) -> Duration {
    if factor.is_nan() {
        return Duration::ZERO;
    }
    Duration::try_from_secs_f64(time.as_secs_f64() * factor).unwrap_or(Duration::MAX)
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tokens => "tokens a minute",
            Self::Requests => "requests a minute",
            Self::InputTokens => "input tokens a minute",
            Self::OutputTokens => "output tokens a minute",
            Self::Images => "images a minute",
            Self::TokensPerDay => "tokens a day",
            Self::RequestsPerDay => "requests a day",
            Self::Stagger => "time between launches",
            Self::Concurrency => "requests at once",
        })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PerMinute(count) | Self::PerDay(count) | Self::AtOnce(count) => {
                Count(count).fmt(f)
            }
            Self::OneEach(interval) => Span(interval).fmt(f),
        }
    }
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::PerMinute(count) | Self::PerDay(count) | Self::AtOnce(count) => {
                serializer.serialize_u64(count)
            }
            Self::OneEach(interval) => serializer.serialize_f64(interval.as_secs_f64()),
        }
    }
}
