//! What a budget allows.

use std::sync::Arc;
use std::time::Duration;

use super::error::Fault;
use super::{Accounting, ConfigError, TokenBudget, Window};
use crate::charge::{Per, Unit};
use crate::queue::{AccountSlots, Bounds, Queue};
use crate::rules::ledger::{
    Aimd, Learns, Ledger, Limit, MOST, Named, REQUESTS, Share, TOKENS, Terms, is_limit,
};
use crate::rules::{Limits, Pool, Random, Slots, Spacing};
use crate::shared::Sharing;
use crate::time::Now;

/// Twice what a limit by the minute can ask for.
const MAX_TOLD_DELAY: Duration = Duration::from_secs(120);

/// Builds a [`TokenBudget`]; made by [`TokenBudget::per_minute`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::{Accounting, TokenBudget};
///
/// let budget = TokenBudget::per_minute(125_000)
///     .requests_per_minute(500)
///     .headroom(0.1)
///     .accounting(Accounting::AsUsed)
///     .max_wait(Duration::from_secs(30))
///     .build()?;
/// assert_eq!(budget.snapshot().capacity, 112_500);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is built"]
pub struct TokenBudgetBuilder {
    /// Tokens a minute.
    tokens: Option<u64>,
    others: Vec<Limit>,
    headroom: f64,
    burst: Option<u64>,
    accounting: Accounting,
    window: Window,
    cautious_start: bool,
    max_told_delay: Duration,
    slots: Option<usize>,
    spacing: Option<Duration>,
    jitter: f64,
    learns_tokens: bool,
    learns_requests: bool,
    bounds: Bounds,
    pub(super) account_slots: Option<AccountSlots>,
    name: Option<String>,
    pool: Option<String>,
    shared: Option<(Sharing, Arc<str>)>,
}

impl TokenBudgetBuilder {
    pub(super) const fn new(tokens: Option<u64>) -> Self {
        TokenBudgetBuilder {
            tokens,
            others: Vec::new(),
            headroom: 0.0,
            burst: None,
            accounting: Accounting::AsRequested,
            window: Window::On,
            cautious_start: false,
            max_told_delay: MAX_TOLD_DELAY,
            slots: None,
            spacing: None,
            jitter: 0.0,
            learns_tokens: false,
            learns_requests: false,
            bounds: Bounds::NONE,
            account_slots: None,
            name: None,
            pool: None,
            shared: None,
        }
    }

    /// Requests allowed a minute; unlimited unless set.
    ///
    /// They are paced so that about one second's worth may go at once, because
    /// providers may enforce a minute's limit by the second.
    pub fn requests_per_minute(mut self, requests: u64) -> Self {
        self.set(REQUESTS, requests);
        self
    }

    /// The most requests in flight, to the last byte of their answers; no limit
    /// unless set. Slots, meters and spacing are one line: whoever waits for one
    /// of them holds nothing of the others.
    pub fn max_concurrency(mut self, slots: usize) -> Self {
        self.slots = Some(slots);
        self
    }

    /// Takes one of these slots, too, for each request in flight; other budgets share
    /// them. None unless set. Whoever waits for one holds nothing of this budget, and
    /// whoever waits for this budget holds none.
    pub fn account_slots(mut self, slots: &AccountSlots) -> Self {
        self.account_slots = Some(slots.clone());
        self
    }

    /// The least time between two launches; none unless set.
    pub fn stagger(mut self, interval: Duration) -> Self {
        self.spacing = Some(interval).filter(|interval| !interval.is_zero());
        self
    }

    /// Up to this share of the [`stagger`](Self::stagger) is added to it at random,
    /// 0 to 1; 0 unless set.
    pub fn jitter(mut self, share: f64) -> Self {
        self.jitter = share;
        self
    }

    /// Another limit, by [`Unit`] and period, with a bucket and a window of its
    /// own; none unless set. Of one that was set already, the new amount.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{Per, TokenBudget, Unit};
    ///
    /// let budget = TokenBudget::per_minute(30_000)
    ///     .meter(Unit::Requests, Per::Day, 10_000)
    ///     .build()?;
    /// assert_eq!(budget.snapshot().meters.len(), 2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn meter(mut self, unit: Unit, per: Per, amount: u64) -> Self {
        match (unit, per) {
            TOKENS => self.tokens = Some(amount),
            other => self.set(other, amount),
        }
        self
    }

    fn set(&mut self, (unit, per): (Unit, Per), amount: u64) {
        self.others
            .retain(|limit| (limit.unit, limit.per) != (unit, per));
        self.others.push(Limit { unit, per, amount });
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
    /// A first request that costs more than that goes alone. Off unless set.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::TokenBudget;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000)
    ///     .cautious_start(true)
    ///     .build()?;
    /// let first = budget.reserve(2_000).await?;
    /// assert!(budget.try_reserve(2_000).is_err());
    ///
    /// // Its answer.
    /// first.launched();
    /// first.settle(2_000);
    /// assert!(budget.try_reserve(2_000).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn cautious_start(mut self, cautious: bool) -> Self {
        self.cautious_start = cautious;
        self
    }

    /// The longest delay told by the provider that is waited for; two minutes
    /// unless set. A bucket that refills within a minute tells no longer one,
    /// so what tells it is a limit by the day or longer, whatever it is called:
    /// until then everybody is turned away at once, with
    /// [`Refused::Exhausted`](crate::Refused::Exhausted).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use std::time::Duration;
    /// use tollhouse::{Denial, Observation, Refused, Scope, TokenBudget, TpmBudgetLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000)
    ///     .max_told_delay(Duration::from_secs(30))
    ///     .build()?;
    /// let denial = Denial {
    ///     scope: Scope::Tokens,
    ///     after: Some(Duration::from_secs(3_600)),
    /// };
    /// let client = TpmBudgetLayer::new(budget.clone(), |_: &()| 100)
    ///     .observe(move |_: &u16| Observation {
    ///         denial: Some(denial),
    ///         ..Observation::default()
    ///     })
    ///     .until_response()
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(429)));
    ///
    /// client.clone().oneshot(()).await?;
    /// let error = client.oneshot(()).await.unwrap_err();
    /// assert!(matches!(
    ///     error.refused(),
    ///     Some(Refused::Exhausted {
    ///         scope: Scope::TokensPerDay,
    ///         ..
    ///     })
    /// ));
    /// # Ok(())
    /// # }
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{Observation, RateLimits, TokenBudget, TpmBudgetLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).learn_tokens(true).build()?;
    /// let client = TpmBudgetLayer::new(budget.clone(), |_: &()| 100)
    ///     .observe(|limit: &u64| {
    ///         let limit_tokens = Some(*limit);
    ///         let limits = RateLimits {
    ///             limit_tokens,
    ///             ..RateLimits::default()
    ///         };
    ///         Observation {
    ///             limits,
    ///             denial: None,
    ///         }
    ///     })
    ///     .until_response()
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(125_000)));
    /// client.oneshot(()).await?;
    /// assert_eq!(budget.snapshot().limit, 125_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn learn_tokens(mut self, learn: bool) -> Self {
        self.learns_tokens = learn;
        self
    }

    /// Learns the requests a minute in the same way. What was given to
    /// [`requests_per_minute`](Self::requests_per_minute) is the fallback; if
    /// nothing was, requests are not limited where the answer does not tell.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{Observation, RateLimits, TokenBudget, TpmBudgetLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000)
    ///     .learn_requests(true)
    ///     .build()?;
    /// let client = TpmBudgetLayer::new(budget.clone(), |_: &()| 100)
    ///     .observe(|limit: &u64| {
    ///         let limit_requests = Some(*limit);
    ///         let limits = RateLimits {
    ///             limit_requests,
    ///             ..RateLimits::default()
    ///         };
    ///         Observation {
    ///             limits,
    ///             denial: None,
    ///         }
    ///     })
    ///     .until_response()
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(500)));
    /// client.oneshot(()).await?;
    /// assert_eq!(budget.snapshot().requests_limit, Some(500));
    /// # Ok(())
    /// # }
    /// ```
    pub fn learn_requests(mut self, learn: bool) -> Self {
        self.learns_requests = learn;
        self
    }

    /// Turns a request away at once that would wait longer than this, as far as can be
    /// told when it comes: an estimate over the lanes of all callers, as of
    /// [`eta`](TokenBudget::eta). Unlimited unless set.
    pub fn max_wait(mut self, wait: Duration) -> Self {
        self.bounds.wait = wait;
        self
    }

    /// Turns a request away at once that would have to wait behind this many; who may
    /// [pass](crate::Caller) them need not wait. Unlimited unless set.
    ///
    /// Here and for [`max_wait`](Self::max_wait) a retry, which brings its
    /// [`Arrival`](crate::Arrival), is taken to stand before all others of its caller.
    pub fn max_waiting(mut self, waiting: usize) -> Self {
        self.bounds.waiting = waiting;
        self
    }

    /// Names the policy that the budget belongs to, as metrics tell it.
    ///
    /// # Examples
    ///
    /// With the feature `metrics`, and a recorder such as Prometheus's:
    ///
    /// ```
    /// # #[cfg(feature = "metrics")] {
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    /// use tollhouse::TokenBudget;
    ///
    /// let recorder = PrometheusBuilder::new().build_recorder();
    /// let _guard = metrics::set_default_local_recorder(&recorder);
    ///
    /// let budget = TokenBudget::per_minute(30_000).name("batch").build()?;
    /// drop(budget.try_reserve(100)?);
    /// let told = recorder.handle().render();
    /// assert!(told.contains(r#"tollhouse_budget_limit_tokens{policy="batch"} 30000"#));
    /// # }
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn name(mut self, policy: impl Into<String>) -> Self {
        self.name = Some(policy.into());
        self
    }

    /// Names the pool that the budget is of, where a policy has several: metrics and events
    /// tell it beside the policy's name.
    pub fn pool(mut self, pool: impl Into<String>) -> Self {
        self.pool = Some(pool.into());
        self
    }

    /// Spends from a ledger that other processes spend from, too, as the pool of this name:
    /// what is set here is the limit of all together, of which this process draws leases.
    /// By itself, as if there was nobody else, unless set.
    ///
    /// Of what several processes set, the lowest limits hold. Slots and spacing are those of
    /// all, too; bounds are this one's. Of several budgets of one process under one name, the
    /// first has what is leased until it is dropped, and the others nothing until then.
    pub fn shared(mut self, sharing: &Sharing, name: impl Into<Arc<str>>) -> Self {
        self.shared = Some((sharing.clone(), name.into()));
        self
    }

    /// The budget, full from the start; one that is [shared](Self::shared) has what it is
    /// granted.
    ///
    /// # Errors
    ///
    /// Names everything that is out of range at once.
    pub fn build(self) -> Result<TokenBudget, ConfigError> {
        let (limits, bounds) = self.limits_and_bounds()?;
        let now = &mut Now::unread();
        let slots = limits.slots.map_or(Slots::unlimited(), Slots::new);
        let spacing = Spacing::new(limits.interval, limits.jitter, Random::from_entropy());
        let ledger = Ledger::new(limits.terms.clone(), now.get());
        let mut pool = Pool::new(slots, ledger, spacing);
        if self.shared.is_some() {
            pool.share(limits, now);
        }
        let queue = Queue::new(pool, bounds);
        if self.name.is_some() || self.pool.is_some() {
            queue.set_names(self.name.as_deref(), self.pool.as_deref());
        }
        queue.share(self.account_slots.as_ref(), now);
        if let Some((sharing, name)) = &self.shared {
            sharing.join(name, &queue);
        }
        Ok(TokenBudget::from_queue(queue))
    }

    /// What it allows, checked; and whom it turns away.
    pub(super) fn limits_and_bounds(&self) -> Result<(Limits, Bounds), ConfigError> {
        let limits = Limits {
            terms: self.terms()?,
            slots: self.slots,
            interval: self.spacing.unwrap_or_default(),
            jitter: self.jitter,
        };
        Ok((limits, self.bounds))
    }

    fn terms(&self) -> Result<Terms, ConfigError> {
        let mut faults = Vec::new();
        let mut check = |name: &str, value: String, allowed: String, fine: bool| {
            if !fine {
                faults.push(Fault {
                    name: name.to_owned(),
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
        if let Some(slots) = self.slots {
            let fine = slots > 0;
            check(
                "max concurrency",
                slots.to_string(),
                "1 or more".into(),
                fine,
            );
        }
        let fine = (0.0..=1.0).contains(&self.jitter);
        check("jitter", self.jitter.to_string(), "0 to 1".into(), fine);
        let limits = self.limits();
        for &Limit { unit, per, amount } in &limits {
            let fine = is_limit(amount);
            let allowed = format!("1 to {MOST}");
            check(
                &format!("{unit} per {per}"),
                amount.to_string(),
                allowed,
                fine,
            );
        }
        if let Some(burst) = self.burst {
            check("burst", burst.to_string(), "1 or more".into(), burst >= 1);
        }
        if !faults.is_empty() {
            return Err(ConfigError { faults });
        }
        let learned = self.tokens.filter(|_| self.learns_tokens);
        Ok(Terms {
            // What an answer is to name is not there before.
            limits: limits
                .into_iter()
                .skip(usize::from(learned.is_some()))
                .collect(),
            headroom: self.headroom,
            burst: self.burst,
            learns: Learns {
                tokens: learned,
                requests: self.learns_requests,
            },
            accounting: self.accounting,
            window: self.window,
            cautious_start: self.cautious_start,
            max_told_delay: self.max_told_delay,
            pace: Aimd::default(),
            named: Named::default(),
            share: Share::default(),
        })
    }

    /// All limits, tokens by the minute first.
    fn limits(&self) -> Vec<Limit> {
        let (unit, per) = TOKENS;
        let tokens = self.tokens.map(|amount| Limit { unit, per, amount });
        tokens
            .into_iter()
            .chain(self.others.iter().copied())
            .collect()
    }
}

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
