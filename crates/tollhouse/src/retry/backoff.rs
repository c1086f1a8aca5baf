use std::time::Duration;

use crate::rules::Random;

/// How often to ask again, and after how long.
///
/// Delays double from `base` up to a cap, each drawn uniformly between zero
/// and its bound ("full jitter", Marc Brooker, *Exponential Backoff And
/// Jitter*, AWS Architecture Blog, 2015): of all the usual forms it spreads a
/// herd best. A delay told by the provider takes the place of a drawn one.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::Backoff;
///
/// let backoff = Backoff::new(Duration::from_secs(2)).max_attempts(4).seed(7);
/// let delays: Vec<Duration> = backoff.delays().collect();
/// assert_eq!(delays.len(), 3);
/// for (delay, bound) in delays.iter().zip([2, 4, 8]) {
///     assert!(*delay <= Duration::from_secs(bound));
/// }
/// assert!(backoff.delays().eq(delays), "the same seed, the same delays");
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Backoff {
    base: Duration,
    cap: Duration,
    max_attempts: u32,
    deadline: Option<Duration>,
    max_told_delay: Duration,
    seed: Option<u64>,
}

impl Backoff {
    /// Delays that start from `base`, capped at 60 s; five attempts in all, no
    /// deadline.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::Backoff;
    ///
    /// let delays: Vec<_> = Backoff::new(Duration::from_secs(1)).delays().collect();
    /// assert_eq!(delays.len(), 4, "before each attempt but the first");
    /// assert!(delays[0] <= Duration::from_secs(1));
    /// assert!(delays[3] <= Duration::from_secs(8));
    /// ```
    pub const fn new(base: Duration) -> Self {
        Backoff {
            base,
            cap: Duration::from_secs(60),
            max_attempts: 5,
            deadline: None,
            max_told_delay: Duration::MAX,
            seed: None,
        }
    }

    /// The longest delay to draw from; 60 s unless set. A told delay may be
    /// longer, up to [`max_told_delay`](Self::max_told_delay).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::Backoff;
    ///
    /// let backoff = Backoff::new(Duration::from_secs(2)).cap(Duration::from_secs(5));
    /// assert!(
    ///     backoff
    ///         .delays()
    ///         .all(|delay| delay <= Duration::from_secs(5))
    /// );
    /// ```
    pub const fn cap(mut self, cap: Duration) -> Self {
        self.cap = cap;
        self
    }

    /// Attempts in all, the first included; 5 unless set. With 1, or 0,
    /// nothing is asked again.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::Backoff;
    ///
    /// assert_eq!(Backoff::default().max_attempts(3).delays().count(), 2);
    /// assert_eq!(Backoff::default().max_attempts(1).delays().count(), 0);
    /// ```
    pub const fn max_attempts(mut self, attempts: u32) -> Self {
        self.max_attempts = attempts;
        self
    }

    /// The longest time over all attempts, from the call on: an attempt that
    /// could only start later is not made, and the last answer is handed on.
    /// Unlimited unless set. An attempt under way is not cut short.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let again_in_7_s = |_: Result<&u16, &Infallible>| Decision::Retry {
    ///     after: Some(Duration::from_secs(7)),
    ///     scope: Scope::Tokens,
    /// };
    /// let backoff = Backoff::default().deadline(Duration::from_secs(10));
    /// let client = RetryLayer::new(backoff, again_in_7_s)
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(429)));
    ///
    /// // A third attempt could start after 14 s only.
    /// let start = Instant::now();
    /// assert_eq!(client.oneshot(()).await?, 429);
    /// assert_eq!(start.elapsed(), Duration::from_secs(7));
    /// # Ok(())
    /// # }
    /// ```
    pub const fn deadline(mut self, total: Duration) -> Self {
        self.deadline = Some(total);
        self
    }

    /// The longest told delay that is waited for: an answer that tells a longer
    /// one is handed on at once as it is, the delay in it. Unlimited unless set:
    /// where limits by the day are told, that can be days.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let again_tomorrow = |_: Result<&u16, &Infallible>| Decision::Retry {
    ///     after: Some(Duration::from_secs(86_400)),
    ///     scope: Scope::TokensPerDay,
    /// };
    /// let backoff = Backoff::default().max_told_delay(Duration::from_secs(120));
    /// let client = RetryLayer::new(backoff, again_tomorrow)
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(429)));
    ///
    /// let start = Instant::now();
    /// assert_eq!(client.oneshot(()).await?, 429);
    /// assert_eq!(start.elapsed(), Duration::ZERO);
    /// # Ok(())
    /// # }
    /// ```
    pub const fn max_told_delay(mut self, longest: Duration) -> Self {
        self.max_told_delay = longest;
        self
    }

    /// Draws the same delays in every call, for tests.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::Backoff;
    ///
    /// let backoff = Backoff::default().seed(7);
    /// assert!(backoff.delays().eq(backoff.delays()));
    /// ```
    pub const fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The delays of one call, one before each attempt but the first.
    ///
    /// # Examples
    ///
    /// For a loop of one's own:
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::Backoff;
    ///
    /// let mut waited = Duration::ZERO;
    /// for delay in Backoff::new(Duration::from_secs(2))
    ///     .max_attempts(3)
    ///     .delays()
    /// {
    ///     waited += delay;
    /// }
    /// assert!(waited <= Duration::from_secs(2 + 4));
    /// ```
    pub fn delays(&self) -> Delays {
        Delays {
            bound: self.base.min(self.cap),
            cap: self.cap,
            left: self.max_attempts.saturating_sub(1),
            random: self.seed.map_or_else(Random::from_entropy, Random::seeded),
        }
    }

    /// What is left of a call's delays when so many attempts were made before
    /// it began.
    pub(super) fn delays_after(&self, attempts: u32) -> Delays {
        let mut delays = self.delays();
        // After so many any bound has doubled to the cap, and what is drawn is drawn alike.
        let drawn = attempts.min(DOUBLINGS);
        delays.by_ref().take(drawn as usize).for_each(drop);
        delays.left = delays.left.saturating_sub(attempts - drawn);
        delays
    }

    /// Whether a delay is one to wait for, if it was told.
    pub(super) fn obeys(&self, told: Option<Duration>) -> bool {
        told.is_none_or(|told| told <= self.max_told_delay)
    }

    pub(super) fn total(&self) -> Option<Duration> {
        self.deadline
    }

    pub(super) fn attempts(&self) -> u32 {
        self.max_attempts
    }
}

/// A nanosecond doubles to the longest time that there is in fewer.
const DOUBLINGS: u32 = 128;

/// From 2 s, as `OPENAI_BACKOFF_BASE_SECONDS` has it.
impl Default for Backoff {
    fn default() -> Self {
        Backoff::new(Duration::from_secs(2))
    }
}

/// The delays of one call; see [`Backoff::delays`].
#[derive(Clone, Debug)]
pub struct Delays {
    bound: Duration,
    cap: Duration,
    left: u32,
    random: Random,
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        self.left = self.left.checked_sub(1)?;
        let delay = self.bound.mul_f64(self.random.fraction());
        self.bound = self.bound.saturating_mul(2).min(self.cap);
        Some(delay)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        let left = self.left as usize;
        (left, Some(left))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_under_their_cap_with_full_jitter() {
        let backoff = Backoff::new(Duration::from_secs(2))
            .cap(Duration::from_secs(10))
            .max_attempts(7);
        let bounds = [2, 4, 8, 10, 10, 10].map(Duration::from_secs);
        let mut means = [Duration::ZERO; 6];
        for seed in 0..2000 {
            let delays: Vec<Duration> = backoff.clone().seed(seed).delays().collect();
            assert_eq!(delays.len(), bounds.len());
            for n in 0..bounds.len() {
                assert!(delays[n] < bounds[n]);
                means[n] += delays[n] / 2000;
            }
        }
        for (mean, bound) in means.iter().zip(bounds) {
            assert!(*mean > bound.mul_f64(0.47) && *mean < bound.mul_f64(0.53));
        }
    }

    #[test]
    fn one_attempt_has_no_delay() {
        assert_eq!(Backoff::default().max_attempts(1).delays().count(), 0);
        assert_eq!(Backoff::default().max_attempts(0).delays().count(), 0);
    }

    #[test]
    fn attempts_made_before_take_their_delays_with_them() {
        let backoff = Backoff::default().seed(7);
        let all: Vec<Duration> = backoff.delays().collect();
        for before in [0, 1, 3, 4, 5, u32::MAX] {
            let delays = backoff.delays_after(before);
            let told = delays.size_hint();
            let left: Vec<Duration> = delays.collect();
            assert_eq!(left, all[all.len().min(before as usize)..]);
            assert_eq!(told, (left.len(), Some(left.len())));
        }
    }

    #[test]
    fn endless_doubling_does_not_overflow() {
        let backoff = Backoff::new(Duration::MAX).cap(Duration::from_secs(u64::MAX / 4));
        assert_eq!(backoff.max_attempts(200).delays().count(), 199);
    }
}
