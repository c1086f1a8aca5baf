use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use pin_project_lite::pin_project;
use tokio::sync::futures::OwnedNotified;
use tokio::time::{Sleep, sleep_until};
use tower_service::Service;

use super::plan::{Next, Plan};
use super::{Mark, Unmarked};
use crate::answer::Classify;

pin_project! {
    /// The future of a [`Retry`](super::Retry): a call that may take several
    /// attempts.
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the attempt under way, or makes no further one.
    pub struct ResponseFuture<S, C, Req, M = Unmarked>
    where
        S: Service<Req>,
    {
        service: S,
        classify: C,
        mark: M,
        plan: Plan,
        // For the next attempt, if there may be one.
        request: Option<Req>,
        #[pin]
        state: State<S::Future>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<F> {
        // ===> Called, or done where the service is broken
        Readying,
        // ===> Sleeping, or done
        Called { #[pin] future: F },
        // ===> Readying
        Sleeping { #[pin] timer: Sleep, #[pin] closed: OwnedNotified },
    }
}

impl<S, C, Req, M> ResponseFuture<S, C, Req, M>
where
    S: Service<Req>,
{
    pub(super) fn new(service: S, classify: C, mark: M, plan: Plan, request: Req) -> Self {
        ResponseFuture {
            service,
            classify,
            mark,
            plan,
            request: Some(request),
            state: State::Readying,
        }
    }
}

impl<S, C, Req, M> Future for ResponseFuture<S, C, Req, M>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    M: Mark<Req, Result<S::Response, S::Error>>,
    Req: Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let mut outcome = loop {
            match this.state.as_mut().project() {
                StateProj::Readying => {
                    if let Err(error) = ready!(this.service.poll_ready(cx)) {
                        // It was an attempt, and what went before it may have left.
                        this.plan.begin(false);
                        break Err(error);
                    }
                    let mut request = this.request.take().expect("polled after it was ready");
                    if let Some(first) = this.plan.begin(M::TELLS_ARRIVAL) {
                        this.mark.came(&mut request, first);
                    }
                    this.mark.mark(&mut request, this.plan.attempt());
                    if !this.mark.repeats(&request) {
                        this.plan.end();
                    }
                    *this.request = (!this.plan.is_last()).then(|| request.clone());
                    let future = this.service.call(request);
                    this.state.set(State::Called { future });
                }
                StateProj::Called { future } => {
                    let result = ready!(future.poll(cx));
                    let decision = this.classify.classify(result.as_ref());
                    let Some(Next { at, closed }) = this.plan.next(decision, result.is_ok()) else {
                        if let Some(request) = this.request.as_ref().filter(|_| this.plan.is_left())
                        {
                            this.mark.leave(request);
                        }
                        break result;
                    };
                    // Whatever the answer holds must not be held while we wait.
                    drop(result);
                    let timer = sleep_until(at);
                    this.state.set(State::Sleeping { timer, closed });
                }
                StateProj::Sleeping { timer, closed } => {
                    match closed.poll(cx) {
                        Poll::Ready(()) => this.plan.end(),
                        Poll::Pending => ready!(timer.poll(cx)),
                    }
                    this.state.set(State::Readying);
                }
            }
        };
        this.mark.count(&mut outcome, this.plan.made());
        Poll::Ready(outcome)
    }
}

impl<S, C, Req, M> fmt::Debug for ResponseFuture<S, C, Req, M>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
