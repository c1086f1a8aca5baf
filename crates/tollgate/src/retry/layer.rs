use std::sync::Arc;
use std::task::{Context, Poll};

use tower_layer::Layer;
use tower_service::Service;

use super::{Backoff, ResponseFuture};
use crate::answer::Classify;

/// Asks again where that can help.
///
/// Works with any request that can be cloned, any service that can, and any
/// error; what is worth another attempt is `classify`'s to say. When attempts
/// or time run out, the caller gets the last result as it is.
///
/// # Ordering
///
/// Put it outside the gates. Inside a [`ConcurrencyLayer`](crate::ConcurrencyLayer),
/// a call that waits for its next attempt would hold its slot meanwhile.
///
/// # Cloning
///
/// A call's attempts are its own; clones share nothing that changes.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollgate::{Backoff, Decision, RetryLayer, Scope};
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
pub struct RetryLayer<C> {
    backoff: Arc<Backoff>,
    classify: C,
}

impl<C> RetryLayer<C> {
    /// Asks again what `classify` says, as `backoff` allows; any
    /// `Fn(Result<&Res, &Err>) -> Decision` is a [`Classify`].
    pub fn new(backoff: Backoff, classify: C) -> Self {
        RetryLayer {
            backoff: Arc::new(backoff),
            classify,
        }
    }
}

impl<S, C: Clone> Layer<S> for RetryLayer<C> {
    type Service = Retry<S, C>;

    fn layer(&self, inner: S) -> Self::Service {
        Retry {
            inner,
            layer: self.clone(),
        }
    }
}

/// A service that asks again; made by [`RetryLayer`].
#[derive(Clone, Debug)]
pub struct Retry<S, C> {
    inner: S,
    layer: RetryLayer<C>,
}

impl<S, C> Retry<S, C> {
    /// The service that is asked.
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The service that is asked.
    pub fn get_mut(&mut self) -> &mut S {
        &mut self.inner
    }

    /// The service that is asked, and no retries any more.
    pub fn into_inner(self) -> S {
        self.inner
    }
}

impl<S, C, Req> Service<Req> for Retry<S, C>
where
    S: Service<Req> + Clone,
    C: Classify<S::Response, S::Error> + Clone,
    Req: Clone,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = ResponseFuture<S, C, Req>;

    /// Always ready: each attempt readies the inner service anew.
    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Req) -> Self::Future {
        let RetryLayer { backoff, classify } = self.layer.clone();
        ResponseFuture::new(self.inner.clone(), classify, backoff, request)
    }
}
