//! Making connections: DNS, TCP and TLS under one timeout.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::HttpConnector;
use tower_service::Service;

use super::Error;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects by http or https within a time.
#[derive(Clone, Debug)]
pub(super) struct Connector {
    inner: HttpsConnector<HttpConnector>,
    timeout: Duration,
}

impl Connector {
    /// `roots_needed` is false where https is not going to be used: then a
    /// system without certificates will do.
    pub(super) fn new(roots_needed: bool, timeout: Duration) -> Result<Connector, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        let inner = HttpsConnectorBuilder::new()
            .with_tls_config(tls(roots_needed)?)
            .https_or_http()
            .enable_all_versions()
            .wrap_connector(tcp);
        Ok(Connector { inner, timeout })
    }
}

fn tls(roots_needed: bool) -> Result<rustls::ClientConfig, Error> {
    use hyper_rustls::ConfigBuilderExt;

    let failed = |error: BoxError| {
        Error::config("the system's root certificates cannot be read".to_owned()).because(error)
    };
    let ring = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(error.into()))?;
    let config = match config.clone().with_native_roots() {
        Ok(config) => config,
        Err(error) if roots_needed => return Err(failed(error.into())),
        Err(_) => config.with_root_certificates(rustls::RootCertStore::empty()),
    };
    Ok(config.with_no_client_auth())
}

impl Service<Uri> for Connector {
    type Response = <HttpsConnector<HttpConnector> as Service<Uri>>::Response;
    type Error = BoxError;
    // Boxed once a connection, not once a request.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, timeout) = (self.inner.call(uri), self.timeout);
        Box::pin(async move {
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => connected,
                Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
