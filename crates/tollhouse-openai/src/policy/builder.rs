//! What of a policy can be set, a sentence each.

use std::sync::Arc;
use std::time::Duration;

use tollhouse::{Accounting, Window};

use super::{Limit, Policy, PolicyConfig};
use crate::wire::cost::ChargeRule;

/// # Settings
///
/// Each makes another policy of this one. Where this one is in use already, the new
/// one is apart from it and shares none of its limits, of which a warning event tells.
///
/// # Panics
///
/// Each, where its value is not allowed: with the sentence that a
/// [`PolicyError`](super::PolicyError) has for it.
impl Policy {
    /// A name for this policy in metrics, to tell it from the other policies of
    /// a program. One of a few: each is a time series of its own.
    #[must_use]
    #[track_caller]
    pub fn name(self, name: impl Into<String>) -> Self {
        self.with(|config| config.name = Some(name.into()))
    }

    /// The most requests in flight, a stream until its last byte, up to 1,000,000; 3
    /// unless set.
    #[must_use]
    #[track_caller]
    pub fn max_concurrency(self, requests: usize) -> Self {
        self.with(|config| config.max_concurrency = requests)
    }

    /// The least time between two launches, up to a day; 15 s unless set, and zero
    /// switches it off.
    #[must_use]
    #[track_caller]
    pub fn stagger(self, interval: Duration) -> Self {
        self.with(|config| config.stagger = interval)
    }

    /// The tokens a minute, up to 10^12; 30,000 unless set.
    #[must_use]
    #[track_caller]
    pub fn tpm_limit(self, limit: Limit) -> Self {
        self.with(|config| config.tokens_per_minute = limit)
    }

    /// The requests a minute, up to 10^12; unlimited unless set.
    #[must_use]
    #[track_caller]
    pub fn rpm_limit(self, limit: Limit) -> Self {
        self.with(|config| config.requests_per_minute = limit)
    }

    /// The share of the limits that is never used, 0 to 0.9; 0.15 unless set.
    #[must_use]
    #[track_caller]
    pub fn headroom(self, share: f64) -> Self {
        self.with(|config| config.headroom = share)
    }

    /// The tokens charged to a request whose answer's length cannot be told, 1 to 10^12;
    /// 7,000 unless set.
    #[must_use]
    #[track_caller]
    pub fn est_tokens(self, tokens: u64) -> Self {
        self.with(|config| config.est_tokens_per_run = tokens)
    }

    /// How requests are charged; [`ChargeRule::Safe`] unless set.
    #[must_use]
    #[track_caller]
    pub fn charge_rule(self, rule: ChargeRule) -> Self {
        self.with(|config| config.charge_rule = rule)
    }

    /// The attempts in all, the first included, 1 to 1,000; 5 unless set.
    #[must_use]
    #[track_caller]
    pub fn max_attempts(self, attempts: u32) -> Self {
        self.with(|config| config.retry_max_attempts = attempts)
    }

    /// The first backoff; it doubles from attempt to attempt, to at most 60
    /// seconds; 1 ms to 60 s, 2 s unless set.
    #[must_use]
    #[track_caller]
    pub fn backoff_base(self, base: Duration) -> Self {
        self.with(|config| config.backoff_base = base)
    }

    /// The longest time over all attempts of a call; unlimited unless set. See
    /// [`Backoff::deadline`](tollhouse::Backoff::deadline).
    #[must_use]
    #[track_caller]
    pub fn retry_deadline(self, total: Duration) -> Self {
        self.with(|config| config.retry_deadline = Some(total))
    }

    /// The longest delay told by the provider that is waited for; 120 s unless
    /// set. An answer that tells a longer one, as with a limit by the day, is
    /// handed back at once, the delay in it, and until then all other calls are
    /// refused at once with [`Refused::Exhausted`](tollhouse::Refused::Exhausted).
    #[must_use]
    #[track_caller]
    pub fn max_told_delay(self, longest: Duration) -> Self {
        self.with(|config| config.max_told_delay = longest)
    }

    /// How many retries all calls together may make in any minute: `share` for
    /// each request, and `reserve` more; 0.2 and 10 unless set. Waiting for a
    /// limit draws on nothing. See [`RetryBudget`](tollhouse::retry::RetryBudget).
    #[must_use]
    #[track_caller]
    pub fn retry_budget(self, share: f64, reserve: u32) -> Self {
        self.with(|config| {
            config.retry_budget_share = Some(share);
            config.retry_budget_reserve = reserve;
        })
    }

    /// Lets every call use up its attempts, whatever the others do.
    #[must_use]
    #[track_caller]
    pub fn without_retry_budget(self) -> Self {
        self.with(|config| config.retry_budget_share = None)
    }

    /// The most calls that may wait, for whatever it is; one more is refused at
    /// once with [`Refused::Overloaded`](tollhouse::Refused::Overloaded), unless it
    /// need not wait. Unlimited unless set.
    #[must_use]
    #[track_caller]
    pub fn max_waiting(self, calls: usize) -> Self {
        self.with(|config| config.max_waiting = Some(calls).filter(|calls| *calls < usize::MAX))
    }

    /// The most tokens spent at once after a quiet time; what the headroom
    /// leaves of a minute unless set, and never more than that.
    #[must_use]
    #[track_caller]
    pub fn burst(self, tokens: u64) -> Self {
        self.with(|config| config.burst = Some(tokens))
    }

    /// Whether chat streams that do not ask for their usage are made to, and
    /// the event that tells it is taken out again; off unless set. See
    /// [`include_usage`](crate::layers::include_usage).
    #[must_use]
    #[track_caller]
    pub fn ask_for_usage(self, ask: bool) -> Self {
        self.with(|config| config.ask_for_usage = ask)
    }

    /// Whether costs are made of what calls really used: off unless set.
    ///
    /// The ratio of real to estimated tokens is remembered for each model and
    /// endpoint, and the next estimates are multiplied by a ratio that 95 % of
    /// the last few hundred calls stayed below, from 0.25 to 20. A cost never
    /// falls below what the provider charges when it admits the request, nor
    /// rises above what the budget can hold. [`learned`](Self::learned) tells
    /// what is known.
    ///
    /// It evens out what debt would catch later anyway: calls whose real input
    /// cannot be seen (hosted tools), and estimates for answers of no asked
    /// length.
    #[must_use]
    #[track_caller]
    pub fn learn_factor(self, learn: bool) -> Self {
        self.with(|config| config.learn_factor = learn)
    }

    /// Whether the provider gives back what a request did not use;
    /// [`Accounting::AsRequested`], it does not, unless set.
    #[must_use]
    #[track_caller]
    pub fn accounting(self, accounting: Accounting) -> Self {
        self.with(|config| config.accounting = accounting)
    }

    /// Whether a sliding minute is kept beside the bucket; [`Window::Auto`]
    /// unless set.
    #[must_use]
    #[track_caller]
    pub fn window(self, window: Window) -> Self {
        self.with(|config| config.window = window)
    }

    /// Whether at most a tenth of the burst is spent until a first answer has
    /// confirmed the level; on unless switched off. A first request that costs
    /// more than that goes alone.
    #[must_use]
    #[track_caller]
    pub fn cautious_start(self, cautious: bool) -> Self {
        self.with(|config| config.cautious_start = cautious)
    }

    #[track_caller]
    fn with(mut self, change: impl FnOnce(&mut PolicyConfig)) -> Self {
        change(Arc::make_mut(&mut self.config));
        if let Err(error) = self.config.validate() {
            panic!("{error}");
        }
        if self.shared.get().is_some() {
            tracing::warn!(
                "a policy in use was set: that made another one, which shares no limits with it"
            );
        }
        self.shared = Arc::default();
        self
    }
}
