use crate::ask::{Arrival, Deadline};

/// Tells those concerned which attempt it is: the provider, in each request,
/// and the caller, in what the call comes to.
///
/// Any `Fn(&mut Req, u32)` is one that marks requests alone:
///
/// ```
/// use http::Request;
/// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let classify = |result: Result<&u32, &std::io::Error>| match result {
///     Ok(0..=2) => Decision::Retry { after: None, scope: Scope::Overload },
///     _ => Decision::GiveUp,
/// };
/// let echo = service_fn(|request: Request<()>| async move {
///     Ok(*request.extensions().get::<u32>().expect("the attempt"))
/// });
/// let client = RetryLayer::new(Backoff::default(), classify)
///     .mark(|request: &mut Request<()>, attempt: u32| {
///         request.extensions_mut().insert(attempt);
///     })
///     .layer(echo);
///
/// assert_eq!(client.oneshot(Request::new(())).await.unwrap(), 3);
/// # }
/// ```
pub trait Mark<Req, Out> {
    /// How many attempts were made before the call came here, by somebody in
    /// front who retries as well. They count as if they had been made here;
    /// at least one attempt is always made.
    fn spent(&self, request: &Req) -> u32 {
        let _ = request;
        0
    }

    /// Until when the call must be launched, if its request says so: where a next attempt
    /// could only come later, the caller gets what the last one came to at once.
    fn deadline(&self, request: &Req) -> Option<Deadline> {
        let _ = request;
        None
    }

    /// Called where a next attempt was worth making, and could only have come after the
    /// [`deadline`](Self::deadline): it is its caller's to make.
    fn leave(&self, request: &Req) {
        let _ = request;
    }

    /// Called before each attempt, with the attempts so far, this one
    /// included: 1 for the first, unless some were spent before.
    ///
    /// What is written stays for the next attempt: what must be the same in all
    /// is written where it is missing.
    fn mark(&self, request: &mut Req, attempt: u32);

    /// Whether attempts after the first are to be told when the call came; costs a look
    /// at the clock for each call.
    const TELLS_ARRIVAL: bool = false;

    /// Called before each attempt after the first, with the instant of that one: whoever
    /// keeps its place in line since then is told by it.
    fn came(&self, request: &mut Req, first: Arrival) {
        let _ = (request, first);
    }

    /// Whether `request` can be sent once more, should this attempt fail; asked
    /// after it was marked. One that cannot (its body is a stream that is
    /// produced as it goes) is not asked again, whatever comes of it.
    fn repeats(&self, request: &Req) -> bool {
        let _ = request;
        true
    }

    /// Called once, with what the caller is about to get and how many attempts
    /// were made here, one that found the service out of order included. `Out` is a `Result`.
    fn count(&self, outcome: &mut Out, attempts: u32) {
        let _ = (outcome, attempts);
    }
}

impl<F, Req, Out> Mark<Req, Out> for F
where
    F: Fn(&mut Req, u32),
{
    fn mark(&self, request: &mut Req, attempt: u32) {
        self(request, attempt);
    }
}

/// Nothing is marked and nobody is told.
///
/// What a [`RetryLayer`](super::RetryLayer) begins with.
#[derive(Clone, Copy, Debug, Default)]
pub struct Unmarked;

impl<Req, Out> Mark<Req, Out> for Unmarked {
    fn mark(&self, _: &mut Req, _: u32) {}
}

/// How many attempts a call took, for an answer's extensions.
///
/// A [`Mark`] puts it there.
///
/// # Examples
///
/// ```
/// use http::Response;
/// use std::convert::Infallible;
/// use tollhouse::{Attempts, Backoff, Decision, Mark, RetryLayer};
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// #[derive(Clone)]
/// struct Count;
///
/// impl<Req, B, E> Mark<Req, Result<Response<B>, E>> for Count {
///     fn mark(&self, _: &mut Req, _: u32) {}
///
///     fn count(&self, outcome: &mut Result<Response<B>, E>, attempts: u32) {
///         if let Ok(answer) = outcome {
///             answer.extensions_mut().insert(Attempts(attempts));
///         }
///     }
/// }
///
/// let never = |_: Result<&Response<()>, &Infallible>| Decision::GiveUp;
/// let client = RetryLayer::new(Backoff::default(), never)
///     .mark(Count)
///     .layer(service_fn(async |_: ()| {
///         Ok::<_, Infallible>(Response::new(()))
///     }));
/// let answer = client.oneshot(()).await?;
/// assert_eq!(answer.extensions().get(), Some(&Attempts(1)));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempts(pub u32);
