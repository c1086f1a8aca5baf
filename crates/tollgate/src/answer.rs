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
/// use tollgate::Cost;
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Its last byte was read.
    Complete,
    /// It failed, or the reader left, before its last byte.
    Cut,
}

/// Usage that is never known: every reserved cost stands.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmetered;

impl<Res> Usage<Res> for Unmetered {
    type Meter = Option<u64>;

    fn meter(&self, _: &Res) -> Option<u64> {
        None
    }
}

/// What ran out when a request was refused.
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Denial {
    /// What ran out.
    pub scope: Scope,
    /// How long this one request should wait, where that was told.
    pub after: Option<Duration>,
}

/// What the head of one answer tells about the account.
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
