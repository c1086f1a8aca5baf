//! What can go wrong at a gate.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::answer::Scope;

/// Any error, as tower has it.
pub type BoxError = Box<dyn StdError + Send + Sync>;

/// Why a gate turned a request away instead of letting it wait.
///
/// Nothing was sent and nothing was charged.
///
/// # Examples
///
/// ```
/// use tollhouse::{Refused, TokenBudget};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // What to answer to callers of one's own.
/// fn status(refused: &Refused) -> u16 {
///     match refused {
///         Refused::TooLarge { .. } => 413,
///         _ => 503,
///     }
/// }
///
/// let budget = TokenBudget::per_minute(30_000).build()?;
/// let refused = budget.reserve(45_411).await.unwrap_err();
/// assert_eq!(
///     refused,
///     Refused::TooLarge {
///         cost: 45_411,
///         limit: 30_000
///     }
/// );
/// assert_eq!(status(&refused), 413);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refused {
    /// The request costs more than the budget can ever hold: waiting would
    /// never end.
    TooLarge {
        /// What the request would have been charged, in tokens.
        cost: u64,
        /// The most that one request may cost, in tokens.
        limit: u64,
    },
    /// So many wait already that the request was told so at once, as
    /// `max_waiting` or `max_wait` asked for.
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// How long the request would have waited, as far as can be told.
        expected_wait: Duration,
    },
    /// A limit by the day, or one of money, is used up, or the provider told a
    /// delay as long as that; waiting in line for it is pointless.
    Exhausted {
        /// What ran out.
        scope: Scope,
        /// When there will be more.
        until: Instant,
    },
    /// The gate was closed, for a shutdown.
    Closed,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::TooLarge { cost, limit } => write!(
                f,
                "request too large: it costs {cost} tokens, and at most {limit} can ever be spent at once"
            ),
            Refused::Overloaded {
                waiting,
                expected_wait,
            } => write!(
                f,
                "overloaded: {waiting} requests wait already, the expected wait is {expected_wait:.1?}"
            ),
            Refused::Exhausted { scope, until } => {
                let left = until.saturating_duration_since(Instant::now());
                write!(f, "exhausted: {scope} used up, for another {left:.0?}")
            }
            Refused::Closed => f.write_str("closed: the gate admits no more requests"),
        }
    }
}

impl StdError for Refused {}

/// The error of a gated service: a gate's own refusal, or whatever the service
/// behind it failed with.
///
/// It is flat: however many gates are stacked, there is one `Error`, and the
/// inner service's error is one [`source`](StdError::source) away. It is a
/// concrete type rather than a [`BoxError`], so that a deep stack's future
/// still compiles inside `tokio::spawn`.
///
/// # Examples
///
/// ```
/// use tollhouse::{Error, Refused};
///
/// let error = Error::from(Refused::TooLarge { cost: 45_411, limit: 30_000 });
/// assert!(matches!(error.refused(), Some(Refused::TooLarge { .. })));
///
/// let error = Error::inner(std::io::Error::other("no route"));
/// assert!(error.refused().is_none());
/// assert!(error.downcast_ref::<std::io::Error>().is_some());
/// ```
pub struct Error {
    kind: Kind,
    attempts: u32,
}

enum Kind {
    Refused(Refused),
    Inner(BoxError),
}

impl Error {
    /// Carries the error of an inner service; one that is an `Error` already
    /// is passed on, not wrapped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::error::Error as _;
    /// use tollhouse::Error;
    ///
    /// let error = Error::inner(std::io::Error::other("no route"));
    /// // As another gate around the first one does.
    /// let error = Error::inner(error);
    /// let source = error.source().unwrap();
    /// assert!(source.is::<std::io::Error>());
    /// ```
    pub fn inner(error: impl Into<BoxError>) -> Self {
        match error.into().downcast::<Error>() {
            Ok(error) => *error,
            Err(error) => Kind::Inner(error).into(),
        }
    }

    /// How many attempts were made, the refused one included; 1 unless a retry
    /// counted more.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Notes how many attempts were made.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::{Error, Refused};
    ///
    /// let mut error = Error::from(Refused::Closed);
    /// assert_eq!(error.attempts(), 1);
    /// error.set_attempts(3);
    /// assert_eq!(error.attempts(), 3);
    /// ```
    pub fn set_attempts(&mut self, attempts: u32) {
        self.attempts = attempts;
    }

    /// The refusal, where a gate turned the request away.
    pub fn refused(&self) -> Option<&Refused> {
        match &self.kind {
            Kind::Refused(refused) => Some(refused),
            Kind::Inner(_) => None,
        }
    }

    /// The inner service's own error, where that failed with an `E`, or the
    /// [`Refused`] where a gate did.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io;
    /// use tollhouse::{Error, Refused};
    ///
    /// let error = Error::inner(io::Error::from(io::ErrorKind::ConnectionReset));
    /// let reset = error.downcast_ref::<io::Error>().unwrap();
    /// assert_eq!(reset.kind(), io::ErrorKind::ConnectionReset);
    /// assert!(error.downcast_ref::<Refused>().is_none());
    /// ```
    pub fn downcast_ref<E: StdError + 'static>(&self) -> Option<&E> {
        match &self.kind {
            Kind::Refused(refused) => (refused as &(dyn StdError + 'static)).downcast_ref(),
            Kind::Inner(error) => error.downcast_ref(),
        }
    }

    /// Gives out the inner service's error, or the [`Refused`], boxed.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse::Error;
    ///
    /// let error = Error::inner(std::io::Error::other("no route"));
    /// let error = error.into_source().downcast::<std::io::Error>().unwrap();
    /// assert_eq!(error.to_string(), "no route");
    /// ```
    pub fn into_source(self) -> BoxError {
        match self.kind {
            Kind::Refused(refused) => refused.into(),
            Kind::Inner(error) => error,
        }
    }
}

impl From<Refused> for Error {
    fn from(refused: Refused) -> Self {
        Kind::Refused(refused).into()
    }
}

impl From<Kind> for Error {
    fn from(kind: Kind) -> Self {
        Error { kind, attempts: 1 }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Refused(refused) => f.debug_tuple("Error").field(refused).finish(),
            Kind::Inner(error) => f.debug_tuple("Error").field(error).finish(),
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Refused(refused) => refused.fmt(f),
            Kind::Inner(_) => f.write_str("the call behind the gates failed"),
        }
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.kind {
            Kind::Refused(_) => None,
            Kind::Inner(error) => Some(&**error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stacked_gates_leave_one_error() {
        let once = Error::inner(std::io::Error::other("no route"));
        let twice = Error::inner(Error::inner(once));
        let source = twice.source().expect("the inner error");
        assert!(source.is::<std::io::Error>());
        assert_eq!(source.to_string(), "no route");

        let refused = Refused::TooLarge { cost: 2, limit: 1 };
        let outer = Error::inner(Error::from(refused));
        assert_eq!(outer.refused(), Some(&refused));
        assert_eq!(outer.to_string(), refused.to_string());
        assert_eq!(outer.downcast_ref::<Refused>(), Some(&refused));
        assert_eq!(outer.into_source().to_string(), refused.to_string());
    }
}
