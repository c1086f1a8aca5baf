use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use http::Response;
use pin_project_lite::pin_project;

use super::body::TimedBody;
use super::transport::TransportFuture;
use super::{Error, ResponseBody};
use crate::layers::verdict::VerdictFuture;

pin_project! {
    /// The future of [`OpenAi`](super::OpenAi). Dropping it stops the request.
    pub struct ResponseFuture {
        #[pin]
        state: State,
    }
}

pin_project! {
    #[project = StateProj]
    enum State {
        Called { #[pin] future: VerdictFuture<TransportFuture, TimedBody> },
        Failed { error: Option<Error> },
    }
}

impl ResponseFuture {
    pub(super) fn called(future: VerdictFuture<TransportFuture, TimedBody>) -> Self {
        ResponseFuture {
            state: State::Called { future },
        }
    }

    pub(super) fn failed(error: Error) -> Self {
        ResponseFuture {
            state: State::Failed { error: Some(error) },
        }
    }
}

impl Future for ResponseFuture {
    type Output = Result<Response<ResponseBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        match self.project().state.project() {
            StateProj::Called { future } => {
                let response = ready!(future.poll(cx))?;
                Poll::Ready(Ok(response.map(ResponseBody::new)))
            }
            StateProj::Failed { error } => {
                Poll::Ready(Err(error.take().expect("polled after it was ready")))
            }
        }
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
