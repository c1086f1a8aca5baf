//! For callers whose request body arrives in pieces.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http_body::Body;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use tollhouse::{BoxError, Error};
use tower_layer::Layer;
use tower_service::Service;

/// Collects the body of each request before it goes on, as a policy needs it:
/// what a request costs is written in its body, and an attempt that failed is
/// sent again from it. For axum handlers and proxies, whose requests stream in.
///
/// # Ordering
///
/// Around the policy. A body is collected before its call stands in line, so a
/// slow sender holds nothing.
///
/// # Errors
///
/// [`BodyTooLong`] for a body above the maximum, the body's own error where it
/// breaks off; both by [`downcast_ref`](Error::downcast_ref). Nothing was sent
/// then.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tollhouse_openai::Policy;
/// use tollhouse_openai::adapters::WholeBodyLayer;
/// use tollhouse_openai::adapters::whole_body::BodyTooLong;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let client = tower::service_fn(|_: Request<Bytes>| async {
///     Ok::<_, std::io::Error>(Response::new(Full::<Bytes>::from("{}")))
/// });
/// let client = ServiceBuilder::new()
///     .layer(WholeBodyLayer::new(100))
///     .layer(Policy::default().layer())
///     .service(client);
///
/// let ask = |text: String| Request::post("/v1/responses").body(Full::<Bytes>::from(text));
/// let answer = client.clone().oneshot(ask("{}".into())?).await?;
/// assert_eq!(answer.status(), 200);
/// let error = client.oneshot(ask("x".repeat(101))?).await.unwrap_err();
/// assert_eq!(error.downcast_ref::<BodyTooLong>().unwrap().max_bytes(), 100);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct WholeBodyLayer {
    max_bytes: usize,
}

/// The service of a [`WholeBodyLayer`], which shows one at work.
#[derive(Clone, Copy, Debug)]
pub struct WholeBody<S> {
    inner: S,
    max_bytes: usize,
}

/// A request's body was longer than a [`WholeBodyLayer`] allows.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tollhouse_openai::adapters::WholeBodyLayer;
/// use tollhouse_openai::adapters::whole_body::BodyTooLong;
/// use tower::{Layer, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let provider = service_fn(async |_: Request<Bytes>| Ok::<_, std::io::Error>(Response::new(())));
/// let client = WholeBodyLayer::new(10).layer(provider);
/// let error = client
///     .oneshot(Request::new(Full::<Bytes>::from("eleven byte")))
///     .await
///     .unwrap_err();
/// let too_long = error.downcast_ref::<BodyTooLong>().unwrap();
/// assert_eq!(
///     too_long.to_string(),
///     "the request's body is longer than 10 bytes"
/// );
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTooLong {
    max_bytes: usize,
}

impl WholeBodyLayer {
    /// Collects bodies of at most this many bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Request, Response};
    /// use http_body_util::Full;
    /// use tollhouse_openai::adapters::WholeBodyLayer;
    /// use tower::{Layer, ServiceExt, service_fn};
    ///
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let length = service_fn(async |request: Request<Bytes>| {
    ///     Ok::<_, std::io::Error>(Response::new(request.body().len()))
    /// });
    /// let client = WholeBodyLayer::new(1024 * 1024).layer(length);
    /// let request = Request::post("/").body(Full::<Bytes>::from("{}"))?;
    /// assert_eq!(*client.oneshot(request).await?.body(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(max_bytes: usize) -> Self {
        Self { max_bytes }
    }
}

impl<S> Layer<S> for WholeBodyLayer {
    type Service = WholeBody<S>;

    fn layer(&self, inner: S) -> WholeBody<S> {
        WholeBody {
            inner,
            max_bytes: self.max_bytes,
        }
    }
}

impl<S, B> Service<Request<B>> for WholeBody<S>
where
    S: Service<Request<Bytes>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let clone = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, clone);
        let max_bytes = self.max_bytes;
        Box::pin(async move {
            let request = whole(request, max_bytes).await?;
            inner.call(request).await.map_err(Error::inner)
        })
    }
}

async fn whole<B>(request: Request<B>, max_bytes: usize) -> Result<Request<Bytes>, Error>
where
    B: Body,
    B::Error: Into<BoxError>,
{
    let (head, body) = request.into_parts();
    let body = Limited::new(body, max_bytes).collect().await;
    let body = body.map_err(|error| match error.is::<LengthLimitError>() {
        true => Error::inner(BodyTooLong { max_bytes }),
        false => Error::inner(error),
    })?;
    Ok(Request::from_parts(head, body.to_bytes()))
}

impl BodyTooLong {
    /// The most that is allowed, in bytes.
    pub fn max_bytes(&self) -> usize {
        self.max_bytes
    }
}

impl fmt::Display for BodyTooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let max = self.max_bytes;
        let bytes = if max == 1 { "byte" } else { "bytes" };
        write!(f, "the request's body is longer than {max} {bytes}")
    }
}

impl StdError for BodyTooLong {}
