//! The future of a gated call.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tower_service::Service;

use super::Hold;
use crate::error::{BoxError, Error};
use crate::gate::{Launch, Now, PassFor};

pin_project! {
    /// The future of [`Gated`](super::Gated): waits for admission, then for the
    /// inner service, then for its answer.
    ///
    /// # Cancellation
    ///
    /// Dropped before the launch, it gives everything back; dropped after it,
    /// the charge stands and the slot is free.
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
        let mut launches = false;
        loop {
            match this.state.as_mut().project() {
                StateProj::Waiting { service, request } => {
                    let pass = this.pass.as_mut().expect(POLLED_AFTER_READY);
                    let ready = match ready!(pass.poll_admitted(cx, &mut now)) {
                        Ok(()) => ready!(service.poll_ready(cx)).map_err(Error::inner),
                        Err(refused) => Err(refused.into()),
                    };
                    if let Err(error) = ready {
                        // The future may live on; what it holds must not.
                        *this.pass = None;
                        return Poll::Ready(Err(error));
                    }
                    let request = request.take().expect(POLLED_AFTER_READY);
                    let future = service.call(request);
                    this.state.set(State::Called { future });
                    launches = true;
                }
                StateProj::Called { future } => {
                    let result = future.poll(cx);
                    // All this happens at one instant. An answer that is here
                    // already says by itself that its request was launched.
                    if launches && !matches!(result, Poll::Ready(Ok(_))) {
                        let pass = this.pass.as_mut().expect(POLLED_AFTER_READY);
                        pass.launched(*this.launch, &mut now);
                    }
                    let result = ready!(result);
                    let pass = this.pass.take().expect(POLLED_AFTER_READY);
                    let response = result.map_err(Error::inner)?;
                    return Poll::Ready(Ok(H::hold(response, pass, &mut now)));
                }
            }
        }
    }
}

const POLLED_AFTER_READY: &str = "a future is not polled after it was ready";

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
