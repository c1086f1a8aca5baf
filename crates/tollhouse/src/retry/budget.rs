use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

use super::allowance::Allowance;
use crate::answer::Scope;
use crate::time::Moment;

/// How many retries all calls together may make, so that an outage is not
/// doubled by those who wait for its end.
///
/// In any minute retries may add a share to the requests, and a small reserve
/// so that a quiet program may retry as well. When that is spent, calls fail
/// at once with the answer they got.
///
/// A request counts when its first attempt comes back, so a call that waits
/// long at a gate counts when it was really made. One that failed in a way not
/// worth asking again, as a gate's refusal, does not count, nor does one that
/// somebody in front had [asked before](super::Mark::spent).
///
/// # What draws on it
///
/// Retries where the provider's capacity ran out
/// ([`Scope::Overload`], errors among it) or nothing is known of why. Where a
/// limit of the account by the minute or the day was met, the provider is well
/// and says when to come again, and the gates let nobody come sooner: such
/// retries are free.
///
/// # Cloning
///
/// Clones share the budget; give one to several layers to make it theirs
/// together.
///
/// # Examples
///
/// A fifth more than the requests, and three a minute in any case:
///
/// ```
/// use std::cell::Cell;
/// use std::time::Duration;
/// use tollhouse::retry::RetryBudget;
/// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let classify = |result: Result<&u16, &std::io::Error>| match result {
///     Ok(503) => Decision::Retry { after: None, scope: Scope::Overload },
///     _ => Decision::GiveUp,
/// };
/// let asked = Cell::new(0);
/// let down = service_fn(|_: ()| {
///     asked.set(asked.get() + 1);
///     async { Ok(503) }
/// });
/// let client = RetryLayer::new(Backoff::new(Duration::from_millis(1)), classify)
///     .budget(RetryBudget::new(0.2, 3))
///     .layer(down);
///
/// for _ in 0..20 {
///     assert_eq!(client.clone().oneshot(()).await.unwrap(), 503);
/// }
/// assert_eq!(asked.get(), 20 + 20 / 5 + 3);
/// # }
/// ```
#[derive(Clone)]
pub struct RetryBudget {
    allowance: Arc<Mutex<Allowance>>,
}

impl RetryBudget {
    /// In any minute, `share` retries for each request and `reserve` more.
    ///
    /// # Panics
    ///
    /// If `share` is not from 0 to 1,000. It is rounded to thousandths.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::RetryBudget;
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() {
    /// // One for every five requests, and three in any case.
    /// let budget = RetryBudget::new(0.2, 3);
    /// assert_eq!(budget.left(), 3, "nobody has asked for anything yet");
    /// # }
    /// ```
    #[track_caller]
    pub fn new(share: f64, reserve: u32) -> Self {
        RetryBudget {
            allowance: Arc::new(Mutex::new(Allowance::new(thousandths(share), reserve))),
        }
    }

    /// Changes what it allows, for all clones. What was asked and retried within the last
    /// minute still counts.
    ///
    /// # Panics
    ///
    /// As [`new`](Self::new).
    #[track_caller]
    pub fn set(&self, share: f64, reserve: u32) {
        let share = thousandths(share);
        self.lock().set(share, reserve);
    }

    /// How many retries could be made now.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{Backoff, Decision, RetryBudget, RetryLayer, Scope};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let down = |_: Result<&u16, &Infallible>| Decision::Retry {
    ///     after: None,
    ///     scope: Scope::Overload,
    /// };
    /// let budget = RetryBudget::new(0.0, 10);
    /// let client = RetryLayer::new(Backoff::default().max_attempts(3), down)
    ///     .budget(budget.clone())
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(503)));
    /// client.oneshot(()).await?;
    /// assert_eq!(budget.left(), 8);
    /// # Ok(())
    /// # }
    /// ```
    pub fn left(&self) -> u64 {
        self.lock().left(Instant::now().into())
    }

    pub(super) fn earn(&self) {
        let now = Moment::from(Instant::now());
        self.lock().earn(now);
    }

    /// Whether a retry may be made where this ran out; takes it if so.
    pub(super) fn grants(&self, scope: Scope) -> bool {
        match scope {
            Scope::Tokens | Scope::Requests | Scope::TokensPerDay | Scope::RequestsPerDay => true,
            Scope::Quota | Scope::Overload | Scope::None => {
                let now = Moment::from(Instant::now());
                self.lock().spend(now)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Allowance> {
        self.allowance
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

#[track_caller]
fn thousandths(share: f64) -> u64 {
    assert!(
        (0.0..=1_000.0).contains(&share),
        "a retry budget of {share} retries for each request: 0 to 1000 is allowed"
    );
    (share * 1_000.0).round() as u64
}

/// A fifth of the requests, and ten a minute.
impl Default for RetryBudget {
    fn default() -> Self {
        RetryBudget::new(0.2, 10)
    }
}

impl fmt::Debug for RetryBudget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBudget")
            .field("left", &self.left())
            .finish_non_exhaustive()
    }
}
