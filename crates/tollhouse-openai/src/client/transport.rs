//! hyper's client with the attempt timeout around it.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use http_body::Body;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pin_project_lite::pin_project;
use tokio::time::{Sleep, sleep};
use tower_service::Service;

use super::Error;
use super::body::TimedBody;
use super::connect::Connector;
use crate::call::RequestBody;

/// What of an answer comes before anybody reads it, over HTTP/2.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same for all answers of a connection together: so much that some dozens
/// that nobody reads do not keep the others from coming.
const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;

/// Sends complete requests.
#[derive(Clone)]
pub(super) struct Transport {
    client: Client<Connector, RequestBody>,
    patience: Patience,
}

/// How long each part of an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) connect: Duration,
    /// To the head of the answer.
    pub(super) attempt: Duration,
    /// Between two pieces of a body; as for an attempt, unless set.
    pub(super) body_idle: Option<Duration>,
    /// For a whole body, streams of events left out.
    pub(super) body: Duration,
    /// Between two signs of life of a connection.
    pub(super) keep_alive: Duration,
}

impl Transport {
    pub(super) fn new(
        roots_needed: bool,
        extra_roots: &[u8],
        patience: Patience,
    ) -> Result<Transport, Error> {
        let (connect, keep_alive) = (patience.connect, patience.keep_alive);
        let connector = Connector::new(roots_needed, extra_roots, connect, keep_alive)?;
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            // A connection that goes silent is pinged, while it is idle, too, and
            // given up: it serves nobody for longer than this.
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            .http2_keep_alive_interval(keep_alive)
            .http2_keep_alive_timeout(keep_alive)
            .http2_keep_alive_while_idle(true)
            .build(connector);
        Ok(Transport { client, patience })
    }
}

impl Service<Request<RequestBody>> for Transport {
    type Response = Response<TimedBody>;
    type Error = Error;
    type Future = TransportFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, mut request: Request<RequestBody>) -> TransportFuture {
        tracing::debug!(
            method = %request.method(),
            path = request.uri().path(),
            body_bytes = request.body().size_hint().exact(),
            "sending a request"
        );
        let connection = capture_connection(&mut request);
        TransportFuture {
            sent: self.client.request(request),
            timer: None,
            patience: self.patience,
            connection,
        }
    }
}

pin_project! {
    pub(super) struct TransportFuture {
        #[pin]
        sent: ResponseFuture,
        // Made at the first poll, which is sure to be inside the runtime.
        #[pin]
        timer: Option<Sleep>,
        patience: Patience,
        // The one that the attempt is on, once it is known.
        connection: CaptureConnection,
    }
}

impl Future for TransportFuture {
    type Output = Result<Response<TimedBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        if let Poll::Ready(result) = this.sent.poll(cx) {
            let response = result.map_err(Error::sending)?;
            tracing::debug!(status = response.status().as_u16(), "the answer began");
            let (patience, connection) = (*this.patience, this.connection.clone());
            return Poll::Ready(Ok(TimedBody::around(response, patience, connection)));
        }
        if this.timer.is_none() {
            this.timer.set(Some(sleep(this.patience.attempt)));
        }
        if let Some(timer) = this.timer.as_pin_mut() {
            ready!(timer.poll(cx));
        }
        // Whatever is wrong with the connection: the next attempt is on another.
        poison(this.connection);
        Poll::Ready(Err(Error::attempt_timeout()))
    }
}

/// Lets nobody use a connection again.
pub(super) fn poison(connection: &CaptureConnection) {
    if let Some(connected) = &*connection.connection_metadata() {
        connected.poison();
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("patience", &self.patience)
            .finish_non_exhaustive()
    }
}
