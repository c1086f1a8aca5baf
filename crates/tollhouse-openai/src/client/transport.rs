//! hyper's client with the attempt timeout around it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::Error;
use super::body::TimedBody;
use super::connect::Connector;

/// Sends complete requests.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client<Connector, Full<Bytes>>,
    timeout: Duration,
}

impl Transport {
    pub(super) fn new(
        roots_needed: bool,
        extra_roots: &[u8],
        connect_timeout: Duration,
        attempt_timeout: Duration,
    ) -> Result<Transport, Error> {
        let connector = Connector::new(roots_needed, extra_roots, connect_timeout)?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .build(connector);
        Ok(Transport {
            client,
            timeout: attempt_timeout,
        })
    }
}

impl Service<Request<Bytes>> for Transport {
    type Response = Response<TimedBody>;
    type Error = Error;
    type Future = TransportFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> TransportFuture {
        tracing::debug!(
            method = %request.method(),
            path = request.uri().path(),
            body_bytes = request.body().len(),
            "sending a request"
        );
        TransportFuture {
            sent: self.client.request(request.map(Full::new)),
            patience: None,
            timeout: self.timeout,
        }
    }
}

pin_project! {
    pub(super) struct TransportFuture {
        #[pin]
        sent: ResponseFuture,
        // Made at the first poll, which is sure to be inside the runtime.
        #[pin]
        patience: Option<Sleep>,
        timeout: Duration,
    }
}

impl Future for TransportFuture {
    type Output = Result<Response<TimedBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.sent.poll(cx) {
            let response = result.map_err(Error::sending)?;
            tracing::debug!(status = response.status().as_u16(), "the answer began");
            let timeout = *this.timeout;
            return Poll::Ready(Ok(response.map(|body| TimedBody::new(body, timeout))));
        }
        if this.patience.is_none() {
            this.patience.set(Some(sleep(*this.timeout)));
        }
        if let Some(patience) = this.patience.as_pin_mut() {
            ready!(patience.poll(cx));
        }
        Poll::Ready(Err(Error::attempt_timeout()))
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
