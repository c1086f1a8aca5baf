//! Pools that are called once no lock is held.

use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::{Arc, Weak};

use crate::queue::Queue;
use crate::queue::bell::Bell;
use crate::queue::moved::Moved;
use crate::rules::{Need, Rule};
use crate::time::Now;

/// Which of those that share slots a pool is. It is never 0, so that a slot that may be missing is no larger than one
/// that is there: each who waits has room for one.
pub(super) type Number = NonZeroU64;

/// What a queue is to the slots that it shares.
pub(crate) trait Poke: Send + Sync {
    /// Lets in all that now fit; whom that lets call on, it adds to `calls`.
    fn poke(&self, calls: &mut Vec<Call>);

    fn shared_name(&self) -> Option<Arc<str>>;
}

impl<R: Rule> Poke for Queue<R> {
    fn poke(&self, calls: &mut Vec<Call>) {
        let mut moved = Moved::default();
        let mut state = self.lock();
        state.advance(None, &mut moved, &mut Now::unread());
        if let Some(seat) = &mut state.seat {
            calls.append(&mut seat.calls.pools);
        }
    }

    fn shared_name(&self) -> Option<Arc<str>> {
        let names = self.name()?;
        names.pool.clone().or_else(|| names.policy.clone())
    }
}

/// A pool that was granted a slot.
pub(crate) struct Call {
    member: Number,
    queue: Weak<dyn Poke>,
}

/// Pools that are to be called once no lock is held.
///
/// That is done when this is dropped, one after the other and whatever a waker of theirs
/// does: a slot that was granted must be used or passed on.
#[derive(Default)]
pub(crate) struct Calls {
    pools: Vec<Call>,
    /// Of whoever fetches leases.
    bell: Option<Arc<dyn Bell>>,
}

impl Drop for Calls {
    #[inline]
    fn drop(&mut self) {
        if !self.is_empty() {
            self.ring();
        }
    }
}

impl Calls {
    pub(super) fn is_empty(&self) -> bool {
        self.pools.is_empty() && self.bell.is_none()
    }

    pub(super) fn add(&mut self, member: Number, queue: Weak<dyn Poke>) {
        self.pools.push(Call { member, queue });
    }

    pub(super) fn add_bell(&mut self, bell: &Arc<dyn Bell>) {
        self.bell = Some(Arc::clone(bell));
    }

    /// This one need not be called.
    pub(super) fn leave_out(&mut self, member: Number) {
        self.pools.retain(|call| call.member != member);
    }

    #[cold]
    fn ring(&mut self) {
        let mut panic = None;
        if let Some(bell) = self.bell.take() {
            bell.ring(Need::More);
        }
        while let Some(call) = self.pools.pop() {
            let Some(queue) = call.queue.upgrade() else {
                continue;
            };
            // The queue may be dropped here, which may call others.
            let poked = catch_unwind(AssertUnwindSafe(|| {
                queue.poke(&mut self.pools);
                drop(queue);
            }));
            panic = panic.or(poked.err());
        }
        match panic {
            Some(panic) if !std::thread::panicking() => resume_unwind(panic),
            _ => {}
        }
    }
}
