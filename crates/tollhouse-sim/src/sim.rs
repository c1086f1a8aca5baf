//! The simulated provider as its users hold it.

use std::future::Future;
use std::io;
use std::sync::Arc;

use axum::Router;
use tokio::net::{TcpListener, ToSocketAddrs};

use crate::builder::Builder;
use crate::config::{Config, ConfigError};
use crate::provider::Provider;
use crate::report::Report;
use crate::serve::{Served, serve};
use crate::wire::{SimService, router};

/// A simulated provider.
///
/// # Cloning
///
/// Clones, and every router, service and server made from them, are one
/// provider: one set of accounts, one report.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # fn chat(tokens: u64) -> http::Request<String> {
/// #     let (asked, said) = (tokens - 4, r#"[{"role":"user","content":"Hi there"}]"#);
/// #     let body = format!(r#"{{"model":"gpt-4o","max_tokens":{asked},"messages":{said}}}"#);
/// #     http::Request::post("/v1/chat/completions").body(body).unwrap()
/// # }
/// use tollhouse_sim::Sim;
/// use tower::ServiceExt;
///
/// // `chat(600)` is a chat of 600 tokens.
/// let sim = Sim::builder().tokens_per_minute(1_000).build()?;
/// // Both services have the same limit.
/// let (one, other) = (sim.service(), sim.clone().service());
/// assert_eq!(one.oneshot(chat(600)).await?.status(), 200);
/// assert_eq!(other.oneshot(chat(600)).await?.status(), 429);
/// assert_eq!(sim.report().arrived, 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Sim {
    provider: Arc<Provider>,
}

impl Sim {
    /// Begins with the default [`Config`].
    pub fn builder() -> Builder {
        Builder::default()
    }

    /// Makes the provider that is configured.
    ///
    /// # Errors
    ///
    /// A setting is not allowed.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        config.validate()?;
        Ok(Self {
            provider: Arc::new(Provider::new(config)),
        })
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.provider.config
    }

    /// What it saw until now.
    pub fn report(&self) -> Report {
        self.provider.report()
    }

    /// Its routes, to be nested or served by axum. Since a router cannot fail,
    /// a connection reset is an answer there whose body fails at once with
    /// `ConnectionReset`; [`service`](Self::service) and
    /// [`serve`](Self::serve) do better.
    pub fn router(&self) -> Router {
        router(Arc::clone(&self.provider))
    }

    /// A tower service, in the process and in virtual time.
    pub fn service(&self) -> SimService {
        SimService::new(self.router())
    }

    /// Serves HTTP/1.1 until `stop` is done, then accepts no more, lets the
    /// calls in flight end, and returns. A failure to accept is logged, and
    /// tried again.
    ///
    /// # Cancellation
    ///
    /// Dropping the future resets all connections.
    pub async fn serve(&self, listener: TcpListener, stop: impl Future<Output = ()>) {
        serve(self.service(), listener, stop).await;
    }

    /// Serves at `address` in a task of its own; port 0 takes a free one.
    ///
    /// # Errors
    ///
    /// The address cannot be listened at.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime.
    ///
    /// # Examples
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    /// use tokio::net::TcpStream;
    /// use tollhouse_sim::Sim;
    ///
    /// let served = Sim::builder().build()?.spawn("127.0.0.1:0").await?;
    /// let mut client = TcpStream::connect(served.addr()).await?;
    /// client.write_all(b"GET /v1/models HTTP/1.0\r\n\r\n").await?;
    /// let mut answer = String::new();
    /// client.read_to_string(&mut answer).await?;
    /// assert!(answer.contains("gpt-4o-mini"));
    /// served.shutdown().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub async fn spawn(&self, address: impl ToSocketAddrs) -> io::Result<Served> {
        Served::start(self.service(), address).await
    }
}

// ===== impl Builder =====

/// Here and not beside the rest, so that a builder knows no provider.
impl Builder {
    /// Makes the provider.
    ///
    /// # Errors
    ///
    /// The first setting that is not allowed, with its value and what is.
    pub fn build(self) -> Result<Sim, ConfigError> {
        Sim::new(self.config)
    }
}
