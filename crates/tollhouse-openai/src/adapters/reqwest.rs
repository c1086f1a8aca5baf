//! reqwest's client behind a policy, in reqwest's types. Feature `reqwest`.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use ::reqwest::{Body, Client, Request, Response, ResponseBuilderExt};
use bytes::Bytes;
use http_body_util::BodyExt;
use tollhouse::{BoxError, Error};
use tower_layer::Layer;
use tower_service::Service;

use super::ready;
use crate::account::Account;
use crate::policy::{Limited, LimitedBody, Policy, PolicyLayer};

impl Policy {
    /// A reqwest client behind this policy.
    ///
    /// All clients of one policy, of whatever kind, share its limits.
    ///
    /// # Examples
    ///
    /// ```
    /// use tollhouse_openai::Policy;
    /// use tollhouse_sim::Sim;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// // A simulated provider, in place of `https://api.openai.com/v1`.
    /// let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
    /// let base = sim.url();
    /// let plain = reqwest::Client::new();
    /// let client = Policy::default().reqwest(plain.clone());
    ///
    /// let request = plain
    ///     .post(format!("{base}/responses"))
    ///     .bearer_auth("sk-simulated")
    ///     .header("content-type", "application/json")
    ///     .body(r#"{"model": "gpt-4o-mini", "input": "Hi"}"#)
    ///     .build()?;
    /// let answer = client.execute(request).await?;
    /// assert_eq!(answer.status(), 200);
    /// # Ok(())
    /// # }
    /// ```
    pub fn reqwest(&self, client: Client) -> ReqwestClient {
        ReqwestClient::behind(&self.layer(), client)
    }
}

impl Account {
    /// A reqwest client behind this account, as [`Policy::reqwest`].
    pub fn reqwest(&self, client: Client) -> ReqwestClient {
        ReqwestClient::behind(&self.layer(), client)
    }
}

/// A reqwest client behind a policy or an account; made by [`Policy::reqwest`] and
/// [`Account::reqwest`].
///
/// The body of a request is collected before the call stands in line. A timeout
/// of the request's own counts for each attempt, from its launch; one of the
/// client's as well.
///
/// # Cloning
///
/// Clones share the policy and the connections.
///
/// # Cancellation
///
/// Dropping the future of a call gives back what it held; once it was launched,
/// its charge stands.
///
/// # Examples
///
/// It is a tower service as well, for layers of one's own around it:
///
/// ```
/// use tollhouse_openai::Policy;
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
/// let base = sim.url();
/// let plain = reqwest::Client::new();
/// let client = Policy::default()
///     .reqwest(plain.clone())
///     .map_response(|answer: reqwest::Response| answer.status());
/// let request = plain.get(format!("{base}/models")).build()?;
/// assert_eq!(client.oneshot(request).await?, 200);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ReqwestClient {
    inner: Limited<ReqwestTransport>,
}

impl ReqwestClient {
    fn behind(layer: &PolicyLayer, client: Client) -> Self {
        ReqwestClient {
            inner: layer.layer(ReqwestTransport::new(client)),
        }
    }

    /// Sends a request when the policy lets it, and again where that is right.
    ///
    /// # Errors
    ///
    /// A gate's refusal, or reqwest's own error behind
    /// [`downcast_ref`](Error::downcast_ref). An unsuccessful answer is an answer.
    ///
    /// # Examples
    ///
    /// A request that can never fit is not sent:
    ///
    /// ```
    /// use tollhouse_openai::{ChargeRule, Policy, Refused};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let plain = reqwest::Client::new();
    /// let client = Policy::default()
    ///     .charge_rule(ChargeRule::Fixed(45_411))
    ///     .reqwest(plain.clone());
    /// let request = plain.post("http://127.0.0.1:8788/v1/responses").build()?;
    /// let error = client.execute(request).await.unwrap_err();
    /// assert_eq!(
    ///     error.refused(),
    ///     Some(&Refused::TooLarge {
    ///         cost: 45_411,
    ///         limit: 25_500
    ///     })
    /// );
    /// # Ok(())
    /// # }
    /// ```
    pub async fn execute(&self, request: Request) -> Result<Response, Error> {
        let request = whole(request).await.map_err(Error::inner)?;
        ready::call(self.inner.clone(), request)
            .await
            .map(response)
            .map_err(Error::inner)
    }
}

impl Service<Request> for ReqwestClient {
    type Response = Response;
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        // A policy is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.execute(request).await })
    }
}

impl fmt::Debug for ReqwestClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReqwestClient").finish_non_exhaustive()
    }
}

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
pub(super) fn unanswered<E>(error: ::reqwest::Error) -> Error
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

pub(super) async fn send(
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
pub(super) async fn whole(request: Request) -> Result<http::Request<Bytes>, ::reqwest::Error> {
    let timeout = request.timeout().copied();
    let (mut head, body) = http::Request::<Body>::try_from(request)?.into_parts();
    if let Some(timeout) = timeout {
        head.extensions.insert(Timeout(timeout));
    }
    let body = body.collect().await?.to_bytes();
    Ok(http::Request::from_parts(head, body))
}

/// An answer in reqwest's type, the call's passes inside its body.
pub(super) fn response(answer: http::Response<LimitedBody<Body>>) -> Response {
    Response::from(answer.map(Body::wrap))
}
