//! Requests that came back without an answer and are to be sent again.

use std::sync::Arc;

use tokio::time::Instant;

use crate::event::Observer;
use crate::input::line::Line;
use crate::run::health::case::Case;
use crate::run::health::pulse::Pulse;
use crate::run::health::round::Round;
use crate::run::request::task::{Back, Resolved};
use crate::run::request::tracker::Tracker;

/// All of them, in the order in which they came back.
#[derive(Debug, Default)]
pub(crate) struct Parking {
    parked: Vec<Parked>,
}

/// A request between two rounds through the service.
#[derive(Debug)]
pub(crate) struct Parked {
    pub(crate) line: Line,
    pub(crate) tracker: Tracker,
    pub(crate) case: Case,
    /// What came of the last round, where that is known.
    round: Option<Round>,
    /// It is not sent again before this; `None` where it was never sent.
    not_before: Option<Instant>,
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
            tracker: Tracker::new(line.name(), observer, pulse),
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
            tracker: back.tracker.again(),
            line: back.line,
            not_before: Some(now + case.rest()),
            case,
            round,
        }
    }

    /// For a later run.
    pub(crate) fn withdraw(self) -> Resolved {
        Resolved::new(&self.line, self.tracker.elapsed(), None)
    }

    fn is_fresh(&self) -> bool {
        self.not_before.is_none()
    }
}
