//! hyper's clients with the attempt timeout around them.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::header::UPGRADE;
use http::{Method, Request, Response, Version};
use http_body::Body;
use hyper_util::client::legacy::connect::{CaptureConnection, capture_connection};
use hyper_util::client::legacy::{Client, ResponseFuture};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use pin_project_lite::pin_project;
use tokio::time::{Instant, Sleep, sleep};
use tower_service::Service;

use super::Error;
use super::body::{Arriving, TimedBody};
use super::connect::{Connector, Connectors};
use super::inline::{self, Inline};
use super::patience::{Patience, poll_over};
use super::peer::{Kept, Peer, poison};
use super::target::Target;
use super::upload::Upload;
use crate::call::{CallBody, RequestBody};

/// What of an answer comes before anybody reads it, over HTTP/2.
const STREAM_WINDOW: u32 = 1024 * 1024;
/// The same for all answers of a connection together: so much that some dozens
/// that nobody reads do not keep the others from coming.
const CONNECTION_WINDOW: u32 = 64 * STREAM_WINDOW;

/// Sends complete requests.
///
/// # Cloning
///
/// A clone is a pointer: it stands in the future of every call, of which thousands may
/// wait.
#[derive(Clone)]
pub(super) struct Transport {
    clients: Arc<Clients>,
}

struct Clients {
    /// For what needs no more than HTTP/1.1 at the base URL's origin, where that is without
    /// TLS.
    inline: Option<Arc<Inline>>,
    any: Client<Connector, RequestBody>,
    /// For requests that ask to stop being HTTP, which HTTP/2 has no words for.
    upgrading: Client<Connector, RequestBody>,
    patience: Patience,
}

impl Transport {
    pub(super) fn new(
        base: &Target,
        extra_roots: &[u8],
        patience: Patience,
    ) -> Result<Transport, Error> {
        let (connect, keep_alive) = (patience.connect, patience.keep_alive);
        let connectors = Connectors::new(base.is_https(), extra_roots, connect, keep_alive)?;
        let mut client = Client::builder(TokioExecutor::new());
        client
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            // Nothing leaves before the peer has said how much it takes.
            .http2_initial_max_send_streams(0)
            .http2_initial_stream_window_size(STREAM_WINDOW)
            .http2_initial_connection_window_size(CONNECTION_WINDOW)
            // A connection that goes silent is pinged, while it is idle, too, and
            // given up: it serves nobody for longer than this.
            .http2_keep_alive_interval(keep_alive)
            .http2_keep_alive_timeout(keep_alive)
            .http2_keep_alive_while_idle(true);
        let inline = match base.is_https() {
            true => None,
            false => {
                let connector = connectors.plain;
                Some(Arc::new(Inline::new(base.url().clone(), connector)?))
            }
        };
        let clients = Clients {
            inline,
            any: client.build(connectors.any),
            upgrading: client.build(connectors.http_1),
            patience,
        };
        Ok(Transport {
            clients: Arc::new(clients),
        })
    }

    /// Whether a request to the base URL's origin drives its own connection. What it brings
    /// must be there as a whole: its answer may come before, and be read by nobody. And it must
    /// have a length, for which no chunks are needed.
    pub(super) fn is_inline(&self, request: &Request<RequestBody>) -> bool {
        self.clients.inline.is_some()
            && request.body().whole().is_some()
            && !request.body().has_trailers()
            && request.version() == Version::HTTP_11
            && request.method() != Method::CONNECT
            && !request.headers().contains_key(UPGRADE)
    }
}

impl Service<Request<RequestBody>> for Transport {
    type Response = Response<TimedBody>;
    type Error = Error;
    type Future = TransportFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<RequestBody>) -> TransportFuture {
        tracing::debug!(
            method = %request.method(),
            path = request.uri().path(),
            body_bytes = request.body().size_hint().exact(),
            "sending a request"
        );
        let (request, upload) = Upload::of(request);
        let sent = match &self.clients.inline {
            // A URI without an origin is one for which `is_inline` was true.
            Some(inline) if request.uri().scheme().is_none() => Sent::Inline {
                sent: Arc::clone(inline).send(request),
            },
            _ => self.clients.share(request),
        };
        TransportFuture {
            sent,
            timer: None,
            waiting: None,
            upload,
            clients: Arc::clone(&self.clients),
        }
    }
}

impl Clients {
    /// By a connection that others may be on.
    fn share(&self, mut request: Request<RequestBody>) -> Sent {
        let connection = capture_connection(&mut request);
        let client = match request.headers().contains_key(UPGRADE) {
            true => &self.upgrading,
            false => &self.any,
        };
        Sent::Shared {
            sent: client.request(request),
            connection,
        }
    }
}

pin_project! {
    pub(super) struct TransportFuture {
        #[pin]
        sent: Sent,
        // Made at the first poll, which is sure to be inside the runtime.
        #[pin]
        timer: Option<Sleep>,
        waiting: Option<Waiting>,
        // Of a request that is still sent.
        upload: Option<Upload>,
        // For how long it may take.
        clients: Arc<Clients>,
    }
}

pin_project! {
    #[project = SentProj]
    enum Sent {
        Shared {
            #[pin]
            sent: ResponseFuture,
            // The one that the attempt is on, once it is known.
            connection: CaptureConnection,
        },
        Inline { sent: inline::Sent },
    }
}

/// What an attempt waits for: the head of its answer, and first of all to be let
/// onto its connection.
struct Waiting {
    asked: Instant,
    /// When the attempt is over, unless its request is still sent.
    deadline: Instant,
    upload: Option<Upload>,
    attempt: Duration,
    /// Who is at the other end, and when that was known.
    peer: Option<(Peer, Instant)>,
}

/// How long a peer that allows no stream may take to allow one.
const SHUT: Duration = Duration::from_secs(1);

impl Waiting {
    /// Whether this is the first look at a peer that keeps the request back.
    fn meets(&mut self, sent: &SentProj<'_>) -> bool {
        let SentProj::Shared { connection, .. } = sent else {
            return false;
        };
        if self.peer.is_some() {
            return false;
        }
        self.peer = peer(connection).map(|peer| (peer, Instant::now()));
        self.kept().is_some()
    }

    fn kept(&self) -> Option<Kept> {
        self.peer.as_ref()?.0.keeps(self.asked)
    }

    /// When the attempt is over, as far as can be told.
    fn end(&self) -> Instant {
        let upload = self.upload.as_ref();
        let end = upload.and_then(|upload| upload.stands_still_at(self.attempt));
        end.map_or(self.deadline, |end| end.max(self.deadline))
    }

    /// When to look again: soon while it is kept back, else when the attempt is over.
    fn next(&self, step: Duration) -> Instant {
        match self.kept() {
            Some(_) => self.end().min(Instant::now() + step),
            None => self.end(),
        }
    }

    /// The connection broke; what it kept back until then was never sent.
    fn failed(&self, error: hyper_util::client::legacy::Error) -> Error {
        Error::sending(error, self.kept().is_some())
    }

    /// How the attempt ends now, if it does.
    fn ended(&self, connect: Duration) -> Option<Error> {
        let is_over = Instant::now() >= self.end();
        match self.kept() {
            Some(kept) if is_over || self.is_hopeless(kept, connect) => Some(Error::kept(kept)),
            _ => is_over.then(Error::attempt_timeout),
        }
    }

    /// A connection of which nothing was heard is still being made.
    fn is_hopeless(&self, kept: Kept, connect: Duration) -> bool {
        let met = self.peer.as_ref().map(|(_, met)| met.elapsed());
        kept == Kept::Shut || met >= Some(connect)
    }
}

impl Future for TransportFuture {
    type Output = Result<Response<TimedBody>, Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let patience = this.clients.patience;
        if this.timer.is_none() {
            this.timer.set(Some(sleep(patience.attempt)));
        }
        let mut timer = this.timer.as_pin_mut().expect("it was just made");
        let waiting = this.waiting.get_or_insert_with(|| Waiting {
            asked: Instant::now(),
            deadline: timer.deadline(),
            upload: this.upload.take(),
            attempt: patience.attempt,
            peer: None,
        });
        let mut sent = this.sent.project();
        if let Poll::Ready(result) = sent.poll(cx, waiting) {
            let answer = result?;
            tracing::debug!(status = answer.status().as_u16(), "the answer began");
            return Poll::Ready(Ok(TimedBody::around(answer, patience)));
        }
        let step = patience.connect.min(SHUT);
        if waiting.meets(&sent) {
            timer.as_mut().reset(waiting.next(step));
        }
        loop {
            ready!(poll_over(timer.as_mut(), cx));
            if let Some(error) = waiting.ended(patience.connect) {
                sent.give_up();
                return Poll::Ready(Err(error));
            }
            timer.as_mut().reset(waiting.next(step));
        }
    }
}

impl SentProj<'_> {
    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        waiting: &Waiting,
    ) -> Poll<Result<Response<Arriving>, Error>> {
        match self {
            SentProj::Shared { sent, connection } => {
                let answer = ready!(sent.as_mut().poll(cx));
                let answer = answer.map_err(|error| waiting.failed(error))?;
                // hyper would answer one of HTTP/1.0 in kind, where there are no chunks: it would
                // leave the next body out that has no length, and say nothing.
                if answer.version() < Version::HTTP_11 {
                    poison(connection);
                }
                let connection = connection.clone();
                Poll::Ready(Ok(answer.map(|body| Arriving::Shared { body, connection })))
            }
            SentProj::Inline { sent } => {
                let answer = ready!(Pin::new(sent).poll(cx))?;
                Poll::Ready(Ok(answer.map(|body| Arriving::Inline { body })))
            }
        }
    }

    /// Whatever is wrong with the connection: the next attempt is on another.
    fn give_up(&self) {
        // One that is driven by its call ends with it.
        if let SentProj::Shared { connection, .. } = self {
            poison(connection);
        }
    }
}

fn peer(connection: &CaptureConnection) -> Option<Peer> {
    let mut extras = http::Extensions::new();
    connection
        .connection_metadata()
        .as_ref()?
        .get_extras(&mut extras);
    extras.remove()
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport")
            .field("patience", &self.clients.patience)
            .finish_non_exhaustive()
    }
}
