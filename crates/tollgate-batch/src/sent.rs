//! Tells the runner when a request really leaves.
//!
//! A request handed to the service may wait there for a long time: for a slot,
//! for tokens, for its turn. Whoever stops a run does not want to wait for
//! that. So a [`SentLayer`] stands where the waiting is over, around the
//! transport, and every request passes it with the [`Ticket`] it carries in its
//! extensions: from then on the answer will be paid for and is waited for;
//! until then the request can be called back.

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};

use pin_project_lite::pin_project;
use tokio::time::{Duration, Instant};
use tower_layer::Layer;
use tower_service::Service;

use crate::event::{Event, Observer, Request};

const WAITING: u8 = 0;
const SENT: u8 = 1;
const WITHDRAWN: u8 = 2;

/// Marks the place in a stack where requests leave, for
/// [`Batch::withdraw_unsent`](crate::Batch::withdraw_unsent) and
/// [`Event::Sent`].
///
/// # Ordering
///
/// Innermost, directly around the transport:
///
/// ```text
/// gates and retry      where requests wait
///   SentLayer          from here on an answer is waited for
///     transport
/// ```
///
/// Requests of other callers pass untouched.
///
/// # Examples
///
/// Each attempt of a retry is counted:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollgate_batch::{Batch, SentLayer};
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
/// assert_eq!(record["tollgate"]["attempts"], 2);
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
/// use tollgate_batch::{Sent, SentLayer};
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
    }
}

/// Decides, once and for all, whether a request is sent or called back.
#[derive(Clone)]
pub(crate) struct Ticket {
    trace: Arc<Trace>,
    request: Request,
    observer: Observer,
}

/// What is known of a request's way.
#[derive(Debug)]
struct Trace {
    state: AtomicU8,
    attempts: AtomicU32,
    started: Instant,
    /// From the start to the last attempt, in nanoseconds.
    waited: AtomicU64,
}

impl<S> Layer<S> for SentLayer {
    type Service = Sent<S>;

    fn layer(&self, inner: S) -> Sent<S> {
        Sent { inner }
    }
}

impl<S, B> Service<http::Request<B>> for Sent<S>
where
    S: Service<http::Request<B>>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = SentFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: http::Request<B>) -> SentFuture<S::Future> {
        let ticket = request.extensions().get::<Ticket>();
        let leaves = ticket.is_none_or(Ticket::send);
        SentFuture {
            inner: leaves.then(|| self.inner.call(request)),
        }
    }
}

impl<F: Future> Future for SentFuture<F> {
    type Output = F::Output;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project().inner.as_pin_mut() {
            Some(inner) => inner.poll(cx),
            None => Poll::Pending,
        }
    }
}

// ===== impl Ticket =====

impl Ticket {
    pub(crate) fn new(request: Request, observer: Observer) -> Self {
        Self {
            trace: Arc::new(Trace {
                state: AtomicU8::new(WAITING),
                attempts: AtomicU32::new(0),
                started: Instant::now(),
                waited: AtomicU64::new(0),
            }),
            request,
            observer,
        }
    }

    /// How often it was sent, and how long after its start the last time was;
    /// `None` where it never was, or nobody marks the place.
    pub(crate) fn sent(&self) -> Option<(u32, Duration)> {
        let attempts = self.trace.attempts.load(Ordering::Acquire);
        let waited = Duration::from_nanos(self.trace.waited.load(Ordering::Acquire));
        (attempts > 0).then_some((attempts, waited))
    }

    /// Time since its start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.trace.started.elapsed()
    }

    /// Sends the request, for the first time or again; `false` where it was
    /// called back.
    fn send(&self) -> bool {
        if !self.decide(SENT) {
            return false;
        }
        let waited = self.trace.started.elapsed().as_nanos();
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        self.trace.waited.store(waited, Ordering::Release);
        self.trace.attempts.fetch_add(1, Ordering::AcqRel);
        (self.observer)(Event::Sent(self.request.clone()));
        true
    }

    /// Calls the request back; `false` where it was sent.
    pub(crate) fn withdraw(&self) -> bool {
        self.decide(WITHDRAWN)
    }

    fn decide(&self, wanted: u8) -> bool {
        let state = &self.trace.state;
        let decided = state.compare_exchange(WAITING, wanted, Ordering::AcqRel, Ordering::Acquire);
        decided.is_ok() || decided == Err(wanted)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("request", &self.request)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let request = Request {
            line: 1,
            custom_id: "a".into(),
        };
        Ticket::new(request, Arc::new(|_| {}))
    }

    #[test]
    fn sent_request_cannot_be_called_back() {
        let ticket = ticket();
        assert!(ticket.send());
        assert!(!ticket.clone().withdraw());
        assert!(ticket.send(), "a further attempt of the same request");
    }

    #[test]
    fn request_called_back_is_never_sent() {
        let ticket = ticket();
        assert!(ticket.clone().withdraw());
        assert!(!ticket.send());
    }
}
