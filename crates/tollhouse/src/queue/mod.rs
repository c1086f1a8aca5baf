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

mod ticket;

use std::fmt;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use crate::error::Refused;
use crate::gate::Now;
use crate::line::{Key, Line};
use crate::rules::{Ahead, Moment, Rule, When};
use crate::telemetry::{self, Guard, Name};

pub(crate) use ticket::Ticket;

/// A rule and those who wait for it.
pub(crate) struct Queue<R: Rule> {
    bounds: Bounds,
    name: OnceLock<Arc<str>>,
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
            bounds,
            name: OnceLock::new(),
            state: Mutex::new(State {
                rule,
                line: Line::new(),
                cost: 0,
                timer: None,
                pace: (bounds.waiting < usize::MAX).then(Pace::default),
                inside: 0,
                closed: false,
                watchers: Vec::new(),
            }),
        })
    }

    /// A panic under the lock can only be a broken invariant of ours; the
    /// others had better go on than follow it.
    fn lock(&self) -> Guard<'_, R> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        telemetry::guard(state, self.name())
    }

    /// Says whose queue it is; only the first name counts.
    pub(crate) fn set_name(&self, name: &str) {
        self.name.get_or_init(|| name.into());
    }

    fn name(&self) -> Name<'_> {
        self.name.get()
    }

    /// Looks at the rule and the line, changing nothing for those who wait.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&mut R, Ahead) -> T) -> T {
        let state = &mut *self.lock();
        let ahead = state.ahead();
        look(&mut state.rule, ahead)
    }

    /// Changes the rule, then lets in all that now fit.
    #[inline]
    pub(crate) fn update<T>(&self, now: &mut Now, change: impl FnOnce(&mut R, &mut Now) -> T) -> T {
        let mut state = self.lock();
        let result = change(&mut state.rule, now);
        if !state.line.is_empty() {
            let moved = state.advance(None, now);
            drop(state);
            moved.wake();
        }
        result
    }

    /// Turns away whoever waits and whoever comes from now on.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        let mut moved = Moved::default();
        while let Some(head) = state.line.first() {
            moved.push(state.call(head, Place::Refused(Refused::Closed)));
        }
        drop(state);
        moved.wake();
    }

    /// Ready once nobody holds anything and nobody waits.
    pub(crate) fn poll_idle(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut state = self.lock();
        if state.inside == 0 && state.line.is_empty() {
            return Poll::Ready(());
        }
        if !state
            .watchers
            .iter()
            .any(|waker| waker.will_wake(cx.waker()))
        {
            state.watchers.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// An admitted request leaves, and `end` says what becomes of what it held.
    #[inline]
    fn finish(&self, now: &mut Now, end: impl FnOnce(&mut R, &mut Now)) {
        let mut state = self.lock();
        state.inside -= 1;
        end(&mut state.rule, now);
        if state.line.is_empty() && (state.inside > 0 || state.watchers.is_empty()) {
            return;
        }
        let moved = state.advance(None, now);
        drop(state);
        moved.wake();
    }

    /// Takes without waiting, if nobody waits and the rule allows it.
    pub(crate) fn try_enter(
        self: &Arc<Self>,
        cost: u64,
        now: &mut Now,
    ) -> Result<Ticket<R>, Refused> {
        let mut state = self.lock();
        let held = state.enter(cost, now)?;
        let held = held.ok_or_else(|| state.overloaded(cost, now))?;
        drop(state);
        telemetry::admitted(self.name(), R::NAME, None);
        Ok(Ticket::admitted(Arc::clone(self), cost, held))
    }
}

impl<R: Rule + fmt::Debug> fmt::Debug for Queue<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("Queue")
            .field("name", &self.name())
            .field("rule", &state.rule)
            .field("line", &state.line)
            .finish_non_exhaustive()
    }
}

/// What a queue holds under its lock.
pub(crate) struct State<R: Rule> {
    pub(crate) rule: R,
    line: Line<Waiting<R::Held>>,
    /// What those in line cost together.
    cost: u64,
    /// When the head's timer fires. Invariant: where the rule named an instant
    /// for the head, its timer fires no later, or the head has been woken.
    timer: Option<Moment>,
    /// Watched where somebody may be told of it.
    pace: Option<Pace>,
    /// How many were admitted and have not given back.
    inside: usize,
    closed: bool,
    /// Who waits for the last one to leave.
    watchers: Vec<Waker>,
}

struct Waiting<H> {
    cost: u64,
    place: Place<H>,
}

enum Place<H> {
    InLine(Waker),
    Admitted(H),
    Refused(Refused),
}

/// What moved when the head of the line was asked again.
#[derive(Default)]
struct Moved {
    /// To be woken once the lock is gone. Mostly there is one, and a vector
    /// would cost an allocation for it.
    first: Option<Waker>,
    others: Vec<Waker>,
    spare: Option<Waker>,
    /// The instant for which the running head must set its timer.
    alarm: Option<Moment>,
}

impl Moved {
    /// Who is running already need not be woken. Its waker is kept all the
    /// same, to be dropped after the lock is gone.
    fn called(&mut self, waker: Waker, is_running: bool) {
        if is_running {
            self.spare = Some(waker);
        } else {
            self.push(waker);
        }
    }

    fn push(&mut self, waker: Waker) {
        match self.first {
            None => self.first = Some(waker),
            Some(_) => self.others.push(waker),
        }
    }

    #[inline]
    fn wake(self) {
        if let Some(first) = self.first {
            first.wake();
        }
        if !self.others.is_empty() {
            self.others.into_iter().for_each(Waker::wake);
        }
    }
}

impl<R: Rule> State<R> {
    pub(crate) fn ahead(&self) -> Ahead {
        Ahead {
            waiting: self.line.len(),
            cost: self.cost,
            pace: self.pace.as_ref().map_or(Duration::ZERO, |pace| pace.mean),
        }
    }

    fn overloaded(&mut self, cost: u64, now: &mut Now) -> Refused {
        let ahead = self.ahead();
        Refused::Overloaded {
            waiting: ahead.waiting,
            expected_wait: self.rule.expected_wait(cost, ahead, now),
        }
    }

    /// The refusal of a newcomer that no waiting would change.
    #[inline]
    fn hopeless(&mut self, cost: u64, now: &mut Now) -> Option<Refused> {
        match self.closed {
            true => Some(Refused::Closed),
            false => self.rule.never(cost, now),
        }
    }

    /// Lets a newcomer in, where nobody waits and the rule allows it.
    #[inline]
    fn enter(&mut self, cost: u64, now: &mut Now) -> Result<Option<R::Held>, Refused> {
        if let Some(refused) = self.hopeless(cost, now) {
            return Err(refused);
        }
        if !self.line.is_empty() {
            return Ok(None);
        }
        match self.rule.when(cost, now) {
            When::Now => Ok(Some(self.admit(cost, now))),
            When::At(_) | When::OnRelease => Ok(None),
        }
    }

    fn admit(&mut self, cost: u64, now: &mut Now) -> R::Held {
        self.inside += 1;
        self.rule.take(cost, now)
    }

    /// Puts a newcomer in line, unless it would have to wait too long.
    fn join(
        &mut self,
        cost: u64,
        waker: &Waker,
        bounds: Bounds,
        now: &mut Now,
    ) -> Result<Key, Refused> {
        let ahead = self.ahead();
        if ahead.waiting >= bounds.waiting
            || (bounds.wait < Duration::MAX
                && self.rule.expected_wait(cost, ahead, now) > bounds.wait)
        {
            return Err(self.overloaded(cost, now));
        }
        self.cost += cost;
        Ok(self.line.push_back(Waiting {
            cost,
            place: Place::InLine(waker.clone()),
        }))
    }

    /// Lets in from the head of the line as long as the rule says *now*.
    ///
    /// `me` is the entry whose owner is running already: it need not be woken,
    /// and sets its own timer.
    fn advance(&mut self, me: Option<Key>, now: &mut Now) -> Moved {
        let mut moved = Moved::default();
        if self.inside == 0 && self.line.is_empty() {
            moved.others.append(&mut self.watchers);
        }
        while let Some(head) = self.line.first() {
            let cost = self.line.get_mut(head).cost;
            if let Some(refused) = self.rule.never(cost, now) {
                let waker = self.call(head, Place::Refused(refused));
                moved.called(waker, me == Some(head));
                continue;
            }
            match self.rule.when(cost, now) {
                When::Now => {
                    if let Some(pace) = &mut self.pace {
                        pace.moved(now.get());
                    }
                    let held = self.admit(cost, now);
                    let waker = self.call(head, Place::Admitted(held));
                    moved.called(waker, me == Some(head));
                }
                When::At(at) if me == Some(head) => {
                    self.timer = Some(at);
                    moved.alarm = Some(at);
                    break;
                }
                When::At(at) => {
                    if self.timer.is_none_or(|timer| timer > at)
                        && let Place::InLine(waker) = &self.line.get_mut(head).place
                    {
                        // Once awake it finds itself the head and sets it;
                        // until then it need not be woken again.
                        self.timer = Some(at);
                        moved.push(waker.clone());
                    }
                    break;
                }
                When::OnRelease => {
                    if me == Some(head) {
                        self.timer = None;
                    }
                    break;
                }
            }
        }
        moved
    }

    /// Calls the head out of the line.
    fn call(&mut self, head: Key, place: Place<R::Held>) -> Waker {
        self.line.step_aside(head);
        self.timer = None;
        let entry = self.line.get_mut(head);
        self.cost -= entry.cost;
        match std::mem::replace(&mut entry.place, place) {
            Place::InLine(waker) => waker,
            _ => unreachable!("only those in line are called"),
        }
    }

    /// Removes an entry whose owner gave up, in whatever state it is.
    ///
    /// The one behind a head that leaves must learn that it is the head now,
    /// and what an admitted one gives back is the next one's.
    fn leave(&mut self, key: Key, now: &mut Now) -> (Option<Waker>, Moved) {
        if self.line.first() == Some(key) {
            self.timer = None;
        }
        let Waiting { cost, place } = self.line.remove(key);
        let waker = match place {
            Place::InLine(waker) => {
                self.cost -= cost;
                Some(waker)
            }
            Place::Admitted(held) => {
                self.inside -= 1;
                self.rule.release(held, now);
                None
            }
            Place::Refused(_) => None,
        };
        (waker, self.advance(None, now))
    }
}

/// How fast the line has been moving, to tell a newcomer what to expect where
/// the rule itself cannot know.
#[derive(Default)]
struct Pace {
    last: Option<Moment>,
    mean: Duration,
}

impl Pace {
    /// A moving mean over some eight moves.
    fn moved(&mut self, now: Moment) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let gap = now - last;
        self.mean = if self.mean.is_zero() {
            gap
        } else {
            (self.mean * 7 + gap) / 8
        };
    }
}
