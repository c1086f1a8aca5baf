use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep_until};
use tower_service::Service;

use super::{Backoff, Delays};
use crate::answer::{Classify, Decision, Scope};

pin_project! {
    /// The future of a call that may take several attempts.
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the attempt under way, or makes no further one.
    pub struct ResponseFuture<S, C, Req>
    where
        S: Service<Req>,
    {
        service: S,
        classify: C,
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
        // ===> Called
        Readying,
        // ===> Sleeping, or done
        Called { #[pin] future: F },
        // ===> Readying
        Sleeping { #[pin] timer: Sleep },
    }
}

/// What one call's attempts may still do.
#[derive(Debug)]
struct Plan {
    backoff: Arc<Backoff>,
    deadline: Option<Instant>,
    /// How many attempts were begun.
    attempts: u32,
    /// Drawn up at the first retry: most calls need none.
    delays: Option<Delays>,
}

impl Plan {
    /// When to make the next attempt, if there is one.
    fn next(&mut self, told: Option<Duration>, scope: Scope) -> Option<Instant> {
        let delays = self.delays.get_or_insert_with(|| self.backoff.delays());
        let drawn = delays.next()?;
        let delay = told.unwrap_or(drawn);
        let at = Instant::now().checked_add(delay)?;
        if self.deadline.is_some_and(|deadline| at > deadline) {
            return None;
        }
        tracing::debug!(attempt = self.attempts, %scope, ?delay, told = told.is_some(), "retrying");
        Some(at)
    }

    fn is_last(&self) -> bool {
        self.attempts >= self.backoff.attempts()
    }
}

impl<S, C, Req> ResponseFuture<S, C, Req>
where
    S: Service<Req>,
{
    pub(super) fn new(service: S, classify: C, backoff: Arc<Backoff>, request: Req) -> Self {
        let deadline = backoff
            .total()
            .and_then(|total| Instant::now().checked_add(total));
        ResponseFuture {
            service,
            classify,
            plan: Plan {
                backoff,
                deadline,
                attempts: 0,
                delays: None,
            },
            request: Some(request),
            state: State::Readying,
        }
    }
}

impl<S, C, Req> Future for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
    C: Classify<S::Response, S::Error>,
    Req: Clone,
{
    type Output = Result<S::Response, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        loop {
            match this.state.as_mut().project() {
                StateProj::Readying => {
                    ready!(this.service.poll_ready(cx))?;
                    let request = this.request.take().expect("polled after it was ready");
                    this.plan.attempts += 1;
                    *this.request = (!this.plan.is_last()).then(|| request.clone());
                    let future = this.service.call(request);
                    this.state.set(State::Called { future });
                }
                StateProj::Called { future } => {
                    let result = ready!(future.poll(cx));
                    let again = match this.classify.classify(result.as_ref()) {
                        Decision::Retry { after, scope } => this.plan.next(after, scope),
                        Decision::GiveUp => None,
                    };
                    let Some(at) = again else {
                        return Poll::Ready(result);
                    };
                    // Whatever the answer holds must not be held while we wait.
                    drop(result);
                    let timer = sleep_until(at);
                    this.state.set(State::Sleeping { timer });
                }
                StateProj::Sleeping { timer } => {
                    ready!(timer.poll(cx));
                    this.state.set(State::Readying);
                }
            }
        }
    }
}

impl<S, C, Req> fmt::Debug for ResponseFuture<S, C, Req>
where
    S: Service<Req>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture")
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}
