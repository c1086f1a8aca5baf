//! A budget's numbers, and how they follow from what was asked for.

use std::time::Duration;

use super::aimd::Aimd;
use crate::answer::RateLimits;
use crate::charge::{Per, Unit};
use crate::rules::Allowed;

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

/// A limit, as a budget is told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limit {
    pub(crate) unit: Unit,
    pub(crate) per: Per,
    /// What the provider allows.
    pub(crate) amount: u64,
}

/// A valid budget's numbers. A limit that is not there limits nothing.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    /// No two of one unit and period.
    pub(crate) limits: Vec<Limit>,
    /// The share of the limits that is never used.
    pub(crate) headroom: f64,
    /// The most tokens at once, if less than a minute's.
    pub(crate) burst: Option<u64>,
    pub(crate) learns: Learns,
    pub(crate) accounting: Accounting,
    pub(crate) window: Window,
    pub(crate) cautious_start: bool,
    /// What tells a longer delay is no limit by the minute.
    pub(crate) max_told_delay: Duration,
    /// The share of the rates that is used.
    pub(crate) pace: Aimd,
    /// What answers named so far of that which is to be learned.
    pub(crate) named: Named,
    /// How much of the account is this process's.
    pub(crate) share: Share,
}

/// How much of the limits is this process's to spend.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) enum Share {
    /// All of it, beside whoever else does without telling.
    #[default]
    Whole,
    /// What it draws from a ledger that others draw from, too.
    Drawn,
    /// This part: that ledger is away.
    Part(f64),
}

impl Share {
    /// Of so many slots, at least one.
    pub(crate) fn of_slots(self, slots: usize) -> usize {
        let slots = u64::try_from(slots).unwrap_or(u64::MAX);
        usize::try_from(self.of(slots)).unwrap_or(usize::MAX)
    }

    /// So much more seldom as it is less than all.
    pub(crate) fn lengthen(self, interval: Duration) -> Duration {
        match self {
            Share::Whole | Share::Drawn => interval,
            Share::Part(part) => {
                let seconds = interval.as_secs_f64() / part;
                Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
            }
        }
    }

    /// Of so much, at least one.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "limits up to MOST fit exactly, and a part of one is positive"
    )]
    pub(crate) fn of(self, amount: u64) -> u64 {
        match self {
            Share::Whole | Share::Drawn => amount,
            Share::Part(part) => {
                ((amount as f64 * part * (1.0 + 1e-12)) as u64).clamp(1, amount.max(1))
            }
        }
    }
}

/// The limits that answers named.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Named {
    tokens: Option<u64>,
    requests: Option<u64>,
}

/// Which limits the provider's answers name.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Learns {
    /// Tokens a minute, and what to go on with where no answer names them.
    pub(crate) tokens: Option<u64>,
    /// Requests a minute.
    pub(crate) requests: bool,
}

impl Learns {
    pub(crate) fn anything(self) -> bool {
        self.tokens.is_some() || self.requests
    }

    /// Whether everything that is to be learned is told.
    pub(crate) fn are_named_by(self, told: &RateLimits) -> bool {
        let named = |limit: Option<u64>| limit.is_some_and(is_limit);
        (self.tokens.is_none() || named(told.limit_tokens))
            && (!self.requests || named(told.limit_requests))
    }
}

impl Terms {
    pub(crate) fn windowed(&self) -> bool {
        self.window != Window::Off
    }

    /// What a limit leaves at the present pace to this process.
    pub(crate) fn allowed(&self, limit: &Limit) -> Allowed {
        self.allowed_of(self.share, limit)
    }

    /// What it leaves to all processes together.
    pub(crate) fn allowed_to_all(&self, limit: &Limit) -> Allowed {
        self.allowed_of(Share::Whole, limit)
    }

    fn allowed_of(&self, share: Share, limit: &Limit) -> Allowed {
        let &Limit { unit, per, amount } = limit;
        let amount = share.of(amount);
        let rate = allowed(amount, self.headroom);
        let burst = self.burst.filter(|_| (unit, per) == TOKENS);
        let burst = burst.map(|burst| share.of(burst));
        Allowed {
            unit,
            per,
            limit: amount,
            rate: self.pace.of(rate),
            kept: amount - rate,
            capacity: burst.map_or(rate, |burst| burst.min(rate)),
        }
    }

    /// Whether what does not fit into this process's part would fit into the whole: then it
    /// waits until there is more than a part again.
    pub(crate) fn has_room_later(&self, part: &Allowed, amount: u64) -> bool {
        self.room_later(part).is_some_and(|room| amount <= room)
    }

    /// The most that fits: what a part is too small for waits until there is more again.
    pub(crate) fn room(&self, part: &Allowed) -> u64 {
        self.room_later(part).unwrap_or(part.capacity)
    }

    /// The most that fits into the whole, where this process has a part of it.
    fn room_later(&self, part: &Allowed) -> Option<u64> {
        let of = |limit: &&Limit| (limit.unit, limit.per) == (part.unit, part.per);
        let is_part = matches!(self.share, Share::Part(_));
        let limit = self.limits.iter().filter(|_| is_part).find(of)?;
        Some(self.allowed_to_all(limit).capacity)
    }

    /// What the provider charges in the end for what was reserved, `used` being used.
    #[inline]
    pub(crate) fn charged(&self, reserved: u64, used: u64) -> u64 {
        match self.accounting {
            Accounting::AsRequested => used.max(reserved),
            Accounting::AsUsed => used,
        }
    }

    pub(crate) fn limit(&self, (unit, per): (Unit, Per)) -> Option<u64> {
        let mut limits = self.limits.iter();
        let found = limits.find(|limit| (limit.unit, limit.per) == (unit, per));
        found.map(|limit| limit.amount)
    }

    /// Takes over the limits that were told and are to be learned; says
    /// whether that changed anything.
    pub(crate) fn adopt(&mut self, told: &RateLimits) -> bool {
        let wanted = |limit: Option<u64>, learns| limit.filter(|it| learns && is_limit(*it));
        let tokens = wanted(told.limit_tokens, self.learns.tokens.is_some());
        let requests = wanted(told.limit_requests, self.learns.requests);
        self.named.tokens = tokens.or(self.named.tokens);
        self.named.requests = requests.or(self.named.requests);
        let new_tokens = self.set(TOKENS, tokens);
        self.set(REQUESTS, requests) || new_tokens
    }

    /// Whether any of the limits is one that an answer named.
    pub(crate) fn has_learned(&self) -> bool {
        let tokens = self.learns.tokens.and(self.named.tokens);
        let requests = self.named.requests.filter(|_| self.learns.requests);
        tokens.or(requests).is_some()
    }

    /// Comes in place of the terms `before`: the pace goes on, and so do the limits
    /// that answers named, where they are still to be learned. One that nobody
    /// named is the fallback, unless a first answer is still waited for.
    pub(crate) fn succeed(&mut self, before: &Terms, unlearned: bool) {
        self.pace = before.pace;
        self.named = before.named;
        self.share = before.share;
        if self.learns.tokens.is_some() {
            self.set(TOKENS, self.named.tokens);
        }
        if self.learns.requests {
            self.set(REQUESTS, self.named.requests);
        }
        if !unlearned {
            self.fall_back();
        }
    }

    /// Goes on with the fallback where no limit of tokens was learned; says what
    /// it is.
    pub(crate) fn fall_back(&mut self) -> Option<u64> {
        let fallback = self.learns.tokens?;
        (self.limit(TOKENS).is_none() && self.set(TOKENS, Some(fallback))).then_some(fallback)
    }

    fn set(&mut self, (unit, per): (Unit, Per), amount: Option<u64>) -> bool {
        let Some(amount) = amount.filter(|amount| is_limit(*amount)) else {
            return false;
        };
        let mut limits = self.limits.iter_mut();
        match limits.find(|limit| (limit.unit, limit.per) == (unit, per)) {
            Some(limit) => std::mem::replace(&mut limit.amount, amount) != amount,
            None => {
                self.limits.push(Limit { unit, per, amount });
                true
            }
        }
    }
}

#[cfg(test)]
impl Terms {
    /// These limits and nothing else.
    pub(crate) fn plain(limits: &[Limit]) -> Terms {
        Terms {
            limits: limits.to_vec(),
            headroom: 0.0,
            burst: None,
            learns: Learns::default(),
            accounting: Accounting::AsRequested,
            window: Window::Off,
            cautious_start: false,
            max_told_delay: Duration::from_secs(120),
            pace: Aimd::default(),
            named: Named::default(),
            share: Share::default(),
        }
    }
}

/// The limit that most providers name.
pub(crate) const TOKENS: (Unit, Per) = (Unit::Tokens, Per::Minute);

/// The other one.
pub(crate) const REQUESTS: (Unit, Per) = (Unit::Requests, Per::Minute);

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

    #[test]
    fn a_part_is_of_everything_and_leaves_at_least_one() {
        let second = Duration::from_secs(1);
        let quarter = Share::Part(0.25);
        assert_eq!(quarter.lengthen(2 * second), 8 * second);
        assert_eq!(Share::Part(0.0).lengthen(second), Duration::MAX);
        assert_eq!(
            [0, 1, 3, 10, 600].map(|all| quarter.of(all)),
            [1, 1, 1, 2, 150]
        );
        assert_eq!(Share::Part(0.8).of(600), 480, "and not 479");
        assert_eq!([1, 40].map(|slots| quarter.of_slots(slots)), [1, 10]);
        for all in [Share::Whole, Share::Drawn] {
            assert_eq!((all.of(7), all.of_slots(7)), (7, 7));
            assert_eq!(all.lengthen(second), second);
        }
    }

    #[test]
    fn all_that_is_to_be_learned_must_be_named() {
        let told = |limit_tokens, limit_requests| RateLimits {
            limit_tokens,
            limit_requests,
            ..RateLimits::default()
        };
        let answers = [
            told(None, None),
            told(Some(600), None),
            told(None, Some(60)),
            told(Some(600), Some(60)),
            told(Some(0), Some(60)),
            told(Some(600), Some(0)),
        ];
        // Which of them name all, where these are to be learned.
        for (tokens, requests, named) in [
            (None, false, [true; 6]),
            (Some(1), false, [false, true, false, true, false, true]),
            (None, true, [false, false, true, true, true, false]),
            (Some(1), true, [false, false, false, true, false, false]),
        ] {
            let learns = Learns { tokens, requests };
            assert_eq!(learns.anything(), tokens.is_some() || requests);
            assert_eq!(answers.map(|told| learns.are_named_by(&told)), named);
        }
    }

    #[test]
    fn limits_reach_from_one_to_a_trillion() {
        let table = [(0, false), (1, true), (MOST, true), (MOST + 1, false)];
        for (number, is_one) in table {
            assert_eq!(is_limit(number), is_one, "{number}");
        }
    }
}
