//! Requests that came back without an answer and are to be sent again.

use std::sync::Arc;

use tokio::time::{Duration, Instant};

use crate::event::Observer;
use crate::input::line::Line;
use crate::run::judge::Judgement;
use crate::run::outage::delay;
use crate::run::pulse::Pulse;
use crate::run::task::{Back, Finished};
use crate::run::tracker::{Round, Ticket};

/// Rounds that show that a request itself is to blame ...
const UNCLEAR_ROUNDS: u32 = 2;
/// ... and as many where the failure is one that requests hardly ever cause.
const OUTAGE_ROUNDS: u32 = 20;

/// All of them, in the order in which they came back.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    parked: Vec<Parked>,
}

/// A request between two rounds through the service.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) line: Line,
    pub(crate) ticket: Ticket,
    pub(crate) case: Case,
    /// What came of the last round, where that is known.
    round: Option<Round>,
    /// It is not sent again before this; `None` where it was never sent.
    not_before: Option<Instant>,
}

/// What speaks for it that a request is itself to blame: rounds in which it
/// failed while others were answered.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Case {
    rounds: u32,
    attempts: u32,
    /// Whether it was called back between two attempts. That happens once: in its
    /// next round it comes to its end, so that it can be judged.
    pub(crate) was_cut_short: bool,
}

impl Parking {
    pub(crate) fn len(&self) -> usize {
        self.parked.len()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.parked.is_empty()
    }

    pub(crate) fn put(&mut self, parked: Parked) {
        self.parked.push(parked);
    }

    /// Whether there is one that was never sent.
    pub(crate) fn has_fresh(&self) -> bool {
        self.parked.iter().any(Parked::is_fresh)
    }

    /// When the first of them may be sent.
    pub(crate) fn first_due(&self) -> Option<Instant> {
        self.parked.iter().filter_map(|p| p.not_before).min()
    }

    /// Takes those that may be sent now, in the order of the input.
    pub(crate) fn due(&mut self, now: Instant) -> Vec<Parked> {
        let is_due = |p: &mut Parked| p.not_before.is_none_or(|at| at <= now);
        let mut due: Vec<_> = self.parked.extract_if(.., is_due).collect();
        due.sort_unstable_by_key(|p| p.line.number);
        due
    }

    /// Takes one to ask with: one that was never sent, since it has failed
    /// nothing yet, else the one that came back first.
    pub(crate) fn next_probe(&mut self) -> Option<Parked> {
        let fresh = self.parked.iter().position(Parked::is_fresh);
        let at = fresh.unwrap_or(0);
        (at < self.parked.len()).then(|| self.parked.remove(at))
    }

    /// This one has failed and another was answered.
    pub(crate) fn blame(&mut self, line: u64, now: Instant) {
        if let Some(parked) = self.parked.iter_mut().find(|p| p.line.number == line) {
            parked.case.add(parked.round);
            parked.not_before = Some(now + parked.case.rest());
        }
    }

    pub(crate) fn take_all(&mut self) -> impl Iterator<Item = Parked> + use<> {
        std::mem::take(&mut self.parked).into_iter()
    }
}

impl Parked {
    /// One that was never sent.
    pub(crate) fn new(line: Line, observer: &Observer, pulse: &Arc<Pulse>) -> Self {
        Self {
            ticket: Ticket::new(line.name(), observer, pulse),
            line,
            case: Case::default(),
            round: None,
            not_before: None,
        }
    }

    /// One that came back.
    pub(crate) fn again(back: Back, now: Instant) -> Self {
        let round = back.round();
        let mut case = back.case;
        case.was_cut_short |= back.was_cut_short;
        Self {
            ticket: back.ticket.again(),
            line: back.line,
            not_before: Some(now + case.rest()),
            case,
            round,
        }
    }

    /// For a later run.
    pub(crate) fn withdraw(self) -> Finished {
        Finished::new(&self.line, self.ticket.elapsed(), None)
    }

    fn is_fresh(&self) -> bool {
        self.not_before.is_none()
    }
}

impl Case {
    /// One more such round.
    pub(crate) fn add(&mut self, round: Option<Round>) {
        self.rounds = self.rounds.saturating_add(1);
        let attempts = round.map_or(1, |round| round.attempts.max(1));
        self.attempts = self.attempts.saturating_add(attempts);
    }

    /// Whether its failure is to be written: its own `attempts` are used up, and
    /// not by one bad moment.
    pub(crate) fn is_proven(self, judgement: &Judgement, attempts: u32) -> bool {
        let rounds = match judgement {
            Judgement::Outage => OUTAGE_ROUNDS,
            _ => UNCLEAR_ROUNDS,
        };
        self.rounds >= rounds && self.attempts >= attempts
    }

    /// How long to leave it alone.
    fn rest(self) -> Duration {
        match self.rounds {
            0 => Duration::ZERO,
            rounds => delay(rounds),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_case_needs_rounds_and_attempts() {
        let mut case = Case::default();
        let proven = |case: Case, judgement| case.is_proven(&judgement, 3);
        for rounds in 1..=25 {
            case.add(None);
            assert_eq!(proven(case, Judgement::Unclear), rounds >= 3, "{rounds}");
            assert_eq!(proven(case, Judgement::Outage), rounds >= 20, "{rounds}");
        }
        assert!(case.rest() <= Duration::from_secs(30));
    }
}
