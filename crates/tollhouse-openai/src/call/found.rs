//! What an account found for a call, told to the spans around it and inside.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tracing::{Level, Span};

use super::Call;

/// The pool that the last attempt went to, and what its caller is called; nothing until
/// an account was asked, or where nobody listens to spans.
#[derive(Default)]
pub(super) struct Found(Mutex<Option<Box<Names>>>);

/// Of whoever a call belongs to.
#[derive(Clone)]
struct Names {
    pool: Arc<str>,
    caller: Option<Arc<str>>,
}

impl Names {
    fn record_on(&self, span: &Span) {
        span.record("tollhouse.pool", &*self.pool);
        if let Some(caller) = &self.caller {
            span.record("tollhouse.caller", &**caller);
        }
    }
}

impl Call {
    /// An account found this pool, and this name for the caller: written on the span
    /// around it, and kept for the one around the attempt, which is opened later.
    pub(crate) fn found(&self, pool: &Arc<str>, caller: Option<&Arc<str>>) {
        if !tracing::span_enabled!(Level::INFO) {
            return;
        }
        let names = Names {
            pool: Arc::clone(pool),
            caller: caller.cloned(),
        };
        names.record_on(&Span::current());
        *self.names() = Some(Box::new(names));
    }

    /// Writes what was found so far on a span.
    pub(crate) fn tell_found(&self, span: &Span) {
        // No subscriber runs under the lock.
        let names = self.names().clone();
        if let Some(names) = names {
            names.record_on(span);
        }
    }

    fn names(&self) -> MutexGuard<'_, Option<Box<Names>>> {
        let Found(names) = &self.read.found;
        names.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
