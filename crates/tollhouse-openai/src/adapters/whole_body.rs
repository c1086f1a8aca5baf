//! For callers whose request body arrives in pieces.

use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Request};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Collected, LengthLimitError, Limited};
use pin_project_lite::pin_project;
use tollhouse::{BoxError, Error};
use tower_layer::Layer;
use tower_service::Service;

use crate::call::RequestBody;

type Pinned<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

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
pub struct WholeBodyLayer<M = Everything> {
    max_bytes: usize,
    which: PhantomData<fn() -> M>,
}

/// The service of a [`WholeBodyLayer`], which shows one at work.
#[derive(Clone, Copy, Debug)]
pub struct WholeBody<S, M = Everything> {
    inner: S,
    max_bytes: usize,
    which: PhantomData<fn() -> M>,
}

/// All bodies are collected; what a [`WholeBodyLayer`] begins with.
#[derive(Clone, Copy, Debug)]
pub enum Everything {}

/// All bodies but uploads are collected; see
/// [`streaming_multipart`](WholeBodyLayer::streaming_multipart).
#[derive(Clone, Copy, Debug)]
pub enum ExceptMultipart {}

/// A request's body was longer than a [`WholeBodyLayer`] allows, which shows how to
/// find it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyTooLong {
    max_bytes: usize,
}

impl WholeBodyLayer {
    /// Collects bodies of at most this many bytes.
    pub fn new(max_bytes: usize) -> Self {
        Self {
            max_bytes,
            which: PhantomData,
        }
    }

    /// Passes bodies whose content type is `multipart/..` on as they come, of
    /// whatever length: uploads are under the limit of requests alone, and not
    /// asked again. The client must take a [`RequestBody`], as
    /// [`StreamingOpenAi`](crate::StreamingOpenAi) does, which shows one.
    #[must_use]
    pub fn streaming_multipart(self) -> WholeBodyLayer<ExceptMultipart> {
        WholeBodyLayer {
            max_bytes: self.max_bytes,
            which: PhantomData,
        }
    }
}

impl<S, M> Layer<S> for WholeBodyLayer<M> {
    type Service = WholeBody<S, M>;

    fn layer(&self, inner: S) -> WholeBody<S, M> {
        WholeBody {
            inner,
            max_bytes: self.max_bytes,
            which: PhantomData,
        }
    }
}

impl<S, M> WholeBody<S, M> {
    /// Calls the service that is ready once the request is.
    fn call_with<Q>(
        &mut self,
        request: impl Future<Output = Result<Request<Q>, Error>> + Send + 'static,
    ) -> Pinned<S::Response>
    where
        S: Service<Request<Q>> + Clone + Send + 'static,
        S::Future: Send,
        S::Error: Into<BoxError>,
        Q: Send,
    {
        let clone = self.inner.clone();
        let mut ready = std::mem::replace(&mut self.inner, clone);
        Box::pin(async move {
            let request = request.await?;
            ready.call(request).await.map_err(Error::inner)
        })
    }
}

impl<S, B> Service<Request<B>> for WholeBody<S, ExceptMultipart>
where
    S: Service<Request<RequestBody>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<BoxError>,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Into<BoxError>,
{
    type Response = S::Response;
    type Error = Error;
    type Future = Pinned<S::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let max_bytes = self.max_bytes;
        self.call_with(async move {
            Ok(match is_multipart(&request) {
                true => request.map(|body| RequestBody::streamed(InBytes { body })),
                false => whole(request, max_bytes).await?.map(with_trailers),
            })
        })
    }
}

impl<S, B> Service<Request<B>> for WholeBody<S, Everything>
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
    type Future = Pinned<S::Response>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.inner.poll_ready(cx).map_err(Error::inner)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let whole = whole(request, self.max_bytes);
        self.call_with(async { Ok(whole.await?.map(Collected::to_bytes)) })
    }
}

fn is_multipart<B>(request: &Request<B>) -> bool {
    let kind = request.headers().get(CONTENT_TYPE);
    let kind = kind.map(HeaderValue::as_bytes).unwrap_or_default();
    let start = kind.get(..MULTIPART.len());
    start.is_some_and(|start| start.eq_ignore_ascii_case(MULTIPART))
}

const MULTIPART: &[u8] = b"multipart/";

pin_project! {
    /// A body in [`Bytes`]; nothing is copied of one that is in bytes already.
    struct InBytes<B> {
        #[pin]
        body: B,
    }
}

impl<B: Body> Body for InBytes<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        let frame = ready!(self.project().body.poll_frame(cx));
        let in_bytes = |mut data: B::Data| data.copy_to_bytes(data.remaining());
        Poll::Ready(frame.map(|frame| frame.map(|frame| frame.map_data(in_bytes))))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    /// The provider is told how long an upload is, where its sender told it.
    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

async fn whole<B>(
    request: Request<B>,
    max_bytes: usize,
) -> Result<Request<Collected<B::Data>>, Error>
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
    Ok(Request::from_parts(head, body))
}

/// With what is said behind it, which [`Bytes`] have no room for.
fn with_trailers(body: Collected<impl Buf>) -> RequestBody {
    match body.trailers().cloned() {
        Some(trailers) => RequestBody::with_trailers(body.to_bytes(), trailers),
        None => RequestBody::from(body.to_bytes()),
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_too_long_names_what_is_allowed() {
        for (max_bytes, said) in [
            (0, "the request's body is longer than 0 bytes"),
            (1, "the request's body is longer than 1 byte"),
            (10, "the request's body is longer than 10 bytes"),
        ] {
            assert_eq!(BodyTooLong { max_bytes }.to_string(), said);
        }
    }
}
