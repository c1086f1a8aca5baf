use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use tower_service::Service;

use super::{VerdictBody, VerdictFuture};

/// Leaves [`Verdict`](crate::Verdict) and [`RateLimits`](crate::RateLimits) in
/// the extensions of every response of the inner service.
///
/// The body of an answer with a status of 400 or above is read first, up to
/// 1 MiB and for up to 10 seconds; what comes after that streams on unread.
/// Successful answers are handed on at once, and so are answers that carry a
/// verdict already: applied twice, this does no harm.
///
/// # Cloning
///
/// It has no state of its own; a clone shares what the inner service's shares.
///
/// # Cancellation
///
/// Dropping the future drops the inner future or the half-read body.
#[derive(Clone, Copy, Debug)]
pub struct WithVerdict<S> {
    inner: S,
}

impl<S> WithVerdict<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        WithVerdict { inner }
    }

    inner_accessors!();
}

impl<S, B, RB> Service<Request<B>> for WithVerdict<S>
where
    S: Service<Request<B>, Response = Response<RB>>,
    RB: Body<Data = Bytes>,
{
    type Response = Response<VerdictBody<RB>>;
    type Error = S::Error;
    type Future = VerdictFuture<S::Future, RB>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        VerdictFuture::new(self.inner.call(request))
    }
}
