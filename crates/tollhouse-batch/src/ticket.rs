//! Whether a request is under way or can still be called back.

use std::fmt;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::event::{Event, Observer, Request};

/// A request's own account of its way, in its extensions. Clones are of the same
/// request.
#[derive(Clone)]
pub(crate) struct Ticket {
    trace: Arc<Trace>,
    request: Request,
    /// A service may keep its requests, and with them this; the events end all
    /// the same.
    observer: Weak<dyn Fn(Event) + Send + Sync>,
}

/// An attempt that is under way until this is dropped; for good, where its
/// answer was good: then the request is as good as answered.
#[derive(Debug)]
pub(crate) struct Attempt {
    trace: Arc<Trace>,
    answered: bool,
}

/// What is known of a request's way.
#[derive(Debug)]
struct Trace {
    /// How many attempts are under way, or [`WITHDRAWN`].
    under_way: AtomicU32,
    /// Told of each that is over.
    over: Notify,
    attempts: AtomicU32,
    started: Instant,
    /// From the start to the last attempt, in nanoseconds.
    waited: AtomicU64,
}

const WITHDRAWN: u32 = u32::MAX;

impl Ticket {
    pub(crate) fn new(request: Request, observer: &Observer) -> Self {
        Self {
            trace: Arc::new(Trace {
                under_way: AtomicU32::new(0),
                over: Notify::new(),
                attempts: AtomicU32::new(0),
                started: Instant::now(),
                waited: AtomicU64::new(0),
            }),
            request,
            observer: Arc::downgrade(observer),
        }
    }

    /// How often it was sent, and how long after its start the last time was;
    /// `None` where it never was, or nobody marks the place.
    pub(crate) fn sent(&self) -> Option<(u32, Duration)> {
        let attempts = self.trace.attempts.load(Ordering::Acquire);
        let waited = Duration::from_nanos(self.trace.waited.load(Ordering::Acquire));
        (attempts > 0).then_some((attempts, waited))
    }

    /// Time since its start.
    pub(crate) fn elapsed(&self) -> Duration {
        self.trace.started.elapsed()
    }

    /// Sends the request, for the first time or again; `None` where it was
    /// called back.
    pub(crate) fn send(&self) -> Option<Attempt> {
        let one_more = |under_way| (under_way != WITHDRAWN).then(|| under_way + 1);
        let under_way = &self.trace.under_way;
        under_way
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, one_more)
            .ok()?;
        let waited = self.trace.started.elapsed().as_nanos();
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        self.trace.waited.store(waited, Ordering::Release);
        self.trace.attempts.fetch_add(1, Ordering::AcqRel);
        if let Some(observer) = self.observer.upgrade() {
            observer(Event::Sent(self.request.clone()));
        }
        Some(Attempt {
            trace: self.trace.clone(),
            answered: false,
        })
    }

    /// Calls the request back, as soon as no attempt is under way.
    pub(crate) async fn call_back(&self) {
        while !self.withdraw() {
            self.trace.over.notified().await;
        }
    }

    /// `false` while an attempt is under way.
    fn withdraw(&self) -> bool {
        let under_way = &self.trace.under_way;
        let nothing = under_way.compare_exchange(0, WITHDRAWN, Ordering::AcqRel, Ordering::Acquire);
        nothing.is_ok() || nothing == Err(WITHDRAWN)
    }
}

impl Attempt {
    /// Whatever its caller does with the answer from here on, it is paid for and
    /// worth waiting for.
    pub(crate) fn answered(&mut self) {
        self.answered = true;
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if !self.answered {
            self.trace.under_way.fetch_sub(1, Ordering::AcqRel);
            // Remembered for whoever is about to wait.
            self.trace.over.notify_one();
        }
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ticket")
            .field("request", &self.request)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket() -> Ticket {
        let request = Request {
            line: 1,
            custom_id: "a".into(),
        };
        let observer: Observer = Arc::new(|_| {});
        Ticket::new(request, &observer)
    }

    #[test]
    fn request_under_way_cannot_be_called_back() {
        let ticket = ticket();
        let first = ticket.send().expect("it was not called back");
        assert!(!ticket.clone().withdraw());
        let second = ticket
            .send()
            .expect("a further attempt of the same request");
        drop(first);
        assert!(!ticket.withdraw());
        drop(second);
        assert!(ticket.withdraw(), "between two attempts");
        assert!(ticket.send().is_none());
    }

    #[test]
    fn request_with_a_good_answer_is_not_called_back() {
        let ticket = ticket();
        let mut attempt = ticket.send().expect("it was not called back");
        attempt.answered();
        drop(attempt);
        assert!(!ticket.withdraw());
        assert!(
            ticket.send().is_some(),
            "whoever wants may still send it again"
        );
    }

    #[test]
    fn request_called_back_is_never_sent() {
        let ticket = ticket();
        assert!(ticket.clone().withdraw());
        assert!(ticket.send().is_none());
        assert!(ticket.withdraw(), "as often as is asked");
    }
}
