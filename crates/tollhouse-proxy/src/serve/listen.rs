//! The server: from a socket to requests, and its end.

use std::convert::Infallible;
use std::error::Error;
use std::fmt;
use std::future::{Future, poll_fn, ready};
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::BoxError;
use axum::extract::ConnectInfo;
use bytes::Bytes;
use futures_util::future::Either;
use futures_util::{FutureExt, TryFutureExt};
use http::header::UPGRADE;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use hyper::server::conn::http1::UpgradeableConnection;
use hyper::server::conn::{http1, http2};
use hyper::service::{HttpService, Service, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::outgoing::{Answers, Outgoing};
use super::routes::{Front, front, is_own};
use crate::call::Tunnel;
use crate::check::{Checked, Limits, Signals, is_stand_in};
use crate::shared::Shared;

/// What is kept of an answer that nobody reads, in bytes; the last piece is kept whole.
const UNREAD: usize = 64 * 1024;
/// How long a client of HTTP/2 that has never asked anything is waited for when the server ends,
/// and one whose answers are all handed over, of which it may still have to read some; twice
/// that, at most.
const LINGER: Duration = Duration::from_secs(1);
const LAST: Duration = Duration::from_secs(10);
/// Between two signs of life of an HTTP/2 connection, and until one is missed.
const PING: Duration = Duration::from_secs(20);
/// Between two looks whether calls that were cut off are gone.
const MOMENT: Duration = Duration::from_millis(1);
/// Before the next try where no connection can be accepted, for want of descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A proxy that listens, until it is drained or dropped.
///
/// # Cancellation
///
/// Dropping it ends everything at once.
pub struct Served {
    address: SocketAddr,
    shared: Arc<Shared>,
    /// Whether it ends: for who accepts, and for all connections.
    ending: watch::Sender<bool>,
    accepting: JoinHandle<Connections>,
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Drained {
    /// Calls that were cut off.
    pub cut_off: usize,
}

/// What is open when nothing more is accepted.
type Connections = JoinSet<()>;

pub(crate) fn serve(listener: TcpListener, address: SocketAddr, shared: Arc<Shared>) -> Served {
    let (ending, ends) = watch::channel(false);
    let accepting = tokio::spawn(accept(listener, Arc::clone(&shared), ends));
    Served {
        address,
        shared,
        ending,
        accepting,
    }
}

impl Served {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Ends: accepts nothing more, turns away whoever waits, and lets calls in flight
    /// come to their end for `limit`.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends everything at once.
    pub async fn drain(mut self, limit: Duration) -> Drained {
        self.shared.close();
        self.ending.send_replace(true);
        let Ok(mut open) = (&mut self.accepting).await else {
            return Drained { cut_off: 0 };
        };
        let all = async { while open.join_next().await.is_some() {} };
        let cut_off = match timeout(limit, all).await {
            Ok(()) => 0,
            Err(_) => self.shared.counts.in_flight(),
        };
        // Each call tells its line when it is dropped. Answers over HTTP/2 are tasks of their own, which
        // hear that their connection is gone.
        open.shutdown().await;
        let told = async {
            while self.shared.counts.in_flight() > 0 {
                sleep(MOMENT).await;
            }
        };
        let _ = timeout(LINGER, told).await;
        Drained { cut_off }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Served")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(
    listener: TcpListener,
    shared: Arc<Shared>,
    mut ends: watch::Receiver<bool>,
) -> Connections {
    let mut open = Connections::new();
    let limits = Limits {
        head_bytes: shared.bounds.head_bytes,
        head_time: shared.bounds.head_time,
        write_time: shared.bounds.write_time,
    };
    let server = Arc::new(Server {
        front: front(Arc::clone(&shared)),
        http_1: http_1(limits),
        limits,
        shared: Arc::clone(&shared),
    });
    let free = Arc::new(Semaphore::new(shared.bounds.connections));
    let mut following = pin!(shared.page.follow(|| shared.look()));
    loop {
        let (socket, permit) = tokio::select! {
            () = end(&mut ends) => return open,
            never = &mut following => match never {},
            // Those that ended are forgotten.
            Some(_) = open.join_next() => continue,
            accepted = next(&listener, &free) => accepted,
        };
        if let Some(serving) = connection(socket, Arc::clone(&server), ends.clone(), permit) {
            open.spawn(serving);
        }
    }
}

/// Waits for the server's end, which may be that it was dropped.
async fn end(ends: &mut watch::Receiver<bool>) {
    let _ = ends.wait_for(|is_ending| *is_ending).await;
}

/// The next connection, once there may be one more.
async fn next(listener: &TcpListener, free: &Arc<Semaphore>) -> (TcpStream, OwnedSemaphorePermit) {
    let permit = Arc::clone(free).acquire_owned().await;
    let permit = permit.expect("nobody closes it");
    loop {
        match listener.accept().await {
            Ok((socket, _)) => return (socket, permit),
            Err(error) => {
                tracing::warn!(%error, "no connection can be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

/// What all connections have in common.
struct Server<F> {
    front: F,
    http_1: http1::Builder,
    limits: Limits,
    shared: Arc<Shared>,
}

/// Serves a connection to its end, unless it is gone at once. What is known before it is awaited
/// is found out here: an `async fn` would keep two places for each of its arguments.
fn connection<F: Front>(
    socket: TcpStream,
    server: Arc<Server<F>>,
    ends: watch::Receiver<bool>,
    permit: OwnedSemaphorePermit,
) -> Option<impl Future<Output = ()> + Send + 'static> {
    // Events are short and must not wait for each other.
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "the connection was gone at once");
        return None;
    }
    let peer = socket.peer_addr().ok()?;
    let held = (server.shared.counts.connect(), permit);
    let signals = Arc::<Signals>::default();
    let socket = Checked::new(socket, server.limits, Arc::clone(&signals));
    let tunnel = Tunnel::new(Arc::clone(&signals));
    let after_http = tunnel.clone();
    let common = Arc::clone(&server);
    let service = service_fn(move |mut request: Request<Incoming>| {
        // Calls are let in whoever is at the other end.
        if is_own(request.uri().path()) {
            request.extensions_mut().insert(ConnectInfo(peer));
        }
        if request.headers().contains_key(UPGRADE) {
            request.extensions_mut().insert(tunnel.clone());
        }
        if let Some(flaw) = signals.flaw().filter(|_| is_stand_in(&request)) {
            request.extensions_mut().insert(flaw);
        }
        let turn = signals.turn();
        let answered = server.front.answer(request.map(axum::body::Body::new));
        answered.map_ok(|answer| answer.map(|body| Outgoing::new(body, turn)))
    });
    // One after the other in one place.
    let serving = greeted(socket, ends).then(move |greeted| {
        let Some((socket, speaks_http_2, ends)) = greeted else {
            return Either::Left(Either::Left(ready(())));
        };
        let socket = TokioIo::new(socket);
        if speaks_http_2 {
            // It is several times as large, and rare.
            let streams = common.shared.bounds.streams;
            let serving = over_http_2(socket, service, common.limits, streams, ends);
            let serving = serving.inspect_err(broke).map(move |_| drop(held));
            return Either::Right(Box::pin(serving));
        }
        let serving = common.http_1.serve_connection(socket, service);
        let serving = over_http_1(serving.with_upgrades(), ends, after_http);
        Either::Left(Either::Right(serving.map(move |()| drop(held))))
    });
    // A task is aligned to 128 bytes, for which allocators take as many more than it has: it is
    // but a pointer.
    Some(Box::pin(serving))
}

type Socket = TokioIo<Checked<TcpStream>>;

/// A connection that has begun to speak, and whether it speaks HTTP/2.
async fn greeted(
    mut socket: Checked<TcpStream>,
    mut ends: watch::Receiver<bool>,
) -> Option<Greeted> {
    let speaks = tokio::select! {
        biased;
        speaks = poll_fn(|cx| Pin::new(&mut socket).poll_speaks_http_2(cx)) => speaks,
        () = end(&mut ends) => return None,
    };
    match speaks {
        Ok(speaks_http_2) => Some((socket, speaks_http_2, ends)),
        Err(error) => {
            tracing::debug!(%error, "a connection asked nothing");
            None
        }
    }
}

type Greeted = (Checked<TcpStream>, bool, watch::Receiver<bool>);

#[expect(
    clippy::manual_async_fn,
    reason = "an `async fn` keeps two places for each argument"
)]
fn over_http_1<S, B>(
    mut serving: UpgradeableConnection<Socket, S>,
    mut ends: watch::Receiver<bool>,
    after_http: Tunnel,
) -> impl Future<Output = ()>
where
    S: HttpService<Incoming, ResBody = Outgoing<B>, Error = Infallible> + Unpin,
    B: Body<Data = Bytes, Error: Into<BoxError>> + 'static,
{
    async move {
        let ended = tokio::select! {
            biased;
            served = &mut serving => Some(served),
            () = end(&mut ends) => None,
        };
        let served = match ended {
            Some(served) => served,
            None => {
                Pin::new(&mut serving).graceful_shutdown();
                (&mut serving).await
            }
        };
        match served {
            Ok(()) => after_http.to_its_end().await,
            Err(error) => broke(&error),
        }
    }
}

fn broke(error: &hyper::Error) {
    tracing::debug!(error = error as &dyn Error, "a connection broke");
}

async fn over_http_2<S, B>(
    socket: Socket,
    service: S,
    limits: Limits,
    streams: u32,
    mut ends: watch::Receiver<bool>,
) -> hyper::Result<()>
where
    S: Service<Request<Incoming>, Response = Response<Outgoing<B>>, Error = Infallible>,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    let asked = AtomicU64::new(0);
    let counted = service_fn(|request| {
        asked.fetch_add(1, Ordering::Relaxed);
        service.call(request)
    });
    let answers = Answers::new(limits.write_time);
    let mut serving =
        pin!(http_2(limits, streams, answers.clone()).serve_connection(socket, counted));
    let patience = tokio::select! {
        biased;
        served = &mut serving => return served,
        () = end(&mut ends) => match asked.load(Ordering::Relaxed) {
            0 => LINGER,
            _ => LAST.min(limits.write_time),
        },
        was_asked = idle(&asked, limits.head_time) => {
            if !was_asked {
                // Nothing is under way, and whoever is silent is not waited for.
                return Ok(());
            }
            limits.write_time
        }
    };
    serving.as_mut().graceful_shutdown();
    tokio::select! {
        biased;
        served = serving => served,
        () = answers.are_over(patience) => Ok(()),
    }
}

/// Waits until no request has come over HTTP/2 for as long as a connection may be idle, or
/// for up to twice as long; and whether any came before. The client is told to go then, and
/// what is under way goes on.
async fn idle(asked: &AtomicU64, limit: Duration) -> bool {
    let mut before = 0;
    loop {
        sleep(limit).await;
        match asked.load(Ordering::Relaxed) {
            now if now == before => return now > 0,
            now => before = now,
        }
    }
}

/// How long such a connection is idle, or sends a head, is limited by who reads it before hyper: by
/// hyper's clock it would be closed without a word.
fn http_1(limits: Limits) -> http1::Builder {
    let mut server = http1::Builder::new();
    server
        .header_read_timeout(None)
        .max_buf_size(limits.head_bytes.max(8 * 1_024));
    server
}

fn http_2(limits: Limits, streams: u32, answers: Answers) -> http2::Builder<Answers> {
    let mut server = http2::Builder::new(answers);
    server
        .timer(TokioTimer::new())
        .keep_alive_interval(PING)
        .keep_alive_timeout(PING)
        .max_concurrent_streams(streams)
        .max_send_buf_size(UNREAD)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX));
    server
}
