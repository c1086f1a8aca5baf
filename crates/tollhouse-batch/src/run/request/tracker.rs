//! Whether a request is under way or can still be called back.

use std::fmt;
use std::sync::atomic::{AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use http::StatusCode;
use tokio::sync::Notify;
use tokio::time::{Duration, Instant};

use crate::event::{Event, Observer};
use crate::input::line::Request;
use crate::run::health::pulse::Pulse;
use crate::run::health::round::Round;

/// A request's own account of its way, in its extensions. Clones are of the same
/// request.
#[derive(Clone)]
pub(crate) struct Tracker {
    trace: Arc<Trace>,
    request: Request,
    pulse: Arc<Pulse>,
    /// A service may keep its requests, and with them this; the events end all
    /// the same.
    observer: Weak<dyn Fn(Event) + Send + Sync>,
}

/// An attempt that is under way until this is dropped; for good, where its
/// answer was good: then the request is as good as answered.
#[derive(Debug)]
pub(crate) struct Attempt {
    trace: Arc<Trace>,
    pulse: Arc<Pulse>,
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
    /// How often it had been sent when it was handed out this time.
    before: u32,
    /// From the start to the first attempt since it was handed out this time, in
    /// nanoseconds, or [`NEVER`].
    first: AtomicU64,
    /// From the start to the last attempt, in nanoseconds.
    waited: AtomicU64,
    /// The status that the last attempt drew; 0 for none.
    status: AtomicU16,
}

const WITHDRAWN: u32 = u32::MAX;
const NEVER: u64 = u64::MAX;

impl Tracker {
    pub(crate) fn new(request: Request, observer: &Observer, pulse: &Arc<Pulse>) -> Self {
        Self {
            trace: Arc::new(Trace::new(Instant::now(), 0)),
            request,
            pulse: pulse.clone(),
            observer: Arc::downgrade(observer),
        }
    }

    pub(crate) fn request(&self) -> &Request {
        &self.request
    }

    /// The same request, about to be handed out once more.
    pub(crate) fn again(&self) -> Self {
        let attempts = self.trace.attempts.load(Ordering::Acquire);
        Self {
            trace: Arc::new(Trace::new(self.trace.started, attempts)),
            ..self.clone()
        }
    }

    /// How often it was sent, and how long after its start the last time was;
    /// `None` where it never was, or nobody marks the place.
    pub(crate) fn sent(&self) -> Option<(u32, Duration)> {
        let attempts = self.trace.attempts.load(Ordering::Acquire);
        let waited = Duration::from_nanos(self.trace.waited.load(Ordering::Acquire));
        (attempts > 0).then_some((attempts, waited))
    }

    /// What came of it since it was handed out this time; `None` where it was not
    /// sent, or nobody marks the place.
    pub(crate) fn round(&self) -> Option<Round> {
        let trace = &self.trace;
        let first = trace.first.load(Ordering::Acquire);
        let last = trace.waited.load(Ordering::Acquire);
        let at = |nanos| trace.started + Duration::from_nanos(nanos);
        (first != NEVER).then(|| Round {
            attempts: trace.attempts.load(Ordering::Acquire) - trace.before,
            first: at(first),
            last: at(last),
            status: StatusCode::from_u16(trace.status.load(Ordering::Acquire)).ok(),
        })
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
        let waited = u64::try_from(waited).unwrap_or(NEVER - 1);
        self.trace.waited.store(waited, Ordering::Release);
        // The least of those that run beside each other is the first.
        self.trace.first.fetch_min(waited, Ordering::AcqRel);
        self.trace.attempts.fetch_add(1, Ordering::AcqRel);
        if let Some(observer) = self.observer.upgrade() {
            observer(Event::Sent(self.request.clone()));
        }
        Some(Attempt {
            trace: self.trace.clone(),
            pulse: self.pulse.clone(),
            answered: false,
        })
    }

    /// Calls the request back once an attempt has failed and another would have to
    /// wait.
    pub(crate) async fn one_attempt(&self) {
        self.trace.over.notified().await;
        self.call_back().await;
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

impl Trace {
    fn new(started: Instant, attempts: u32) -> Self {
        Self {
            under_way: AtomicU32::new(0),
            over: Notify::new(),
            attempts: AtomicU32::new(attempts),
            started,
            before: attempts,
            first: AtomicU64::new(NEVER),
            waited: AtomicU64::new(0),
            status: AtomicU16::new(0),
        }
    }
}

impl Attempt {
    /// An answer has begun. Where it is good, it is paid for and worth waiting
    /// for, whatever its caller does with it from here on.
    pub(crate) fn answered(&mut self, status: StatusCode) {
        self.answered = status.is_success();
        self.trace.status.store(status.as_u16(), Ordering::Release);
        self.pulse.answered();
    }

    /// No answer came.
    pub(crate) fn failed(&self, error: &dyn fmt::Display) {
        self.trace.status.store(0, Ordering::Release);
        self.pulse.failed(error);
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

impl fmt::Debug for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tracker")
            .field("request", &self.request)
            .field("trace", &self.trace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker() -> Tracker {
        let request = Request {
            line: 1,
            custom_id: "a".into(),
        };
        let observer: Observer = Arc::new(|_| {});
        Tracker::new(request, &observer, &Arc::default())
    }

    #[test]
    fn request_under_way_cannot_be_called_back() {
        let tracker = tracker();
        let first = tracker.send().expect("it was not called back");
        assert!(!tracker.clone().withdraw());
        let second = tracker
            .send()
            .expect("a further attempt of the same request");
        drop(first);
        assert!(!tracker.withdraw());
        drop(second);
        assert!(tracker.withdraw(), "between two attempts");
        assert!(tracker.send().is_none());
    }

    #[test]
    fn request_with_a_good_answer_is_not_called_back() {
        let tracker = tracker();
        let mut attempt = tracker.send().expect("it was not called back");
        attempt.answered(StatusCode::OK);
        drop(attempt);
        assert!(!tracker.withdraw());
        assert!(
            tracker.send().is_some(),
            "whoever wants may still send it again"
        );
    }

    #[test]
    fn request_called_back_is_never_sent() {
        let tracker = tracker();
        assert!(tracker.clone().withdraw());
        assert!(tracker.send().is_none());
        assert!(tracker.withdraw(), "as often as is asked");
    }
}
