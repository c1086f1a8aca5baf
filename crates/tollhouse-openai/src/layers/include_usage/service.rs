use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::WithoutUsage;
use crate::call::{self, CallBody};
use crate::wire::sse::is_event_stream;
use crate::wire::usage::is_compressed;

/// Asks for the usage of chat streams that have not asked, and hides it from
/// their callers. See the [module](super) for how.
///
/// # Ordering
///
/// Outside of whatever reads the usage, and of retries: their attempts are
/// then all the same.
///
/// # Cloning
///
/// It has no state of its own; a clone shares what the inner service's shares.
#[derive(Clone, Copy, Debug)]
pub struct IncludeUsage<S> {
    inner: S,
    asks: bool,
}

impl<S> IncludeUsage<S> {
    /// Wraps a service.
    pub fn new(inner: S) -> Self {
        IncludeUsage { inner, asks: true }
    }

    /// Whether it asks from the next call on; else it changes nothing.
    #[inline]
    pub(crate) fn set_asks(&mut self, asks: bool) {
        self.asks = asks;
    }

    inner_accessors!();
}

impl<S, Q, B> Service<Request<Q>> for IncludeUsage<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    Q: CallBody,
    B: Body<Data = Bytes>,
{
    type Response = Response<WithoutUsage<B>>;
    type Error = S::Error;
    type Future = IncludeUsageFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let asked = self.asks && call::ask_for_usage(&mut request);
        let future = self.inner.call(request);
        IncludeUsageFuture { future, asked }
    }
}

pin_project! {
    /// The future of [`IncludeUsage`].
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the inner future.
    pub struct IncludeUsageFuture<F> {
        #[pin]
        future: F,
        asked: bool,
    }
}

impl<F, B, E> Future for IncludeUsageFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body,
{
    type Output = Result<Response<WithoutUsage<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let mut response = ready!(this.future.poll(cx))?;
        let hides = *this.asked && is_readable_stream(&response);
        if hides {
            response.headers_mut().remove(CONTENT_LENGTH);
        }
        Poll::Ready(Ok(response.map(|body| WithoutUsage::new(body, hides))))
    }
}

fn is_readable_stream<B>(response: &Response<B>) -> bool {
    let headers = response.headers();
    response.status().is_success()
        && headers.get(CONTENT_TYPE).is_some_and(is_event_stream)
        && !is_compressed(headers)
}

impl<F> fmt::Debug for IncludeUsageFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IncludeUsageFuture")
            .field("asked", &self.asked)
            .finish_non_exhaustive()
    }
}
