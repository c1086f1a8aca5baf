//! Events as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::event::Event;

/// What happens in a run, in its order; ends with the run. Made by
/// [`Batch::events`](crate::Batch::events).
///
/// It keeps what is not taken yet, so take as it comes. Dropping it only ends
/// the telling.
#[derive(Debug)]
pub struct Events {
    pub(crate) events: UnboundedReceiver<Event>,
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_recv(cx)
    }
}
