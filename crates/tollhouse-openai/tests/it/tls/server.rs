//! A server of one's own: TLS with a certificate that nobody else knows.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, Uri};
use http_body_util::channel::Channel;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{CertifiedKey, KeyPair};
use rustls::ServerConfig;
use rustls::pki_types::PrivateKeyDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::AbortHandle;
use tokio_rustls::TlsAcceptor;
use tollhouse_openai::{OpenAi, OpenAiBuilder};

/// Stops when it is dropped.
pub(crate) struct Server {
    url: String,
    /// The certificate, in PEM.
    pub(crate) certificate: String,
    connections: Arc<AtomicUsize>,
    accepting: AbortHandle,
}

impl Server {
    /// Offers these protocols, the first one rather than the others.
    pub(crate) async fn start(protocols: &[&str]) -> Server {
        let (raw, acceptor, listener) = tls_server(protocols).await;
        let connections = Arc::<AtomicUsize>::default();
        let counted = Arc::clone(&connections);
        let accepting = tokio::spawn(async move {
            loop {
                let (socket, _) = listener.accept().await.expect("a connection");
                counted.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(acceptor.clone(), socket));
            }
        });
        Server {
            url: raw.url,
            certificate: raw.certificate,
            connections,
            accepting: accepting.abort_handle(),
        }
    }

    pub(crate) fn client(&self) -> OpenAiBuilder {
        OpenAi::builder().base_url(&self.url).api_key("sk-test")
    }

    pub(crate) fn port(&self) -> u16 {
        let port = self.url.trim_end_matches("/v1").rsplit(':').next();
        port.and_then(|port| port.parse().ok()).expect("a port")
    }

    /// Where it answers at this path.
    pub(crate) fn uri(&self, path: &str) -> Uri {
        let origin = self.url.trim_end_matches("/v1");
        format!("{origin}{path}").parse().expect("a URI")
    }

    /// How many connections were made.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

/// A place to listen with TLS, for a test that answers by itself.
pub(crate) struct Raw {
    url: String,
    certificate: String,
}

impl Raw {
    /// Of a client that trusts it.
    pub(crate) fn builder(&self) -> OpenAiBuilder {
        let client = OpenAi::builder().base_url(&self.url).api_key("sk-test");
        client.root_certificates(&self.certificate)
    }

    /// A client that trusts it.
    pub(crate) fn client(&self) -> OpenAi {
        self.builder().build().expect("a client")
    }
}

/// Offers these protocols, the first one rather than the others.
pub(crate) async fn tls_server(protocols: &[&str]) -> (Raw, TlsAcceptor, TcpListener) {
    let CertifiedKey { cert, signing_key } =
        rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    let acceptor = TlsAcceptor::from(Arc::new(config(&cert, &signing_key, protocols)));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    let raw = Raw {
        url: format!("https://localhost:{port}/v1"),
        certificate: cert.pem(),
    };
    (raw, acceptor, listener)
}

fn config(cert: &rcgen::Certificate, key: &KeyPair, protocols: &[&str]) -> ServerConfig {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let key = PrivateKeyDer::try_from(key.serialize_der()).expect("a key");
    let mut config = ServerConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![cert.der().clone()], key)
        .expect("a certificate and its key");
    let names = protocols.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = names.collect();
    config
}

async fn serve(acceptor: TlsAcceptor, socket: TcpStream) {
    // A client that trusts nobody breaks off here.
    let Ok(encrypted) = acceptor.accept(socket).await else {
        return;
    };
    let service = hyper::service::service_fn(answer);
    // Clients leave when their test is over.
    let _ = auto::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(encrypted), service)
        .await;
}

/// Says by which protocol it was asked, a little at a time.
async fn answer(request: Request<Incoming>) -> Result<Response<Channel<Bytes>>, Infallible> {
    let (mut sender, body) = Channel::new(1);
    let said = format!("{:?} {}", request.version(), request.uri().path());
    tokio::spawn(async move {
        for piece in said.into_bytes().chunks(4) {
            tokio::time::sleep(Duration::from_millis(1)).await;
            if sender
                .send_data(Bytes::copy_from_slice(piece))
                .await
                .is_err()
            {
                return;
            }
        }
    });
    Ok(Response::new(body))
}
