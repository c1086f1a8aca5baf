//! What an answer tells: its real usage, the provider's view of the account,
//! and whether asking again can help.
//!
//! The gates know no provider. Whoever wraps one teaches them to read its
//! answers by implementing these small traits; closures do for the simple
//! cases.

use std::time::Duration;

/// What a request will be charged, decided before it is sent.
///
/// Any `Fn(&Req) -> u64` is a cost:
///
/// ```
/// use tollhouse::Cost;
///
/// let by_length = |prompt: &String| prompt.len() as u64 / 4 + 1;
/// assert_eq!(by_length.cost(&"twelve bytes".to_owned()), 4);
/// ```
pub trait Cost<Req> {
    /// The tokens that `request` will be charged.
    fn cost(&self, request: &Req) -> u64;
}

impl<F, Req> Cost<Req> for F
where
    F: Fn(&Req) -> u64,
{
    fn cost(&self, request: &Req) -> u64 {
        self(request)
    }
}

/// Reads the real usage of a request from its answer, to settle its
/// reservation.
///
/// Any `Fn(&Res) -> Option<u64>` reads a whole response. An answer whose usage
/// comes in its body hands out a [`Meter`] that sees the body go by.
///
/// # Examples
///
/// ```
/// use tollhouse::{End, Meter, Usage};
///
/// // An answer that says itself what it used.
/// let usage = |answer: &(&str, u64)| Some(answer.1);
/// let mut meter = usage.meter(&("Eleven kilometers.", 12));
/// assert_eq!(meter.used(End::Complete), Some(12));
/// ```
pub trait Usage<Res> {
    /// Watches the body of one answer.
    type Meter: Meter;

    /// Begins to watch one answer, from its head.
    fn meter(&self, response: &Res) -> Self::Meter;
}

impl<F, Res> Usage<Res> for F
where
    F: Fn(&Res) -> Option<u64>,
{
    type Meter = Option<u64>;

    fn meter(&self, response: &Res) -> Option<u64> {
        self(response)
    }
}

/// Sees one answer's body go by and knows at its end what was used.
///
/// # Examples
///
/// ```
/// use tollhouse::{Denial, End, Meter, Scope};
///
/// /// A token for every four bytes.
/// #[derive(Default)]
/// struct ByBytes {
///     bytes: u64,
///     busy: bool,
/// }
///
/// impl Meter for ByBytes {
///     fn chunk(&mut self, data: &[u8]) {
///         self.bytes += data.len() as u64;
///         self.busy |= data == b"error: busy";
///     }
///
///     fn denial(&mut self) -> Option<Denial> {
///         let scope = Scope::Overload;
///         self.busy.then_some(Denial { scope, after: None })
///     }
///
///     fn used(&mut self, end: End) -> Option<u64> {
///         (end == End::Complete).then_some(self.bytes / 4)
///     }
/// }
///
/// let mut meter = ByBytes::default();
/// meter.chunk(b"Eleven ");
/// meter.chunk(b"kilometers.");
/// assert_eq!(meter.denial(), None);
/// assert_eq!(meter.used(End::Complete), Some(4));
/// ```
pub trait Meter {
    /// Takes in the next piece of the body. Must not keep an amount of data
    /// that grows with the body.
    fn chunk(&mut self, data: &[u8]) {
        let _ = data;
    }

    /// A refusal that the body told after a head that promised success; it
    /// acts on the budget as one in the head does. Asked once, before
    /// [`used`](Self::used).
    fn denial(&mut self) -> Option<Denial> {
        None
    }

    /// The tokens used, or `None` where the answer did not say: then the
    /// reserved cost stands. Called at most once.
    fn used(&mut self, end: End) -> Option<u64>;
}

/// A usage that was known from the head.
impl Meter for Option<u64> {
    fn used(&mut self, _: End) -> Option<u64> {
        *self
    }
}

/// How a body came to its end.
///
/// # Examples
///
/// ```
/// use tollhouse::{End, Meter};
///
/// // A usage that was known from the head holds, however the body ends.
/// assert_eq!(Some(12).used(End::Complete), Some(12));
/// assert_eq!(Some(12).used(End::Cut), Some(12));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its last byte was read.
    Complete,
    /// It failed, or the reader left, before its last byte.
    Cut,
}

/// Usage that is never known: every reserved cost stands.
///
/// # Examples
///
/// ```
/// use tollhouse::{End, Meter, Unmetered, Usage};
///
/// let mut meter = Unmetered.meter(&"Eleven kilometers.");
/// assert_eq!(meter.used(End::Complete), None);
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmetered;

impl<Res> Usage<Res> for Unmetered {
    type Meter = Option<u64>;

    fn meter(&self, _: &Res) -> Option<u64> {
        None
    }
}

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

/// What to do after an attempt.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::{Decision, Scope};
///
/// fn judge(status: u16) -> Decision {
///     let scope = Scope::Overload;
///     match status {
///         503 => Decision::Retry {
///             after: Some(Duration::from_secs(20)),
///             scope,
///         },
///         500.. => Decision::Retry { after: None, scope },
///         _ => Decision::GiveUp,
///     }
/// }
///
/// assert_eq!(judge(400), Decision::GiveUp);
/// assert!(matches!(judge(502), Decision::Retry { after: None, .. }));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Hand the result to the caller: it is good, or asking again cannot help.
    GiveUp,
    /// Ask again.
    Retry {
        /// The least delay that was told, if any; else the backoff decides.
        after: Option<Duration>,
        /// What ran out.
        scope: Scope,
    },
}

/// Decides whether the same request, asked again, can succeed.
///
/// Any `Fn(Result<&Res, &Err>) -> Decision` is one.
///
/// # Examples
///
/// ```
/// use std::io;
/// use tollhouse::{Classify, Decision, Scope};
///
/// let classify = |result: Result<&u16, &io::Error>| match result {
///     Ok(500..) | Err(_) => Decision::Retry {
///         after: None,
///         scope: Scope::Overload,
///     },
///     Ok(_) => Decision::GiveUp,
/// };
/// assert_eq!(classify.classify(Ok(&404)), Decision::GiveUp);
/// let reset = io::ErrorKind::ConnectionReset.into();
/// assert_ne!(classify.classify(Err(&reset)), Decision::GiveUp);
/// ```
pub trait Classify<Res, Err> {
    /// Judges the result of one attempt.
    fn classify(&self, result: Result<&Res, &Err>) -> Decision;
}

impl<F, Res, Err> Classify<Res, Err> for F
where
    F: Fn(Result<&Res, &Err>) -> Decision,
{
    fn classify(&self, result: Result<&Res, &Err>) -> Decision {
        self(result)
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
