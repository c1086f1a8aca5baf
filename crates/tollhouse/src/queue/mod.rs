//! The one wait queue, over any rule.
//!
//! First come, first served: a request that cannot pass stands in line, and
//! whoever comes later stands behind it, however small. The head of the line
//! alone keeps a timer, for the instant that the rule named; everybody else
//! keeps only a waker. Whoever moves the rule on (a release, a timer, a
//! correction) lets in all that now fit and wakes exactly those, plus a new
//! head that has a timer to set. Nothing polls and nothing runs in the
//! background.
//!
//! A request is let in under the lock by whoever moved the rule on, and not by
//! itself once it wakes, so a task that is slow to wake holds up nobody behind
//! it.

mod account;
mod bell;
mod demand;
mod guard;
mod idle;
mod lanes;
mod leased;
#[cfg(all(test, tollhouse_model))]
mod model;
mod moved;
mod state;
mod sync;
mod ticket;

use std::fmt;
use std::sync::{Arc, OnceLock, Weak};
use std::task::Waker;
use std::time::Duration;

use crate::ask::{Ask, Caller};
use crate::charge::Charge;
use crate::error::Refused;
use crate::rules::ledger::CallerSnapshot;
use crate::rules::{Ahead, Charged, Launch, Rule};
use crate::telemetry::{Desk, Name, Names};
use crate::time::Now;
use account::{Poke, Seat};
use guard::Guard;
use moved::Moved;
use state::{Admitted, State};
use sync::{Mutex, MutexGuard};

pub use account::{AccountSlots, AccountSlotsSnapshot};
pub(crate) use bell::Bell;
pub(crate) use idle::Idle;
pub(crate) use leased::WeakSlots;
pub(crate) use ticket::Ticket;

/// A rule and those who wait for it.
pub(crate) struct Queue<R: Rule> {
    names: OnceLock<Names>,
    /// Where metrics are told of it.
    desk: Desk,
    state: Mutex<State<R>>,
}

/// How much waiting is too much: a request that cannot pass at once and would
/// exceed a bound is turned away instead.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// The most that may wait.
    pub(crate) waiting: usize,
    /// The longest wait that may be expected.
    pub(crate) wait: Duration,
}

impl Bounds {
    pub(crate) const NONE: Bounds = Bounds {
        waiting: usize::MAX,
        wait: Duration::MAX,
    };
}

impl<R: Rule> Queue<R> {
    pub(crate) fn new(rule: R, bounds: Bounds) -> Arc<Self> {
        Arc::new(Queue {
            names: OnceLock::new(),
            desk: Desk::default(),
            state: Mutex::new(State::new(rule, bounds)),
        })
    }

    /// What happened under the lock is told when the guard is dropped.
    #[inline]
    fn lock(&self) -> Guard<'_, R> {
        Guard::new(self)
    }

    #[inline]
    fn lock_untold(&self) -> MutexGuard<'_, State<R>> {
        self.state.lock()
    }

    /// Says whose queue it is; only the first word counts.
    pub(crate) fn set_names(&self, policy: Option<&str>, pool: Option<&str>) {
        self.names.get_or_init(|| Names {
            policy: policy.map(Into::into),
            pool: pool.map(Into::into),
        });
    }

    fn name(&self) -> Name<'_> {
        self.names.get()
    }

    /// The pool's name, as events tell it.
    fn pool(&self) -> Option<&str> {
        self.name()?.pool.as_deref()
    }

    /// Looks at the rule and the line, changing nothing for those who wait.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&mut R, Ahead) -> T) -> T {
        let state = &mut *self.lock();
        let ahead = state.ahead();
        look(&mut state.rule, ahead)
    }

    /// The same, and every caller as it stands at that moment.
    pub(crate) fn read_all<T>(
        &self,
        look: impl FnOnce(&mut R, Ahead) -> T,
    ) -> (T, Vec<CallerSnapshot>) {
        let state = &mut *self.lock();
        let ahead = state.ahead();
        let callers = state.lanes.standings(state.inside);
        (look(&mut state.rule, ahead), callers)
    }

    /// How long this one would wait if it came now.
    pub(crate) fn expected_wait(&self, ask: &Ask, now: &mut Now) -> Duration {
        self.lock().expected_wait(ask, now)
    }

    /// How many would go before this one, if it came now.
    pub(crate) fn ahead(&self, ask: &Ask) -> usize {
        self.lock().ahead_of(ask).waiting
    }

    /// How many stand before this caller's first request that waits, and how long that
    /// is expected to wait from now on; `None` where none waits.
    pub(crate) fn next_of(&self, caller: &Caller, now: &mut Now) -> Option<(usize, Duration)> {
        self.lock().next_of(caller, now)
    }

    /// Changes the rule, then lets in all that now fit.
    #[inline]
    pub(crate) fn update<T>(&self, now: &mut Now, change: impl FnOnce(&mut R, &mut Now) -> T) -> T {
        self.change(now, |state, now| change(&mut state.rule, now))
    }

    #[inline]
    fn change<T>(&self, now: &mut Now, change: impl FnOnce(&mut State<R>, &mut Now) -> T) -> T {
        let mut moved;
        let mut state = self.lock();
        let result = change(&mut state, now);
        if !state.lanes.is_deserted() {
            moved = Moved::default();
            state.advance(None, &mut moved, now);
        }
        result
    }

    /// A caller has another weight from now on, those of its requests that wait included.
    pub(crate) fn weigh(&self, caller: &Caller, now: &mut Now) {
        let mut moved = Moved::default();
        let mut state = self.lock();
        state.lanes.weigh(caller);
        state.advance(None, &mut moved, now);
    }

    /// Changes the rule and the bounds, then lets in all that now fit. Those who wait
    /// already wait on, however many they are.
    pub(crate) fn reconfigure(
        &self,
        bounds: Bounds,
        now: &mut Now,
        change: impl FnOnce(&mut R, &mut Now),
    ) {
        let mut moved = Moved::default();
        let mut state = self.lock();
        state.bounds = bounds;
        change(&mut state.rule, now);
        state.advance(None, &mut moved, now);
    }

    /// Whether it lets nobody in any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.lock().closed
    }

    /// Turns away whoever waits and whoever comes from now on.
    pub(crate) fn close(&self) {
        let mut moved = Moved::default();
        let mut state = self.lock();
        state.closed = true;
        while let Some(waker) = state.turn_away(Refused::Closed) {
            moved.push(waker);
        }
        state.call_watchers(&mut moved);
        if let Some(seat) = &mut state.seat {
            seat.step_out(&mut Now::unread());
        }
    }

    /// Takes a slot of these for each one that is let in, from now on; those that are
    /// inside already count, too.
    pub(crate) fn share(self: &Arc<Self>, slots: Option<&AccountSlots>, now: &mut Now) {
        let mut moved = Moved::default();
        // Dropped after the lock.
        let before;
        let mut state = self.lock();
        let is_there = match (&state.seat, slots) {
            (Some(seat), Some(slots)) => seat.is_at(slots),
            (None, None) => true,
            _ => false,
        };
        if is_there {
            return;
        }
        let inside = state.inside;
        let seat = slots.map(|slots| {
            let queue: Weak<dyn Poke> = Arc::<Self>::downgrade(self);
            Seat::new(slots, queue, inside)
        });
        let mut left = std::mem::replace(&mut state.seat, seat);
        if let Some(left) = &mut left {
            left.leave(inside, now);
        }
        before = left;
        state.advance(None, &mut moved, now);
        drop(state);
        drop(before);
    }

    /// Waits until nobody holds anything and nobody waits.
    pub(crate) fn idle(&self) -> Idle<'_, R> {
        Idle::new(self)
    }

    /// An admitted request is handed on.
    #[inline]
    fn launch(&self, admitted: &Admitted<R::Held>, to: Launch, now: &mut Now) {
        self.change(now, |state, now| state.launch(admitted, to, now));
    }

    /// An admitted request leaves, and `end` says what becomes of what it held.
    #[inline]
    fn finish(
        &self,
        admitted: Admitted<R::Held>,
        charge: &Charge,
        now: &mut Now,
        end: impl FnOnce(&mut R, R::Held, &mut Now) -> Charged,
    ) {
        self.leave(now, |state, now| {
            state.end(admitted, charge, now, end);
            None
        });
    }

    /// An admitted request gives back what it holds, launched though it may be.
    fn give_back(&self, admitted: Admitted<R::Held>, charge: &Charge, now: &mut Now) {
        self.leave(now, |state, now| state.give_back(admitted, charge, now));
    }

    /// An admitted request leaves that never reached the provider, launched though it may be.
    fn unsend(&self, admitted: Admitted<R::Held>, charge: &Charge, now: &mut Now) {
        self.leave(now, |state, now| {
            state.never_left(&admitted);
            state.end(admitted, charge, now, R::unsend);
            None
        });
    }

    /// Lets in all that now fit once one has left, and wakes whom that one called.
    #[inline]
    fn leave(&self, now: &mut Now, end: impl FnOnce(&mut State<R>, &mut Now) -> Option<Waker>) {
        let mut moved;
        if R::IS_TIMED {
            now.get();
        }
        let mut state = self.lock();
        let called = end(&mut state, now);
        let is_deserted = state.lanes.is_deserted();
        if called.is_none() && is_deserted && (state.inside > 0 || state.watchers.is_empty()) {
            return;
        }
        moved = Moved::default();
        if let Some(waker) = called {
            moved.push(waker);
        }
        state.advance(None, &mut moved, now);
    }

    /// Takes if that needs no waiting: exactly where a ticket's first poll would admit it.
    pub(crate) fn try_enter(
        self: &Arc<Self>,
        ask: Ask,
        now: &mut Now,
    ) -> Result<Ticket<R>, Refused> {
        if R::IS_TIMED {
            now.get();
        }
        let mut moved = Moved::default();
        let mut state = self.lock();
        let admitted = match state.enter(&ask, now)? {
            None => state.pass(&ask, &mut moved, now)?,
            admitted => admitted,
        };
        let admitted = admitted.ok_or_else(|| state.overloaded(&ask, now))?;
        drop(state);
        Ok(Ticket::admitted(Arc::clone(self), ask, admitted))
    }
}

impl<R: Rule + fmt::Debug> fmt::Debug for Queue<R> {
    /// Written down under the lock, and handed to the formatter, which is a
    /// user's, after it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock_untold();
        let (rule, line) = match f.alternate() {
            true => (format!("{:#?}", state.rule), format!("{:#?}", state.lanes)),
            false => (format!("{:?}", state.rule), format!("{:?}", state.lanes)),
        };
        drop(state);
        f.debug_struct("Queue")
            .field("name", &self.name())
            .field("rule", &format_args!("{rule}"))
            .field("line", &format_args!("{line}"))
            .finish_non_exhaustive()
    }
}
