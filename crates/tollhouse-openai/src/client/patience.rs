//! What a client waits for, and for how long.

use std::future::Future;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::task::coop::unconstrained;
use tokio::time::Sleep;

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

/// Whether a time is over, asked of the clock even where the task has used up its turn: a
/// peer that always has more to say uses up each of them.
pub(super) fn poll_over(timer: Pin<&mut Sleep>, cx: &mut Context<'_>) -> Poll<()> {
    pin!(unconstrained(timer)).poll(cx)
}
