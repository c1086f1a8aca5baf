use std::error::Error as StdError;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Body;
use pin_project_lite::pin_project;
use tower_layer::Layer;
use tower_service::Service;
use tracing::Span;

use super::{SpannedBody, error, span};
use crate::call::CallBody;
use crate::wire::usage::UsageMeter;

/// Opens a span for every call that asks a model for something; see the
/// [module](super) for its fields.
///
/// # Ordering
///
/// Outside of a [`Policy`](crate::Policy) the span is the caller's call: it
/// lasts through waiting and retries, and what the gates tell of them are events
/// in it. Inside, directly around the client, it is one attempt as the provider
/// sees it. A program may have both.
///
/// # Errors
///
/// `error.type` is the status of an unsuccessful answer (`429`), or else
/// `refused_too_large`, `refused_overloaded`, `refused_too_late`, `refused_exhausted`
/// or `refused_closed` where a gate turned the call away, `timeout`, `connect`,
/// `request`, `body`, and `_OTHER` for whatever is none of these.
///
/// # Examples
///
/// ```
/// # use http::Response;
/// # use http_body_util::Empty;
/// use bytes::Bytes;
/// use http::Request;
/// use tollhouse_openai::Policy;
/// use tollhouse_openai::spans::SpanLayer;
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// // In place of `OpenAi::from_env()`.
/// let provider = service_fn(async |_: Request<Bytes>| {
///     let span = tracing::Span::current();
///     assert_eq!(span.metadata().unwrap().name(), "gen_ai.client");
///     Ok::<_, std::io::Error>(Response::new(Empty::<Bytes>::new()))
/// });
/// let client = ServiceBuilder::new()
///     .layer(SpanLayer::new("openai"))
///     .layer(Policy::default().layer())
///     .service(provider);
///
/// // Or `tracing-opentelemetry`, or whatever else listens.
/// let _guard = tracing::subscriber::set_default(tracing_subscriber::registry());
/// let request = Request::post("/v1/responses")
///     .body(Bytes::from(r#"{"model": "gpt-4o", "input": "Hi"}"#))?;
/// assert_eq!(client.oneshot(request).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug)]
pub struct SpanLayer {
    provider: &'static str,
}

impl SpanLayer {
    /// Spans of calls to `provider`, which the conventions have names for:
    /// `openai`, `azure.ai.openai`, `groq`, `mistral_ai`, `x_ai`, `deepseek`.
    pub fn new(provider: &'static str) -> Self {
        SpanLayer { provider }
    }
}

impl<S> Layer<S> for SpanLayer {
    type Service = Spanned<S>;

    fn layer(&self, inner: S) -> Spanned<S> {
        Spanned {
            inner,
            layer: *self,
        }
    }
}

/// A service whose calls have spans; made by [`SpanLayer`].
///
/// # Cloning
///
/// It has no state of its own; a clone shares what the inner service's shares.
#[derive(Clone, Copy, Debug)]
pub struct Spanned<S> {
    inner: S,
    layer: SpanLayer,
}

impl<S> Spanned<S> {
    inner_accessors!();
}

impl<S, Q, B> Service<Request<Q>> for Spanned<S>
where
    S: Service<Request<Q>, Response = Response<B>>,
    Q: CallBody,
    S::Error: StdError + 'static,
    B: Body<Data = Bytes>,
{
    type Response = Response<SpannedBody<B>>;
    type Error = S::Error;
    type Future = SpanFuture<S::Future>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<Q>) -> Self::Future {
        let span = span::open(self.layer.provider, &mut request);
        let future = span.in_scope(|| self.inner.call(request));
        SpanFuture { future, span }
    }
}

pin_project! {
    /// The future of [`Spanned`].
    ///
    /// # Cancellation
    ///
    /// Dropping it drops the inner future and closes the span.
    pub struct SpanFuture<F> {
        #[pin]
        future: F,
        span: Span,
    }
}

impl<F, B, E> Future for SpanFuture<F>
where
    F: Future<Output = Result<Response<B>, E>>,
    B: Body<Data = Bytes>,
    E: StdError + 'static,
{
    type Output = Result<Response<SpannedBody<B>>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.span.in_scope(|| this.future.poll(cx)));
        // The future may live on; its span must not.
        let span = std::mem::replace(this.span, Span::none());
        Poll::Ready(match result {
            Ok(response) => {
                span::status(&span, response.status());
                let meter = (!span.is_disabled())
                    .then(|| UsageMeter::new(response.status(), response.headers()));
                Ok(response.map(|body| SpannedBody::new(body, span, meter)))
            }
            Err(failed) => {
                span::failure(&span, error::kind(&failed));
                Err(failed)
            }
        })
    }
}

impl<F> fmt::Debug for SpanFuture<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpanFuture")
            .field("span", &self.span)
            .finish_non_exhaustive()
    }
}
