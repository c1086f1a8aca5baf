//! What can go wrong at a gate.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use tokio::time::Instant;

use crate::answer::Scope;
use crate::charge::Unit;

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
    /// The same of what is not counted in tokens.
    TooMany {
        /// What there is too much of.
        unit: Unit,
        /// How much of it the request would have been charged.
        amount: u64,
        /// The most of it that one request may take.
        limit: u64,
    },
    /// So many wait already that the request was told so at once, as
    /// `max_waiting` or `max_wait` asked for.
    Overloaded {
        /// How many wait.
        waiting: usize,
        /// How long the request would have waited: an estimate over the lanes of all
        /// callers, as of [`TokenBudget::eta`](crate::TokenBudget::eta). Zero where nobody
        /// knows yet, as of slots of which none has come back.
        expected_wait: Duration,
    },
    /// The request cannot be launched before its [`Deadline`](crate::Deadline), even
    /// if nobody else comes and slots come back at once; or it was not, and has
    /// left the line.
    ///
    /// It is refused at once only where what was taken stays taken: not for slots that might
    /// yet come back in time, but for tokens, though one who took some may give them back
    /// unsent. One that is let into the line may be refused later all the
    /// same, when its deadline passes, and so may one that was let in and comes too late to
    /// be launched.
    TooLate {
        /// How long one of the same caller and charge would wait that came now, once this
        /// one and all whose deadlines have passed with its own have left: an estimate over
        /// the lanes of all callers, as of [`TokenBudget::eta`](crate::TokenBudget::eta).
        /// Zero also where nobody knows yet.
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
            Refused::TooMany {
                unit,
                amount,
                limit,
            } => write!(
                f,
                "request too large: it takes {amount} {unit}, and at most {limit} can ever be taken at once"
            ),
            Refused::Overloaded {
                waiting,
                expected_wait,
            } => {
                let wait = match waiting {
                    1 => "request waits",
                    _ => "requests wait",
                };
                write!(f, "overloaded: {waiting} {wait} already, ")?;
                match expected_wait.is_zero() {
                    // It could not go now, so it would have waited.
                    true => f.write_str("and nobody knows yet for how long"),
                    false => write!(f, "the expected wait is {}", Span(*expected_wait)),
                }
            }
            Refused::TooLate { expected_wait } => {
                f.write_str("too late: it could not be launched before its deadline")?;
                match expected_wait.is_zero() {
                    // It would not wait any more, or nobody knows for how long.
                    true => Ok(()),
                    false => write!(f, ", the expected wait is {}", Span(*expected_wait)),
                }
            }
            Refused::Exhausted {
                scope: Scope::Overload,
                until,
            } => {
                let left = until.saturating_duration_since(Instant::now());
                write!(
                    f,
                    "overloaded: the provider asks everybody to wait for another {}",
                    Span(left)
                )
            }
            Refused::Exhausted { scope, until } => {
                let left = until.saturating_duration_since(Instant::now());
                write!(f, "exhausted: {scope} used up, for another {}", Span(left))
            }
            Refused::Closed => f.write_str("closed: the gate admits no more requests"),
        }
    }
}

impl StdError for Refused {}

/// A time for people: its two greatest units, rounded down; seconds with their
/// tenths.
///
/// What is shorter than a tenth of a second is told as such, and not as nothing.
struct Span(Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.0.as_secs();
        match seconds {
            0 if self.0 < Duration::from_millis(100) => f.write_str("less than 0.1s"),
            0..60 => write!(f, "{seconds}.{}s", self.0.subsec_millis() / 100),
            60..3_600 => write!(f, "{}m {:02}s", seconds / 60, seconds % 60),
            3_600..86_400 => write!(f, "{}h {:02}m", seconds / 3_600, seconds / 60 % 60),
            _ => write!(f, "{}d {:02}h", seconds / 86_400, seconds / 3_600 % 24),
        }
    }
}

/// Says of an error that nothing of its request ever left: no connection could
/// be made, or the service broke before it was called. The provider has surely
/// not counted it, so every gate gives back all that it took.
///
/// Whoever knows puts it into the error's chain of [sources](StdError::source);
/// the gates look for it there. A transport says it of a connection that was
/// refused, had no route or no name, failed its TLS handshake or timed out
/// while connecting, and never of a request that was written in part. A service
/// that makes several attempts says it only where none of them left.
///
/// # Examples
///
/// A transport that says it, behind a budget that hears it:
///
/// ```
/// use std::io;
/// use tollhouse::error::NeverSent;
/// use tollhouse::{TokenBudget, TpmBudgetLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let budget = TokenBudget::per_minute(30_000).build()?;
/// let client = TpmBudgetLayer::new(budget.clone(), |_: &()| 7_000)
///     .until_response()
///     .layer(service_fn(async |_: ()| {
///         let refused = io::Error::from(io::ErrorKind::ConnectionRefused);
///         Err::<(), _>(NeverSent::new(refused))
///     }));
/// let error = client.oneshot(()).await.unwrap_err();
/// assert!(error.is_never_sent());
/// assert_eq!(budget.snapshot().level, 30_000);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Default)]
pub struct NeverSent(Option<BoxError>);

impl NeverSent {
    /// Nothing was sent because of `cause`; [`default`](Self::default) where there
    /// is nothing more to say.
    pub fn new(cause: impl Into<BoxError>) -> Self {
        NeverSent(Some(cause.into()))
    }

    /// Whether an error, or one of those behind it, says so: a `NeverSent`, a
    /// gate's [`Refused`], or an [`Error`] that [is one](Error::is_never_sent).
    pub fn is_behind(error: &(dyn StdError + 'static)) -> bool {
        for error in chain(error) {
            if let Some(error) = error.downcast_ref::<Error>() {
                return error.is_never_sent();
            }
            if error.is::<NeverSent>() || error.is::<Refused>() {
                return true;
            }
        }
        false
    }
}

impl fmt::Display for NeverSent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("nothing was sent")
    }
}

impl StdError for NeverSent {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.0 {
            Some(cause) => Some(&**cause),
            None => None,
        }
    }
}

/// An error and those behind it, nearest first.
fn chain<'e>(
    error: &'e (dyn StdError + 'static),
) -> impl Iterator<Item = &'e (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error| (*error).source())
}

/// The error of a gated service: a gate's own refusal, or whatever the service
/// behind it failed with.
///
/// It is flat: however many gates are stacked, there is one `Error`, and the
/// inner service's error is one [`source`](StdError::source) away. Its `Display`
/// is a line for a log: what failed, and what lies at the bottom of it. It is a
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
/// assert_eq!(error.to_string(), "no route");
/// ```
pub struct Error {
    /// Apart, so that an answer is not moved about with room for an error.
    parts: Box<Parts>,
}

struct Parts {
    kind: Kind,
    attempts: u32,
    /// Whether that was said of it, beside what its sources say.
    never_sent: bool,
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

    /// Carries the error of an inner service by which nothing of the request ever
    /// left; as [`inner`](Self::inner) with a [`NeverSent`], without putting
    /// anything between this and the error.
    pub fn never_sent(error: impl Into<BoxError>) -> Self {
        let mut error = Error::inner(error);
        error.parts.never_sent = true;
        error
    }

    /// Whether nothing of the request ever left: a gate refused it, or what lies
    /// behind says [`NeverSent`]. `false` after several attempts, since an
    /// earlier one may have left.
    pub fn is_never_sent(&self) -> bool {
        self.parts.attempts <= 1
            && match &self.parts.kind {
                Kind::Refused(_) => true,
                Kind::Inner(error) => self.parts.never_sent || NeverSent::is_behind(&**error),
            }
    }

    /// How many attempts were made, the refused one included; 1 unless a retry
    /// counted more.
    pub fn attempts(&self) -> u32 {
        self.parts.attempts
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
        self.parts.attempts = attempts;
    }

    /// The refusal, where a gate turned the request away.
    pub fn refused(&self) -> Option<&Refused> {
        match &self.parts.kind {
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
        match &self.parts.kind {
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
        match self.parts.kind {
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
        let parts = Box::new(Parts {
            kind,
            attempts: 1,
            never_sent: false,
        });
        Error { parts }
    }
}

impl fmt::Debug for Error {
    /// The sentence, as `Display`: it is what a `main` prints that returns its errors.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.parts.kind {
            Kind::Refused(refused) => refused.fmt(f),
            Kind::Inner(error) => cause(&**error, f),
        }
    }
}

/// What failed, and what lies at the bottom of it, where that says more. Those
/// between are left to whoever prints the chain: each tells of its own level,
/// and most of them tell nothing new.
fn cause(error: &(dyn StdError + 'static), f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let said = error.to_string();
    f.write_str(&said)?;
    match chain(error).last().map(ToString::to_string) {
        Some(bottom) if !said.contains(&bottom) => write!(f, ": {bottom}"),
        _ => Ok(()),
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.parts.kind {
            Kind::Refused(_) => None,
            Kind::Inner(error) => Some(&**error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error that speaks for its level only, as hyper's and reqwest's do.
    #[derive(Debug)]
    struct Level(&'static str, BoxError);

    impl fmt::Display for Level {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str(self.0)
        }
    }

    impl StdError for Level {
        fn source(&self) -> Option<&(dyn StdError + 'static)> {
            Some(&*self.1)
        }
    }

    #[test]
    fn display_names_the_cause_in_one_line() {
        let bottom = std::io::Error::other("no route");
        let connect = Level("tcp connect error", bottom.into());
        let error = Error::inner(Level("error sending request", connect.into()));
        assert_eq!(error.to_string(), "error sending request: no route");
        // What has said it already does not say it twice.
        let bottom = std::io::Error::other("no route");
        let error = Error::inner(Level("connect: no route", bottom.into()));
        assert_eq!(error.to_string(), "connect: no route");
        let told: Vec<String> = chain(&error).skip(1).map(ToString::to_string).collect();
        assert_eq!(told, ["connect: no route", "no route"]);
    }

    /// A `main` that returns it prints it so.
    #[test]
    fn debug_is_the_sentence() {
        let error = Error::from(Refused::TooLarge { cost: 9, limit: 4 });
        assert_eq!(format!("{error:?}"), error.to_string());
        let error = Error::inner(std::io::Error::other("no route"));
        assert_eq!(format!("{error:?}"), "no route");
    }

    #[test]
    fn refusals_speak_of_hours_and_days() {
        let shown = [0.04, 0.25, 59.9, 86_385.0, 90_000.0].map(|seconds| {
            let expected_wait = Duration::from_secs_f64(seconds);
            Refused::Overloaded {
                waiting: 1,
                expected_wait,
            }
            .to_string()
        });
        let ends = ["less than 0.1s", "0.2s", "59.9s", "23h 59m", "1d 01h"];
        for (shown, end) in shown.iter().zip(ends) {
            assert!(
                shown.ends_with(&format!("expected wait is {end}")),
                "{shown}"
            );
        }
    }

    /// "The expected wait is 0.0s" was an invitation to ask again at once.
    #[test]
    fn refusals_tell_no_wait_that_nobody_knows() {
        let expected_wait = Duration::ZERO;
        let waiting = 2;
        let busy = Refused::Overloaded {
            waiting,
            expected_wait,
        };
        assert_eq!(
            busy.to_string(),
            "overloaded: 2 requests wait already, and nobody knows yet for how long"
        );
        assert_eq!(
            Refused::TooLate { expected_wait }.to_string(),
            "too late: it could not be launched before its deadline"
        );
    }

    #[test]
    fn never_sent_is_found_wherever_it_lies() {
        let bottom = || std::io::Error::other("no route");
        let marked = || NeverSent::new(bottom());
        assert!(!Error::inner(bottom()).is_never_sent());
        assert!(Error::inner(marked()).is_never_sent());
        assert!(Error::inner(Level("client", marked().into())).is_never_sent());
        assert!(Error::inner(Level("timeout", Error::inner(marked()).into())).is_never_sent());
        assert!(Error::inner(Level("buffer", Error::from(Refused::Closed).into())).is_never_sent());
        assert!(Error::never_sent(bottom()).is_never_sent());
        assert!(Error::inner(Error::never_sent(bottom())).is_never_sent());

        // An earlier attempt may have left.
        let mut retried = Error::inner(marked());
        retried.set_attempts(2);
        assert!(!Error::inner(Level("timeout", retried.into())).is_never_sent());
    }

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
