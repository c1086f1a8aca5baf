//! Making connections: DNS, TCP and TLS under one timeout.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use http::uri::Scheme;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::client::legacy::connect::{Connection, HttpConnector};
use hyper_util::rt::TokioIo;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use tower_service::Service;

use super::Error;
use super::deaf::ToTheDeaf;
use super::peer::Watched;

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Connects within a time.
#[derive(Clone, Debug)]
pub(super) struct Connector<C = Https> {
    inner: C,
    timeout: Duration,
}

/// Connects by https, or by http where the URI says so.
///
/// Where the base URL has no TLS, hardly anybody ever connects to another origin that has, and the
/// system's certificates are read by the first who does.
#[derive(Clone)]
pub(super) struct Https {
    secured: Arc<LazyLock<Secured, Make<Secured>>>,
    plain: HttpConnector,
}

type Secured = HttpsConnector<HttpConnector>;
type Make<T> = Box<dyn FnOnce() -> T + Send>;

/// Connects by http alone: a socket that may have TLS is a kilobyte larger, with TLS or not.
pub(super) type PlainConnector = Connector<HttpConnector>;

/// Connectors to the same peers.
pub(super) struct Connectors {
    /// HTTP/2 where the peer offers it.
    pub(super) any: Connector,
    /// For what only HTTP/1.1 knows: a connection that becomes another protocol's.
    pub(super) http_1: Connector,
    pub(super) plain: PlainConnector,
}

impl Connectors {
    /// `roots_needed` is false where https is not going to be used: then a system without
    /// certificates will do, and they are read once they are needed. `extra_roots`, in PEM,
    /// are trusted beside the system's.
    pub(super) fn new(
        roots_needed: bool,
        extra_roots: &[u8],
        timeout: Duration,
        keep_alive: Duration,
    ) -> Result<Connectors, Error> {
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        // A peer that is gone without a word is found out, under HTTP/1.1, too.
        tcp.set_keepalive(Some(keep_alive));
        tcp.set_keepalive_interval(Some(keep_alive));
        tcp.set_keepalive_retries(Some(3));
        #[cfg(any(target_os = "android", target_os = "fuchsia", target_os = "linux"))]
        tcp.set_tcp_user_timeout(Some(keep_alive.saturating_mul(3)));
        let make: Make<ClientConfig> = tls(roots_needed, extra_roots)?;
        let tls = Arc::new(LazyLock::new(make));
        let with = |tls: &ClientConfig| {
            let builder = HttpsConnectorBuilder::new().with_tls_config(tls.clone());
            builder.https_or_http()
        };
        let for_any = Arc::clone(&tls);
        let any = Https::new(&tcp, move |tcp| {
            let any = with(&for_any).enable_all_versions();
            any.wrap_connector(tcp)
        });
        let http_1 = Https::new(&tcp, move |tcp| {
            let http_1 = with(&tls).enable_http1();
            http_1.wrap_connector(tcp)
        });
        Ok(Connectors {
            any: Connector {
                inner: any,
                timeout,
            },
            http_1: Connector {
                inner: http_1,
                timeout,
            },
            plain: Connector {
                inner: tcp,
                timeout,
            },
        })
    }
}

impl Https {
    fn new(
        plain: &HttpConnector,
        secured: impl FnOnce(HttpConnector) -> Secured + Send + 'static,
    ) -> Self {
        let tcp = plain.clone();
        let make: Make<Secured> = Box::new(|| secured(tcp));
        Https {
            secured: Arc::new(LazyLock::new(make)),
            plain: plain.clone(),
        }
    }
}

impl fmt::Debug for Https {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Https").finish_non_exhaustive()
    }
}

impl Service<Uri> for Https {
    type Response = <Secured as Service<Uri>>::Response;
    type Error = BoxError;
    type Future = <Secured as Service<Uri>>::Future;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.plain.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        if uri.scheme() == Some(&Scheme::HTTPS) {
            return Secured::clone(&self.secured).call(uri);
        }
        let connecting = self.plain.call(uri);
        Box::pin(async { Ok(MaybeHttpsStream::Http(connecting.await?)) })
    }
}

/// What makes the settings of TLS. All that can be wrong about them is known before: whether
/// the added certificates can be read, and those of the system that are needed.
fn tls(roots_needed: bool, extra_roots: &[u8]) -> Result<Make<ClientConfig>, Error> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let settings = ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::config("TLS cannot be set up".to_owned()).because(error))?;
    let mut roots = RootCertStore::empty();
    for added in added(extra_roots)? {
        let unusable = |error| Error::config(format!("{ADDED} cannot be used")).because(error);
        roots.add(added).map_err(unusable)?;
    }
    let trusting = |roots| settings.with_root_certificates(roots).with_no_client_auth();
    if !roots_needed {
        return Ok(Box::new(|| {
            add_system(&mut roots);
            trusting(roots)
        }));
    }
    let errors = add_system(&mut roots);
    if roots.is_empty() {
        let error = Error::config("the system's root certificates cannot be read".to_owned());
        return Err(match errors.into_iter().next() {
            Some(cause) => error.because(cause),
            None => error,
        });
    }
    let config = trusting(roots);
    Ok(Box::new(|| config))
}

/// Adds the system's, and says what could not be read.
fn add_system(roots: &mut RootCertStore) -> Vec<rustls_native_certs::Error> {
    let system = rustls_native_certs::load_native_certs();
    // One among a hundred that nobody can read is no reason to trust none.
    roots.add_parsable_certificates(system.certs);
    system.errors
}

const ADDED: &str = "the added root certificates";

/// The certificates in a PEM text, at least one unless it is empty.
fn added(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let unreadable = |error| Error::config(format!("{ADDED} are not PEM")).because(error);
    let found = found.map_err(unreadable)?;
    if found.is_empty() && !pem.is_empty() {
        return Err(Error::config(format!("{ADDED} hold no CERTIFICATE in PEM")));
    }
    Ok(found)
}

impl<C> Service<Uri> for Connector<C>
where
    C: Service<Uri>,
    TokioIo<C::Response>: Connection,
    C::Error: Into<BoxError>,
    C::Future: Send + 'static,
{
    type Response = TokioIo<Watched<ToTheDeaf<TokioIo<C::Response>>>>;
    type Error = BoxError;
    // Boxed once a connection, not once a request.
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        self.inner.poll_ready(cx).map_err(Into::into)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connecting, timeout) = (self.inner.call(uri), self.timeout);
        Box::pin(async move {
            match tokio::time::timeout(timeout, connecting).await {
                Ok(connected) => {
                    let connected = connected.map_err(Into::into)?;
                    let connected = ToTheDeaf::new(TokioIo::new(connected));
                    Ok(TokioIo::new(Watched::new(connected)))
                }
                Err(_) => Err(std::io::Error::from(std::io::ErrorKind::TimedOut).into()),
            }
        })
    }
}
