//! Whether a request that keeps failing is itself to blame.

use tokio::time::Duration;

use super::outage::delay;
use super::round::Round;
use crate::run::judge::Judgement;

/// Rounds that show that a request itself is to blame ...
const UNCLEAR_ROUNDS: u32 = 2;
/// ... and as many where the failure is one that requests hardly ever cause.
const OUTAGE_ROUNDS: u32 = 20;

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
    pub(crate) fn rest(self) -> Duration {
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
