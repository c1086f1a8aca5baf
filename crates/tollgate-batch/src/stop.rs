//! A handle that ends a run early and in order.

use std::sync::Arc;

use tokio::sync::watch;

/// Stops a run: no further line is sent, those under way are finished and
/// written. What was not sent is left for a later run.
///
/// To stop at once, drop the run's future instead.
///
/// # Cloning
///
/// Clones stop the same run.
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
