//! A handle that ends a run early and in order.

use std::sync::Arc;

use tokio::sync::watch;

/// Stops a run: no further line is handed to the service, those in its hands are
/// finished and written; of them, with
/// [`withdraw_unsent(true)`](crate::Batch::withdraw_unsent) and a
/// [`SentLayer`](crate::SentLayer), those alone that have left. The rest is for a later
/// run.
///
/// To stop at once, drop the run's future instead.
///
/// # Cloning
///
/// Clones stop the same run.
///
/// # Examples
///
/// ```
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use tollhouse_batch::Batch;
/// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
/// #     let body = http_body_util::Full::new(bytes::Bytes::from("{}"));
/// #     Ok::<_, std::io::Error>(http::Response::new(body))
/// # });
///
/// let batch = Batch::new(service);
/// let stop = batch.stop_handle();
/// assert!(!stop.is_stopped());
/// stop.clone().stop();
/// assert!(stop.is_stopped());
///
/// let input = r#"{"model":"gpt-4o","messages":[]}"#;
/// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
/// assert_eq!((summary.total, summary.interrupted), (0, true));
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Stop {
    stopped: Arc<watch::Sender<bool>>,
}

/// Hears a [`Stop`].
#[derive(Clone, Debug)]
pub(crate) struct Stopped {
    stopped: watch::Receiver<bool>,
}

impl Stop {
    pub(crate) fn new() -> Self {
        Self {
            stopped: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Stops the run. Before it has begun, it will end as it begins; after it
    /// has ended, this does nothing.
    ///
    /// # Examples
    ///
    /// Stops at the first failure, and lets what is under way end:
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread", start_paused = true)]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use futures_util::StreamExt;
    /// use tollhouse_batch::{Batch, Event};
    /// # type Answer = http::Response<http_body_util::Full<bytes::Bytes>>;
    /// # let service = tower::service_fn(async |_: http::Request<bytes::Bytes>| {
    /// #     tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    /// #     Err::<Answer, _>(std::io::Error::other("gone"))
    /// # });
    ///
    /// let mut batch = Batch::new(service);
    /// let (stop, mut events) = (batch.stop_handle(), batch.events());
    /// tokio::spawn(async move {
    ///     while let Some(event) = events.next().await {
    ///         if let Event::Failed { .. } = event {
    ///             stop.stop();
    ///         }
    ///     }
    /// });
    /// let input = "{\"model\":\"gpt-4o\",\"messages\":[]}\n".repeat(1_000);
    /// let summary = batch.run(input.as_bytes(), Vec::new(), Vec::new()).await?;
    /// assert!(summary.interrupted);
    /// assert_eq!(summary.total, summary.failed);
    /// # Ok(())
    /// # }
    /// ```
    pub fn stop(&self) {
        self.stopped.send_replace(true);
    }

    /// Whether the run was told to stop.
    pub fn is_stopped(&self) -> bool {
        *self.stopped.borrow()
    }

    pub(crate) fn listen(&self) -> Stopped {
        Stopped {
            stopped: self.stopped.subscribe(),
        }
    }
}

impl Stopped {
    /// Ends when the run is to stop. Safe to give up.
    pub(crate) async fn wait(&mut self) {
        if self.stopped.wait_for(|&stopped| stopped).await.is_err() {
            // Every handle is gone, so nobody can stop the run any more.
            std::future::pending().await
        }
    }
}
