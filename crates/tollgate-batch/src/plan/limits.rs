//! The limits that a plan reckons with, and the time each of them takes.

use std::fmt;

use http::Uri;
use serde::{Serialize, Serializer};
use tokio::time::Duration;

use crate::format::{Count, Span};
use crate::summary::as_seconds;

const MINUTE: Duration = Duration::from_secs(60);

/// The limits of an account, as a [`Plan`](super::Plan) reckons with them.
/// What is not set does not limit.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollgate_batch::Limits;
///
/// // 30,000 tokens a minute, of which 15 % are never used; a launch every 15 s.
/// let limits = Limits::new()
///     .tokens_per_minute(25_500)
///     .stagger(Duration::from_secs(15));
/// # let _ = limits;
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    tokens_per_minute: Option<u64>,
    capacity: Option<u64>,
    requests_per_minute: Option<u64>,
    stagger: Duration,
    concurrency: Option<(usize, Duration)>,
    pub(super) url: Option<Uri>,
}

/// Which limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Limit {
    /// Tokens a minute.
    Tokens,
    /// Requests a minute.
    Requests,
    /// The least time between two launches.
    Stagger,
    /// Requests in flight at once.
    Concurrency,
}

/// One limit and the time that it alone takes.
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
}

/// What a limit allows. As JSON it is a number: a count or seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Allowed {
    /// So many a minute.
    PerMinute(u64),
    /// One in so much time.
    OneEach(Duration),
    /// So many at once.
    AtOnce(u64),
}

impl Limits {
    /// No limits.
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens that may be used a minute, headroom already taken off.
    #[must_use]
    pub fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens_per_minute = Some(tokens);
        self
    }

    /// The most tokens that the budget ever holds. They may be used at once at
    /// the start, and a request that costs more can never be sent. Unless set,
    /// it is a minute's tokens.
    #[must_use]
    pub fn capacity(mut self, tokens: u64) -> Self {
        self.capacity = Some(tokens);
        self
    }

    /// Requests that may be sent a minute.
    #[must_use]
    pub fn requests_per_minute(mut self, requests: u64) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// The least time between two launches.
    #[must_use]
    pub fn stagger(mut self, interval: Duration) -> Self {
        self.stagger = interval;
        self
    }

    /// Requests that may be in flight at once, where each is expected to take
    /// `each`.
    #[must_use]
    pub fn concurrency(mut self, max: usize, each: Duration) -> Self {
        self.concurrency = Some((max, each));
        self
    }

    /// Where lines go that are a body alone, as
    /// [`Batch::url`](crate::Batch::url).
    #[must_use]
    pub fn url(mut self, url: Uri) -> Self {
        self.url = Some(url);
        self
    }

    /// The greatest cost, in tokens, that can ever be admitted.
    pub(super) fn largest_cost(&self) -> Option<u64> {
        self.capacity.or(self.tokens_per_minute)
    }

    /// The time that each limit takes for so many requests and tokens.
    pub(super) fn times(&self, requests: u64, tokens: u64) -> Vec<LimitTime> {
        let by_limit = [
            self.tokens_time(tokens),
            self.requests_time(requests),
            self.stagger_time(requests),
            self.concurrency_time(requests),
        ];
        by_limit.into_iter().flatten().collect()
    }

    /// (tokens - burst) / rate.
    fn tokens_time(&self, tokens: u64) -> Option<LimitTime> {
        let rate = self.tokens_per_minute?;
        let burst = self.largest_cost().unwrap_or(rate);
        Some(LimitTime {
            limit: Limit::Tokens,
            allowed: Allowed::PerMinute(rate),
            time: at_rate(tokens.saturating_sub(burst), rate),
        })
    }

    /// (requests - burst) / rate, where the burst is a second's worth.
    fn requests_time(&self, requests: u64) -> Option<LimitTime> {
        let rate = self.requests_per_minute?;
        let burst = (rate / 60).max(1);
        Some(LimitTime {
            limit: Limit::Requests,
            allowed: Allowed::PerMinute(rate),
            time: at_rate(requests.saturating_sub(burst), rate),
        })
    }

    /// One gap fewer than there are launches.
    fn stagger_time(&self, requests: u64) -> Option<LimitTime> {
        (!self.stagger.is_zero()).then(|| LimitTime {
            limit: Limit::Stagger,
            allowed: Allowed::OneEach(self.stagger),
            time: times(self.stagger, requests.saturating_sub(1) as f64),
        })
    }

    /// requests / slots x time of each.
    fn concurrency_time(&self, requests: u64) -> Option<LimitTime> {
        let (max, each) = self.concurrency?;
        Some(LimitTime {
            limit: Limit::Concurrency,
            allowed: Allowed::AtOnce(max as u64),
            time: times(each, requests as f64 / max as f64),
        })
    }
}

fn at_rate(count: u64, per_minute: u64) -> Duration {
    times(MINUTE, count as f64 / per_minute as f64)
}

/// For ever, where a limit allows nothing; no time, where nothing is asked.
fn times(time: Duration, factor: f64) -> Duration {
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
            Self::Stagger => "time between launches",
            Self::Concurrency => "requests at once",
        })
    }
}

impl fmt::Display for Allowed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::PerMinute(count) | Self::AtOnce(count) => Count(count).fmt(f),
            Self::OneEach(interval) => Span(interval).fmt(f),
        }
    }
}

impl Serialize for Allowed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::PerMinute(count) | Self::AtOnce(count) => serializer.serialize_u64(count),
            Self::OneEach(interval) => serializer.serialize_f64(interval.as_secs_f64()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(limits: Limits, requests: u64, tokens: u64) -> Vec<(Limit, f64)> {
        let times = limits.times(requests, tokens);
        let seconds = times.iter().map(|t| (t.limit, t.time.as_secs_f64()));
        seconds.collect()
    }

    #[test]
    fn each_limit_has_its_time() {
        let limits = Limits::new()
            .tokens_per_minute(25_500)
            .requests_per_minute(600)
            .stagger(Duration::from_millis(1_500))
            .concurrency(3, Duration::from_secs(4));
        // Tokens: the first 25,500 are there; 51,000 more take two minutes.
        // Requests: 10 may go at once; 290 more take 29 s at 10 a second.
        let expected = [
            (Limit::Tokens, 120.0),
            (Limit::Requests, 29.0),
            (Limit::Stagger, 448.5),
            (Limit::Concurrency, 400.0),
        ];
        assert_eq!(seconds(limits, 300, 76_500), expected);
    }

    #[test]
    fn little_work_takes_no_time() {
        let limits = Limits::new()
            .tokens_per_minute(25_500)
            .requests_per_minute(30)
            .stagger(Duration::from_secs(15));
        for (requests, tokens) in [(0, 0), (1, 25_500)] {
            let times = seconds(limits.clone(), requests, tokens);
            assert!(times.iter().all(|(_, time)| *time == 0.0), "{times:?}");
        }
    }

    #[test]
    fn capacity_is_the_burst() {
        let limits = Limits::new().tokens_per_minute(6_000).capacity(1_000);
        assert_eq!(seconds(limits, 1, 7_000), [(Limit::Tokens, 60.0)]);
    }

    #[test]
    fn limit_that_allows_nothing_takes_for_ever() {
        let limits = Limits::new().tokens_per_minute(0).requests_per_minute(0);
        let times = limits.times(2, 10);
        assert!(times.iter().all(|t| t.time == Duration::MAX), "{times:?}");
    }

    #[test]
    fn no_limits_take_no_time() {
        assert_eq!(Limits::new().times(1_000, 1_000), []);
    }
}
