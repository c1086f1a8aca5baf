//! Hears the crate's events.

use std::fmt;
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::subscriber::DefaultGuard;
use tracing::{Event, Subscriber};
use tracing_subscriber::layer::{Context, SubscriberExt};

/// The events of this thread, as text.
#[derive(Clone, Default)]
pub(crate) struct Events {
    told: Arc<Mutex<Vec<String>>>,
}

impl Events {
    /// Hears them until the guard is dropped.
    pub(crate) fn hear() -> (Events, DefaultGuard) {
        let events = Events::default();
        let subscriber = tracing_subscriber::registry().with(events.clone());
        (events, tracing::subscriber::set_default(subscriber))
    }

    /// How many of them say this.
    pub(crate) fn count(&self, what: &str) -> usize {
        let told = self.told.lock().unwrap();
        told.iter().filter(|event| event.contains(what)).count()
    }
}

impl<S: Subscriber> tracing_subscriber::Layer<S> for Events {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut text = Text(format!("{}", event.metadata().level()));
        event.record(&mut text);
        self.told.lock().unwrap().push(text.0);
    }
}

struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}
