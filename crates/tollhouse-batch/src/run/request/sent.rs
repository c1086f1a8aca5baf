//! Tells the runner when a request really leaves.
//!
//! A request handed to the service may wait there for a long time: for a slot,
//! for tokens, for its turn, for the end of a backoff. Whoever stops a run does
//! not want to wait for that. So a [`SentLayer`] stands where the waiting is
//! over, around the transport, and every request passes it with the [`Tracker`] it
//! carries in its extensions: while an attempt is under way its answer is paid for
//! and is waited for; before it, and after one that failed, the request can be
//! called back.

use std::fmt;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;

use super::tracker::{Attempt, Tracker};

/// Marks the place in a stack where requests leave, for
/// [`Batch::withdraw_unsent`](crate::Batch::withdraw_unsent) and
/// [`Event::Sent`](crate::Event::Sent).
///
/// # Ordering
///
/// Innermost, directly around the transport:
///
/// ```text
/// gates and retry      where requests wait
///   SentLayer          from here on an answer is waited for, to its last byte
///     transport
/// ```
///
/// Requests of other callers pass untouched. A service that moves requests to
/// tasks of its own must give them up with their caller: one that was called back
/// is never answered.
///
/// # Examples
///
/// Each attempt of a retry is counted:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::{Batch, SentLayer};
/// use tower::{Layer, ServiceExt};
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let transport = SentLayer.layer(service);
/// // Stands for a retry: it sends everything twice.
/// let twice = tower::service_fn(move |request: http::Request<bytes::Bytes>| {
///     let transport = transport.clone();
///     async move {
///         transport.clone().oneshot(request.clone()).await?;
///         transport.oneshot(request).await
///     }
/// });
/// let input = r#"{"model":"gpt-4o","messages":[]}"#;
/// let mut output = Vec::new();
/// let run = Batch::new(twice).run(input.as_bytes(), &mut output, Vec::new());
/// assert_eq!(run.await?.ok, 1);
/// let record: serde_json::Value = serde_json::from_slice(&output)?;
/// assert_eq!(record["tollhouse"]["attempts"], 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SentLayer;

/// The service of a [`SentLayer`].
///
/// # Examples
///
/// A request that is in no batch passes as if the layer were not there:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use bytes::Bytes;
/// # use http::Request;
/// use tollhouse_batch::{Sent, SentLayer};
/// use tower::{Layer, ServiceExt};
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let transport: Sent<_> = SentLayer.layer(service);
/// let response = transport.oneshot(Request::new(Bytes::new())).await?;
/// assert_eq!(response.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sent<S> {
    inner: S,
}

pin_project! {
    /// The future of a [`Sent`], which its [`call`](Service::call) returns.
    #[derive(Debug)]
    pub struct SentFuture<F> {
        // `None` where the request was called back: its caller is gone, and
        // this future is about to be dropped.
        #[pin]
        inner: Option<F>,
        attempt: Option<Attempt>,
    }
}

pin_project! {
    /// The body of an answer that came through a [`Sent`]. An attempt whose answer
    /// was a failure is over when this is dropped.
    #[derive(Debug)]
    pub struct SentBody<B> {
        #[pin]
        inner: B,
        attempt: Option<Attempt>,
    }
}

impl<S> Layer<S> for SentLayer {
    type Service = Sent<S>;

    fn layer(&self, inner: S) -> Sent<S> {
        Sent { inner }
    }
}

impl<S, B, C> Service<http::Request<B>> for Sent<S>
where
    S: Service<http::Request<B>, Response = Response<C>>,
    S::Error: fmt::Display,
{
    type Response = Response<SentBody<C>>;
    type Error = S::Error;
    type Future = SentFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> SentFuture<S::Future> {
        let tracker = request.extensions().get::<Tracker>();
        let (attempt, leaves) = match tracker.map(Tracker::send) {
            None => (None, true),
            Some(attempt) => {
                let leaves = attempt.is_some();
                (attempt, leaves)
            }
        };
        SentFuture {
            inner: leaves.then(|| self.inner.call(request)),
            attempt,
        }
    }
}

impl<F, B, E> Future for SentFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    E: fmt::Display,
{
    type Output = Result<Response<SentBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let Some(inner) = this.inner.as_pin_mut() else {
            return Poll::Pending;
        };
        let result = ready!(inner.poll(cx));
        let mut attempt = this.attempt.take();
        if let Some(attempt) = &mut attempt {
            match &result {
                Ok(response) => attempt.answered(response.status()),
                Err(error) => attempt.failed(error),
            }
        }
        Poll::Ready(result.map(|response| response.map(|inner| SentBody { inner, attempt })))
    }
}

impl<B: Body> Body for SentBody<B> {
    type Data = B::Data;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<B::Data>, B::Error>>> {
        self.project().inner.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
