//! One who watches.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use http_body::Frame;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Interval, MissedTickBehavior, interval};

use super::look::Look;
use super::told::Cursor;
use super::{EVERY, Page};

/// Looks at what the page shows.
pub(crate) type Looking = Arc<dyn Fn() -> Look + Send + Sync>;

/// Events that are made as they are taken: who reads slowly misses what is between, and
/// nothing is kept for him.
struct Watching {
    page: Page,
    look: Looking,
    cursor: Cursor,
    ticks: Interval,
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    is_over: bool,
    _seat: OwnedSemaphorePermit,
}

impl Page {
    /// How all stands, once a second, as server-sent events; nothing where as many
    /// watch as may.
    pub(crate) fn events(&self, look: Looking) -> Option<Response> {
        let seat = Arc::clone(&self.shared.seats).try_acquire_owned().ok()?;
        let mut ticks = interval(EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let page = self.clone();
        let watching = Watching {
            over: Box::pin(async move { page.over().await }),
            page: self.clone(),
            look,
            cursor: Cursor::default(),
            ticks,
            is_over: false,
            _seat: seat,
        };
        let head = [
            (CONTENT_TYPE, "text/event-stream"),
            (CACHE_CONTROL, "no-store"),
        ];
        Some((head, Body::new(watching)).into_response())
    }

    /// Waits until it is closed.
    pub(super) async fn over(&self) {
        let mut over = self.shared.over.subscribe();
        // The page holds the sender.
        let _ = over.wait_for(|over| *over).await;
    }
}

impl http_body::Body for Watching {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let this = self.get_mut();
        if this.is_over {
            return Poll::Ready(None);
        }
        this.is_over = this.over.as_mut().poll(cx).is_ready();
        if this.is_over {
            // The last is to be true.
            this.page.look_again(&*this.look);
        } else {
            ready!(this.ticks.poll_tick(cx));
            this.page.sample(&*this.look);
        }
        let told = this.page.told(&mut this.cursor).to_json();
        let event = format!("data: {told}\n\n");
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}
