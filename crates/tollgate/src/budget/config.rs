//! What a budget allows, and what is wrong with a bad one.

use std::fmt;
use std::time::Duration;

use super::TokenBudget;
use super::ledger::Ledger;
use super::pace::Pace;
use super::terms::{Learns, MOST, RequestTerms, Terms, allowed, is_limit};
use crate::gate::Now;
use crate::queue::{Bounds, Queue};

/// Whether the provider gives back what a request reserved and did not use.
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

/// Twice what a limit by the minute can ask for.
const MAX_TOLD_DELAY: Duration = Duration::from_secs(120);

/// Builds a [`TokenBudget`]; made by [`TokenBudget::per_minute`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct TokenBudgetBuilder {
    tokens: u64,
    requests: Option<u64>,
    headroom: f64,
    burst: Option<u64>,
    accounting: Accounting,
    window: Window,
    cautious_start: bool,
    max_told_delay: Duration,
    learns: Learns,
    bounds: Bounds,
    name: Option<String>,
}

impl TokenBudgetBuilder {
    pub(super) const fn new(tokens: u64) -> Self {
        TokenBudgetBuilder {
            tokens,
            requests: None,
            headroom: 0.0,
            burst: None,
            accounting: Accounting::AsRequested,
            window: Window::On,
            cautious_start: false,
            max_told_delay: MAX_TOLD_DELAY,
            learns: Learns {
                tokens: false,
                requests: false,
            },
            bounds: Bounds::NONE,
            name: None,
        }
    }

    /// Requests allowed a minute; unlimited unless set.
    ///
    /// They are paced so that about one second's worth may go at once, because
    /// providers may enforce a minute's limit by the second.
    pub fn requests_per_minute(mut self, requests: u64) -> Self {
        self.requests = Some(requests);
        self
    }

    /// The share of the limits that is never used, from 0 to 0.9; 0 unless set.
    pub fn headroom(mut self, share: f64) -> Self {
        self.headroom = share;
        self
    }

    /// The most tokens that may be spent at once, after a quiet time; all that
    /// the headroom leaves of a minute unless set, and never more than that.
    pub fn burst(mut self, tokens: u64) -> Self {
        self.burst = Some(tokens);
        self
    }

    /// How the provider charges; [`Accounting::AsRequested`] unless set.
    pub fn accounting(mut self, accounting: Accounting) -> Self {
        self.accounting = accounting;
        self
    }

    /// Whether a sliding minute is kept too; [`Window::On`] unless set.
    pub fn window(mut self, window: Window) -> Self {
        self.window = window;
        self
    }

    /// Spends at most a tenth of the burst, and no faster than it refills, until
    /// a first answer has confirmed the level: the provider's bucket may be
    /// nearly empty from an earlier run. If it is full, that loses nothing.
    /// Off unless set.
    pub fn cautious_start(mut self, cautious: bool) -> Self {
        self.cautious_start = cautious;
        self
    }

    /// The longest delay told by the provider that is waited for; two minutes
    /// unless set. A bucket that refills within a minute tells no longer one,
    /// so what tells it is a limit by the day or longer, whatever it is called:
    /// until then everybody is turned away at once, with
    /// [`Refused::Exhausted`](crate::Refused::Exhausted).
    pub fn max_told_delay(mut self, longest: Duration) -> Self {
        self.max_told_delay = longest;
        self
    }

    /// Learns the tokens a minute from the provider's answers: the first
    /// request goes alone, and the others wait for what its answer tells. What
    /// was given to [`per_minute`](TokenBudget::per_minute) is the fallback,
    /// used with a warning where the answer does not tell. Off unless set.
    ///
    /// The answers must be read, by
    /// [`TpmBudgetLayer::observe`](super::TpmBudgetLayer::observe).
    pub fn learn_tokens(mut self, learn: bool) -> Self {
        self.learns.tokens = learn;
        self
    }

    /// Learns the requests a minute in the same way. What was given to
    /// [`requests_per_minute`](Self::requests_per_minute) is the fallback; if
    /// nothing was, requests are not limited where the answer does not tell.
    pub fn learn_requests(mut self, learn: bool) -> Self {
        self.learns.requests = learn;
        self
    }

    /// Turns a request away at once that would wait longer than this, as far
    /// as can be told when it comes. Unlimited unless set.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.bounds.wait = wait;
        self
    }

    /// Turns a request away at once that would have to wait behind this many.
    /// Unlimited unless set.
    pub fn max_waiting(mut self, waiting: usize) -> Self {
        self.bounds.waiting = waiting;
        self
    }

    /// Names the policy that the budget belongs to, as metrics tell it.
    pub fn name(mut self, policy: impl Into<String>) -> Self {
        self.name = Some(policy.into());
        self
    }

    /// The budget, full from the start.
    ///
    /// # Errors
    ///
    /// Names everything that is out of range at once.
    pub fn build(self) -> Result<TokenBudget, ConfigError> {
        let terms = self.terms()?;
        let ledger = Ledger::new(terms, Now::unread().get());
        let queue = Queue::new(ledger, self.bounds);
        if let Some(name) = &self.name {
            queue.set_name(name);
        }
        Ok(TokenBudget::from_queue(queue))
    }

    fn terms(&self) -> Result<Terms, ConfigError> {
        let mut faults = Vec::new();
        let mut check = |name, value: String, allowed: String, fine: bool| {
            if !fine {
                faults.push(Fault {
                    name,
                    value,
                    allowed,
                });
            }
        };
        check(
            "headroom",
            self.headroom.to_string(),
            "0 to 0.9".into(),
            (0.0..=0.9).contains(&self.headroom),
        );
        let whole = format!("1 to {MOST}");
        for (name, number) in [
            ("tokens per minute", Some(self.tokens)),
            ("requests per minute", self.requests),
        ] {
            if let Some(number) = number {
                check(name, number.to_string(), whole.clone(), is_limit(number));
            }
        }
        let rate = allowed(self.tokens, self.headroom);
        if let Some(burst) = self.burst {
            check("burst", burst.to_string(), "1 or more".into(), burst >= 1);
        }
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        // What is to be learned must be counted from the first request on.
        let requests = self.requests.or(self.learns.requests.then_some(MOST));
        Ok(Terms {
            limit: self.tokens,
            rate,
            capacity: self.burst.map_or(rate, |burst| burst.min(rate)),
            requests: requests.map(|limit| RequestTerms {
                limit,
                rate: allowed(limit, self.headroom),
            }),
            headroom: self.headroom,
            burst: self.burst,
            learns: self.learns,
            accounting: self.accounting,
            window: self.window,
            cautious_start: self.cautious_start,
            max_told_delay: self.max_told_delay,
            pace: Pace::default(),
        })
    }
}

/// What is wrong with a configuration: each bad value, and what is allowed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    faults: Vec<Fault>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Fault {
    name: &'static str,
    value: String,
    allowed: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.faults.iter().enumerate() {
            let separator = if n == 0 { "" } else { "; " };
            let Fault {
                name,
                value,
                allowed,
            } = fault;
            write!(f, "{separator}{name} is {value}, allowed is {allowed}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_fault_is_named_at_once() {
        let error = TokenBudget::per_minute(0)
            .requests_per_minute(0)
            .headroom(f64::NAN)
            .burst(0)
            .build()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "headroom is NaN, allowed is 0 to 0.9; \
             tokens per minute is 0, allowed is 1 to 1000000000000; \
             requests per minute is 0, allowed is 1 to 1000000000000; \
             burst is 0, allowed is 1 or more"
        );
    }
}
