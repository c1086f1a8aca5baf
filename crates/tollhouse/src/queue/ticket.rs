//! One request's way through a queue.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tokio::time::{Sleep, sleep_until};

use super::Queue;
use super::moved::Moved;
use super::state::{Admitted, Lapsed, Looked, Place, is_overdue};
use crate::ask::Ask;
use crate::charge::Charge;
use crate::error::Refused;
use crate::rules::{Charged, Key, Launch, Rule};
use crate::telemetry;
use crate::time::{Moment, Now};

/// At first a place in line, then what was given to the admitted request.
///
/// Dropping it at any moment gives back whatever can be given back, and lets
/// the next one in.
pub(crate) struct Ticket<R: Rule> {
    queue: Arc<Queue<R>>,
    ask: Ask,
    state: State<R::Held>,
}

enum State<H> {
    /// Not polled yet, so not in line yet.
    New,
    InLine {
        key: Key,
        /// Noted where somebody will be told of it.
        since: Option<Moment>,
        /// Only the head has one.
        timer: Option<Pin<Box<Sleep>>>,
    },
    Admitted(Admitted<H>),
    /// Turned away, or given back.
    Done,
}

impl<R: Rule> Ticket<R> {
    pub(crate) fn new(queue: Arc<Queue<R>>, ask: Ask) -> Self {
        Ticket {
            queue,
            ask,
            state: State::New,
        }
    }

    pub(super) fn admitted(queue: Arc<Queue<R>>, ask: Ask, admitted: Admitted<R::Held>) -> Self {
        let ticket = Ticket {
            queue,
            ask,
            state: State::Admitted(admitted),
        };
        ticket.tell_caller(None);
        ticket
    }

    pub(crate) fn charge(&self) -> &Charge {
        self.ask.wants()
    }

    /// Whether it stands in line, as far as it knows.
    pub(crate) fn is_in_line(&self) -> bool {
        matches!(self.state, State::InLine { .. })
    }

    /// What was given; `None` unless admitted.
    pub(crate) fn held(&self) -> Option<&R::Held> {
        match &self.state {
            State::Admitted(admitted) => Some(&admitted.held),
            _ => None,
        }
    }

    /// Waits for admission; ready with `Ok` from then on, unless what was given
    /// has lapsed before it was used.
    ///
    /// # Panics
    ///
    /// If polled again after it was refused.
    #[inline]
    pub(crate) fn poll_admitted(
        &mut self,
        cx: &mut Context<'_>,
        now: &mut Now,
    ) -> Poll<Result<(), Refused>> {
        match self.state {
            State::Admitted(_) if R::LAPSES || self.ask.until().is_some() => {
                self.hold_on(false, cx, now)
            }
            State::Admitted(_) => Poll::Ready(Ok(())),
            State::New => self.enter(cx, now),
            State::InLine { .. } => self.wait(false, cx, now),
            State::Done => panic!("polled after it was refused"),
        }
    }

    /// Refuses it before it stands in line, if no waiting would help; says why.
    pub(crate) fn never(&mut self, now: &mut Now) -> Option<Refused> {
        if !matches!(self.state, State::New) {
            return None;
        }
        let never = self.queue.lock().is_open_to(&self.ask, now).err()?;
        self.refused(never, None).err()
    }

    /// Looks whether its deadline has passed meanwhile, or what is held has lapsed; then
    /// stands in line again.
    ///
    /// This is asked of one that was admitted and has not been launched, whenever
    /// its owner comes back to it: when it wakes, having been called, and while the service
    /// behind it is not ready.
    fn hold_on(
        &mut self,
        was_called: bool,
        cx: &mut Context<'_>,
        now: &mut Now,
    ) -> Poll<Result<(), Refused>> {
        let State::Admitted(admitted) = std::mem::replace(&mut self.state, State::Done) else {
            unreachable!("only those admitted hold anything")
        };
        if is_overdue(&self.ask, now) {
            let mut moved = Moved::default();
            let late = (self.queue.lock()).leave_late(admitted, &self.ask, &mut moved, now);
            moved.wake();
            return Poll::Ready(self.refused(late, None));
        }
        if !self.queue.lock().has_lapsed(&admitted, now) {
            self.state = State::Admitted(admitted);
            return Poll::Ready(Ok(()));
        }
        // A waker is a user's, and not copied under the lock. What has lapsed
        // stays so meanwhile.
        let waker = cx.waker().clone();
        let lapsed = (self.queue.lock()).lapse(admitted, &self.ask, (waker, was_called), now);
        let key = match lapsed {
            Lapsed::Stands(key) => key,
            Lapsed::GoesAnew(admitted, spare) => {
                drop(spare);
                self.state = State::Admitted(admitted);
                return Poll::Ready(Ok(()));
            }
        };
        tracing::debug!(gate = R::NAME, pool = self.queue.pool(), cost = %self.charge(), "lapsed");
        self.state = State::InLine {
            key,
            since: is_noted().then(|| now.get()),
            timer: None,
        };
        self.wait(true, cx, now)
    }

    #[inline]
    fn enter(&mut self, cx: &mut Context<'_>, now: &mut Now) -> Poll<Result<(), Refused>> {
        // The guard ends where it is: it was written in pieces a moment ago, and a move would
        // have to wait for them.
        let is_open = {
            let mut queue = self.queue.lock();
            let is_open = queue.is_open_to(&self.ask, now);
            if let Ok(true) = is_open
                && let Some(admitted) = queue.let_in(&self.ask, now)
            {
                self.state = State::Admitted(admitted);
            }
            is_open
        };
        match is_open {
            Ok(_) if self.held().is_some() => self.let_in(),
            Ok(_) => self.join(cx, now),
            Err(refused) => Poll::Ready(self.refused(refused, None)),
        }
    }

    #[inline(always)]
    fn let_in(&mut self) -> Poll<Result<(), Refused>> {
        self.tell_caller(None);
        tracing::trace!(gate = R::NAME, cost = %self.charge(), "admitted");
        Poll::Ready(Ok(()))
    }

    /// Joins the line, unless there is room by now: the lock was let go of to
    /// copy the waker, which is a user's.
    #[inline(never)]
    fn join(&mut self, cx: &mut Context<'_>, now: &mut Now) -> Poll<Result<(), Refused>> {
        let waker = cx.waker().clone();
        let mut moved = Moved::default();
        let mut queue = self.queue.lock();
        let entered = match queue.enter(&self.ask, now) {
            Ok(None) => queue.check(&self.ask, now).map(|()| None),
            entered => entered,
        };
        let entered = match entered {
            // Who need not wait is none too many.
            Err(Refused::Overloaded { .. }) => match queue.pass(&self.ask, &mut moved, now) {
                Ok(None) => entered,
                passed => passed,
            },
            entered => entered,
        };
        let joined = match entered {
            Ok(Some(admitted)) => {
                self.state = State::Admitted(admitted);
                drop(queue);
                return self.let_in();
            }
            Ok(None) => Ok(()),
            Err(refused) => Err(refused),
        };
        // One that is not needed is dropped after the lock.
        let joined = match joined {
            Ok(()) => Ok(queue.join(&self.ask, waker, now)),
            Err(refused) => Err((refused, waker)),
        };
        let ahead = queue.ahead().waiting;
        drop(queue);
        match joined {
            Ok(key) => {
                self.state = State::InLine {
                    key,
                    since: is_noted().then(|| now.get()),
                    timer: None,
                };
                let pool = self.queue.pool();
                tracing::debug!(gate = R::NAME, pool, cost = %self.charge(), waiting = ahead, "waiting");
                self.wait(true, cx, now)
            }
            Err((refused, _)) => Poll::Ready(self.refused(refused, None)),
        }
    }

    /// Looks how it fares, until there is nothing to do but to wait.
    fn wait(
        &mut self,
        is_new: bool,
        cx: &mut Context<'_>,
        now: &mut Now,
    ) -> Poll<Result<(), Refused>> {
        let State::InLine { key, since, timer } = &mut self.state else {
            unreachable!("only those in line wait")
        };
        // A copy of the waker, made where the one in line is of another task;
        // later the one that it took the place of. Both are a user's, and so
        // neither made nor dropped under the lock: dropping the last one of a
        // task drops the task, and with it perhaps another ticket of this queue.
        let mut spare: Option<Waker> = None;
        loop {
            let mut moved = Moved::default();
            let looked = {
                let mut queue = self.queue.lock();
                // ===> InLine, its waker that of the task that polls
                if let Place::InLine { waker, .. } = queue.lanes.get_mut(*key)
                    && !waker.will_wake(cx.waker())
                {
                    match &mut spare {
                        Some(spare) => std::mem::swap(waker, spare),
                        None => {
                            drop(queue);
                            spare = Some(cx.waker().clone());
                            continue;
                        }
                    }
                }
                queue.look(*key, is_new, &self.ask, &mut moved, now)
            };
            moved.wake();
            let waited = |now: &mut Now| since.map(|since| now.get() - since);
            match looked {
                Looked::Called { place, is_late } => {
                    let waited = waited(now);
                    return match self.called(place, waited) {
                        Ok(()) if is_late => self.hold_on(true, cx, now),
                        called => Poll::Ready(called),
                    };
                }
                Looked::Waits => {}
            }
            let alarm = match (moved.alarm, self.ask.until()) {
                (Some(alarm), Some(until)) => Some(alarm.min(until)),
                (alarm, until) => alarm.or(until),
            };
            match alarm {
                // ===> InLine: the instant has come meanwhile, look again
                Some(at) if set(timer, at).as_mut().poll(cx).is_ready() => {
                    *now = Now::unread();
                }
                // ===> InLine, the head, or one with a deadline: its timer wakes it, or
                // whoever moves the line on does
                Some(_) => return Poll::Pending,
                // ===> InLine: whoever moves the line on wakes it
                None => {
                    *timer = None;
                    return Poll::Pending;
                }
            }
        }
    }

    /// Tells how long it has waited by its caller's name, where metrics know that.
    #[inline]
    fn tell_caller(&self, waited: Option<Duration>) {
        if let Some(caller) = self.ask.label() {
            let queue = &self.queue;
            queue
                .desk
                .admitted_as(queue.name(), R::NAME, caller, waited);
        }
    }

    /// Takes note of having been called out of the line.
    fn called(&mut self, place: Place<R::Held>, waited: Option<Duration>) -> Result<(), Refused> {
        match place {
            Place::Admitted(admitted) => {
                self.state = State::Admitted(admitted);
                self.queue.desk.admitted(self.queue.name(), R::NAME, waited);
                self.tell_caller(waited);
                let pool = self.queue.pool();
                tracing::debug!(gate = R::NAME, pool, cost = %self.charge(), ?waited, "admitted");
                Ok(())
            }
            Place::Refused(refused) => self.refused(refused, waited),
            Place::InLine { .. } => unreachable!("who stands in line was not called"),
        }
    }

    fn refused(&mut self, refused: Refused, waited: Option<Duration>) -> Result<(), Refused> {
        self.state = State::Done;
        self.queue
            .desk
            .refused(self.queue.name(), R::NAME, &refused);
        let pool = self.queue.pool();
        tracing::debug!(gate = R::NAME, pool, cost = %self.charge(), ?waited, %refused, "refused");
        Err(refused)
    }

    /// Changes the rule together with what is held, and lets in all that now fit;
    /// does nothing unless admitted.
    #[inline]
    pub(crate) fn update(&self, now: &mut Now, change: impl FnOnce(&mut R, &R::Held, &mut Now)) {
        if let State::Admitted(Admitted { held, .. }) = &self.state {
            self.queue.update(now, |rule, now| change(rule, held, now));
        }
    }

    /// The request is handed on.
    pub(crate) fn launch(&self, to: Launch, now: &mut Now) {
        if let State::Admitted(admitted) = &self.state {
            self.queue.launch(admitted, to, now);
        }
    }

    /// Leaves as an admitted request, and lets `end` decide what becomes of
    /// what it held; does nothing unless admitted.
    pub(crate) fn finish(
        &mut self,
        now: &mut Now,
        end: impl FnOnce(&mut R, R::Held, &mut Now) -> Charged,
    ) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Admitted(admitted) => {
                self.queue.finish(admitted, self.ask.wants(), now, end);
            }
            other => self.state = other,
        }
    }

    /// Leaves as one that never reached the provider.
    pub(crate) fn unsend(&mut self, now: &mut Now) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::Admitted(admitted) => self.queue.unsend(admitted, self.ask.wants(), now),
            other => self.state = other,
        }
    }

    /// Gives back what can be given back, and leaves the queue.
    pub(crate) fn give_back(&mut self, now: &mut Now) {
        match std::mem::replace(&mut self.state, State::Done) {
            State::New | State::Done => {}
            State::Admitted(admitted) => {
                self.queue.give_back(admitted, self.ask.wants(), now);
            }
            State::InLine { key, .. } => {
                let mut moved = Moved::default();
                let left;
                let mut queue = self.queue.lock();
                left = queue.leave(key, &mut moved, now);
                drop(queue);
                drop(left);
            }
        }
    }
}

/// Whether anybody wants to know how long calls wait.
fn is_noted() -> bool {
    telemetry::ON || tracing::enabled!(tracing::Level::DEBUG)
}

/// Sets the timer, reusing the one that is there.
fn set(timer: &mut Option<Pin<Box<Sleep>>>, at: Moment) -> &mut Pin<Box<Sleep>> {
    let at = at.into();
    let timer = timer.get_or_insert_with(|| Box::pin(sleep_until(at)));
    if timer.deadline() != at {
        timer.as_mut().reset(at);
    }
    timer
}

impl<R: Rule> Drop for Ticket<R> {
    #[inline]
    fn drop(&mut self) {
        if !matches!(self.state, State::New | State::Done) {
            self.give_back(&mut Now::unread());
        }
    }
}

impl<R: Rule> fmt::Debug for Ticket<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = match self.state {
            State::New => "new",
            State::InLine { .. } => "in line",
            State::Admitted(_) => "admitted",
            State::Done => "done",
        };
        f.debug_struct("Ticket")
            .field("gate", &R::NAME)
            .field("ask", &self.ask)
            .field("state", &state)
            .finish_non_exhaustive()
    }
}
