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
use super::processes::Asked;
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
    /// Who is there, while that is being asked.
    asked: Option<Asked>,
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
            asked: None,
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
        let mut asked = match this.asked.take() {
            Some(asked) => asked,
            None if this.is_over => return Poll::Ready(None),
            None => ready!(this.look(cx)),
        };
        let Poll::Ready(processes) = asked.as_mut().poll(cx) else {
            this.asked = Some(asked);
            return Poll::Pending;
        };
        let mut told = this.page.told(&mut this.cursor);
        told.processes = processes.into();
        let event = format!("data: {}\n\n", told.to_json());
        Poll::Ready(Some(Ok(Frame::data(event.into()))))
    }
}

impl Watching {
    /// Looks once it is time to, and asks who is there.
    fn look(&mut self, cx: &mut Context<'_>) -> Poll<Asked> {
        self.is_over = self.over.as_mut().poll(cx).is_ready();
        if self.is_over {
            // The last is to be true.
            self.page.look_again(&*self.look);
        } else {
            ready!(self.ticks.poll_tick(cx));
            self.page.sample(&*self.look);
        }
        Poll::Ready(self.page.ask_processes())
    }
}
