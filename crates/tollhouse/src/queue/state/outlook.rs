//! How long one would wait.

use std::time::Duration;

use super::State;
use crate::ask::{Ask, Caller};
use crate::charge::Charge;
use crate::error::Refused;
use crate::rules::{Ahead, Rule};
use crate::time::{Moment, Now};

impl<R: Rule> State<R> {
    /// Everybody who waits.
    pub(in crate::queue) fn ahead(&self) -> Ahead {
        Ahead {
            waiting: self.lanes.waiting(),
            charge: self.lanes.charge(),
            pace: self
                .move_rate
                .as_ref()
                .map_or(Duration::ZERO, |rate| Duration::from_nanos(rate.mean)),
            in_flight: self.inside,
        }
    }

    /// Those who would go before this one, if it came now. Who was here before stands before
    /// others of its caller.
    pub(in crate::queue) fn ahead_of(&self, ask: &Ask) -> Ahead {
        self.before(ask.who(), ask.wants(), ask.since().is_some())
    }

    fn before(&self, who: &Caller, wants: &Charge, was_here: bool) -> Ahead {
        let rule = &self.rule;
        let price = |charge: &Charge| rule.cost(charge);
        let (waiting, charge) = self.lanes.ahead_of(who, wants, was_here, price);
        Ahead {
            waiting,
            charge,
            ..self.ahead()
        }
    }

    /// How many wait whom this one has to wait behind, unless it may pass some of them.
    pub(super) fn in_line_before(&self, ask: &Ask) -> usize {
        let own = ask.since().map(|_| self.lanes.waiting_of(ask.who()).0);
        self.lanes.waiting() - own.unwrap_or(0)
    }

    /// How long this one would wait, if it came now.
    pub(in crate::queue) fn expected_wait(&mut self, ask: &Ask, now: &mut Now) -> Duration {
        self.wait_behind(ask.wants(), self.ahead_of(ask), now)
    }

    /// How long another one of this caller would wait, if it came now.
    pub(super) fn wait_of(&mut self, who: &Caller, wants: &Charge, now: &mut Now) -> Duration {
        self.wait_behind(wants, self.before(who, wants, false), now)
    }

    fn wait_behind(&mut self, wants: &Charge, ahead: Ahead, now: &mut Now) -> Duration {
        let wait = self.rule.expected_wait(wants, ahead, now);
        match &self.seat {
            Some(seat) => wait.max(seat.expected_wait(ahead, now)),
            None => wait,
        }
    }

    /// Where the first of this caller's that waits stands: how many are before it, and
    /// how long it is expected to wait from now on.
    pub(in crate::queue) fn next_of(
        &mut self,
        caller: &Caller,
        now: &mut Now,
    ) -> Option<(usize, Duration)> {
        let rule = &self.rule;
        let price = |charge: &Charge| rule.cost(charge);
        let (wants, waiting, charge) = self.lanes.before_first_of(caller, price)?;
        let ahead = Ahead {
            waiting,
            charge,
            ..self.ahead()
        };
        Some((waiting, self.wait_behind(&wants, ahead, now)))
    }

    /// How long this one would wait at least, if it came now and might pass all that wait
    /// but those of its own caller.
    fn least_wait(&mut self, ask: &Ask, now: &mut Now) -> Duration {
        // Who was here before stands before others of its caller, too.
        let (waiting, charge) = match ask.since() {
            None => self.lanes.waiting_of(ask.who()),
            Some(_) => Default::default(),
        };
        let ahead = Ahead {
            waiting,
            charge,
            // How fast slots come back is not known for sure.
            pace: Duration::ZERO,
            ..self.ahead()
        };
        let wait = self.rule.least_wait(ask.wants(), ahead, now);
        match &self.seat {
            Some(seat) => wait.max(seat.least_wait(ahead.waiting, now)),
            None => wait,
        }
    }

    pub(in crate::queue) fn overloaded(&mut self, ask: &Ask, now: &mut Now) -> Refused {
        Refused::Overloaded {
            waiting: self.in_line_before(ask),
            expected_wait: self.expected_wait(ask, now),
        }
    }

    /// The refusal of one who cannot be launched before its deadline, whatever slots are
    /// released meanwhile and even if nobody else comes; `None` if it can be.
    pub(in crate::queue) fn too_late(&mut self, ask: &Ask, now: &mut Now) -> Option<Refused> {
        let until = ask.until()?;
        let least = self.least_wait(ask, now);
        let can_be = now.get() + least <= until;
        (!can_be).then(|| Refused::TooLate {
            expected_wait: self.expected_wait(ask, now).max(least),
        })
    }

    /// The refusal of one whose deadline has passed, and who has nothing here any more: how
    /// long he would wait if he came again now.
    pub(in crate::queue) fn late(&mut self, ask: &Ask, now: &mut Now) -> Refused {
        Refused::TooLate {
            expected_wait: self.expected_wait(ask, now),
        }
    }
}

/// How fast the line has been moving, to tell a newcomer what to expect where
/// the rule itself cannot know.
#[derive(Default)]
pub(super) struct MoveRate {
    last: Option<Moment>,
    /// In nanoseconds.
    mean: u64,
}

impl MoveRate {
    /// A moving mean over some eight moves.
    pub(super) fn moved(&mut self, now: Moment) {
        let Some(last) = self.last.replace(now) else {
            return;
        };
        let gap = now.nanos_since(last);
        self.mean = match self.mean {
            0 => gap,
            mean => mean.saturating_mul(7).saturating_add(gap) / 8,
        };
    }
}
