//! HTTP/1.1 without TLS: a call drives the connection that it is on.
//!
//! hyper-util's client has a task for each connection, which HTTP/2 needs; requests, answers
//! and each piece of a body are handed from task to task, and every hand-over is a wake-up.
//! Where nothing but HTTP/1.1 can be spoken, to a gateway or a model nearby, nobody else is on
//! the connection anyway: whoever polls the call or its body polls hyper's connection with it.
//!
//! ```text
//! pool (idle) --take--> Connection + request --head--> Body + Connection --end--> pool
//!     ^                      |                            |
//!     |                      +-- dropped: closed <--------+
//!     +-- swept: closed after IDLE
//! ```

mod body;
mod pool;
#[cfg(test)]
mod tests;

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri};
use hyper::client::conn::http1;
use tokio::runtime::Handle;
use tokio::task::coop::unconstrained;
use tokio::task::yield_now;
use tower_service::Service;

pub(super) use body::InlineBody;
use pool::{FRESH, Pool};

use super::Error;
use super::connect::PlainConnector;
use crate::call::RequestBody;

/// One origin, and the connections to it.
pub(super) struct Inline {
    origin: Uri,
    host: HeaderValue,
    connector: PlainConnector,
    pool: Arc<Pool>,
}

/// A connection that is on its way or used by one call.
struct Connection {
    sender: http1::SendRequest<RequestBody>,
    /// None once it is over.
    driver: Option<http1::Connection<Socket, RequestBody>>,
    /// Where it was made, and where it is told what comes on it.
    runtime: Handle,
}

type Socket = <PlainConnector as Service<Uri>>::Response;

/// A request that was sent, on its way to the head of the answer.
pub(super) struct Sent {
    /// Never locked: like that the call can be shared between threads, as hyper-util's can.
    call: Mutex<Call>,
}

type Call = Pin<Box<dyn Future<Output = Result<Response<InlineBody>, Error>> + Send>>;

impl Inline {
    /// `origin` is a URL without TLS.
    pub(super) fn new(origin: Uri, connector: PlainConnector) -> Result<Self, Error> {
        let host = origin
            .authority()
            .map_or("", |authority| authority.as_str());
        // As everybody writes it: a default port is left out.
        let host = host.strip_suffix(":80").unwrap_or(host);
        let host = HeaderValue::from_str(host).map_err(|error| {
            Error::config(format!("base URL {origin}: its host")).because(error)
        })?;
        Ok(Inline {
            origin,
            host,
            connector,
            pool: Arc::default(),
        })
    }

    /// Sends a request whose body is whole and whose URI is a path.
    pub(super) fn send(self: Arc<Self>, mut request: Request<RequestBody>) -> Sent {
        let call: Call = Box::pin(async move {
            request.headers_mut().insert(HOST, self.host.clone());
            // One that was idle may have ended in this moment. What it gives back unsent is
            // sent by the next.
            while let Some((idle, since)) = self.pool.take() {
                if since.elapsed() >= FRESH {
                    // A runtime that did not run has not heard of its end, and does in a turn.
                    yield_now().await;
                }
                match idle.send(request, &self.pool).await {
                    Err(Failed::Unsent(unsent, _)) => request = *unsent,
                    ended => return ended.map_err(Failed::into_error),
                }
            }
            // Boxed: hardly a call in thousands connects, and each would have room for it.
            let fresh = Box::pin(self.connect()).await?;
            let ended = fresh.send(request, &self.pool).await;
            ended.map_err(Failed::into_error)
        });
        Sent {
            call: Mutex::new(call),
        }
    }

    async fn connect(&self) -> Result<Box<Connection>, Error> {
        let mut connector = self.connector.clone();
        let ready = poll_fn(|cx| connector.poll_ready(cx)).await;
        ready.map_err(Error::connecting)?;
        let socket = connector.call(self.origin.clone()).await;
        let socket = socket.map_err(Error::connecting)?;
        let (sender, driver) = http1::handshake(socket)
            .await
            .map_err(|error| Error::broken(error, false))?;
        Ok(Box::new(Connection {
            sender,
            driver: Some(driver),
            runtime: Handle::current(),
        }))
    }
}

impl Future for Sent {
    type Output = Result<Response<InlineBody>, Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        exclusive(&mut self.call).as_mut().poll(cx)
    }
}

/// What is in a mutex that nobody else can lock.
fn exclusive<T>(mutex: &mut Mutex<T>) -> &mut T {
    mutex.get_mut().unwrap_or_else(PoisonError::into_inner)
}

/// Why there is no answer.
enum Failed {
    /// The connection was over before anything was written.
    Unsent(Box<Request<RequestBody>>, hyper::Error),
    Sent(hyper::Error),
}

impl Failed {
    fn into_error(self) -> Error {
        match self {
            Failed::Unsent(_, error) => Error::broken(error, true),
            Failed::Sent(error) => Error::broken(error, false),
        }
    }
}

// ===== impl Connection =====

impl Connection {
    async fn send(
        mut self: Box<Self>,
        request: Request<RequestBody>,
        pool: &Arc<Pool>,
    ) -> Result<Response<InlineBody>, Failed> {
        // It is answered by nobody but the connection, in this task, so that there is nobody to
        // be woken by; nor by tokio, where the task has used up its turn.
        let sent = self.sender.try_send_request(request);
        let mut sent = pin!(unconstrained(sent));
        let driver = &mut self.driver;
        let answered = poll_fn(|cx| {
            drive(driver, cx);
            sent.as_mut().poll(&mut Context::from_waker(Waker::noop()))
        });
        match answered.await {
            Ok(answer) => Ok(answer.map(|body| InlineBody::new(body, self, Arc::clone(pool)))),
            Err(mut failed) => Err(match failed.take_message() {
                Some(request) => Failed::Unsent(Box::new(request), failed.into_error()),
                None => Failed::Sent(failed.into_error()),
            }),
        }
    }

    /// Does what there is to do on it.
    fn drive(&mut self, cx: &mut Context<'_>) {
        drive(&mut self.driver, cx);
    }

    /// Whether another request can be sent.
    fn is_free(&self) -> bool {
        self.driver.is_some() && self.sender.is_ready()
    }
}

fn drive(driver: &mut Option<http1::Connection<Socket, RequestBody>>, cx: &mut Context<'_>) {
    let ended = match driver {
        Some(driver) => Pin::new(driver).poll(cx),
        None => return,
    };
    if let Poll::Ready(ended) = ended {
        // Whatever ended it, whoever waits for an answer or a body has heard of it.
        if let Err(error) = ended {
            tracing::debug!(
                error = &error as &dyn std::error::Error,
                "a connection ended"
            );
        }
        *driver = None;
    }
}
