//! A subscriber that runs something at each event, and a clock that ends a
//! deadlock.

use std::fmt;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::Interest;
use tracing::{Event, Metadata, Subscriber};

/// Calls a closure at each of this house's events, and remembers what they say.
#[derive(Clone)]
pub(crate) struct Watcher {
    told: Arc<Mutex<Vec<String>>>,
    look: Arc<dyn Fn() + Send + Sync>,
}

impl Watcher {
    pub(crate) fn new(look: impl Fn() + Send + Sync + 'static) -> Self {
        // Others run beside this test without a subscriber: a call site that
        // one of them reached first would be off for all.
        let _ = tracing::subscriber::set_global_default(Undecided);
        Watcher {
            told: Arc::default(),
            look: Arc::new(look),
        }
    }

    pub(crate) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

/// Wants nothing now, and may want anything later.
struct Undecided;

impl Subscriber for Undecided {
    fn register_callsite(&self, _: &'static Metadata<'static>) -> Interest {
        Interest::sometimes()
    }

    fn enabled(&self, _: &Metadata<'_>) -> bool {
        false
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, _: &Event<'_>) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

struct Message(String);

impl Visit for Message {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        if field.name() == "message" {
            self.0 = format!("{value:?}");
        }
    }
}

impl Subscriber for Watcher {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("tollhouse")
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut message = Message(String::new());
        event.record(&mut message);
        self.told.lock().unwrap().push(message.0);
        (self.look)();
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Runs a story on a thread of its own, and fails where it does not end.
pub(crate) fn in_time(limit: Duration, story: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let thread = std::thread::spawn(move || {
        story();
        done.send(()).unwrap();
    });
    match ended.recv_timeout(limit) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("a deadlock"),
        // It ended, or panicked by itself.
        _ => thread.join().unwrap(),
    }
}
