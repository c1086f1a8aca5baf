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
    pub async fn spawn(&self, address: impl ToSocketAddrs) -> io::Result<Served> {
        Served::start(self.service(), address).await
    }
}
