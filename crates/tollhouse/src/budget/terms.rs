//! A budget's numbers, and how they follow from what was asked for.

use std::time::Duration;

use super::config::{Accounting, Window};
use super::pace::Pace;
use crate::answer::RateLimits;

/// More tokens a minute than any account has; keeps sums far from overflow.
pub(super) const MOST: u64 = 1_000_000_000_000;

pub(super) fn is_limit(number: u64) -> bool {
    (1..=MOST).contains(&number)
}

/// What the headroom leaves of `limit`, in whole units, at least one.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "limits up to MOST fit exactly, and a share of one is positive"
)]
pub(super) fn allowed(limit: u64, headroom: f64) -> u64 {
    // A nudge, so that 0.15 of 30,000 leaves 25,500 and not 25,499.
    let left = limit as f64 * (1.0 - headroom) * (1.0 + 1e-12);
    (left as u64).clamp(1, limit.max(1))
}

/// A valid budget's numbers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terms {
    /// Tokens a minute that the provider allows.
    pub(super) limit: u64,
    /// Tokens a minute that the headroom leaves.
    pub(super) rate: u64,
    /// The most that can be spent at once.
    pub(super) capacity: u64,
    pub(super) requests: Option<RequestTerms>,
    /// The share of the limits that is never used.
    pub(super) headroom: f64,
    /// The configured burst, if any.
    pub(super) burst: Option<u64>,
    pub(super) learns: Learns,
    pub(super) accounting: Accounting,
    pub(super) window: Window,
    pub(super) cautious_start: bool,
    /// What tells a longer delay is no limit by the minute.
    pub(super) max_told_delay: Duration,
    /// The share of both rates that is used.
    pub(super) pace: Pace,
}

/// Which limits the provider's answers name.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Learns {
    pub(super) tokens: bool,
    pub(super) requests: bool,
}

impl Learns {
    pub(super) fn anything(self) -> bool {
        self.tokens || self.requests
    }
}

#[derive(Clone, Copy, Debug)]
pub(super) struct RequestTerms {
    pub(super) limit: u64,
    pub(super) rate: u64,
}

impl Terms {
    pub(super) fn windowed(&self) -> bool {
        self.window != Window::Off
    }

    /// Takes over the limits that were told and are to be learned; says
    /// whether that changed anything.
    pub(super) fn adopt(&mut self, told: &RateLimits) -> bool {
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
    pub(super) fn token_rate(&self) -> u64 {
        self.pace.of(self.rate)
    }

    /// Requests a minute at the present pace.
    pub(super) fn request_rate(&self) -> Option<u64> {
        Some(self.pace.of(self.requests?.rate))
    }

    /// The tokens of a minute that are never used.
    pub(super) fn reserve(&self) -> u64 {
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
