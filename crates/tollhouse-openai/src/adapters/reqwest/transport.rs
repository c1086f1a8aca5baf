//! reqwest's client as a service of `http`'s types.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::reqwest::{Body, Client, Request, ResponseBuilderExt};
use bytes::Bytes;
use http_body_util::BodyExt;
use tollhouse::{BoxError, Error};
use tower_service::Service;

/// A reqwest client as a service of `http`'s types, to be put behind layers of
/// one's own choice.
///
/// # Cloning
///
/// Clones share the connections.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use tollhouse_openai::adapters::reqwest::ReqwestTransport;
/// use tollhouse_openai::{ConcurrencyLayer, GateLayer};
/// use tollhouse_sim::Sim;
/// use tower::{Layer, ServiceExt};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
/// let base = sim.url();
/// let transport = ReqwestTransport::default();
/// let client = GateLayer::new(ConcurrencyLayer::new(3)).layer(transport);
/// let request = Request::get(format!("{base}/models")).body(Bytes::new())?;
/// assert_eq!(client.oneshot(request).await?.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct ReqwestTransport {
    client: Client,
}

impl ReqwestTransport {
    /// Sends through `client`.
    ///
    /// # Examples
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::Request;
    /// use std::time::Duration;
    /// use tollhouse_openai::adapters::reqwest::ReqwestTransport;
    /// use tollhouse_sim::Sim;
    /// use tower::ServiceExt;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
    /// let base = sim.url();
    /// let client = reqwest::Client::builder()
    ///     .timeout(Duration::from_secs(60))
    ///     .build()?;
    /// let request = Request::get(format!("{base}/models")).body(Bytes::new())?;
    /// let answer = ReqwestTransport::new(client).oneshot(request).await?;
    /// assert_eq!(answer.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn new(client: Client) -> Self {
        Self { client }
    }
}

impl Service<http::Request<Bytes>> for ReqwestTransport {
    type Response = http::Response<Body>;
    /// reqwest's own, which [is said](Error::is_never_sent) never to have been
    /// sent where no connection could be made.
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Bytes>) -> Self::Future {
        let client = self.client.clone();
        Box::pin(async move {
            send(&client, request)
                .await
                .map_err(unanswered::<::reqwest::Error>)
        })
    }
}

/// What reqwest keeps beside the parts that `http` knows.
#[derive(Clone, Copy, Debug)]
struct Timeout(Duration);

/// The error for the gates, with the client's own inside. Nothing of the request
/// ever left where it could not be built, or no connection could be made.
pub(in crate::adapters) fn unanswered<E>(error: ::reqwest::Error) -> Error
where
    E: From<::reqwest::Error> + Into<BoxError>,
{
    let is_never_sent = error.is_connect() || error.is_builder();
    let error = E::from(error);
    match is_never_sent {
        true => Error::never_sent(error),
        false => Error::inner(error),
    }
}

pub(in crate::adapters) async fn send(
    client: &Client,
    request: http::Request<Bytes>,
) -> Result<http::Response<Body>, ::reqwest::Error> {
    let timeout = request.extensions().get::<Timeout>().copied();
    let mut request = Request::try_from(request)?;
    *request.timeout_mut() = timeout.map(|timeout| timeout.0);
    let answer = client.execute(request).await?;
    // reqwest keeps the address beside the response; `http` has no place for it.
    let marked = http::Response::builder().url(answer.url().clone()).body(());
    let mut answer = http::Response::from(answer);
    if let Ok(marked) = marked {
        answer
            .extensions_mut()
            .extend(marked.into_parts().0.extensions);
    }
    Ok(answer)
}

/// A request with its body collected.
pub(in crate::adapters) async fn whole(
    request: Request,
) -> Result<http::Request<Bytes>, ::reqwest::Error> {
    let timeout = request.timeout().copied();
    let (mut head, body) = http::Request::<Body>::try_from(request)?.into_parts();
    if let Some(timeout) = timeout {
        head.extensions.insert(Timeout(timeout));
    }
    let body = body.collect().await?.to_bytes();
    Ok(http::Request::from_parts(head, body))
}
