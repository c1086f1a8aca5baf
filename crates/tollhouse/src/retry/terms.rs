use std::sync::{Arc, PoisonError, RwLock};

use super::{Backoff, RetryBudget};
use crate::telemetry::Names;

/// What a call's attempts go by, from its first one on.
#[derive(Clone, Debug)]
pub(super) struct Terms {
    pub(super) backoff: Backoff,
    pub(super) budget: Option<RetryBudget>,
    /// Whose retries these are.
    pub(super) name: Option<Names>,
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
