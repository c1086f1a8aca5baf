//! What a client waits for, and for how long.

use std::time::Duration;

/// How long each part of an attempt may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    pub(super) connect: Duration,
    /// To the head of the answer.
    pub(super) attempt: Duration,
    /// Between two pieces of a body; as for an attempt, unless set.
    pub(super) body_idle: Option<Duration>,
    /// For a whole body, streams of events left out.
    pub(super) body: Duration,
    /// Between two signs of life of a connection.
    pub(super) keep_alive: Duration,
}
