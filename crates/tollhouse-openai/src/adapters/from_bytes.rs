//! For clients whose request body is a type of their own.

use std::fmt;
use std::marker::PhantomData;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use tower_layer::Layer;
use tower_service::Service;

/// Makes a client of requests with a body `B` one of requests with bytes, as a
/// policy needs it; any `B` that can be made from [`Bytes`]: `Full<Bytes>`, axum's
/// `Body`, reqwest's.
///
/// # Ordering
///
/// Directly around the client, inside the policy.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tollhouse_openai::Policy;
/// use tollhouse_openai::adapters::FromBytesLayer;
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// // Such as hyper's: `Client::builder(TokioExecutor::new()).build_http()`.
/// let client = tower::service_fn(|request: Request<Full<Bytes>>| async {
///     Ok::<_, std::io::Error>(Response::new(request.into_body()))
/// });
///
/// let client = Policy::default()
///     .layer()
///     .layer(FromBytesLayer::new().layer(client));
/// let request = Request::post("/v1/responses").body(Bytes::from("{}"))?;
/// assert_eq!(client.oneshot(request).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
pub struct FromBytesLayer<B> {
    body: PhantomData<fn() -> B>,
}

/// The service of a [`FromBytesLayer`], which shows one at work.
pub struct FromBytes<S, B> {
    inner: S,
    body: PhantomData<fn() -> B>,
}

impl<B> FromBytesLayer<B> {
    /// The layer; the client tells what `B` is.
    pub fn new() -> Self {
        Self { body: PhantomData }
    }
}

impl<S, B> Layer<S> for FromBytesLayer<B> {
    type Service = FromBytes<S, B>;

    fn layer(&self, inner: S) -> FromBytes<S, B> {
        FromBytes {
            inner,
            body: PhantomData,
        }
    }
}

impl<S, B> Service<Request<Bytes>> for FromBytes<S, B>
where
    S: Service<Request<B>>,
    B: From<Bytes>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = S::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> S::Future {
        self.inner.call(request.map(B::from))
    }
}

// By hand: what is derived would demand the same of `B`.

impl<B> Default for FromBytesLayer<B> {
    fn default() -> Self {
        Self::new()
    }
}

impl<B> Clone for FromBytesLayer<B> {
    fn clone(&self) -> Self {
        Self::new()
    }
}

impl<S: Clone, B> Clone for FromBytes<S, B> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            body: PhantomData,
        }
    }
}

impl<B> fmt::Debug for FromBytesLayer<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("FromBytesLayer")
    }
}

impl<S: fmt::Debug, B> fmt::Debug for FromBytes<S, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FromBytes").field(&self.inner).finish()
    }
}
