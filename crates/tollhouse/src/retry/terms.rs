use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::Notify;
use tokio::sync::futures::OwnedNotified;

use super::{Backoff, RetryBudget};
use crate::telemetry::Names;

/// What a call's attempts go by, from its first one on.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) backoff: Backoff,
    pub(super) budget: Option<RetryBudget>,
    /// Whose retries these are.
    pub(super) name: Option<Names>,
    pub(super) closing: Closing,
}

/// Whether nobody is to wait for a next attempt any more.
///
/// # Cloning
///
/// Clones are the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Closing {
    is_closed: Arc<AtomicBool>,
    told: Arc<Notify>,
}

impl Closing {
    /// For good.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.told.notify_waiters();
    }

    /// Ready when it is closed; none where it is already.
    pub(super) fn wait(&self) -> Option<OwnedNotified> {
        // First, or it would be missed where it comes between the two.
        let told = Arc::clone(&self.told).notified_owned();
        (!self.is_closed.load(Ordering::Acquire)).then_some(told)
    }
}

/// The terms in force: what all calls of a layer and of its clones go by that begin now.
#[derive(Debug)]
pub(super) struct InForce(RwLock<Arc<Terms>>);

impl InForce {
    pub(super) fn new(terms: Terms) -> Self {
        InForce(RwLock::new(Arc::new(terms)))
    }

    #[inline]
    pub(super) fn now(&self) -> Arc<Terms> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Terms)) {
        let mut terms = self.0.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut terms));
    }
}

/// The same terms, to be changed apart.
impl Clone for InForce {
    fn clone(&self) -> Self {
        InForce(RwLock::new(self.now()))
    }
}
