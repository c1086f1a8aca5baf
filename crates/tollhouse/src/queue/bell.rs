//! How a rule's need reaches somebody outside.

use crate::rules::Need;

/// Called, once no lock is held, when a rule has a need that only somebody outside can meet.
pub(crate) trait Bell: Send + Sync {
    fn ring(&self, need: Need);
}
