//! What may end a request before its answer.

use tokio::sync::watch;

use super::tracker::Tracker;
use crate::run::stop::Stopped;

/// Calls requests back, of one run.
#[derive(Debug, Default)]
pub(crate) struct Recall {
    call: watch::Sender<Call>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Call {
    /// How often what is not under way was called back.
    unsent: u64,
    /// Nothing is sent any more: what is not under way is called back.
    ending: bool,
    all: bool,
}

/// What holds one request.
#[derive(Debug)]
pub(crate) struct RecallSignal {
    /// Set where a stop may call it back.
    stopped: Option<Stopped>,
    call: watch::Receiver<Call>,
    /// Whether it is to come back after one attempt that failed.
    probe: bool,
    /// Whether it is called back only before its first attempt.
    to_the_end: bool,
}

impl Recall {
    /// Calls back all that is not under way.
    pub(crate) fn unsent(&self) {
        self.call.send_modify(|call| call.unsent += 1);
    }

    /// Calls back all that is not under way, for good.
    pub(crate) fn ending(&self) {
        self.call.send_modify(|call| call.ending = true);
    }

    /// Calls back all, wherever it is.
    pub(crate) fn all(&self) {
        self.call.send_modify(|call| call.all = true);
    }

    pub(crate) fn signal(
        &self,
        stopped: Option<Stopped>,
        probe: bool,
        to_the_end: bool,
    ) -> RecallSignal {
        let mut call = self.call.subscribe();
        call.mark_unchanged();
        RecallSignal {
            stopped,
            call,
            probe,
            to_the_end,
        }
    }
}

impl RecallSignal {
    /// Held by nothing but a stop.
    pub(crate) fn of_stop(stopped: Option<Stopped>) -> Self {
        Recall::default().signal(stopped, false, false)
    }

    /// Ends when the request is to be called back and has been.
    pub(crate) async fn pulled(self, tracker: Tracker) {
        let Self {
            stopped,
            mut call,
            probe,
            to_the_end,
        } = self;
        let (mut ending, mut all) = (call.clone(), call.clone());
        let unsent = async {
            tokio::select! {
                () = stop(stopped) => tracker.call_back().await,
                () = until(&mut ending, |call| call.ending) => tracker.call_back().await,
                () = called(&mut call, &tracker, to_the_end) => tracker.call_back().await,
                () = tracker.one_attempt(), if probe => {}
            }
        };
        tokio::select! {
            () = unsent => {}
            () = until(&mut all, |call| call.all) => {}
        }
    }
}

async fn stop(stopped: Option<Stopped>) {
    match stopped {
        Some(mut stopped) => stopped.wait().await,
        None => std::future::pending().await,
    }
}

async fn called(call: &mut watch::Receiver<Call>, tracker: &Tracker, to_the_end: bool) {
    loop {
        if call.changed().await.is_err() {
            // The run is gone, and nobody calls any more.
            std::future::pending().await
        }
        if !to_the_end || tracker.round().is_none() {
            return;
        }
    }
}

async fn until(call: &mut watch::Receiver<Call>, is_so: impl FnMut(&Call) -> bool) {
    if call.wait_for(is_so).await.is_err() {
        std::future::pending().await
    }
}
