//! async-openai's typed client behind a policy. Feature `async-openai`.
//!
//! ```
//! use async_openai::Client;
//! use tollhouse_openai::Policy;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let policy = Policy::from_env()?;
//! let client = Client::new().with_http_service(policy.async_openai());
//! # let _ = client;
//! # Ok(())
//! # }
//! ```
//!
//! [`Policy::async_openai`] shows a call. From there on typed chat, responses,
//! embeddings and streams run through the gates. async-openai's own retries are
//! off, since a service of one's own takes the place of its retry layer:
//! retries within retries multiply. The policy's are on.
//!
//! # Errors
//!
//! A gate's refusal is [`OpenAIError::Boxed`] with a [`tollhouse::Error`] inside,
//! which [`ApiError`](crate::ApiError) can be made from; an unsuccessful answer is
//! async-openai's own `ApiError`, as without a policy.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use ::async_openai::error::OpenAIError;
use ::async_openai::middleware::HttpRequestFactory;
use ::reqwest::{Body, Client, Response};
use bytes::Bytes;
use http::{Request, header};
use tower_layer::Layer;
use tower_service::Service;

use super::ready;
use super::reqwest::{response, send, unanswered, whole};
use crate::account::Account;
use crate::policy::{Limited, Policy};

type Pinned<T> = Pin<Box<dyn Future<Output = Result<T, OpenAIError>> + Send>>;

impl Policy {
    /// What async-openai's `Client::with_http_service` takes, over a new reqwest
    /// client.
    ///
    /// See the [module](crate::adapters::async_openai) for what becomes of errors.
    ///
    /// # Examples
    ///
    /// ```
    /// use async_openai::Client;
    /// use async_openai::config::OpenAIConfig;
    /// use async_openai::types::embeddings::CreateEmbeddingRequestArgs;
    /// use tollhouse_openai::Policy;
    /// use tollhouse_sim::Sim;
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    /// let sim = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
    /// let base = sim.url();
    /// let policy = Policy::default();
    /// let config = OpenAIConfig::new()
    ///     .with_api_base(base)
    ///     .with_api_key("sk-simulated");
    /// let client = Client::with_config(config).with_http_service(policy.async_openai());
    ///
    /// let request = CreateEmbeddingRequestArgs::default()
    ///     .model("text-embedding-3-small")
    ///     .input("How deep is the sea?")
    ///     .build()?;
    /// let answer = client.embeddings().create(request).await?;
    /// assert_eq!(answer.data.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn async_openai(&self) -> AsyncOpenAi {
        self.async_openai_over(Client::new())
    }

    /// The same over a reqwest client of your own: its proxies, certificates and
    /// timeouts.
    pub fn async_openai_over(&self, client: Client) -> AsyncOpenAi {
        AsyncOpenAi {
            inner: self.layer().layer(Rebuilding { client }),
        }
    }
}

impl Account {
    /// As [`Policy::async_openai`], with a pool for each model.
    pub fn async_openai(&self) -> AsyncOpenAi {
        self.async_openai_over(Client::new())
    }

    /// As [`Policy::async_openai_over`], with a pool for each model.
    pub fn async_openai_over(&self, client: Client) -> AsyncOpenAi {
        AsyncOpenAi {
            inner: self.layer().layer(Rebuilding { client }),
        }
    }
}

/// A policy as async-openai's HTTP service; made by [`Policy::async_openai`],
/// which shows one at work.
///
/// # Cloning
///
/// Clones share the policy and the connections, as do all clients of one policy.
#[derive(Clone)]
pub struct AsyncOpenAi {
    inner: Limited<Rebuilding>,
}

impl Service<HttpRequestFactory> for AsyncOpenAi {
    type Response = Response;
    type Error = OpenAIError;
    type Future = Pinned<Response>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), OpenAIError>> {
        // A policy is always ready.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, factory: HttpRequestFactory) -> Self::Future {
        let inner = self.inner.clone();
        Box::pin(async move {
            let mut request = built(&factory).await?;
            let origin = Origin::new(factory, request.body().clone());
            request.extensions_mut().insert(origin);
            let answer = ready::call(inner, request).await.map_err(error)?;
            Ok(response(answer))
        })
    }
}

impl fmt::Debug for AsyncOpenAi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AsyncOpenAi").finish_non_exhaustive()
    }
}

/// The transport of [`AsyncOpenAi`]: its first attempt sends the request whose
/// cost was reckoned, every further one a request built anew.
#[derive(Clone, Debug)]
struct Rebuilding {
    client: Client,
}

/// Where a request came from.
#[derive(Clone)]
struct Origin {
    factory: HttpRequestFactory,
    body: Bytes,
    sent: Arc<AtomicBool>,
}

impl Service<Request<Bytes>> for Rebuilding {
    type Response = http::Response<Body>;
    type Error = tollhouse::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, tollhouse::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), tollhouse::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let client = self.client.clone();
        Box::pin(async move {
            let request = anew(request).await.map_err(tollhouse::Error::never_sent)?;
            send(&client, request)
                .await
                .map_err(unanswered::<OpenAIError>)
        })
    }
}

impl Origin {
    fn new(factory: HttpRequestFactory, body: Bytes) -> Self {
        Self {
            factory,
            body,
            sent: Arc::default(),
        }
    }
}

async fn built(factory: &HttpRequestFactory) -> Result<Request<Bytes>, OpenAIError> {
    Ok(whole(factory.build().await?).await?)
}

/// The request for one attempt. Of what layers did to it, their headers are
/// kept, and a body that they changed.
async fn anew(request: Request<Bytes>) -> Result<Request<Bytes>, OpenAIError> {
    let Some(origin) = request.extensions().get::<Origin>().cloned() else {
        return Ok(request);
    };
    if !origin.sent.swap(true, Ordering::Relaxed) {
        return Ok(request);
    }
    let mut fresh = built(&origin.factory).await?;
    let (head, body) = request.into_parts();
    let changed = body != origin.body;
    for (name, value) in head.headers {
        // Forms have a new boundary in every body, told by the content type.
        let Some(name) = name else { continue };
        if !fresh.headers().contains_key(&name) || (changed && name == header::CONTENT_TYPE) {
            fresh.headers_mut().insert(name, value);
        }
    }
    if changed {
        *fresh.body_mut() = body;
        fresh.headers_mut().remove(header::CONTENT_LENGTH);
    }
    Ok(fresh)
}

/// async-openai's own errors come back as they were.
fn error(error: tollhouse::Error) -> OpenAIError {
    if error.refused().is_some() || error.downcast_ref::<OpenAIError>().is_none() {
        return OpenAIError::Boxed(Box::new(error));
    }
    match error.into_source().downcast() {
        Ok(error) => *error,
        Err(error) => OpenAIError::Boxed(error),
    }
}
