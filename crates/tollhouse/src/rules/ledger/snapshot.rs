//! How a ledger stands at one instant.

use tokio::time::Instant;

/// A budget at one moment; see [`TokenBudget::snapshot`].
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
    /// Tokens a minute that the provider allows.
    pub limit: u64,
    /// The most tokens that one request may cost: the burst, after headroom.
    pub capacity: u64,
    /// Tokens that may be spent now; below zero is debt.
    pub level: i64,
    /// Tokens reserved that the provider has not surely counted yet.
    pub in_transit: u64,
    /// Tokens reserved whose real usage is not known yet.
    pub outstanding: u64,
    /// How many requests wait.
    pub waiting: usize,
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
}
