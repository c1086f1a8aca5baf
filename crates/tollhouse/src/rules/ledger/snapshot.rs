//! How a ledger stands at one instant.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::charge::{Per, Unit};

/// A budget at one moment; see [`TokenBudget::snapshot`](crate::TokenBudget::snapshot).
///
/// # Examples
///
/// ```
/// use tollhouse::TokenBudget;
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = TokenBudget::per_minute(30_000)
///     .requests_per_minute(500)
///     .headroom(0.15)
///     .build()?;
/// let reservation = budget.reserve(1_200).await?;
/// reservation.launched();
///
/// let now = budget.snapshot();
/// assert_eq!((now.limit, now.capacity), (30_000, 25_500));
/// assert_eq!((now.level, now.in_transit), (24_300, 1_200));
/// assert_eq!((now.waiting, now.held_until), (0, None));
/// assert_eq!(now.requests_limit, Some(500));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// What the provider allows, of tokens by the minute; where the budget has no
    /// such meter, of its first one, as are the next three. All four are 0 where it
    /// has none: see [`meters`](Self::meters).
    pub limit: u64,
    /// The most that one request may cost: the burst, after headroom.
    pub capacity: u64,
    /// What may be spent now; below zero is debt. See [`MeterSnapshot::level`].
    pub level: i64,
    /// Reserved, and not surely counted by the provider yet.
    pub in_transit: u64,
    /// Tokens reserved whose real usage is not known yet.
    pub outstanding: u64,
    /// How many requests wait.
    pub waiting: usize,
    /// How many were let in and are not over.
    pub in_flight: usize,
    /// The most that may be, if limited.
    pub max_concurrency: Option<usize>,
    /// When the next may be launched at the earliest, if launches are spaced and
    /// the time has not come.
    pub next_launch: Option<Instant>,
    /// The end of the present hold.
    pub held_until: Option<Instant>,
    /// Requests a minute that the provider allows, if limited.
    pub requests_limit: Option<u64>,
    /// Whether a sliding minute is kept beside the bucket.
    pub windowed: bool,
    /// The share of the limits that is used, in percent: below 100 after
    /// refusals that told neither a delay nor what is left, until good answers
    /// have shown more to be safe.
    pub pace_percent: u8,
    /// Every limit that there is. What is not limited, or whose limit is not known
    /// yet, is not here.
    pub meters: Vec<MeterSnapshot>,
    /// Every caller who waits, has something in flight, or has had more than its share
    /// lately; the one that nobody named is the first, and always there. No more than
    /// some eleven hundred.
    pub callers: Vec<CallerSnapshot>,
}

/// How a caller stands with a budget at one moment.
///
/// # Examples
///
/// ```
/// use tollhouse::{Ask, Caller, TokenBudget};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = TokenBudget::per_minute(30_000).build()?;
/// let web = Caller::new("web").weight(8);
/// let reservation = budget.reserve(Ask::of(1_000).caller(web)).await?;
///
/// let [nobody, web] = &budget.snapshot().callers[..] else {
///     panic!("two callers")
/// };
/// assert_eq!((nobody.name.as_deref(), nobody.in_flight), (None, 0));
/// assert_eq!((web.name.as_deref(), web.in_flight), (Some("web"), 1));
/// assert_eq!((web.weight, web.waiting), (8, 0));
/// drop(reservation);
/// assert_eq!(budget.snapshot().callers.len(), 1);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CallerSnapshot {
    /// `None` for the one that nobody named, and for those who share a lane because
    /// there are too many names at once.
    pub name: Option<Arc<str>>,
    /// Whether these are several who share a lane.
    pub is_shared: bool,
    /// Its weight.
    pub weight: u32,
    /// How many of its requests wait.
    pub waiting: usize,
    /// How many were let in and are not over.
    pub in_flight: usize,
    /// Of what was charged since somebody last began to wait, so many thousandths were
    /// its.
    pub share_permille: u16,
}

/// How a caller's next request stands in line; see
/// [`TokenBudget::next_in_line`](crate::TokenBudget::next_in_line).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NextInLine {
    /// 1 is the head of the line.
    pub place: usize,
    /// From now until it is let in.
    pub expected_wait: Duration,
}

/// One of a budget's limits at one moment.
///
/// # Examples
///
/// ```
/// use tollhouse::{Charge, Per, TokenBudget, Unit};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = TokenBudget::unlimited()
///     .meter(Unit::Input, Per::Minute, 50_000)
///     .meter(Unit::Output, Per::Minute, 8_000)
///     .build()?;
/// let charge = Charge::of(Unit::Input, 1_200).and(Unit::Output, 400);
/// let reservation = budget.reserve(charge).await?;
///
/// let [input, output] = &budget.snapshot().meters[..] else {
///     panic!("two meters")
/// };
/// assert_eq!((input.unit, input.level), (Unit::Input, 48_800));
/// assert_eq!((output.unit, output.level), (Unit::Output, 7_600));
/// // Where a burst is set, less may be spent at once than refills.
/// let burst = TokenBudget::per_minute(30_000).headroom(0.15).burst(5_000).build()?;
/// let tokens = burst.snapshot().meters[0];
/// assert_eq!((tokens.rate, tokens.capacity), (25_500, 5_000));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MeterSnapshot {
    /// What it counts.
    pub unit: Unit,
    /// Over which time.
    pub per: Per,
    /// What the provider allows in that time.
    pub limit: u64,
    /// What of it is used: after headroom, and slower where refusals say so. So much
    /// refills in that time.
    pub rate: u64,
    /// The most that one request may take: what is used of it, or a smaller burst. While a
    /// shared ledger is away this is that of the whole, of which the rest here is a part: what
    /// is larger than the part waits until the ledger is back.
    pub capacity: u64,
    /// What may be spent now; below zero is debt. Of requests by the minute no more go at once
    /// than a second's worth, and one at least, whatever this says.
    pub level: i64,
    /// Reserved, and not surely counted by the provider yet.
    pub in_transit: u64,
    /// Reserved, and its real usage not known yet.
    pub outstanding: u64,
    /// Whether no stretch as long as the period may hold more than the limit.
    pub windowed: bool,
}
