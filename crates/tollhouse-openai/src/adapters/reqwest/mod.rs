//! reqwest's client behind a policy, in reqwest's types. Feature `reqwest`.

mod builder;
mod transport;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use ::reqwest::{Body, Client, IntoUrl, Method, Request, Response};
use tollhouse::Error;
use tower_layer::Layer;
use tower_service::Service;

pub use builder::RequestBuilder;
pub use transport::ReqwestTransport;
pub(super) use transport::{send, unanswered, whole};

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
    /// let client = Policy::default().reqwest(reqwest::Client::new());
    ///
    /// let answer = client
    ///     .post(format!("{}/responses", sim.url()))
    ///     .bearer_auth("sk-simulated")
    ///     .json(&serde_json::json!({"model": "gpt-4o-mini", "input": "Hi"}))
    ///     .send()
    ///     .await?;
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
/// It is used as reqwest's own is, so that code which takes a `reqwest::Client` changes a
/// type and not its shape; only the error is [another one](Self::execute).
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
    plain: Client,
    inner: Limited<ReqwestTransport>,
}

macro_rules! methods {
    ($($name:ident $method:ident),+) => {
        $(
            #[doc = concat!("Begins a `", stringify!($method), "` request; see [`request`](Self::request).")]
            pub fn $name(&self, url: impl IntoUrl) -> RequestBuilder {
                self.request(Method::$method, url)
            }
        )+
    };
}

impl ReqwestClient {
    fn behind(layer: &PolicyLayer, client: Client) -> Self {
        ReqwestClient {
            plain: client.clone(),
            inner: layer.layer(ReqwestTransport::new(client)),
        }
    }

    methods!(get GET, post POST, put PUT, patch PATCH, delete DELETE, head HEAD);

    /// Begins a request, as [`Client::request`] does. What is wrong with the address is
    /// told when it is sent.
    pub fn request(&self, method: Method, url: impl IntoUrl) -> RequestBuilder {
        RequestBuilder::new(self.clone(), self.plain.request(method, url))
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

/// An answer in reqwest's type, the call's passes inside its body.
pub(super) fn response(answer: http::Response<LimitedBody<Body>>) -> Response {
    Response::from(answer.map(Body::wrap))
}
