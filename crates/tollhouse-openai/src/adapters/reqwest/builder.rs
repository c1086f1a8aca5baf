//! Requests in reqwest's own style.

use std::fmt::{self, Display};
use std::time::Duration;

use ::reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use ::reqwest::{Body, Request, Response, Version};
use serde::Serialize;
use tollhouse::Error;

use super::ReqwestClient;
use super::transport::unanswered;

/// A request to be sent through a policy, in the style of reqwest's own builder, whose
/// methods these are; made by [`ReqwestClient::post`] and its like.
///
/// What reqwest has behind features of its own, such as forms of several parts, is
/// reached by [`with`](Self::with).
///
/// # Examples
///
/// Only the types of the client and of the error are other ones:
///
/// ```
/// use std::time::Duration;
/// use tollhouse_openai::adapters::reqwest::ReqwestClient;
/// use tollhouse_openai::{BoxError, Policy};
/// use tollhouse_sim::Sim;
///
/// async fn models(client: &ReqwestClient, base: &str) -> Result<String, BoxError> {
///     let answer = client
///         .get(format!("{base}/models"))
///         .bearer_auth("sk-simulated")
///         .query(&[("limit", 20)])
///         .timeout(Duration::from_secs(30))
///         .send()
///         .await?;
///     Ok(answer.error_for_status()?.text().await?)
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), BoxError> {
/// let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
/// let client = Policy::default().reqwest(reqwest::Client::new());
/// assert!(models(&client, &sim.url()).await?.contains("gpt-4o"));
/// # Ok(())
/// # }
/// ```
#[must_use = "a request goes nowhere until it is sent"]
pub struct RequestBuilder {
    client: ReqwestClient,
    request: ::reqwest::RequestBuilder,
}

impl RequestBuilder {
    pub(super) fn new(client: ReqwestClient, request: ::reqwest::RequestBuilder) -> Self {
        RequestBuilder { client, request }
    }

    /// Changes the request by any method of reqwest's own builder.
    pub fn with(
        self,
        change: impl FnOnce(::reqwest::RequestBuilder) -> ::reqwest::RequestBuilder,
    ) -> Self {
        RequestBuilder {
            client: self.client,
            request: change(self.request),
        }
    }

    /// Adds a header.
    pub fn header<K, V>(self, name: K, value: V) -> Self
    where
        HeaderName: TryFrom<K>,
        <HeaderName as TryFrom<K>>::Error: Into<http::Error>,
        HeaderValue: TryFrom<V>,
        <HeaderValue as TryFrom<V>>::Error: Into<http::Error>,
    {
        self.with(|request| request.header(name, value))
    }

    /// Adds headers, which take the place of those of the same names.
    pub fn headers(self, headers: HeaderMap) -> Self {
        self.with(|request| request.headers(headers))
    }

    /// Shows a key, as `Authorization: Bearer ..`.
    pub fn bearer_auth(self, key: impl Display) -> Self {
        self.with(|request| request.bearer_auth(key))
    }

    /// Shows a name and perhaps a password, as `Authorization: Basic ..`.
    pub fn basic_auth(self, name: impl Display, password: Option<impl Display>) -> Self {
        self.with(|request| request.basic_auth(name, password))
    }

    /// Sets the body. One that is streamed is collected before the call stands in line.
    pub fn body(self, body: impl Into<Body>) -> Self {
        self.with(|request| request.body(body))
    }

    /// Sets the body to this value as JSON, and the content type unless it is set.
    pub fn json<T: Serialize + ?Sized>(self, json: &T) -> Self {
        self.with(|request| request.json(json))
    }

    /// Sets the body to these fields of a form, and the content type unless it is set.
    pub fn form<T: Serialize + ?Sized>(self, form: &T) -> Self {
        self.with(|request| request.form(form))
    }

    /// Adds to the address's query.
    pub fn query<T: Serialize + ?Sized>(self, query: &T) -> Self {
        self.with(|request| request.query(query))
    }

    /// How long each attempt may take, from its launch to the last byte of its answer; the
    /// client's own timeout unless set. Waiting at the gates is not part of it.
    pub fn timeout(self, timeout: Duration) -> Self {
        self.with(|request| request.timeout(timeout))
    }

    /// Sets the version of HTTP.
    pub fn version(self, version: Version) -> Self {
        self.with(|request| request.version(version))
    }

    /// Another one of the same request, unless its body is streamed.
    pub fn try_clone(&self) -> Option<Self> {
        Some(RequestBuilder {
            client: self.client.clone(),
            request: self.request.try_clone()?,
        })
    }

    /// The request, to be sent by [`ReqwestClient::execute`].
    ///
    /// # Errors
    ///
    /// Where the address, a header or the body is none.
    pub fn build(self) -> ::reqwest::Result<Request> {
        self.request.build()
    }

    /// The client and the request, to be sent by [`ReqwestClient::execute`].
    pub fn build_split(self) -> (ReqwestClient, ::reqwest::Result<Request>) {
        (self.client, self.request.build())
    }

    /// Sends the request when the policy lets it, and again where that is right.
    ///
    /// # Errors
    ///
    /// As [`ReqwestClient::execute`]; and where the request could not be built, which is
    /// [said](Error::is_never_sent) never to have been sent.
    ///
    /// # Cancellation
    ///
    /// Dropping the future gives back what the call held; once it was launched, its charge
    /// stands.
    pub async fn send(self) -> Result<Response, Error> {
        let (client, request) = self.build_split();
        let request = request.map_err(unanswered::<::reqwest::Error>)?;
        client.execute(request).await
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestBuilder")
            .field("request", &self.request)
            .finish_non_exhaustive()
    }
}
