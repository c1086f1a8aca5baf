//! What all calls and connections share.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use metrics_exporter_prometheus::PrometheusHandle;

use crate::bounds::Bounds;
use crate::check::request::Hosts;
use crate::counts::Counts;
use crate::counts::Held;
use crate::keys::Keys;
use crate::page::{Look, Page};

/// One proxy.
pub(crate) struct Shared {
    pub(crate) keys: Keys,
    pub(crate) hosts: Hosts,
    pub(crate) max_wait: Option<Duration>,
    /// After how long streams that wait are told so, and how often.
    pub(crate) comments: Option<Duration>,
    pub(crate) bounds: Bounds,
    pub(crate) held: Held,
    pub(crate) counts: Arc<Counts>,
    pub(crate) metrics: Option<PrometheusHandle>,
    pub(crate) page: Page,
}

impl Shared {
    /// Turns away whoever waits, and whoever comes from now on.
    pub(crate) fn close(&self) {
        self.counts.close();
        self.keys.close();
        self.page.close();
    }

    /// What its page shows.
    pub(crate) fn look(&self) -> Look {
        let mut look = Look::of(self.keys.snapshots());
        look.connections = Some(self.counts.connections.load(Ordering::Relaxed));
        look
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}
