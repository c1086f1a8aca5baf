//! A connection that stops being HTTP: Realtime's WebSocket.
//!
//! What it holds, its slot above all, is held until one of the two sides is gone.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use axum::response::Response;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderValue, Method, Request};
use http_body_util::BodyExt;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{copy, split};

use super::answer::tell;
use super::line::Line;
use crate::check::Signals;
use crate::upstream::gates;

type Passing = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection's way out of HTTP.
///
/// # Cloning
///
/// Clones are the same connection's.
#[derive(Clone)]
pub(crate) struct Tunnel {
    signals: Arc<Signals>,
    passing: Arc<Mutex<Option<Passing>>>,
}

/// A client that asks for a WebSocket.
pub(crate) struct Asked {
    upgrade: OnUpgrade,
    /// None where somebody else's server serves.
    tunnel: Option<Tunnel>,
}

impl Tunnel {
    pub(crate) fn new(signals: Arc<Signals>) -> Self {
        Tunnel {
            signals,
            passing: Arc::default(),
        }
    }

    /// Passes on what comes after HTTP, if anything does.
    pub(crate) async fn to_its_end(&self) {
        let passing = self.lock().take();
        if let Some(passing) = passing {
            passing.await;
        }
    }

    fn lead_to(&self, passing: Passing) {
        self.signals.open();
        *self.lock() = Some(passing);
    }

    /// Nothing is ever half put in.
    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Passing>> {
        self.passing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Asked {
    /// Whether a request asks for Realtime's WebSocket. What its connection could become is
    /// taken out of it: that is nobody's business at the provider.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Option<Self> {
        let upgrade = request.extensions_mut().remove::<OnUpgrade>()?;
        let tunnel = request.extensions_mut().remove::<Tunnel>();
        let headers = request.headers();
        let is_asked = request.method() == Method::GET
            && names(headers, &UPGRADE, "websocket")
            && names(headers, &CONNECTION, "upgrade")
            && request.uri().path().ends_with("/realtime");
        is_asked.then_some(Asked { upgrade, tunnel })
    }

    /// Says to the provider what the client has said.
    pub(crate) fn ask(headers: &mut HeaderMap) {
        agree(headers);
    }

    /// Answers as the provider did, and passes on what both say from then on.
    pub(crate) fn open(
        self,
        mut response: http::Response<gates::Body>,
        mut line: Line,
    ) -> Response {
        let theirs = hyper::upgrade::on(&mut response);
        tell(&mut response, &mut line);
        agree(response.headers_mut());
        let (head, body) = response.into_parts();
        let ours = self.upgrade;
        let passing = Box::pin(async move {
            // All of them, to the end: the slot and the call's line with them.
            let (mut body, mut line) = (Box::pin(body), line);
            let sides = tokio::join!(ours, theirs);
            if let (Ok(ours), Ok(theirs)) = sides {
                pass(ours, theirs).await;
                line.is_whole = true;
                // The answer has come to its end, and was not cut.
                let _ = body.frame().await;
            }
        });
        match self.tunnel {
            Some(tunnel) => tunnel.lead_to(passing),
            None => drop(tokio::spawn(passing)),
        }
        Response::from_parts(head, axum::body::Body::empty())
    }
}

/// Until either side is gone: there is nothing that one alone could still say.
async fn pass(ours: Upgraded, theirs: Upgraded) {
    let (mut from_client, mut to_client) = split(TokioIo::new(ours));
    let (mut from_provider, mut to_provider) = split(TokioIo::new(theirs));
    tokio::select! {
        _ = copy(&mut from_client, &mut to_provider) => {}
        _ = copy(&mut from_provider, &mut to_client) => {}
    }
}

fn agree(headers: &mut HeaderMap) {
    headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
}

fn names(headers: &HeaderMap, header: &http::HeaderName, word: &str) -> bool {
    let values = headers.get_all(header).iter();
    let mut words = values
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','));
    words.any(|named| named.trim().eq_ignore_ascii_case(word))
}

impl fmt::Debug for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tunnel").finish_non_exhaustive()
    }
}
