//! A server for a page alone.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::get;
use axum::serve::ListenerExt;
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::time::timeout;

use super::look::Look;
use super::watch::Looking;
use super::{Page, document};
use crate::check::request::Hosts;

/// How long watchers may take to hear the last.
const LAST_WORDS: Duration = Duration::from_secs(1);

impl Page {
    /// Serves it at `/tollhouse/` of this socket, to whoever reaches it, until it is
    /// closed and all have heard so.
    ///
    /// # Errors
    ///
    /// When the socket is not on loopback: nobody shows a token here.
    ///
    /// # Cancellation
    ///
    /// Dropping the future ends it at once.
    pub async fn serve(
        &self,
        listener: TcpListener,
        look: impl Fn() -> Look + Send + Sync + 'static,
    ) -> io::Result<()> {
        if !listener.local_addr()?.ip().is_loopback() {
            let why = "the page is for this machine alone, at a loopback address";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
        }
        let listener = listener.tap_io(|socket| {
            // It works without.
            let _ = socket.set_nodelay(true);
        });
        let closed = self.clone();
        let serving = axum::serve(listener, self.router(Arc::new(look)))
            .with_graceful_shutdown(async move { closed.over().await });
        let serving = serving.into_future();
        let mut serving = std::pin::pin!(serving);
        tokio::select! {
            ended = &mut serving => return ended,
            () = self.over() => {}
        }
        timeout(LAST_WORDS, serving).await.unwrap_or(Ok(()))
    }

    fn router(&self, look: Looking) -> Router {
        let events = async |State((page, look)): State<(Page, Looking)>| {
            let events = page.events(look);
            events.unwrap_or_else(|| StatusCode::SERVICE_UNAVAILABLE.into_response())
        };
        Router::new()
            .route("/", get(async || Redirect::temporary("/tollhouse/")))
            .route("/tollhouse/", get(async || document()))
            .route("/tollhouse/events", get(events))
            .with_state((self.clone(), look))
            .layer(from_fn(ours))
    }
}

/// A page of somebody else's may not look over our shoulder.
async fn ours(request: Request, next: Next) -> Response {
    match Hosts::default().check(&request) {
        Ok(()) => next.run(request).await,
        Err(flaw) => (flaw.status(), flaw.to_string()).into_response(),
    }
}
