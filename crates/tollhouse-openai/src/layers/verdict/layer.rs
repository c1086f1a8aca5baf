use tower_layer::Layer;

use super::WithVerdict;

/// Makes [`WithVerdict`] services. See the [module](super) for why.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::{Request, Response};
/// use http_body_util::Full;
/// use tollhouse_openai::{VerdictLayer, Scope, Verdict};
/// use tower::{ServiceBuilder, ServiceExt, service_fn};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let spent = r#"{"error": {"code": "insufficient_quota"}}"#;
/// let client = ServiceBuilder::new()
///     .layer(VerdictLayer::new())
///     .service(service_fn(move |_: Request<Bytes>| async move {
///         Response::builder()
///             .status(429)
///             .body(Full::<Bytes>::from(spent))
///     }));
/// let answer = client.oneshot(Request::default()).await?;
/// let verdict = answer.extensions().get::<Verdict>().unwrap();
/// assert_eq!((verdict.scope, verdict.retry), (Scope::Quota, false));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct VerdictLayer {}

impl VerdictLayer {
    /// A layer; there is nothing to configure.
    pub fn new() -> Self {
        VerdictLayer {}
    }
}

impl<S> Layer<S> for VerdictLayer {
    type Service = WithVerdict<S>;

    fn layer(&self, inner: S) -> WithVerdict<S> {
        WithVerdict::new(inner)
    }
}
