//! Whether asking again can help.

use std::time::Duration;

use super::Scope;

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
