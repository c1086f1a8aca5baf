//! The provider as a service that can fail as a connection does.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use axum::Router;
use axum::body::Body;
use axum::http::{Request, Response};
use axum::routing::future::RouteFuture;
use pin_project_lite::pin_project;
use tower_service::Service;

use super::body::connection_reset;
use super::handler::Reset;

/// The simulated provider as a tower service, in the process and in virtual
/// time.
///
/// It takes any request whose body can become axum's: `Bytes`, `String`,
/// `Body`. Always ready; clones share the provider.
///
/// # Errors
///
/// A connection reset is an [`io::Error`] of kind `ConnectionReset`; nothing
/// else fails. A stream that breaks off fails in its body.
///
/// # Examples
///
/// A connection that is reset fails as it does on a socket:
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # fn chat(tokens: u64) -> http::Request<String> {
/// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
/// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
/// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
/// # }
/// use std::io::ErrorKind;
/// use tollhouse_sim::{Faults, Sim};
/// use tower::Service;
///
/// // `chat(600)` is a chat of 600 tokens.
/// let faults = Faults {
///     reset: 1.0,
///     ..Faults::default()
/// };
/// let mut service = Sim::builder().faults(faults).build()?.service();
/// let lost = service.call(chat(600)).await;
/// assert_eq!(lost.unwrap_err().kind(), ErrorKind::ConnectionReset);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct SimService {
    router: Router,
}

impl SimService {
    pub(crate) fn new(router: Router) -> Self {
        Self { router }
    }
}

impl<B> Service<Request<B>> for SimService
where
    B: Into<Body>,
{
    type Response = Response<Body>;
    type Error = io::Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> ResponseFuture {
        ResponseFuture {
            answer: self.router.call(request.map(Into::into)),
        }
    }
}

impl fmt::Debug for SimService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimService").finish_non_exhaustive()
    }
}

pin_project! {
    /// The answer of a [`SimService`], which its [`call`](Service::call)
    /// returns. Dropping it ends the call.
    pub struct ResponseFuture {
        #[pin]
        answer: RouteFuture<Infallible>,
    }
}

impl Future for ResponseFuture {
    type Output = io::Result<Response<Body>>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Ok(response) = ready!(self.project().answer.poll(cx));
        Poll::Ready(match response.extensions().get::<Reset>() {
            Some(Reset) => Err(connection_reset()),
            None => Ok(response),
        })
    }
}

impl fmt::Debug for ResponseFuture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
