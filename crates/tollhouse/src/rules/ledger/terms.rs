//! A budget's numbers, and how they follow from what was asked for.

use std::time::Duration;

use super::aimd::Aimd;
use crate::answer::RateLimits;

/// Whether the provider gives back what a request reserved and did not use.
///
/// # Examples
///
/// ```
/// use tollhouse::{Accounting, TokenBudget};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for (accounting, level) in [
///     (Accounting::AsRequested, 20_000),
///     (Accounting::AsUsed, 27_000),
/// ] {
///     let budget = TokenBudget::per_minute(30_000)
///         .accounting(accounting)
///         .build()?;
///     let reservation = budget.reserve(10_000).await?;
///     reservation.launched();
///     reservation.settle(3_000);
///     assert_eq!(budget.snapshot().level, level);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Accounting {
    /// It charges what was asked for: nothing comes back, so nothing is
    /// refunded here. The safe choice.
    #[default]
    AsRequested,
    /// It charges what was really used: the rest is refunded when the request
    /// settles.
    AsUsed,
}

/// Whether no 60 seconds may hold more than the limit, beside the bucket.
///
/// The window keeps the budget safe with providers that count fixed or sliding
/// minutes, however they are aligned. With one that refills all the time the
/// bucket alone suffices, and the window only costs throughput: up to the
/// transit allowance of two seconds a minute.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::{TokenBudget, Window};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// for (window, seconds) in [(Window::On, 60), (Window::Off, 20)] {
///     // 500 tokens a second.
///     let budget = TokenBudget::per_minute(30_000).window(window).build()?;
///     let reservation = budget.reserve(20_000).await?;
///     reservation.launched();
///     reservation.settle(20_000);
///     assert_eq!(budget.eta(20_000), Duration::from_secs(seconds));
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Window {
    /// Always.
    #[default]
    On,
    /// Never.
    Off,
    /// Until the provider's own headers have shown a continuous refill.
    Auto,
}

/// More tokens a minute than any account has; keeps sums far from overflow.
pub(crate) const MOST: u64 = 1_000_000_000_000;

pub(crate) fn is_limit(number: u64) -> bool {
    (1..=MOST).contains(&number)
}

/// What the headroom leaves of `limit`, in whole units, at least one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limits up to MOST fit exactly, and a share of one is positive"
)]
pub(crate) fn allowed(limit: u64, headroom: f64) -> u64 {
    // A nudge, so that 0.15 of 30,000 leaves 25,500 and not 25,499.
    let left = limit as f64 * (1.0 - headroom) * (1.0 + 1e-12);
    (left as u64).clamp(1, limit.max(1))
}

/// A valid budget's numbers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    /// Tokens a minute that the provider allows.
    pub(crate) limit: u64,
    /// Tokens a minute that the headroom leaves.
    pub(crate) rate: u64,
    /// The most that can be spent at once.
    pub(crate) capacity: u64,
    pub(crate) requests: Option<RequestTerms>,
    /// The share of the limits that is never used.
    pub(crate) headroom: f64,
    /// The configured burst, if any.
    pub(crate) burst: Option<u64>,
    pub(crate) learns: Learns,
    pub(crate) accounting: Accounting,
    pub(crate) window: Window,
    pub(crate) cautious_start: bool,
    /// What tells a longer delay is no limit by the minute.
    pub(crate) max_told_delay: Duration,
    /// The share of both rates that is used.
    pub(crate) pace: Aimd,
}

/// Which limits the provider's answers name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Learns {
    pub(crate) tokens: bool,
    pub(crate) requests: bool,
}

impl Learns {
    pub(crate) fn anything(self) -> bool {
        self.tokens || self.requests
    }

    /// Whether everything that is to be learned is told.
    pub(crate) fn are_named_by(self, told: &RateLimits) -> bool {
        let named = |limit: Option<u64>| limit.is_some_and(is_limit);
        (!self.tokens || named(told.limit_tokens)) && (!self.requests || named(told.limit_requests))
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct RequestTerms {
    pub(crate) limit: u64,
    pub(crate) rate: u64,
}

impl Terms {
    pub(crate) fn windowed(&self) -> bool {
        self.window != Window::Off
    }

    /// Takes over the limits that were told and are to be learned; says
    /// whether that changed anything.
    pub(crate) fn adopt(&mut self, told: &RateLimits) -> bool {
        let before = (self.limit, self.requests.map(|requests| requests.limit));
        if let Some(limit) = told.limit_tokens
            && self.learns.tokens
            && is_limit(limit)
        {
            self.limit = limit;
            self.rate = allowed(limit, self.headroom);
            self.capacity = self.burst.map_or(self.rate, |burst| burst.min(self.rate));
        }
        if let Some(limit) = told.limit_requests
            && self.learns.requests
            && is_limit(limit)
        {
            let rate = allowed(limit, self.headroom);
            self.requests = Some(RequestTerms { limit, rate });
        }
        before != (self.limit, self.requests.map(|requests| requests.limit))
    }

    /// Tokens a minute at the present pace.
    pub(crate) fn token_rate(&self) -> u64 {
        self.pace.of(self.rate)
    }

    /// Requests a minute at the present pace.
    pub(crate) fn request_rate(&self) -> Option<u64> {
        Some(self.pace.of(self.requests?.rate))
    }

    /// The tokens of a minute that are never used.
    pub(crate) fn reserve(&self) -> u64 {
        self.limit - self.rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headroom_leaves_whole_tokens() {
        let table = [
            (30_000, 0.15, 25_500),
            (30_000, 0.0, 30_000),
            (125_000, 0.01, 123_750),
            (1, 0.9, 1),
            (1_000_000_000_000, 0.0, 1_000_000_000_000),
        ];
        for (limit, headroom, left) in table {
            assert_eq!(allowed(limit, headroom), left, "{limit} {headroom}");
        }
    }
}
