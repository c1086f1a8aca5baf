//! What a queue holds under its lock.

use std::task::Waker;
use std::time::Duration;

use super::Bounds;
use super::moved::Moved;
use crate::charge::{Charge, Total};
use crate::error::Refused;
use crate::rules::stats::Stats;
use crate::rules::{Ahead, Key, Line, Rule, When};
use crate::time::{Moment, Now};

/// What a queue holds under its lock.
pub(super) struct State<R: Rule> {
    /// Whom it turns away at once.
    pub(super) bounds: Bounds,
    pub(super) rule: R,
    pub(super) line: Line<Waiting<R::Held>>,
    /// What those in line are charged together.
    pub(super) charge: Total,
    /// When the head's timer fires. Invariant: where the rule named an instant
    /// for the head, its timer fires no later, or the head has been woken.
    pub(super) timer: Option<Moment>,
    /// Watched where somebody may be told of it.
    pub(super) move_rate: Option<MoveRate>,
    /// How many were admitted and have not given back.
    pub(super) inside: usize,
    pub(super) closed: bool,
    /// Who waits for the last one to leave: those in line have not been woken.
    pub(super) watchers: Line<Option<Waker>>,
    /// How often the lock was let go of, where somebody is told of it.
    pub(super) unlocked: u64,
}

pub(super) struct Waiting<H> {
    pub(super) charge: Charge,
    pub(super) place: Place<H>,
}

pub(super) enum Place<H> {
    InLine(Waker),
    Admitted(H),
    Refused(Refused),
}

impl<R: Rule> State<R> {
    pub(super) fn ahead(&self) -> Ahead {
        Ahead {
            waiting: self.line.len(),
            charge: self.charge,
            pace: self
                .move_rate
                .as_ref()
                .map_or(Duration::ZERO, |rate| rate.mean),
            in_flight: self.inside,
        }
    }

    /// How it stands as the lock is let go of.
    #[inline]
    pub(super) fn stats(&mut self) -> Stats {
        self.unlocked += 1;
        Stats {
            number: self.unlocked,
            waiting: self.line.len(),
            counts: self.rule.counts(),
            levels: self.rule.levels(),
        }
    }

    pub(super) fn overloaded(&mut self, charge: &Charge, now: &mut Now) -> Refused {
        let ahead = self.ahead();
        Refused::Overloaded {
            waiting: ahead.waiting,
            expected_wait: self.rule.expected_wait(charge, ahead, now),
        }
    }

    /// Lets a newcomer in, where nobody waits and the rule allows it.
    #[inline]
    pub(super) fn enter(
        &mut self,
        charge: &Charge,
        now: &mut Now,
    ) -> Result<Option<R::Held>, Refused> {
        if self.closed {
            return Err(Refused::Closed);
        }
        match self.rule.when(charge, now) {
            When::Now if self.line.is_empty() => Ok(Some(self.admit(charge, now))),
            When::Never(refused) => Err(refused),
            When::Now | When::At(_) | When::OnRelease => Ok(None),
        }
    }

    pub(super) fn admit(&mut self, charge: &Charge, now: &mut Now) -> R::Held {
        self.inside += 1;
        self.rule.take(charge, now)
    }

    /// Refuses a newcomer who would have to wait too long.
    pub(super) fn check(&mut self, charge: &Charge, now: &mut Now) -> Result<(), Refused> {
        let bounds = self.bounds;
        let ahead = self.ahead();
        if ahead.waiting >= bounds.waiting
            || (bounds.wait < Duration::MAX
                && self.rule.expected_wait(charge, ahead, now) > bounds.wait)
        {
            return Err(self.overloaded(charge, now));
        }
        Ok(())
    }

    /// Puts a newcomer in line.
    pub(super) fn join(&mut self, charge: &Charge, waker: Waker) -> Key {
        self.charge.add(charge);
        self.line.push_back(Waiting {
            charge: *charge,
            place: Place::InLine(waker),
        })
    }

    /// What an admitted request holds has lapsed: all of it goes back, and its
    /// owner stands first in line again. He comes to wait, whose waker this is, as
    /// any other head does.
    pub(super) fn lapse(
        &mut self,
        held: R::Held,
        charge: &Charge,
        waker: Waker,
        now: &mut Now,
    ) -> Key {
        self.inside -= 1;
        self.rule.release(held, now);
        self.charge.add(charge);
        // Whoever set a timer as the head is the head no more.
        self.timer = None;
        self.line.push_front(Waiting {
            charge: *charge,
            place: Place::InLine(waker),
        })
    }

    /// Lets in from the head of the line as long as the rule says *now*.
    ///
    /// `me` is the entry whose owner is running already: it need not be woken,
    /// and sets its own timer.
    ///
    /// Whatever happens, one of these is true when it returns, and nobody is
    /// forgotten: the line is empty; its head has a timer no later than the
    /// instant that the rule named, or has been woken to set one; or the rule
    /// waits for a release, whose owner comes by here again.
    pub(super) fn advance(&mut self, me: Option<Key>, now: &mut Now) -> Moved {
        let mut moved = Moved::default();
        if self.inside == 0 && self.line.is_empty() {
            self.call_watchers(&mut moved);
        }
        while let Some(head) = self.line.first() {
            let is_me = me == Some(head);
            let charge = &{ self.line.get_mut(head).charge };
            match self.rule.when(charge, now) {
                // ===> Refused: no waiting would help
                When::Never(refused) => {
                    let waker = self.call(head, Place::Refused(refused));
                    moved.called(waker, is_me);
                    continue;
                }
                // ===> Admitted, and the next one is the head
                When::Now => {
                    if let Some(rate) = &mut self.move_rate {
                        rate.moved(now.get());
                    }
                    let held = self.admit(charge, now);
                    let waker = self.call(head, Place::Admitted(held));
                    moved.called(waker, is_me);
                    continue;
                }
                // ===> InLine, with a timer of its own
                When::At(at) if is_me => {
                    self.timer = Some(at);
                    moved.alarm = Some(at);
                }
                // ===> InLine, woken to set its timer. Until then it need not be
                // woken again, so its waker goes with this wake-up and it leaves
                // another when it comes; a copy would have to be made under the
                // lock, and a waker is a user's.
                When::At(at) => {
                    if self.timer.is_none_or(|timer| timer > at)
                        && let Place::InLine(waker) = &mut self.line.get_mut(head).place
                    {
                        self.timer = Some(at);
                        moved.push(std::mem::replace(waker, Waker::noop().clone()));
                    }
                }
                // ===> InLine, until somebody gives something back
                When::OnRelease => {
                    if is_me {
                        self.timer = None;
                    }
                }
            }
            break;
        }
        moved
    }

    /// Calls all who wait for the last one to leave.
    fn call_watchers(&mut self, moved: &mut Moved) {
        while let Some(key) = self.watchers.first() {
            self.watchers.step_aside(key);
            if let Some(waker) = self.watchers.get_mut(key).take() {
                moved.push(waker);
            }
        }
    }

    /// Calls the head out of the line.
    pub(super) fn call(&mut self, head: Key, place: Place<R::Held>) -> Waker {
        self.line.step_aside(head);
        self.timer = None;
        let entry = self.line.get_mut(head);
        self.charge.subtract(&entry.charge);
        match std::mem::replace(&mut entry.place, place) {
            Place::InLine(waker) => waker,
            _ => unreachable!("only those in line are called"),
        }
    }

    /// Removes an entry whose owner gave up, in whatever state it is.
    ///
    /// The one behind a head that leaves must learn that it is the head now,
    /// and what an admitted one gives back is the next one's.
    pub(super) fn leave(&mut self, key: Key, now: &mut Now) -> (Option<Waker>, Moved) {
        if self.line.first() == Some(key) {
            self.timer = None;
        }
        let Waiting { charge, place } = self.line.remove(key);
        let waker = match place {
            Place::InLine(waker) => {
                self.charge.subtract(&charge);
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
pub(super) struct MoveRate {
    pub(super) last: Option<Moment>,
    pub(super) mean: Duration,
}

impl MoveRate {
    /// A moving mean over some eight moves.
    pub(super) fn moved(&mut self, now: Moment) {
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
