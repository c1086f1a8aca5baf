use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

use super::Connection;

/// A connection that is idle for longer is closed; as hyper-util's client has it.
pub(super) const IDLE: Duration = Duration::from_secs(90);

/// Connections on which there is nobody.
#[derive(Default)]
pub(super) struct Pool {
    idle: Mutex<Idle>,
}

/// A connection, and since when it is idle.
type Kept = (Box<Connection>, Instant);

#[derive(Default)]
struct Idle {
    /// The one that was used last stands last.
    connections: VecDeque<Kept>,
    /// Closes those that are idle for too long; over where there was none.
    sweeper: Option<JoinHandle<()>>,
}

impl Pool {
    /// The one that was used last, so that others fall out of use.
    pub(super) fn take(&self) -> Option<Box<Connection>> {
        let taken = self.lock().connections.pop_back();
        taken.map(|(connection, _)| connection)
    }

    /// Keeps a connection for the next call. Outside of a runtime it is closed.
    pub(super) fn give_back(self: &Arc<Self>, connection: Box<Connection>) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut idle = self.lock();
        idle.connections.push_back((connection, Instant::now()));
        // One that ended with its runtime is over, too.
        if idle.sweeper.as_ref().is_none_or(JoinHandle::is_finished) {
            idle.sweeper = Some(runtime.spawn(sweep(Arc::downgrade(self))));
        }
    }

    /// Takes out what is idle for too long, and tells when to look again.
    fn sweep(&self) -> (Vec<Kept>, Option<Instant>) {
        let mut idle = self.lock();
        let now = Instant::now();
        let is_over = |(_, since): &Kept| *since + IDLE <= now;
        let many = idle
            .connections
            .iter()
            .take_while(|one| is_over(one))
            .count();
        let swept = idle.connections.drain(..many).collect();
        let next = idle.connections.front().map(|(_, since)| *since + IDLE);
        if next.is_none() {
            idle.sweeper = None;
        }
        (swept, next)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().connections.len()
    }

    /// No connection is ever half in it.
    fn lock(&self) -> MutexGuard<'_, Idle> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(pool: Weak<Pool>) {
    let mut next = Instant::now() + IDLE;
    loop {
        sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        // They are closed under no lock.
        let (swept, then) = pool.sweep();
        drop(swept);
        match then {
            Some(then) => next = then,
            None => return,
        }
    }
}
