//! The locks of a queue: those of `std`, for which one waits a little before one is parked, or
//! the ones that let a model checker choose who runs next; see `model.rs`.
//!
//! What is done under such a lock takes a tenth of a microsecond. Who finds it taken is better
//! off to look again than to be parked and woken by the system, for which whoever holds it has
//! to work as well; and the less often it looks, the less it takes the lock's cache line from
//! that one (exponential backoff: Anderson, "The performance of spin lock alternatives for
//! shared-memory multiprocessors", 1990).
//!
//! A panic under a lock can only be a broken invariant of ours; the others had better go on than
//! follow it.

use std::hint::spin_loop;
use std::ops::Range;
use std::sync::{PoisonError, TryLockError};

use locks::Mutex as Lock;
pub(super) use locks::MutexGuard;

#[cfg(not(all(test, tollhouse_model)))]
use std::sync as locks;

#[cfg(all(test, tollhouse_model))]
use shuttle::sync as locks;

/// How one looks again whether the lock is free: each time after twice as many pauses, from 4 to
/// 512, which are some 20 microseconds in all. The model's threads take turns.
const LOOKS: Range<u32> = if cfg!(tollhouse_model) { 0..0 } else { 2..10 };

pub(super) struct Mutex<T>(Lock<T>);

impl<T> Mutex<T> {
    pub(super) fn new(value: T) -> Self {
        Mutex(Lock::new(value))
    }

    #[inline]
    pub(super) fn lock(&self) -> MutexGuard<'_, T> {
        if let Ok(guard) = self.0.try_lock() {
            return guard;
        }
        // Here what a poisoned one gave out is dropped.
        self.wait()
    }

    #[cold]
    fn wait(&self) -> MutexGuard<'_, T> {
        for look in LOOKS {
            (0..1 << look).for_each(|_| spin_loop());
            match self.0.try_lock() {
                Ok(guard) => return guard,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {}
            }
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(all(test, not(tollhouse_model)))]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn whoever_waits_for_it_gets_it_alone() {
        const TIMES: u32 = 20_000;
        let sum = Mutex::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..TIMES {
                        let mut sum = sum.lock();
                        let before = *sum;
                        spin_loop();
                        *sum = before + 1;
                    }
                });
            }
        });
        assert_eq!(*sum.lock(), 4 * TIMES);
    }

    /// Also by whoever finds it taken by another one.
    #[test]
    fn what_a_panic_left_is_gone_on_with() {
        let state = Mutex::new(1);
        let panicked = thread::scope(|scope| {
            let panicking = scope.spawn(|| {
                let _guard = state.lock();
                panic!("an invariant of ours is broken");
            });
            panicking.join()
        });
        assert!(panicked.is_err());
        assert_eq!(*state.lock(), 1);
        *state.lock() += 1;
        assert_eq!(*state.wait(), 2);
    }
}
