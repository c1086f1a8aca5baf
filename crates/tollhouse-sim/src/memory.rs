//! What clients make the provider hold, counted against one bound.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts what is held for all calls together.
#[derive(Debug)]
pub(crate) struct Memory {
    bound: u64,
    held: AtomicU64,
}

/// What is held for one call; dropping it lets go of it.
#[derive(Debug)]
pub(crate) struct Hold {
    memory: Arc<Memory>,
    bytes: u64,
}

/// There is no room for so much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// Not beside what is held for others.
    Now,
    /// Not even alone.
    Ever {
        /// Bytes that would have to be held.
        bytes: u64,
    },
}

impl Memory {
    pub(crate) fn new(bound: u64) -> Arc<Self> {
        Arc::new(Self {
            bound,
            held: AtomicU64::new(0),
        })
    }

    /// Holds nothing yet.
    pub(crate) fn hold(self: &Arc<Self>) -> Hold {
        Hold {
            memory: Arc::clone(self),
            bytes: 0,
        }
    }
}

impl Hold {
    /// Holds so much more.
    pub(crate) fn grow(&mut self, bytes: u64) -> Result<(), Full> {
        let wanted = self.bytes.saturating_add(bytes);
        let bound = self.memory.bound;
        if wanted > bound {
            return Err(Full::Ever { bytes: wanted });
        }
        // A count alone: what is held is published by nobody through it.
        let order = Ordering::Relaxed;
        let add = |held: u64| held.checked_add(bytes).filter(|sum| *sum <= bound);
        let added = self.memory.held.fetch_update(order, order, add);
        added.map_err(|_| Full::Now)?;
        self.bytes = wanted;
        Ok(())
    }

    /// Lets go of all but so much.
    pub(crate) fn shrink_to(&mut self, bytes: u64) {
        let freed = self.bytes.saturating_sub(bytes);
        self.bytes -= freed;
        self.memory.held.fetch_sub(freed, Ordering::Relaxed);
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_stays_within_the_bound_and_is_let_go() {
        let memory = Memory::new(100);
        let (mut one, mut other) = (memory.hold(), memory.hold());
        assert_eq!(one.grow(70), Ok(()));
        assert_eq!(other.grow(40), Err(Full::Now));
        assert_eq!(one.grow(u64::MAX), Err(Full::Ever { bytes: u64::MAX }));
        one.shrink_to(60);
        assert_eq!(other.grow(40), Ok(()));
        let held = || memory.held.load(Ordering::Relaxed);
        assert_eq!(held(), 100);
        drop(one);
        other.shrink_to(50);
        assert_eq!(held(), 40);
        drop(other);
        assert_eq!(held(), 0);
    }
}
