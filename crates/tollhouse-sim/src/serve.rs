//! The provider on a socket.

use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use axum::body::Body;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::sync::{oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};
use tower_service::Service;

use crate::wire::SimService;

/// How long accepting pauses after it failed, for want of file handles say.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves until `stop` is done; then lets the calls in flight end.
pub(crate) async fn serve(
    service: SimService,
    listener: TcpListener,
    stop: impl Future<Output = ()>,
) {
    // Nothing is ever sent: its drop is the signal.
    let (stopping, stopped) = watch::channel(());
    let mut connections = JoinSet::new();
    tokio::pin!(stop);
    loop {
        tokio::select! {
            () = &mut stop => break,
            // Connections that have ended are let go as it goes on.
            Some(_) = connections.join_next() => {}
            stream = accept(&listener) => {
                connections.spawn(connection(service.clone(), stream, stopped.clone()));
            }
        }
    }
    drop(listener);
    drop(stopping);
    while connections.join_next().await.is_some() {}
}

async fn accept(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => return stream,
            Err(error) => {
                tracing::warn!(%error, "could not accept a connection");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn connection(service: SimService, stream: TcpStream, mut stopped: watch::Receiver<()>) {
    // Without it, small frames of a stream would wait for each other. It is a
    // matter of speed alone, so that a failure is no reason to give up.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "could not switch off Nagle's algorithm");
    }
    let service = service_fn(move |request: hyper::Request<hyper::body::Incoming>| {
        let mut service = service.clone();
        async move { service.call(request.map(Body::new)).await }
    });
    let mut connection = http1::Builder::new()
        // hyper would close what is idle for 30 s, and a client that sends at that moment
        // makes an attempt that nobody sees arrive.
        .header_read_timeout(None)
        .serve_connection(TokioIo::new(stream), service);
    let ended = tokio::select! {
        ended = &mut connection => ended,
        _ = stopped.changed() => {
            std::pin::Pin::new(&mut connection).graceful_shutdown();
            (&mut connection).await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection broke off");
        reset(connection.into_parts().io.into_inner(), &error);
    }
}

/// Whatever we broke off ourselves ends with a reset rather than with an
/// orderly close.
fn reset(stream: TcpStream, error: &hyper::Error) {
    if error.is_user()
        && let Err(error) = stream.set_zero_linger()
    {
        tracing::debug!(%error, "could not reset a connection");
    }
}

/// A provider that is being served. Dropping it stops that at once, calls in
/// flight included.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_sim::Sim;
///
/// let served = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
/// // For the settings of any client.
/// let port = served.addr().port();
/// assert_eq!(served.url(), format!("http://127.0.0.1:{port}/v1"));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[must_use = "dropping it stops the provider"]
pub struct Served {
    address: SocketAddr,
    /// Its drop is the signal to stop.
    stop: Option<oneshot::Sender<Infallible>>,
    task: JoinHandle<()>,
}

impl Served {
    pub(crate) async fn start(
        service: SimService,
        address: impl ToSocketAddrs,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let address = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel::<Infallible>();
        let stopped = async move {
            let Err(_) = stopped.await;
        };
        Ok(Self {
            address,
            stop: Some(stop),
            task: tokio::spawn(serve(service, listener, stopped)),
        })
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// The base URL for clients, such as `http://127.0.0.1:8788/v1`.
    pub fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// Accepts no more calls, and waits until those in flight have ended.
    ///
    /// # Cancellation
    ///
    /// Dropping the future stops at once, as dropping this does.
    ///
    /// # Errors
    ///
    /// The serving task panicked.
    pub async fn shutdown(mut self) -> io::Result<()> {
        drop(self.stop.take());
        (&mut self.task).await.map_err(io::Error::other)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}
