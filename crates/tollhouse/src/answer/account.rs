//! The provider's view of the account.

use std::time::Duration;

/// What ran out when a request was refused.
///
/// # Examples
///
/// ```
/// use tollhouse::Scope;
///
/// // What comes back by itself.
/// fn is_worth_waiting(scope: Scope) -> bool {
///     !matches!(scope, Scope::Quota | Scope::None)
/// }
///
/// assert!(is_worth_waiting(Scope::Tokens));
/// assert!(!is_worth_waiting(Scope::Quota));
/// assert_eq!(Scope::TokensPerDay.to_string(), "tokens per day");
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Scope {
    /// Tokens, by the minute or shorter.
    Tokens,
    /// Requests, by the minute or shorter, or calls at once.
    Requests,
    /// Tokens, by the day or longer.
    TokensPerDay,
    /// Requests, by the day or longer.
    RequestsPerDay,
    /// Money: credits, a spend limit.
    Quota,
    /// The provider's own capacity; no budget of ours is used up.
    Overload,
    /// Nothing: the request itself is at fault, or there is no fault.
    #[default]
    None,
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Scope::Tokens => "tokens",
            Scope::Requests => "requests",
            Scope::TokensPerDay => "tokens per day",
            Scope::RequestsPerDay => "requests per day",
            Scope::Quota => "quota",
            Scope::Overload => "provider capacity",
            Scope::None => "nothing",
        })
    }
}

/// The provider's own count of a minute's tokens and requests, as told with an
/// answer; `None` where it did not say.
///
/// Only limits **by the minute** belong here. A provider that counts requests
/// by the day must not fill `limit_requests`.
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
///     limit_tokens: Some(30_000),
///     remaining_tokens: Some(1_200),
///     ..RateLimits::default()
/// });
/// assert_eq!(budget.snapshot().level, 1_200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RateLimits {
    /// Requests allowed a minute.
    pub limit_requests: Option<u64>,
    /// Tokens allowed a minute.
    pub limit_tokens: Option<u64>,
    /// Requests left now.
    pub remaining_requests: Option<u64>,
    /// Tokens left now.
    pub remaining_tokens: Option<u64>,
    /// Time until the requests are full again.
    pub reset_requests: Option<Duration>,
    /// Time until the tokens are full again.
    pub reset_tokens: Option<Duration>,
}

impl From<&RateLimits> for RateLimits {
    fn from(limits: &RateLimits) -> Self {
        *limits
    }
}

/// A refusal by the provider, as its answer tells it.
///
/// # Examples
///
/// A denial holds the budget for everybody:
///
/// ```
/// use std::convert::Infallible;
/// use std::time::Duration;
/// use tokio::time::Instant;
/// use tollhouse::{Denial, Observation, Scope, TokenBudget, TpmBudgetLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let denial = Denial {
///     scope: Scope::Requests,
///     after: Some(Duration::from_secs(20)),
/// };
/// let busy = Observation {
///     denial: Some(denial),
///     ..Observation::default()
/// };
///
/// let budget = TokenBudget::per_minute(30_000).build()?;
/// let client = TpmBudgetLayer::new(budget.clone(), |_: &()| 100)
///     .observe(move |_: &u16| busy)
///     .until_response()
///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(429)));
/// client.oneshot(()).await?;
/// let until = Instant::now() + Duration::from_secs(20);
/// assert_eq!(budget.snapshot().held_until, Some(until));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What ran out.
    pub scope: Scope,
    /// How long this one request should wait, where that was told.
    pub after: Option<Duration>,
}

/// What the head of one answer tells about the account.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::{Denial, Observation, RateLimits, Scope};
///
/// // A refusal that tells both what is left and when to come again.
/// let told = Observation {
///     limits: RateLimits {
///         remaining_tokens: Some(0),
///         ..RateLimits::default()
///     },
///     denial: Some(Denial {
///         scope: Scope::Tokens,
///         after: Some(Duration::from_secs(7)),
///     }),
/// };
/// // Most answers tell of no refusal, and some of no limits.
/// assert_ne!(told, Observation::default());
/// assert_eq!(Observation::default().denial, None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Observation {
    /// The provider's own count.
    pub limits: RateLimits,
    /// Set where the provider refused the request.
    pub denial: Option<Denial>,
}

impl Observation {
    /// Itself, if it tells anything.
    #[inline]
    pub(crate) fn news(&self) -> Option<&Self> {
        (*self != Observation::default()).then_some(self)
    }
}

/// Reads from the head of an answer what it tells about the account.
///
/// Any `Fn(&Res) -> Observation` is one.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use tollhouse::{Observation, Observe, RateLimits};
///
/// let left = |answer: &Response<()>| {
///     let left = answer.headers().get("tokens-left");
///     let remaining_tokens = left.and_then(|left| left.to_str().ok()?.parse().ok());
///     let limits = RateLimits {
///         remaining_tokens,
///         ..RateLimits::default()
///     };
///     Observation {
///         limits,
///         denial: None,
///     }
/// };
/// let answer = Response::builder()
///     .header("tokens-left", "1200")
///     .body(())
///     .unwrap();
/// assert_eq!(left.observe(&answer).limits.remaining_tokens, Some(1_200));
/// ```
pub trait Observe<Res> {
    /// Reads one answer's head.
    fn observe(&self, response: &Res) -> Observation;
}

impl<F, Res> Observe<Res> for F
where
    F: Fn(&Res) -> Observation,
{
    fn observe(&self, response: &Res) -> Observation {
        self(response)
    }
}

/// An observer that looks away.
///
/// # Examples
///
/// ```
/// use tollhouse::{Observation, Observe, Unobserved};
///
/// assert_eq!(Unobserved.observe(&"any answer"), Observation::default());
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Unobserved;

impl<Res> Observe<Res> for Unobserved {
    fn observe(&self, _: &Res) -> Observation {
        Observation::default()
    }
}
