//! Whether the provider knows a key.
//!
//! Anybody can make keys up, as many as he likes; the provider alone can tell which are good,
//! and does so by answering a call.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use http::StatusCode;

/// Whether any call was answered as asked.
///
/// # Cloning
///
/// Clones are the same proof.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proof(Arc<AtomicBool>);

impl Proof {
    pub(crate) fn is_given(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }

    /// An answer of any other status may be one that everybody gets.
    pub(crate) fn hear(&self, status: StatusCode) {
        let is_good = status.is_success() || status == StatusCode::SWITCHING_PROTOCOLS;
        if is_good && !self.is_given() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}
