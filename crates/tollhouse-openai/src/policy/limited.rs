//! A client behind a policy: what it is made of is nobody's business.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::{Body, Frame, SizeHint};
use pin_project_lite::pin_project;
use tollhouse::gated::body::HeldBody;
use tollhouse::retry::{self, Retry};
use tollhouse::{BoxError, Error, Gated};
use tower_service::Service;

use super::AnswerReader;
use super::attempts::PolicyMark;
use super::budget::{CallPass, PoolGate};
use super::draft::{Draft, Drafting, Sending};
use crate::call::{Call, CallBody};
use crate::layers::include_usage::{IncludeUsage, IncludeUsageFuture, WithoutUsage};
use crate::layers::verdict::{VerdictBody, WithVerdict};

pub(super) type Gate<S> = Gated<Sending<WithVerdict<S>>, PoolGate>;

pub(super) type Stack<S> = IncludeUsage<Drafting<Retry<Gate<S>, AnswerReader, PolicyMark>>>;

type StackFuture<S, Q> =
    IncludeUsageFuture<retry::ResponseFuture<Gate<S>, AnswerReader, Draft<Q>, PolicyMark>>;

type StackBody<B> = WithoutUsage<HeldBody<VerdictBody<B>, CallPass>>;

/// Whether calls ask for their usage, as it is said now.
///
/// # Cloning
///
/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct AsksForUsage(Arc<AtomicBool>);

impl AsksForUsage {
    #[inline]
    fn get(&self) -> bool {
        self.0.load(Relaxed)
    }

    pub(super) fn set(&self, asks: bool) {
        self.0.store(asks, Relaxed);
    }
}

/// A client behind a policy or an account; made by [`PolicyLayer`](super::PolicyLayer).
///
/// Takes requests of [`Bytes`], or of a [`RequestBody`](crate::RequestBody)
/// where the client does.
///
/// # Cloning
///
/// Clones share the policy's state and what the client's clones share.
#[derive(Clone)]
pub struct Limited<S> {
    stack: Stack<S>,
    asks_for_usage: AsksForUsage,
}

impl<S> Limited<S> {
    pub(super) fn new(stack: Stack<S>, asks_for_usage: AsksForUsage) -> Self {
        Limited {
            stack,
            asks_for_usage,
        }
    }

    /// The client.
    pub fn get_ref(&self) -> &S {
        let retry = &self.stack.get_ref().inner;
        retry.get_ref().get_ref().inner.get_ref()
    }

    /// The client.
    pub fn get_mut(&mut self) -> &mut S {
        let retry = &mut self.stack.get_mut().inner;
        retry.get_mut().get_mut().inner.get_mut()
    }

    /// The client, and no limits any more.
    pub fn into_inner(self) -> S {
        let retry = self.stack.into_inner().inner;
        retry.into_inner().into_inner().inner.into_inner()
    }
}

impl<S, Q, B> Service<Request<Q>> for Limited<S>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    Q: CallBody + Clone,
    B: Body<Data = Bytes>,
{
    type Response = Response<LimitedBody<B>>;
    type Error = Error;
    type Future = LimitedFuture<S, Q, B>;

    /// Always ready: a call waits in its future.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<Request<Q>>::poll_ready(&mut self.stack, cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        // For everyone behind, and for all attempts.
        Call::attach(&mut request);
        self.stack.set_asks(self.asks_for_usage.get());
        LimitedFuture {
            future: self.stack.call(request),
        }
    }
}

impl<S: fmt::Debug> fmt::Debug for Limited<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Limited").field(self.get_ref()).finish()
    }
}

// ===== impl LimitedFuture =====

pin_project! {
    /// The future of a [`Limited`] client's call.
    ///
    /// # Cancellation
    ///
    /// Dropping it gives back what the call held; once it was launched, its
    /// charge stands.
    pub struct LimitedFuture<S, Q, B>
    where
        S: Service<Request<Q>, Response = Response<B>>,
        S: Clone,
        S::Error: Into<BoxError>,
        B: Body<Data = Bytes>,
        Q: CallBody,
        Q: Clone,
    {
        #[pin]
        future: StackFuture<S, Q>,
    }
}

impl<S, Q, B> Future for LimitedFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    Q: CallBody + Clone,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<LimitedBody<B>>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = self.project().future.poll(cx);
        polled.map_ok(|answer| answer.map(|body| LimitedBody { body }))
    }
}

impl<S, Q, B> fmt::Debug for LimitedFuture<S, Q, B>
where
    S: Service<Request<Q>, Response = Response<B>> + Clone,
    S::Error: Into<BoxError>,
    B: Body<Data = Bytes>,
    Q: CallBody + Clone,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedFuture").finish_non_exhaustive()
    }
}

// ===== impl LimitedBody =====

pin_project! {
    /// The body of an answer that came through a policy, the call's pass inside:
    /// the slot is held until its last byte, and the usage it tells is settled.
    ///
    /// # Cancellation
    ///
    /// Dropping it ends the call as cut off.
    pub struct LimitedBody<B>
    where
        B: Body<Data = Bytes>,
    {
        #[pin]
        body: StackBody<B>,
    }
}

impl<B: Body<Data = Bytes>> Body for LimitedBody<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        self.project().body.poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl<B: Body<Data = Bytes>> fmt::Debug for LimitedBody<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LimitedBody").finish_non_exhaustive()
    }
}
