//! Events as a stream.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc::UnboundedReceiver;

use crate::event::Event;

/// What happens in a run, in its order; ends with the run, or with the last of
/// them where the batch was cloned. Made by
/// [`Batch::events`](crate::Batch::events).
///
/// It keeps what is not taken yet, so take as it comes. Dropping it only ends
/// the telling.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use futures_util::StreamExt;
/// use tollhouse_batch::{Batch, Event};
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let mut batch = Batch::new(service);
/// let events = batch.events();
/// let input = r#"{"model":"gpt-4o","messages":[]}"#;
/// tokio::spawn(batch.run(input.as_bytes(), Vec::new(), Vec::new()));
/// let events: Vec<Event> = events.collect().await;
/// assert!(matches!(
///     events[..],
///     [Event::Started(_), Event::Finished { .. }]
/// ));
/// # Ok(())
/// # }
/// ```
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
