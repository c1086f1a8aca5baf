//! The account of one model: its tokens and its requests.

use std::time::Duration;

use tokio::time::Instant;

use super::bucket::{Bucket, Refill, share_of};
use super::clock::{Clock, ClockMinute};
use super::log::MinuteLog;
use super::meter::{Count, Level, Meter, Shortfall};
use crate::config::{Enforcement, Limits, RequestEnforcement};

/// The minute as it really is.
const MINUTE: Duration = Duration::from_secs(60);

/// How limits are counted; the same for every model.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse_sim::Limits;
/// use tollhouse_sim::limits::{Account, Rules};
///
/// // Sixty times as fast as real, and half used up at first.
/// let rules = Rules {
///     minute: Duration::from_secs(1),
///     start_level: 0.5,
///     ..Rules::default()
/// };
/// let start = Instant::now();
/// let mut account = Account::new(Limits::default(), &rules, start, start);
/// assert!(account.admit(start, 30_000).is_err());
/// assert!(
///     account
///         .admit(start + Duration::from_millis(500), 30_000)
///         .is_ok()
/// );
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Rules {
    /// How a minute is counted.
    pub enforcement: Enforcement,
    /// Whether requests are counted by the minute or by the second.
    pub requests: RequestEnforcement,
    /// Whether a refused request counts against the request limit:
    /// "unsuccessful requests contribute to your per-minute limit" (OpenAI's
    /// guide to rate limits).
    pub count_refused: bool,
    /// The share of the limits that is free when the account is opened, 0 to 1.
    pub start_level: f64,
    /// The share of the limits that others use up, steadily, 0 up to but not 1.
    pub others: f64,
    /// The length of the provider's minute in the client's time: 60 s, or less
    /// where the simulation is sped up.
    pub minute: Duration,
}

impl Default for Rules {
    fn default() -> Self {
        Self {
            enforcement: Enforcement::default(),
            requests: RequestEnforcement::default(),
            count_refused: true,
            start_level: 1.0,
            others: 0.0,
            minute: MINUTE,
        }
    }
}

impl Rules {
    fn assert_sane(&self, limits: Limits) {
        assert!(!self.minute.is_zero(), "a minute takes time");
        assert!((0.0..=1.0).contains(&self.start_level), "start_level");
        assert!((0.0..1.0).contains(&self.others), "others");
        let limits = [limits.tokens_per_minute, limits.requests_per_minute];
        assert!(!limits.contains(&Some(0)), "a limit of zero");
    }

    /// The clock that was started at `epoch`.
    pub(crate) fn clock(&self, epoch: Instant) -> Clock {
        let phase = match self.enforcement {
            Enforcement::FixedMinute { phase } => phase,
            Enforcement::Continuous | Enforcement::SlidingMinute => Duration::ZERO,
        };
        let scale = self.minute.as_secs_f64() / MINUTE.as_secs_f64();
        Clock {
            epoch,
            phase: phase.mul_f64(scale),
            minute: self.minute,
        }
    }
}

/// What an admitted request was charged, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Charge {
    /// The moment of its admission.
    pub at: Instant,
    /// The tokens it was charged.
    pub tokens: u64,
}

/// Why a request was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// The minute's tokens are used up.
    Tokens(Shortfall),
    /// The minute's (or the second's) requests are used up.
    Requests(Shortfall),
    /// It asks for more than an untouched limit has; it can never succeed.
    TooLarge {
        /// Tokens allowed in one provider's minute.
        limit: u64,
        /// Tokens the request asked for.
        requested: u64,
    },
}

/// What the headers say; `None` where there is no such limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Levels {
    /// Requests a minute.
    pub requests: Option<Level>,
    /// Tokens a minute.
    pub tokens: Option<Level>,
}

/// Counts what one model's callers use, and refuses what does not fit.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse_sim::Limits;
/// use tollhouse_sim::limits::{Account, Rules};
///
/// let start = Instant::now();
/// let limits = Limits {
///     tokens_per_minute: Some(1_000),
///     requests_per_minute: None,
/// };
/// let mut account = Account::new(limits, &Rules::default(), start, start);
/// assert!(account.admit(start, 1_000).is_ok());
/// assert!(account.admit(start, 500).is_err());
/// // Half a minute later, half of the limit is there again.
/// assert!(account.admit(start + Duration::from_secs(30), 500).is_ok());
/// ```
#[derive(Debug)]
pub struct Account {
    tokens: Option<Meter>,
    requests: Option<Meter>,
    count_refused: bool,
}

impl Account {
    /// Opens an account at `now`. The provider's clock, which fixed minutes
    /// follow, was started at `epoch`.
    ///
    /// # Panics
    ///
    /// A limit or the minute is zero, or a share of the rules is not as its
    /// field demands.
    pub fn new(limits: Limits, rules: &Rules, epoch: Instant, now: Instant) -> Self {
        rules.assert_sane(limits);
        let open = |limit: Option<u64>, of: Of| Some(meter(limit?, of, rules, epoch, now));
        Self {
            tokens: open(limits.tokens_per_minute, Of::Tokens),
            requests: open(limits.requests_per_minute, Of::Requests),
            count_refused: rules.count_refused,
        }
    }

    /// Charges a request of `tokens` if it fits into every limit; else charges
    /// no tokens, and the request only where refused ones count.
    ///
    /// # Errors
    ///
    /// The limit that refused it. A request too large for an untouched limit
    /// is told so first, then one over the request limit, then one over the
    /// token limit.
    pub fn admit(&mut self, now: Instant, tokens: u64) -> Result<Charge, Rejection> {
        self.fits(now, tokens)
            .inspect_err(|_| self.refuse(now))
            .map_err(|refused| self.retell(now, refused))?;
        if let Some(meter) = &mut self.requests {
            meter.count().take(now, 1);
        }
        if let Some(meter) = &mut self.tokens {
            meter.count().take(now, tokens);
        }
        Ok(Charge { at: now, tokens })
    }

    fn fits(&mut self, now: Instant, tokens: u64) -> Result<(), Rejection> {
        if let Some(meter) = &mut self.tokens {
            let limit = meter.count().capacity();
            if tokens > limit {
                return Err(Rejection::TooLarge {
                    limit,
                    requested: tokens,
                });
            }
        }
        if let Some(meter) = &mut self.requests {
            meter.check(now, 1).map_err(Rejection::Requests)?;
        }
        if let Some(meter) = &mut self.tokens {
            meter.check(now, tokens).map_err(Rejection::Tokens)?;
        }
        Ok(())
    }

    /// A refused request that was itself counted makes the wait it is told
    /// longer.
    fn retell(&mut self, now: Instant, refused: Rejection) -> Rejection {
        let Rejection::Requests(before) = refused else {
            return refused;
        };
        let after = self.requests.as_mut().map(|meter| meter.check(now, 1));
        let Some(Err(after)) = after else {
            return refused;
        };
        Rejection::Requests(Shortfall {
            used: before.used,
            ..after
        })
    }

    /// Counts a request that failed for a reason of its own, such as a missing
    /// field.
    pub fn refuse(&mut self, now: Instant) {
        if let (true, Some(meter)) = (self.count_refused, &mut self.requests) {
            meter.count().take_refused(now);
        }
    }

    /// Replaces what a request was charged by what it really used.
    ///
    /// What was charged too much goes back to the minute that was charged, if
    /// that still counts; what was charged too little is charged now, whether
    /// it fits or not.
    pub fn true_up(&mut self, now: Instant, charge: Charge, used: u64) {
        let Some(meter) = &mut self.tokens else {
            return;
        };
        if used > charge.tokens {
            meter.count().take(now, used - charge.tokens);
        } else {
            meter
                .count()
                .give_back(now, charge.at, charge.tokens - used);
        }
    }

    /// What the headers of an answer sent at `now` say.
    pub fn levels(&mut self, now: Instant) -> Levels {
        Levels {
            requests: self.requests.as_mut().map(|meter| meter.level(now)),
            tokens: self.tokens.as_mut().map(|meter| meter.level(now)),
        }
    }

    /// The most tokens that could have been charged from `first`, when the
    /// account was opened, to `last`; `None` without a token limit.
    ///
    /// With continuous refill: what the bucket held at first, and the refill
    /// since, others' use taken off. With fixed minutes: the limit for each
    /// minute of the clock that was touched. With sliding minutes: the limit,
    /// others' use taken off, once and again for each whole minute since.
    pub fn allowance(&self, first: Instant, last: Instant) -> Option<u64> {
        let meter = self.tokens.as_ref()?;
        Some(meter.allowance(first, last))
    }
}

#[derive(Clone, Copy)]
enum Of {
    Tokens,
    Requests,
}

fn meter(limit: u64, of: Of, rules: &Rules, epoch: Instant, now: Instant) -> Meter {
    Meter::new(limit, count(limit, of, rules, epoch, now))
}

fn count(limit: u64, of: Of, rules: &Rules, epoch: Instant, now: Instant) -> Box<dyn Count> {
    let others = share_of(limit, rules.others);
    let initial = share_of(limit, 1.0 - rules.start_level);
    let minute = rules.minute;
    let bucket = |capacity| {
        let refill = Refill {
            rate: limit,
            others,
            minute,
        };
        Box::new(Bucket::begin(capacity, refill, now, rules.start_level))
    };
    match (of, rules.requests, rules.enforcement) {
        (Of::Requests, RequestEnforcement::PerSecond, _) => bucket(limit.div_ceil(60)),
        (_, _, Enforcement::Continuous) => bucket(limit),
        (_, _, Enforcement::FixedMinute { .. }) => {
            let clock = rules.clock(epoch);
            Box::new(ClockMinute::begin(limit, others, clock, now, initial))
        }
        (_, _, Enforcement::SlidingMinute) => {
            Box::new(MinuteLog::begin(limit, others, minute, now, initial))
        }
    }
}
