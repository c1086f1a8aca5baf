use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::Response;
use http::response::Parts;
use http_body::Body;
use pin_project_lite::pin_project;
use tokio::time::Sleep;

use super::VerdictBody;
use super::body::Ahead;
use crate::wire::limits::RateLimits;
use crate::wire::verdict::{Fault, MOST_BYTES, MOST_TIME, Verdict, judge};

pin_project! {
    /// The future of [`WithVerdict`](super::WithVerdict).
    pub struct VerdictFuture<F, B: Body> {
        #[pin]
        state: State<F, B>,
    }
}

pin_project! {
    /// `Called` -> ready, for a success; `Called` -> `Reading` -> ready,
    /// for anything else.
    #[project = StateProj]
    #[project_replace = StateOwned]
    enum State<F, B: Body> {
        Called { #[pin] future: F },
        Reading { answer: Option<Box<Answer<B>>> },
    }
}

/// An unsuccessful answer while it is read.
struct Answer<B: Body> {
    head: Parts,
    ahead: Ahead<B>,
    patience: Pin<Box<Sleep>>,
}

impl<F, B: Body> VerdictFuture<F, B> {
    pub(super) fn new(future: F) -> Self {
        VerdictFuture {
            state: State::Called { future },
        }
    }
}

impl<F, B, E> Future for VerdictFuture<F, B>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
{
    type Output = Result<Response<VerdictBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.project().state;
        loop {
            match state.as_mut().project() {
                StateProj::Called { future } => {
                    let mut response = ready!(future.poll(cx))?;
                    note_limits(&mut response);
                    if is_settled(&response) {
                        return Poll::Ready(Ok(response.map(VerdictBody::untouched)));
                    }
                    let answer = Some(Box::new(Answer::new(response)));
                    state.as_mut().project_replace(State::Reading { answer });
                }
                StateProj::Reading { answer } => {
                    let reading = answer.as_mut().expect("polled after it was ready");
                    ready!(reading.poll_read(cx));
                    let answer = answer.take().expect("read just now");
                    return Poll::Ready(Ok((*answer).judged()));
                }
            }
        }
    }
}

fn note_limits<B>(response: &mut Response<B>) {
    if response.extensions().get::<RateLimits>().is_none() {
        let limits = RateLimits::from_headers(response.headers());
        response.extensions_mut().insert(limits);
    }
}

/// Whether there is nothing to learn from the body.
fn is_settled<B>(response: &Response<B>) -> bool {
    response.status().as_u16() < 400 || response.extensions().get::<Verdict>().is_some()
}

impl<B: Body<Data = Bytes>> Answer<B> {
    fn new(response: Response<B>) -> Self {
        let (head, body) = response.into_parts();
        Answer {
            head,
            ahead: Ahead::new(body),
            patience: Box::pin(tokio::time::sleep(MOST_TIME)),
        }
    }

    fn poll_read(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ahead.poll_read(MOST_BYTES, cx).is_ready() {
            return Poll::Ready(());
        }
        // What has come by now must do.
        self.patience.as_mut().poll(cx)
    }

    fn judged(mut self) -> Response<VerdictBody<B>> {
        let Parts {
            status, headers, ..
        } = &self.head;
        let fault = Fault::read(headers, &self.ahead.bytes());
        let verdict = judge(*status, headers, fault.as_ref());
        self.head.extensions.insert(verdict);
        if let Some(fault) = fault {
            // For the error that may be made of the answer.
            self.head.extensions.insert(Arc::new(fault));
        }
        let Answer { head, ahead, .. } = self;
        Response::from_parts(head, VerdictBody::read(ahead))
    }
}

impl<F, B: Body> fmt::Debug for VerdictFuture<F, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match &self.state {
            State::Called { .. } => "Called",
            State::Reading { .. } => "Reading",
        };
        f.debug_struct("VerdictFuture")
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
