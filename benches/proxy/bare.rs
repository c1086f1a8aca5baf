//! A proxy of axum and hyper's client, without any policy: what the stack itself costs.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::header::{CONNECTION, HOST, TRANSFER_ENCODING};
use axum::http::uri::{Authority, Scheme};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::serve::ListenerExt;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::net::TcpListener;

use super::Result;

#[derive(Clone)]
struct Upstream {
    client: Client<HttpConnector, Body>,
    authority: Authority,
}

/// Serves for ever.
pub(crate) async fn serve(address: &str, upstream: &str) -> Result<()> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let upstream = Upstream {
        client: Client::builder(TokioExecutor::new()).build(connector),
        authority: upstream.parse()?,
    };
    let router = Router::new().fallback(pass).with_state(upstream);
    let listener = TcpListener::bind(address).await?.tap_io(|socket| {
        // axum leaves it out, and every stream stands still for 40 ms.
        let _ = socket.set_nodelay(true);
    });
    Ok(axum::serve(listener, router).await?)
}

async fn pass(State(upstream): State<Upstream>, mut request: Request) -> Response {
    let mut parts = std::mem::take(request.uri_mut()).into_parts();
    parts.scheme = Some(Scheme::HTTP);
    parts.authority = Some(upstream.authority);
    match Uri::from_parts(parts) {
        Ok(uri) => *request.uri_mut() = uri,
        Err(_) => return StatusCode::BAD_REQUEST.into_response(),
    }
    request.headers_mut().remove(HOST);
    request.headers_mut().remove(CONNECTION);
    match upstream.client.request(request).await {
        Ok(mut response) => {
            response.headers_mut().remove(CONNECTION);
            response.headers_mut().remove(TRANSFER_ENCODING);
            response.map(Body::new)
        }
        Err(_) => StatusCode::BAD_GATEWAY.into_response(),
    }
}
