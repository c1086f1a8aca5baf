use std::task::{Context, Poll};

use http::{Request, Response};
use tower_service::Service;

use super::{Error, OpenAi, ResponseBody, ResponseFuture};
use crate::call::RequestBody;

/// An [`OpenAi`] for requests whose bodies may be streamed; made by
/// [`OpenAi::streaming`].
///
/// # Cloning
///
/// A clone shares the connections.
///
/// # Examples
///
/// A proxy's client, behind a policy: uploads pass as they come, everything
/// else is collected, read, and asked again where that is right.
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::Full;
/// use tollhouse_openai::adapters::WholeBodyLayer;
/// use tollhouse_openai::{OpenAi, Policy};
/// use tollhouse_sim::Sim;
/// use tower::{ServiceBuilder, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// # let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
/// let openai = OpenAi::builder()
///     .base_url(sim.url())
///     .api_key("sk-simulated")
///     .build()?;
/// let client = ServiceBuilder::new()
///     .layer(WholeBodyLayer::new(10 * 1024 * 1024).streaming_multipart())
///     .layer(Policy::default().layer())
///     .service(openai.streaming());
///
/// let body = Full::<Bytes>::from(r#"{"model": "gpt-4o", "input": "Hi"}"#);
/// let answer = client.oneshot(Request::post("/v1/responses").body(body)?).await?;
/// assert_eq!(answer.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct StreamingOpenAi {
    openai: OpenAi,
}

impl StreamingOpenAi {
    pub(super) fn new(openai: OpenAi) -> Self {
        StreamingOpenAi { openai }
    }

    /// The client of whole bodies.
    pub fn into_inner(self) -> OpenAi {
        self.openai
    }
}

impl Service<Request<RequestBody>> for StreamingOpenAi {
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        self.openai.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> ResponseFuture {
        self.openai.send(request)
    }
}
