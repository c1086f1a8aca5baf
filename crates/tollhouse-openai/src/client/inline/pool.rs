use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::{Handle, Id};
use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep_until};

use super::Connection;

/// A connection that is idle for longer is closed; as hyper-util's client has it.
pub(super) const IDLE: Duration = Duration::from_secs(90);

/// For so long nobody asks whether a connection has ended: its runtime has hardly not looked.
pub(super) const FRESH: Duration = Duration::from_millis(100);

/// Connections on which there is nobody.
#[derive(Default)]
pub(super) struct Pool {
    /// Mostly one.
    rooms: Mutex<Vec<Room>>,
}

/// Those of one runtime, which alone tells what comes on them. Where it does not run, a call
/// in another one would wait in vain; where it has ended, they have, too.
struct Room {
    runtime: Id,
    /// The one that was used last stands last.
    connections: VecDeque<Kept>,
    /// Closes those that are idle for too long; there while there are any.
    sweeper: Option<AbortHandle>,
}

/// A connection, and since when it is idle.
pub(super) type Kept = (Box<Connection>, Instant);

impl Pool {
    /// The one that was used last, so that others fall out of use.
    pub(super) fn take(&self) -> Option<Kept> {
        let runtime = Handle::current().id();
        let mut rooms = self.lock();
        let room = rooms.iter_mut().find(|room| room.runtime == runtime)?;
        room.connections.pop_back()
    }

    /// Keeps a connection for the next call in its runtime.
    pub(super) fn give_back(self: &Arc<Self>, connection: Box<Connection>) {
        let mut rooms = self.lock();
        let room = Room::of(&mut rooms, connection.runtime.id());
        let unswept = (!room.is_swept()).then(|| connection.runtime.clone());
        room.connections.push_back((connection, Instant::now()));
        if let Some(runtime) = unswept {
            let sweeper = runtime.spawn(sweep(Arc::downgrade(self), room.runtime));
            room.sweeper = Some(sweeper.abort_handle());
            // Where the runtime has ended, the sweeper has at once.
            let over: Vec<_> = rooms.extract_if(.., |room| !room.is_swept()).collect();
            // They are closed under no lock.
            drop(rooms);
            drop(over);
        }
    }

    /// Takes out what is idle for too long, and tells when to look again.
    fn sweep(&self, runtime: Id) -> (Vec<Kept>, Option<Instant>) {
        let mut rooms = self.lock();
        let room = Room::of(&mut rooms, runtime);
        let now = Instant::now();
        let is_over = |(_, since): &Kept| *since + IDLE <= now;
        let many = room.connections.iter();
        let many = many.take_while(|one| is_over(one)).count();
        let swept = room.connections.drain(..many).collect();
        let next = room.connections.front().map(|(_, since)| *since + IDLE);
        if next.is_none() {
            room.sweeper = None;
        }
        (swept, next)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().iter().map(|room| room.connections.len()).sum()
    }

    /// No connection is ever half in it.
    fn lock(&self) -> MutexGuard<'_, Vec<Room>> {
        self.rooms.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// ===== impl Room =====

impl Room {
    fn of(rooms: &mut Vec<Room>, runtime: Id) -> &mut Room {
        let known = rooms.iter().position(|room| room.runtime == runtime);
        let at = known.unwrap_or_else(|| {
            rooms.push(Room {
                runtime,
                connections: VecDeque::new(),
                sweeper: None,
            });
            rooms.len() - 1
        });
        &mut rooms[at]
    }

    fn is_swept(&self) -> bool {
        let sweeper = self.sweeper.as_ref();
        sweeper.is_some_and(|sweeper| !sweeper.is_finished())
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(sweeper) = &self.sweeper {
            sweeper.abort();
        }
    }
}

async fn sweep(pool: Weak<Pool>, runtime: Id) {
    let mut next = Instant::now() + IDLE;
    loop {
        sleep_until(next).await;
        let Some(pool) = pool.upgrade() else { return };
        let (swept, then) = pool.sweep(runtime);
        // They are closed under no lock.
        drop(swept);
        match then {
            Some(then) => next = then,
            None => return,
        }
    }
}
