//! The future of a gated call.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::Hold;
use crate::answer::End;
use crate::error::{BoxError, Error};
use crate::gate::{Launch, Now, Pass, PassFor};

pin_project! {
    /// The future of [`Gated`](super::Gated): waits for admission, then for the
    /// inner service, then for its answer.
    ///
    /// # Cancellation
    ///
    /// Dropped before the launch, it gives everything back; dropped after it,
    /// the charge stands and the slot is free. It stands, too, where the inner
    /// service panics over the call, for the request may have left by then; and
    /// all is given back where its error says [`NeverSent`].
    ///
    /// [`NeverSent`]: crate::error::NeverSent
    pub struct ResponseFuture<S, Req, P, H>
    where
        S: Service<Req>,
    {
        // Above the pass, so that a dropped call is gone before its slot is
        // free.
        #[pin]
        state: State<S, Req, S::Future>,
        pass: Option<P>,
        launch: Launch,
        hold: PhantomData<fn() -> H>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, Req, F> {
        // ===> Called, once admitted and the service is ready
        Waiting { service: S, request: Option<Req> },
        // ===> done
        Called { #[pin] future: F },
    }
}

impl<S, Req, P, H> ResponseFuture<S, Req, P, H>
where
    S: Service<Req>,
{
    pub(super) fn new(service: S, request: Req, pass: P, launch: Launch) -> Self {
        ResponseFuture {
            state: State::Waiting {
                service,
                request: Some(request),
            },
            pass: Some(pass),
            launch,
            hold: PhantomData,
        }
    }
}

impl<S, Req, P, H> Future for ResponseFuture<S, Req, P, H>
where
    S: Service<Req>,
    S::Error: Into<BoxError>,
    P: PassFor<S::Response>,
    H: Hold<S::Response, P>,
{
    type Output = Result<H::Held, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut now = Now::unread();
        let mut launched = true;
        let result = match this.state.as_mut().project() {
            StateProj::Waiting { service, request } => {
                let pass = this.pass.as_mut().expect(POLLED_AFTER_READY);
                let ready = match ready!(pass.poll_admitted(cx, &mut now)) {
                    Ok(()) => match service.poll_ready(cx) {
                        Poll::Ready(ready) => ready.map_err(Error::never_sent),
                        Poll::Pending => {
                            // It is not handed on at once: it was let in by now.
                            now.get();
                            match pass.poll_admitted(cx, &mut now) {
                                Poll::Ready(Err(refused)) => Err(refused.into()),
                                Poll::Ready(Ok(())) | Poll::Pending => return Poll::Pending,
                            }
                        }
                    },
                    Err(refused) => Err(refused.into()),
                };
                if let Err(error) = ready {
                    // The future may live on; what it holds must not.
                    *this.pass = None;
                    return Poll::Ready(Err(error));
                }
                let request = request.take().expect(POLLED_AFTER_READY);
                let launching = Launching(Some((pass, *this.launch)));
                let future = service.call(request);
                this.state.set(State::Called { future });
                let result = this.state.as_mut().poll_called(cx);
                // Who sends may have taken his time over it: what counts from
                // the launch must not count from before it.
                now = Now::unread();
                // An answer that is here already says by itself that its request
                // was launched, and an error may say that it was not.
                let result = ready!(result);
                launching.leave_it();
                launched = false;
                result
            }
            StateProj::Called { future } => ready!(future.poll(cx)),
        };
        Poll::Ready(match result {
            Ok(response) => {
                let reading = Reading {
                    pass: this.pass,
                    launch: (!launched).then_some(*this.launch),
                };
                Ok(H::hold(response, reading.pass, &mut now))
            }
            Err(error) => {
                let mut pass = this.pass.take().expect(POLLED_AFTER_READY);
                let error = Error::inner(error);
                if error.is_never_sent() {
                    pass.ended(End::NeverSent, &mut now);
                } else if !launched {
                    pass.launched(*this.launch, &mut now);
                }
                Err(error)
            }
        })
    }
}

impl<S, Req, F: Future> State<S, Req, F> {
    fn poll_called(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        match self.project() {
            StateProj::Called { future } => future.poll(cx),
            StateProj::Waiting { .. } => unreachable!("it was called just now"),
        }
    }
}

/// Says that the request was launched, once it has been handed on: also when
/// the service panics over it, for it may have left by then.
struct Launching<'p, P: Pass>(Option<(&'p mut P, Launch)>);

impl<P: Pass> Launching<'_, P> {
    /// Leaves it to somebody who knows more.
    fn leave_it(mut self) {
        self.0 = None;
    }
}

impl<P: Pass> Drop for Launching<'_, P> {
    fn drop(&mut self) {
        if let Some((pass, to)) = self.0.take() {
            pass.launched(to, &mut Now::unread());
        }
    }
}

/// Lets go of a pass that is left behind because whoever reads the answer panicked: the
/// future may live on. The answer has said that its request was launched.
struct Reading<'p, P: Pass> {
    pass: &'p mut Option<P>,
    /// How, unless that was said before.
    launch: Option<Launch>,
}

impl<P: Pass> Drop for Reading<'_, P> {
    #[inline]
    fn drop(&mut self) {
        let Some(pass) = self.pass else {
            return;
        };
        if let Some(to) = self.launch {
            pass.launched(to, &mut Now::unread());
        }
        *self.pass = None;
    }
}

pub(super) const POLLED_AFTER_READY: &str = "a future is not polled after it was ready";

impl<S, Req, P, H> fmt::Debug for ResponseFuture<S, Req, P, H>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::Waiting { .. } => "waiting",
            State::Called { .. } => "called",
        };
        f.debug_struct("ResponseFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
