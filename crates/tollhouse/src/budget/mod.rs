//! Tokens and requests a minute, reserved before sending.
//!
//! A [`TokenBudget`] mirrors the provider's own count of an account, always on
//! the safe side: a request's cost is taken **before** it is sent, and waits
//! until it is there. [`TpmBudgetLayer`] does that for every call of a
//! service; [`TokenBudget::reserve`] does it by hand, for transports that are
//! not tower services.
//!
//! The rules, which `docs/architecture.md` proves:
//!
//! 1. Reserve before sending, first come, first served.
//! 2. The level refills at most to the capacity less what is in transit.
//! 3. No 60 seconds hold more than the limit ([`Window`]).
//! 4. Usage above the reservation is debt, which later requests wait off.
//! 5. The provider's word wins ([`TokenBudget::observe`]); what others spend
//!    from the same account shows in it, and is left to them.
//! 6. A refusal is news for everybody ([`TokenBudget::hold`]).
//! 7. What can never fit is refused at once ([`Refused::TooLarge`]).

mod builder;
mod error;
mod layer;
mod reservation;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::answer::RateLimits;
use crate::ask::{Ask, Caller};
use crate::charge::Unit;
use crate::error::Refused;
use crate::queue::{Queue, Ticket};
use crate::rules::Pool;
use crate::time::Now;

pub use crate::queue::{AccountSlots, AccountSlotsSnapshot};
pub use crate::rules::ledger::{
    Accounting, CallerSnapshot, MeterSnapshot, NextInLine, Snapshot, Window,
};
pub use builder::TokenBudgetBuilder;
pub use error::ConfigError;
pub use layer::{BudgetPass, TpmBudget, TpmBudgetLayer};
pub use reservation::{Reservation, Reserve};

/// The tokens and requests that an account may spend, shared by all who spend
/// them.
///
/// # Cloning
///
/// A budget is a cheap handle; clones share everything.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::TokenBudget;
/// use tokio::time::Instant;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // 500 tokens a second, at most 30,000 at once.
/// let budget = TokenBudget::per_minute(30_000).build()?;
///
/// let start = Instant::now();
/// let first = budget.reserve(20_000).await?;
/// first.launched();
/// first.settle(20_000);
/// assert_eq!(budget.snapshot().level, 10_000);
///
/// // The next 20,000 wait for the minute's window to let the first ones go.
/// budget.reserve(20_000).await?;
/// assert_eq!(start.elapsed(), Duration::from_secs(60));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct TokenBudget {
    queue: Arc<Queue<Pool>>,
}

impl TokenBudget {
    /// Begins a budget of `tokens` a minute, the provider's limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::TokenBudget;
    ///
    /// let budget = TokenBudget::per_minute(30_000).headroom(0.15).build()?;
    /// assert_eq!(budget.snapshot().limit, 30_000);
    /// assert_eq!(budget.snapshot().capacity, 25_500);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn per_minute(tokens: u64) -> TokenBudgetBuilder {
        TokenBudgetBuilder::new(Some(tokens))
    }

    /// Begins a budget without a limit; those that there are, are added with
    /// [`meter`](TokenBudgetBuilder::meter) or learned from answers.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{Per, TokenBudget, Unit};
    ///
    /// let budget = TokenBudget::unlimited()
    ///     .meter(Unit::Images, Per::Minute, 5)
    ///     .build()?;
    /// assert_eq!(budget.snapshot().meters[0].limit, 5);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub const fn unlimited() -> TokenBudgetBuilder {
        TokenBudgetBuilder::new(None)
    }

    fn from_queue(queue: Arc<Queue<Pool>>) -> Self {
        TokenBudget { queue }
    }

    /// Takes `cost` tokens, and one request, as soon as the budget allows it;
    /// first come, first served from the first poll on.
    ///
    /// # Errors
    ///
    /// [`Refused`], at once: where `cost` can never fit, where the wait would
    /// be longer than the budget allows, or where a limit by the day is used
    /// up.
    ///
    /// # Cancellation
    ///
    /// Dropping the future leaves the line and takes nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::{Refused, TokenBudget, Window};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // 500 tokens a second.
    /// let budget = TokenBudget::per_minute(30_000)
    ///     .window(Window::Off)
    ///     .build()?;
    /// let start = Instant::now();
    /// let first = budget.reserve(30_000).await?;
    /// first.launched();
    /// first.settle(30_000);
    ///
    /// budget.reserve(1_000).await?;
    /// assert_eq!(start.elapsed(), Duration::from_secs(2));
    /// let refused = budget.reserve(30_001).await.unwrap_err();
    /// assert_eq!(
    ///     refused,
    ///     Refused::TooLarge {
    ///         cost: 30_001,
    ///         limit: 30_000
    ///     }
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub fn reserve(&self, ask: impl Into<Ask>) -> Reserve {
        Reserve::new(Ticket::new(Arc::clone(&self.queue), ask.into()))
    }

    /// Takes `cost` tokens, and one request, if that needs no waiting: exactly where
    /// [`reserve`](Self::reserve) would be granted the first time it is polled, be it past
    /// those who wait.
    ///
    /// # Errors
    ///
    /// [`Refused::Overloaded`], with the wait that [`reserve`](Self::reserve)
    /// would take, or whatever else that would be refused with.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{Refused, TokenBudget};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let first = budget.try_reserve(20_000)?;
    /// let refused = budget.try_reserve(20_000).unwrap_err();
    /// assert!(matches!(refused, Refused::Overloaded { waiting: 0, .. }));
    ///
    /// // It was never launched, so all of it comes back.
    /// drop(first);
    /// assert!(budget.try_reserve(20_000).is_ok());
    /// # Ok(())
    /// # }
    /// ```
    pub fn try_reserve(&self, ask: impl Into<Ask>) -> Result<Reservation, Refused> {
        let ticket = self.queue.try_enter(ask.into(), &mut Now::unread())?;
        Ok(Reservation::new(ticket))
    }

    /// How long a request of this ask would wait if it came now.
    ///
    /// Exact while nothing changes, nothing is in transit and nobody waits; else an
    /// estimate. All of its own
    /// caller's that wait are taken to go first, and of every other caller's as many as
    /// weights and charges put before it as they stand now: whoever comes, leaves or passes
    /// a head later is not foreseen. Slots are taken to come back as fast as they did
    /// lately, and each other pool that waits for [slots of the
    /// account](TokenBudgetBuilder::account_slots) to launch once before it. Under a [shared
    /// ledger](TokenBudgetBuilder::shared) it is reckoned with the next draw and this process's share
    /// of the refill.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::{TokenBudget, Window};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // 500 tokens a second.
    /// let budget = TokenBudget::per_minute(30_000)
    ///     .window(Window::Off)
    ///     .build()?;
    /// let first = budget.reserve(30_000).await?;
    /// first.launched();
    /// first.settle(30_000);
    /// assert_eq!(budget.eta(7_000), Duration::from_secs(14));
    /// # Ok(())
    /// # }
    /// ```
    pub fn eta(&self, ask: impl Into<Ask>) -> Duration {
        self.queue.expected_wait(&ask.into(), &mut Now::unread())
    }

    /// How many of those who wait would go before this request, if it came now: an estimate,
    /// as [`eta`](Self::eta) makes it.
    pub fn ahead(&self, ask: impl Into<Ask>) -> usize {
        self.queue.ahead(&ask.into())
    }

    /// How a caller's next request stands in line; `None` where none of its own waits,
    /// or it shares a lane because there are too many names at once.
    ///
    /// An estimate where several callers wait, since smaller requests may pass, and who
    /// comes from doing nothing may be served before. It takes time by the number of
    /// callers who wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::{Ask, Caller, TokenBudget, Window};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // 500 tokens a second.
    /// let budget = TokenBudget::per_minute(30_000)
    ///     .window(Window::Off)
    ///     .build()?;
    /// let first = budget.reserve(30_000).await?;
    /// first.launched();
    /// first.settle(30_000);
    ///
    /// let web = Caller::new("web");
    /// assert_eq!(budget.next_in_line(&web), None);
    /// let waits = tokio::spawn(budget.reserve(Ask::of(1_000).caller(web.clone())));
    /// tokio::task::yield_now().await;
    /// let next = budget.next_in_line(&web).expect("it waits");
    /// assert_eq!((next.place, next.expected_wait), (1, Duration::from_secs(2)));
    /// # drop(waits.await??);
    /// # Ok(())
    /// # }
    /// ```
    pub fn next_in_line(&self, caller: &Caller) -> Option<NextInLine> {
        let (before, expected_wait) = self.queue.next_of(caller, &mut Now::unread())?;
        Some(NextInLine {
            place: before.saturating_add(1),
            expected_wait,
        })
    }

    /// Closes the budget until `until`, because the provider said so. Never
    /// shortens another hold.
    ///
    /// At its end one request goes first; when it was answered the others
    /// follow at the bucket's pace, not all at once. For a minute no header
    /// raises the level.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tokio::time::Instant;
    /// use tollhouse::TokenBudget;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let start = Instant::now();
    /// budget.hold(start + Duration::from_secs(20));
    ///
    /// budget.reserve(100).await?;
    /// assert_eq!(start.elapsed(), Duration::from_secs(20));
    /// # Ok(())
    /// # }
    /// ```
    pub fn hold(&self, until: Instant) {
        self.queue.update(&mut Now::unread(), |pool, now| {
            pool.ledger().hold(until.into(), now.get())
        });
    }

    /// Corrects the level by what the provider says is left, as of now; takes
    /// anything from which [`RateLimits`] can be made.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{RateLimits, TokenBudget};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// budget.observe(&RateLimits {
    ///     remaining_tokens: Some(1_200),
    ///     ..RateLimits::default()
    /// });
    /// assert_eq!(budget.snapshot().level, 1_200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn observe<'l, L>(&self, limits: &'l L)
    where
        RateLimits: From<&'l L>,
    {
        let limits = RateLimits::from(limits);
        self.queue.update(&mut Now::unread(), |pool, now| {
            pool.ledger().observe(&limits, now.get())
        });
    }

    /// Changes what the budget allows, while it is spent: its meters, headroom, burst,
    /// accounting, window, slots and the account's, spacing and whom it turns away become
    /// those of `limits`, all of them; only the name and a cautious start stay as they
    /// were built. Whoever waits sees it at once.
    ///
    /// What was taken stays taken. A raised limit adds rate at once and no level,
    /// because what was not refilled yesterday is not there today; a lowered one caps
    /// the level, and nobody who was let in is turned out. Limits that answers named,
    /// holds and debt go on. A meter that is new stands as if it had been there from
    /// the first request on, without any refill since, because the provider is taken to have
    /// had it all along: where that has changed it lately, set it a minute later (by the day,
    /// a day). It has nothing at the least: what was owed under a meter is forgotten where
    /// that is taken out.
    ///
    /// # Errors
    ///
    /// Those of [`build`](TokenBudgetBuilder::build); then nothing has changed.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::TokenBudget;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// budget.set_limits(TokenBudget::per_minute(60_000).headroom(0.5))?;
    /// assert_eq!(budget.snapshot().limit, 60_000);
    ///
    /// assert!(budget.set_limits(TokenBudget::per_minute(0)).is_err());
    /// assert_eq!(budget.snapshot().limit, 60_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_limits(&self, limits: TokenBudgetBuilder) -> Result<(), ConfigError> {
        let account_slots = limits.account_slots.clone();
        let (limits, bounds) = limits.limits_and_bounds()?;
        let now = &mut Now::unread();
        self.queue.share(account_slots.as_ref(), now);
        self.queue.reconfigure(bounds, now, |pool, now| {
            pool.set_limits(limits, now);
        });
        Ok(())
    }

    /// Gives a caller another weight from now on, those of its requests that wait
    /// included; what was let in keeps the one that it had. Of a caller that has nothing
    /// here nothing is kept, and its next request brings a weight along.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{Ask, Caller, TokenBudget};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let held = budget.reserve(Ask::of(1_000).caller(Caller::new("web"))).await?;
    /// budget.set_caller(&Caller::new("web").weight(8));
    /// assert_eq!(budget.snapshot().callers[1].weight, 8);
    /// # drop(held);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_caller(&self, caller: &Caller) {
        self.queue.weigh(caller, &mut Now::unread());
    }

    /// The budget as it stands.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::TokenBudget;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let reservation = budget.reserve(1_200).await?;
    /// let now = budget.snapshot();
    /// assert_eq!((now.level, now.in_transit), (28_800, 1_200));
    ///
    /// drop(reservation);
    /// assert_eq!(budget.snapshot().level, 30_000);
    /// # Ok(())
    /// # }
    /// ```
    pub fn snapshot(&self) -> Snapshot {
        let mut now = Now::unread();
        now.get();
        let look = |pool: &mut Pool, ahead| pool.snapshot(ahead, &mut now);
        let (mut snapshot, callers) = self.queue.read_all(look);
        snapshot.callers = callers;
        snapshot
    }

    /// The most of a unit that one request may take, and more is [too
    /// large](Refused::TooLarge); `None` where nothing bounds it.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{TokenBudget, Unit};
    ///
    /// let budget = TokenBudget::per_minute(30_000).headroom(0.15).build()?;
    /// assert_eq!(budget.most(Unit::Tokens), Some(25_500));
    /// assert_eq!(budget.most(Unit::Images), None);
    /// # Ok::<(), tollhouse::budget::ConfigError>(())
    /// ```
    pub fn most(&self, unit: Unit) -> Option<u64> {
        let now = Now::unread().get();
        self.queue.read(|pool, _| pool.most(unit, now))
    }

    /// Whether nothing would be forgotten if this handle were dropped and the same
    /// budget made anew: no other clone of it is anywhere, nobody waits or holds
    /// anything, every level is full and every window empty, no hold was in force
    /// within the last minute, no refusals slow it, and it is not [closed](Self::close).
    ///
    /// Limits that it [has learned](Self::has_learned) do not count here: they are in force
    /// for good, and would keep it from rest for ever. Who lets go of budgets to make room
    /// does well to let go of those last.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use tollhouse::TokenBudget;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// let reservation = budget.reserve(1_200).await?;
    /// reservation.launched();
    /// reservation.settle(1_200);
    /// tokio::time::advance(Duration::from_millis(59_999)).await;
    /// assert!(!budget.is_at_rest(), "the minute's window still counts it");
    /// tokio::time::advance(Duration::from_millis(1)).await;
    /// assert!(budget.is_at_rest());
    /// # Ok(())
    /// # }
    /// ```
    pub fn is_at_rest(&self) -> bool {
        Arc::strong_count(&self.queue) == 1
            && !self.queue.is_closed()
            && self.queue.read(|pool, ahead| {
                let nobody = ahead.waiting == 0 && ahead.in_flight == 0;
                nobody && pool.is_at_rest(Now::unread().get())
            })
    }

    /// Whether it goes by limits that answers named, where it is to [learn
    /// them](TokenBudgetBuilder::learn_tokens). The same budget made anew would let one request at a time
    /// in until an answer names them again.
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
    /// assert!(!budget.has_learned());
    /// client.oneshot(()).await?;
    /// assert!(budget.has_learned());
    /// # Ok(())
    /// # }
    /// ```
    pub fn has_learned(&self) -> bool {
        self.queue.read(|pool, _| pool.has_learned())
    }

    /// Turns away whoever waits and whoever comes from now on, with
    /// [`Refused::Closed`]; what was reserved stays reserved.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{Refused, TokenBudget};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let budget = TokenBudget::per_minute(30_000).build()?;
    /// budget.close();
    /// assert_eq!(budget.reserve(100).await.unwrap_err(), Refused::Closed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.queue.close();
    }

    /// Waits until nothing is reserved and nobody waits. Put a timeout around it
    /// for a deadline; dropping it leaves nothing behind.
    pub async fn idle(&self) {
        self.queue.idle().await;
    }
}
