use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::plan::Plan;
use super::terms::{Closing, InForce, Terms};
use super::{Backoff, Mark, ResponseFuture, RetryBudget, Unmarked};
use crate::answer::Classify;
use crate::telemetry::Names;

/// Asks again where that can help.
///
/// Works with any request that can be cloned, any service that can, and any
/// error; what is worth another attempt is `classify`'s to say. When attempts,
/// time or the retry budget run out, the caller gets the last result as it is.
/// What is asked again never reached the caller: an answer was dropped unread,
/// and one that was handed on is not asked for again, whatever becomes of its
/// body.
///
/// # Ordering
///
/// Put it outside the gates. Inside a [`ConcurrencyLayer`](crate::ConcurrencyLayer),
/// a call that waits for its next attempt would hold its slot meanwhile.
///
/// # Cloning
///
/// A call's attempts are its own. Clones, and all services made from them,
/// share the [retry budget](Self::budget), if there is one, and the terms that
/// [`set_backoff`](Self::set_backoff) and [`set_budget`](Self::set_budget) change.
/// **One that is given a [`name`](Self::name) or a [`budget`](Self::budget) goes by terms of
/// its own from then on**, and is not closed with the others; one with another
/// [`mark`](Self::mark) goes by theirs.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
/// use tokio::time::Instant;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// let classify = |result: Result<&u16, &std::io::Error>| match result {
///     Ok(429) => Decision::Retry {
///         after: Some(Duration::from_secs(7)),
///         scope: Scope::Tokens,
///     },
///     _ => Decision::GiveUp,
/// };
/// let start = Instant::now();
/// let busy_at_first = service_fn(move |_: ()| async move {
///     Ok(if start.elapsed() < Duration::from_secs(10) { 429 } else { 200 })
/// });
/// let patient = RetryLayer::new(Backoff::default(), classify).layer(busy_at_first);
///
/// assert_eq!(patient.oneshot(()).await.unwrap(), 200);
/// assert_eq!(start.elapsed(), Duration::from_secs(14));
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct RetryLayer<C, M = Unmarked> {
    terms: Arc<InForce>,
    classify: C,
    mark: M,
}

impl<C> RetryLayer<C> {
    /// Asks again what `classify` says, as `backoff` allows; any
    /// `Fn(Result<&Res, &Err>) -> Decision` is a [`Classify`].
    ///
    /// There is no limit on the retries of all calls together unless a
    /// [`budget`](Self::budget) is given.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::cell::Cell;
    /// use std::io;
    /// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let classify = |result: Result<&u32, &io::Error>| match result {
    ///     Ok(_) => Decision::GiveUp,
    ///     Err(_) => Decision::Retry {
    ///         after: None,
    ///         scope: Scope::Overload,
    ///     },
    /// };
    /// let count = Cell::new(0);
    /// let breaks_once = service_fn(|_: ()| {
    ///     count.set(count.get() + 1);
    ///     let first = count.get() == 1;
    ///     async move {
    ///         if first {
    ///             Err(io::ErrorKind::ConnectionReset.into())
    ///         } else {
    ///             Ok(7)
    ///         }
    ///     }
    /// });
    /// let client = RetryLayer::new(Backoff::default(), classify).layer(breaks_once);
    /// assert_eq!(client.oneshot(()).await?, 7);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(backoff: Backoff, classify: C) -> Self {
        let terms = Terms {
            backoff,
            budget: None,
            name: None,
            closing: Closing::default(),
        };
        RetryLayer {
            terms: Arc::new(InForce::new(terms)),
            classify,
            mark: Unmarked,
        }
    }
}

impl<C, M> RetryLayer<C, M> {
    /// Changes how often and after how long is asked again, for all clones and the
    /// services made from them: calls that begin from now on go by it, those under way
    /// by what was said when they began.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let down = |_: Result<&u16, &Infallible>| Decision::Retry {
    ///     after: None,
    ///     scope: Scope::Overload,
    /// };
    /// let asked = std::cell::Cell::new(0);
    /// let retry = RetryLayer::new(Backoff::default(), down);
    /// let client = retry.layer(service_fn(|_: ()| {
    ///     asked.set(asked.get() + 1);
    ///     async { Ok::<_, Infallible>(503) }
    /// }));
    /// retry.set_backoff(Backoff::default().max_attempts(2));
    /// client.oneshot(()).await?;
    /// assert_eq!(asked.get(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_backoff(&self, backoff: Backoff) {
        self.terms.change(|terms| terms.backoff = backoff);
    }

    /// Limits the retries of all calls together by another budget, or by none, in the same
    /// way.
    pub fn set_budget(&self, budget: Option<RetryBudget>) {
        self.terms.change(|terms| terms.budget = budget);
    }

    /// Begins a shutdown, for all clones and the services made from them: nobody waits for
    /// a next attempt any more. Whoever waits for one makes it at once, as its last; whoever
    /// would begin to gets what its attempt came to. Close the gates behind it first, and the
    /// last attempts are turned away.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::convert::Infallible;
    /// use tokio::time::{Duration, Instant, sleep};
    /// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let busy = |_: Result<&u16, &Infallible>| Decision::Retry {
    ///     after: Some(Duration::from_secs(60)),
    ///     scope: Scope::Tokens,
    /// };
    /// let retry = RetryLayer::new(Backoff::default(), busy);
    /// let client = retry.layer(service_fn(async |_: ()| Ok::<_, Infallible>(429)));
    ///
    /// let start = Instant::now();
    /// let ending = async {
    ///     sleep(Duration::from_secs(5)).await;
    ///     retry.close();
    /// };
    /// let (answer, ()) = tokio::join!(client.oneshot(()), ending);
    /// assert_eq!((answer?, start.elapsed().as_secs()), (429, 5));
    /// # Ok(())
    /// # }
    /// ```
    pub fn close(&self) {
        self.terms.now().closing.close();
    }

    /// Goes by terms of its own from now on: clones that were made before keep theirs.
    fn apart(&mut self, change: impl FnOnce(&mut Terms)) {
        let terms = InForce::clone(&self.terms);
        terms.change(|terms| terms.closing = Closing::default());
        terms.change(change);
        self.terms = Arc::new(terms);
    }

    /// Limits the retries of all calls together; see [`RetryBudget`].
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
    /// let budget = RetryBudget::new(0.0, 1);
    /// let client = RetryLayer::new(Backoff::default(), down)
    ///     .budget(budget.clone())
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(503)));
    ///
    /// // One retry for all calls together: the rest fail at once.
    /// for _ in 0..10 {
    ///     assert_eq!(client.clone().oneshot(()).await?, 503);
    /// }
    /// assert_eq!(budget.left(), 0);
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn budget(mut self, budget: RetryBudget) -> Self {
        self.apart(|terms| terms.budget = Some(budget));
        self
    }

    /// Names the policy that asks again, as metrics tell it.
    ///
    /// # Examples
    ///
    /// With the feature `metrics`, and a recorder such as Prometheus's:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # #[cfg(feature = "metrics")] {
    /// use metrics_exporter_prometheus::PrometheusBuilder;
    /// use std::convert::Infallible;
    /// use tollhouse::{Backoff, Decision, RetryLayer, Scope};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// let recorder = PrometheusBuilder::new().build_recorder();
    /// let _guard = metrics::set_default_local_recorder(&recorder);
    ///
    /// let down = |_: Result<&u16, &Infallible>| Decision::Retry {
    ///     after: None,
    ///     scope: Scope::Overload,
    /// };
    /// let client = RetryLayer::new(Backoff::default().max_attempts(3), down)
    ///     .name("batch")
    ///     .layer(service_fn(async |_: ()| Ok::<_, Infallible>(503)));
    /// client.oneshot(()).await?;
    /// let told = recorder.handle().render();
    /// assert!(told.contains(r#"tollhouse_retries_total{policy="batch",scope="overload"} 2"#));
    /// # }
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn name(mut self, policy: &str) -> Self {
        self.apart(|terms| terms.name = Some(Names::policy(policy)));
        self
    }

    /// Writes on each attempt's request which one it is, and tells the caller
    /// how many there were; any `Fn(&mut Req, u32)` is a [`Mark`].
    ///
    /// # Examples
    ///
    /// A header that tells the provider which attempt it is:
    ///
    /// ```
    /// use http::Request;
    /// use std::convert::Infallible;
    /// use tollhouse::{Backoff, Decision, RetryLayer};
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let never = |_: Result<&String, &Infallible>| Decision::GiveUp;
    /// let client = RetryLayer::new(Backoff::default(), never)
    ///     .mark(|request: &mut Request<()>, attempt: u32| {
    ///         request.headers_mut().insert("x-attempt", attempt.into());
    ///     })
    ///     .layer(service_fn(async |request: Request<()>| {
    ///         Ok::<_, Infallible>(format!("{:?}", request.headers()["x-attempt"]))
    ///     }));
    /// assert_eq!(client.oneshot(Request::new(())).await?, "\"1\"");
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn mark<N>(self, mark: N) -> RetryLayer<C, N> {
        RetryLayer {
            terms: self.terms,
            classify: self.classify,
            mark,
        }
    }
}

impl<S, C: Clone, M: Clone> Layer<S> for RetryLayer<C, M> {
    type Service = Retry<S, C, M>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service that asks again; made by [`RetryLayer`].
///
/// # Examples
///
/// ```
/// use std::convert::Infallible;
/// use tollhouse::{Backoff, Decision, RetryLayer};
/// use tower::{Layer, Service, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let never = |_: Result<&u64, &Infallible>| Decision::GiveUp;
/// let provider = service_fn(async |n: u64| Ok::<_, Infallible>(n + 1));
/// let mut client = RetryLayer::new(Backoff::default(), never).layer(provider);
/// assert_eq!(client.ready().await?.call(1).await?, 2);
/// // Asked once, whatever comes of it.
/// assert_eq!(client.into_inner().oneshot(2).await?, 3);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Retry<S, C, M = Unmarked> {
    inner: S,
    layer: RetryLayer<C, M>,
}

impl<S, C, M> Retry<S, C, M> {
    inner_accessors!();
}

impl<S, C, M, Req> Service<Req> for Retry<S, C, M>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    M: Mark<Req, Result<S::Response, S::Error>> + Clone,
    Req: Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, Req, M>;

    /// Always ready: each attempt readies the inner service anew.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let RetryLayer {
            terms,
            classify,
            mark,
        } = &self.layer;
        let plan = Plan::new(terms.now(), mark.spent(&request), mark.deadline(&request));
        ResponseFuture::new(
            self.inner.clone(),
            classify.clone(),
            mark.clone(),
            plan,
            request,
        )
    }
}
