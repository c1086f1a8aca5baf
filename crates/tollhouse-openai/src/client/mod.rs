//! The transport: one HTTP client to one account at one base URL.
//!
//! ```text
//! OpenAi            completes the request: address, key, content type
//!   WithVerdict        leaves the verdict and the limits in the extensions
//!     Transport     hyper over rustls, with its two timeouts
//! ```

mod body;
mod builder;
mod connect;
mod deaf;
pub(crate) mod error;
mod future;
mod inline;
mod patience;
mod peer;
mod streaming;
mod target;
mod transport;
mod upload;

#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::header::{AUTHORIZATION, CONTENT_LENGTH, CONTENT_TYPE, HOST, USER_AGENT};
use http::header::{Entry, HeaderName};
use http::{HeaderMap, HeaderValue, Method, Request, Response};
use http_body::Body as _;
use tower_service::Service;

pub use body::ResponseBody;
pub use builder::OpenAiBuilder;
pub use error::Error;
pub use future::ResponseFuture;
pub use streaming::StreamingOpenAi;

use crate::call::{CallBody, RequestBody};
use crate::layers::verdict::WithVerdict;
use target::{Resolved, Target};
use transport::Transport;

const ORGANIZATION: HeaderName = HeaderName::from_static("openai-organization");
const PROJECT: HeaderName = HeaderName::from_static("openai-project");

/// An OpenAI-style API as a [`Service`] from requests to responses.
///
/// Requests name a path (`/v1/chat/completions` or `/chat/completions`), which
/// is resolved against the base URL as the Batch API does: a `/v1` that both
/// have is not doubled. An absolute URI is taken as it is, but the key goes
/// to the base URL's origin alone. Where they are missing, the key (with its organization and
/// project) and `content-type: application/json` are added; an `authorization` that is there
/// is kept. Redirects are not followed, and an HTTP proxy that the environment names
/// (`HTTPS_PROXY`, `ALL_PROXY`) is not asked.
///
/// Every response carries [`RateLimits`](crate::RateLimits) in its extensions,
/// an unsuccessful one a [`Verdict`](crate::Verdict) too; its body has been read
/// for that and is handed on unchanged. An error is returned only where there
/// was no response.
///
/// # Examples
///
/// ```
/// use bytes::Bytes;
/// use http::Request;
/// use http_body_util::BodyExt;
/// use tollhouse_openai::{OpenAi, RateLimits};
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A simulated provider; for OpenAI itself, `OpenAi::from_env()?` is enough.
/// let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
/// let openai = OpenAi::builder()
///     .base_url(sim.url())
///     .api_key("sk-simulated")
///     .build()?;
/// let request = Request::post("/v1/responses")
///     .body(Bytes::from(r#"{"model": "gpt-5.4", "input": "ping"}"#))?;
/// let response = openai.oneshot(request).await?;
/// assert_eq!(response.status(), 200);
/// let limits = response.extensions().get::<RateLimits>().copied().unwrap();
/// assert!(limits.remaining_tokens < limits.limit_tokens);
///
/// let body = response.into_body().collect().await?.to_bytes();
/// assert!(body.starts_with(b"{"));
/// # Ok(())
/// # }
/// ```
///
/// # Upgrades
///
/// A request with an `upgrade` header goes over HTTP/1.1. The connection of an answer
/// with status 101 is had by `hyper::upgrade::on`.
///
/// # Timeouts
///
/// A connection must stand within the connect timeout (10 seconds). The head
/// of the answer must come within the attempt timeout (10 minutes, as in
/// the official SDKs), counted from the first poll of the future and including
/// the connecting; the same time is the longest pause between two pieces of the
/// body. A whole body has 10 minutes from its head on; a stream may take hours.
///
/// # Cloning
///
/// A clone is cheap and shares the connections.
///
/// # Cancellation
///
/// Dropping the future or the body stops the work upstream: the connection is
/// closed under HTTP/1.1, the stream is reset under HTTP/2.
///
/// # Panics
///
/// Its future must be polled within a tokio runtime that has time and IO
/// enabled.
#[derive(Clone)]
pub struct OpenAi {
    account: Arc<Account>,
    transport: WithVerdict<Transport>,
}

/// Where requests go, and as whom.
struct Account {
    base: Target,
    /// Marked sensitive.
    authorization: Option<HeaderValue>,
    /// Both are sent with it.
    organization: Option<HeaderValue>,
    project: Option<HeaderValue>,
}

impl OpenAi {
    /// A client as the environment describes it: `OPENAI_API_KEY`, and
    /// `OPENAI_BASE_URL`, `OPENAI_ORG_ID` and `OPENAI_PROJECT_ID` if they are set and not
    /// empty.
    ///
    /// # Errors
    ///
    /// [`Error::is_config`] where the key is missing or cannot be sent, the base URL is
    /// none, or the organization or the project cannot be sent.
    pub fn from_env() -> Result<OpenAi, Error> {
        OpenAiBuilder::from_vars(|name| std::env::var(name).ok())?.build()
    }

    /// Begins to describe a client; every setting has a default.
    pub fn builder() -> OpenAiBuilder {
        OpenAiBuilder::default()
    }

    /// The base URL.
    pub fn base_url(&self) -> &http::Uri {
        self.account.base.url()
    }

    /// This client for requests whose bodies may be streamed.
    pub fn streaming(self) -> StreamingOpenAi {
        StreamingOpenAi::new(self)
    }

    fn send(&mut self, mut request: Request<RequestBody>) -> ResponseFuture {
        match self.complete(&mut request) {
            Ok(()) => ResponseFuture::called(self.transport.call(request)),
            Err(error) => ResponseFuture::failed(error),
        }
    }

    fn complete(&self, request: &mut Request<RequestBody>) -> Result<(), Error> {
        let base = &self.account.base;
        let is_inline = self.transport.get_ref().is_inline(request);
        let target = base.resolve(request.uri())?;
        let writes_host = is_inline && matches!(target, Resolved::Here(_));
        let is_ours = match target {
            Resolved::Here(path) => {
                *request.uri_mut() = match is_inline {
                    true => path.into(),
                    false => base.absolute(path),
                };
                true
            }
            Resolved::Origin => true,
            Resolved::Elsewhere => false,
        };
        // What kind of thing is streamed, only its sender knows.
        let whole = request.body().whole();
        let is_json = whole.is_some_and(|whole| !whole.is_empty());
        // RFC 9110, section 8.6: where a method has content, that there is none is said.
        let has_content = [Method::POST, Method::PUT, Method::PATCH].contains(request.method());
        let length = request.body().size_hint().exact();
        let is_without = has_content && whole.is_some() && length == Some(0);
        let headers = request.headers_mut();
        // Both belong to whoever sent it here (a proxy's own client); the transport
        // writes the right ones, the host over what is there where it drives the connection.
        if !writes_host {
            headers.remove(HOST);
        }
        if !tells(headers, length) {
            headers.remove(CONTENT_LENGTH);
        }
        if is_without {
            headers.insert(CONTENT_LENGTH, HeaderValue::from_static("0"));
        }
        if is_ours {
            self.account.sign(headers);
        }
        if is_json {
            headers
                .entry(CONTENT_TYPE)
                .or_insert(HeaderValue::from_static("application/json"));
        }
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(concat!(
                "tollhouse/",
                env!("CARGO_PKG_VERSION")
            )));
        Ok(())
    }
}

/// Whether a body's length is told already, once and as the transport would write it.
fn tells(headers: &HeaderMap, length: Option<u64>) -> bool {
    let mut told = headers.get_all(CONTENT_LENGTH).iter();
    let (Some(first), None) = (told.next(), told.next()) else {
        return false;
    };
    let is_plain = matches!(first.as_bytes(), [b'1'..=b'9', ..]);
    let told = first.to_str().ok().and_then(|told| told.parse().ok());
    is_plain && told.is_some() && told == length
}

impl Account {
    /// Says as whom, unless the request says so itself.
    fn sign(&self, headers: &mut HeaderMap) {
        let Some(authorization) = &self.authorization else {
            return;
        };
        if let Entry::Vacant(none) = headers.entry(AUTHORIZATION) {
            none.insert(authorization.clone());
            let whose = [(ORGANIZATION, &self.organization), (PROJECT, &self.project)];
            for (name, id) in whose {
                if let Some(id) = id {
                    headers.entry(name).or_insert_with(|| id.clone());
                }
            }
        }
    }
}

impl Service<Request<Bytes>> for OpenAi {
    type Response = Response<ResponseBody>;
    type Error = Error;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Service::<Request<RequestBody>>::poll_ready(&mut self.transport, cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> ResponseFuture {
        self.send(request.map(RequestBody::from))
    }
}

impl fmt::Debug for OpenAi {
    /// Tells whether there is a key, never the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OpenAi")
            .field("base_url", self.base_url())
            .field("has_key", &self.account.authorization.is_some())
            .finish_non_exhaustive()
    }
}
