//! The limits that a plan reckons with, and how long they make it.

use http::Uri;
use tokio::time::Duration;

use super::limit::{Allowed, Limit, LimitTime, at_rate, times};
use super::work::Work;

/// The limits of an account, as a [`Plan`](super::Plan) reckons with them.
/// What is not set does not limit.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tollhouse_batch::plan::{Limit, Limits, Plan};
///
/// // 30,000 tokens a minute, of which 15 % are never used; a launch every 15 s.
/// let limits = Limits::new()
///     .tokens_per_minute(25_500)
///     .stagger(Duration::from_secs(15));
/// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(11);
/// let plan = Plan::read(input.as_bytes(), |_| 1_000, limits).await?;
/// assert_eq!(plan.binding, Some(Limit::Stagger));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    tokens_per_minute: Option<u64>,
    capacity: Option<u64>,
    requests_per_minute: Option<u64>,
    stagger: Duration,
    concurrency: Option<(usize, Duration)>,
    available: Option<i64>,
    /// Beside tokens and requests a minute; each full at the start.
    meters: Vec<(Limit, u64)>,
    pub(super) url: Option<Uri>,
}

impl Limits {
    /// No limits.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// let plan = Plan::read(input.as_bytes(), |_| 1_000_000, Limits::new()).await?;
    /// assert_eq!((plan.binding, plan.time), (None, Duration::ZERO));
    /// # Ok(())
    /// # }
    /// ```
    pub fn new() -> Self {
        Self::default()
    }

    /// Tokens that may be used a minute, headroom already taken off.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(10);
    /// let limits = Limits::new().tokens_per_minute(25_500);
    /// let plan = Plan::read(input.as_bytes(), |_| 5_100, limits).await?;
    /// // 51,000 tokens, of which 25,500 are there at once.
    /// assert_eq!(plan.time, Duration::from_secs(60));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tokens_per_minute(mut self, tokens: u64) -> Self {
        self.tokens_per_minute = Some(tokens);
        self
    }

    /// The most tokens that the budget ever holds. They may be used at once at
    /// the start, and a request that costs more can never be sent. Unless set,
    /// it is a minute's tokens.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(10);
    /// let limits = Limits::new().tokens_per_minute(6_000).capacity(1_000);
    /// let plan = Plan::read(input.as_bytes(), |_| 1_000, limits.clone()).await?;
    /// // All but the first have to be waited for.
    /// assert_eq!(plan.time, Duration::from_secs(90));
    ///
    /// let plan = Plan::read(input.as_bytes(), |_| 1_001, limits).await?;
    /// assert_eq!(plan.impossible.count, 10);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn capacity(mut self, tokens: u64) -> Self {
        self.capacity = Some(tokens);
        self
    }

    /// Requests that may be sent a minute.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(121);
    /// let limits = Limits::new().requests_per_minute(60);
    /// let plan = Plan::read(input.as_bytes(), |_| 0, limits).await?;
    /// // One goes at once, and one each second after it.
    /// assert_eq!(plan.time, Duration::from_secs(120));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn requests_per_minute(mut self, requests: u64) -> Self {
        self.requests_per_minute = Some(requests);
        self
    }

    /// Tokens that may be used a day, headroom taken off; as many may be used at once at
    /// the start, as of each limit that follows, and a request that takes more can never
    /// be sent.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::plan::Limit;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(30);
    /// let limits = Limits::new().tokens_per_minute(6_000).tokens_per_day(20_000);
    /// let plan = Plan::read(input.as_bytes(), |_| 1_000, limits).await?;
    /// // 30,000 tokens, of which a third have to wait for half a day.
    /// assert_eq!(plan.binding, Some(Limit::TokensPerDay));
    /// assert_eq!(plan.time, Duration::from_secs(12 * 3_600));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tokens_per_day(self, tokens: u64) -> Self {
        self.meter(Limit::TokensPerDay, tokens)
    }

    /// Requests that may be sent a day.
    #[must_use]
    pub fn requests_per_day(self, requests: u64) -> Self {
        self.meter(Limit::RequestsPerDay, requests)
    }

    /// Tokens of prompts a minute; see [`Parts`](super::Parts).
    #[must_use]
    pub fn input_tokens_per_minute(self, tokens: u64) -> Self {
        self.meter(Limit::InputTokens, tokens)
    }

    /// Tokens of answers a minute; see [`Parts`](super::Parts).
    #[must_use]
    pub fn output_tokens_per_minute(self, tokens: u64) -> Self {
        self.meter(Limit::OutputTokens, tokens)
    }

    /// Images a minute; see [`Parts`](super::Parts).
    #[must_use]
    pub fn images_per_minute(self, images: u64) -> Self {
        self.meter(Limit::Images, images)
    }

    fn meter(mut self, limit: Limit, amount: u64) -> Self {
        self.meters.retain(|(other, _)| *other != limit);
        self.meters.push((limit, amount));
        self
    }

    /// The least time between two launches.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(11);
    /// let limits = Limits::new().stagger(Duration::from_secs(15));
    /// let plan = Plan::read(input.as_bytes(), |_| 0, limits).await?;
    /// // Between eleven launches are ten gaps.
    /// assert_eq!(plan.time, Duration::from_secs(150));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn stagger(mut self, interval: Duration) -> Self {
        self.stagger = interval;
        self
    }

    /// Requests that may be in flight at once, where each is expected to take
    /// `each`.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(100);
    /// let limits = Limits::new().concurrency(4, Duration::from_secs(8));
    /// let plan = Plan::read(input.as_bytes(), |_| 0, limits).await?;
    /// // 100 times 8 s, four at once.
    /// assert_eq!(plan.time, Duration::from_secs(200));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn concurrency(mut self, max: usize, each: Duration) -> Self {
        self.concurrency = Some((max, each));
        self
    }

    /// Tokens that the budget holds now; below zero is debt. Unless set, it is
    /// full.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use std::time::Duration;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = r#"{"model":"gpt-4o","messages":[]}"#;
    /// let limits = Limits::new().tokens_per_minute(6_000).available(-1_000);
    /// let plan = Plan::read(input.as_bytes(), |_| 2_000, limits).await?;
    /// // The debt and the request are 3,000 tokens.
    /// assert_eq!(plan.time, Duration::from_secs(30));
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn available(mut self, tokens: i64) -> Self {
        self.available = Some(tokens);
        self
    }

    /// Where lines go that are a body alone, as
    /// [`Batch::url`](crate::Batch::url).
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use http::Uri;
    /// use tollhouse_batch::{Limits, Plan};
    ///
    /// let input = r#"{"query":"tollhouse","documents":[]}"#;
    /// let limits = Limits::new().url(Uri::from_static("/v1/rerank"));
    /// let plan = Plan::read(input.as_bytes(), |_| 10, limits).await?;
    /// assert_eq!(plan.loads[0].endpoint, "/v1/rerank");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn url(mut self, url: Uri) -> Self {
        self.url = Some(url);
        self
    }

    /// The greatest cost, in tokens, that can ever be admitted.
    fn largest_cost(&self) -> Option<u64> {
        self.capacity.or(self.tokens_per_minute)
    }

    /// What one request takes more of than can ever be admitted, and the most that can.
    pub(super) fn forbids(&self, one: &Work) -> Option<(Limit, u64)> {
        let tokens = self.largest_cost().map(|most| (Limit::Tokens, most));
        let all = tokens.into_iter().chain(self.meters.iter().copied());
        let mut too_much = all.filter(|(limit, most)| one.of(*limit) > *most);
        too_much.next()
    }

    /// The time that each limit takes for what is to be done.
    pub(super) fn times(&self, work: &Work) -> Vec<LimitTime> {
        let of_minutes = [
            self.tokens_time(work.tokens),
            self.requests_time(work.requests),
        ];
        let of_meters = self.meters.iter().map(|(limit, amount)| {
            let time = limit.takes(work.of(*limit), *amount);
            Some(LimitTime::new(*limit, limit.allows(*amount), time))
        });
        let of_launches = [
            self.stagger_time(work.requests),
            self.concurrency_time(work.requests),
        ];
        let all = of_minutes.into_iter().chain(of_meters).chain(of_launches);
        all.flatten().collect()
    }

    /// (tokens - available) / rate.
    fn tokens_time(&self, tokens: u64) -> Option<LimitTime> {
        let rate = self.tokens_per_minute?;
        let burst = self.largest_cost().unwrap_or(rate);
        let available = self.available.map_or(i128::from(burst), i128::from);
        let missing = (i128::from(tokens) - available).max(0);
        let missing = u64::try_from(missing).unwrap_or(u64::MAX);
        let allowed = Allowed::PerMinute(rate);
        Some(LimitTime::new(
            Limit::Tokens,
            allowed,
            at_rate(missing, rate),
        ))
    }

    /// (requests - burst) / rate, where the burst is a second's worth.
    fn requests_time(&self, requests: u64) -> Option<LimitTime> {
        let rate = self.requests_per_minute?;
        let burst = (rate / 60).max(1);
        let time = at_rate(requests.saturating_sub(burst), rate);
        Some(LimitTime::new(
            Limit::Requests,
            Allowed::PerMinute(rate),
            time,
        ))
    }

    /// One gap fewer than there are launches.
    fn stagger_time(&self, requests: u64) -> Option<LimitTime> {
        let time = times(self.stagger, requests.saturating_sub(1) as f64);
        let staggers = !self.stagger.is_zero();
        staggers.then(|| LimitTime::new(Limit::Stagger, Allowed::OneEach(self.stagger), time))
    }

    /// requests / slots x time of each.
    fn concurrency_time(&self, requests: u64) -> Option<LimitTime> {
        let (max, each) = self.concurrency?;
        let time = times(each, requests as f64 / max as f64);
        let allowed = Allowed::AtOnce(max as u64);
        Some(LimitTime::new(Limit::Concurrency, allowed, time))
    }

    /// Tells of every limit that takes longer than `half` what it would have to
    /// be instead.
    pub(super) fn halve(&self, times: &mut [LimitTime], work: &Work, half: Duration) {
        for time in times.iter_mut().filter(|time| time.time > half) {
            time.to_halve = self.for_time(time.limit, work, half);
        }
    }

    /// The least that a limit would have to be to take no longer. A larger limit
    /// comes with its larger burst.
    fn for_time(&self, limit: Limit, work: &Work, time: Duration) -> Option<Allowed> {
        let Work {
            requests, tokens, ..
        } = *work;
        let takes = |limits: &Self| match limit {
            Limit::Tokens => limits.tokens_time(tokens),
            _ => limits.requests_time(requests),
        };
        let enough = |rate| takes(&self.at(limit, rate)).is_some_and(|takes| takes.time <= time);
        Some(match limit {
            Limit::Tokens => Allowed::PerMinute(least(self.tokens_per_minute?, enough)),
            Limit::Requests => Allowed::PerMinute(least(self.requests_per_minute?, enough)),
            Limit::Stagger => {
                let gaps = requests.saturating_sub(1).max(1) as f64;
                Allowed::OneEach(times(time, 1.0 / gaps))
            }
            Limit::Concurrency => {
                let (_, each) = self.concurrency?;
                let work = requests as f64 * each.as_secs_f64();
                Allowed::AtOnce((work / time.as_secs_f64()).ceil() as u64)
            }
            meter => {
                let mut meters = self.meters.iter();
                let (_, now) = meters.find(|(limit, _)| *limit == meter)?;
                let enough = |amount| meter.takes(work.of(meter), amount) <= time;
                meter.allows(least(*now, enough))
            }
        })
    }

    /// The same limits with another rate, and a burst that is the same share of
    /// it.
    fn at(&self, limit: Limit, rate: u64) -> Self {
        let mut other = self.clone();
        match (limit, self.tokens_per_minute, self.capacity) {
            (Limit::Tokens, Some(now), Some(capacity)) => {
                let share = capacity as f64 / now as f64;
                other.capacity = Some((share * rate as f64) as u64);
                other.tokens_per_minute = Some(rate);
            }
            (Limit::Tokens, ..) => other.tokens_per_minute = Some(rate),
            _ => other.requests_per_minute = Some(rate),
        }
        other
    }
}

/// The least rate above `low` that is enough, given that more always is.
fn least(low: u64, enough: impl Fn(u64) -> bool) -> u64 {
    let mut low = low;
    let mut high = low.saturating_mul(2);
    while !enough(high) && high < u64::MAX {
        (low, high) = (high, high.saturating_mul(2));
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if enough(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

#[cfg(test)]
mod tests {
    use super::*;

    fn work(requests: u64, tokens: u64) -> Work {
        Work {
            requests,
            tokens,
            ..Work::default()
        }
    }

    fn seconds(limits: Limits, requests: u64, tokens: u64) -> Vec<(Limit, f64)> {
        let times = limits.times(&work(requests, tokens));
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
        let times = limits.times(&work(2, 10));
        assert!(times.iter().all(|t| t.time == Duration::MAX), "{times:?}");
    }

    #[test]
    fn no_limits_take_no_time() {
        assert_eq!(Limits::new().times(&work(1_000, 1_000)), []);
    }
}
