//! Whether the provider's count is believed: some headers say "0 left" for ever.

use crate::time::Moment;

/// So many contradictions in a row, and the count is not believed.
const CONTRADICTIONS: u32 = 5;

/// The most that a count may ask for after it proved right.
const MOST: u32 = 80;

/// A count contradicts itself where it said that less was left than the next
/// request costs, admits that request, and says the same again.
///
/// Once may be chance, since the bucket refills. Five times in a row, each
/// request reserved after the count before it was told, is a header that is
/// not counted. From then on the count is passed over: the ledger goes on with
/// its own, which the proof needs no header for. That never lets in more than a
/// provider has whose account is ours alone; where it is not, and others really
/// left nothing, a refusal says so, and the count is believed again and has to
/// contradict itself twice as often the next time.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(test, derive(Hash))]
pub(super) struct Belief {
    /// What was said to be left, less than its own request cost, and when.
    said: Option<(u64, Moment)>,
    in_a_row: u32,
    needed: u32,
    believed: bool,
}

/// What an answer does to the belief.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Believed,
    /// From this answer on it is not.
    Lost,
    Disbelieved,
}

impl Default for Belief {
    fn default() -> Self {
        Belief {
            said: None,
            in_a_row: 0,
            needed: CONTRADICTIONS,
            believed: true,
        }
    }
}

impl Belief {
    /// A request of `cost`, reserved at `reserved`, was admitted, and
    /// `remaining` is said to be left after it.
    pub(super) fn admitted(
        &mut self,
        remaining: u64,
        cost: u64,
        reserved: Moment,
        now: Moment,
    ) -> Verdict {
        let scarce = remaining < cost.max(1);
        match self.said {
            Some((said, _)) if scarce && said == remaining && !self.believed => {}
            // It was on its way already: no contradiction.
            Some((said, at)) if scarce && said == remaining && reserved <= at => {}
            Some((said, _)) if scarce && said == remaining => {
                self.said = Some((said, now));
                self.in_a_row += 1;
                if self.in_a_row >= self.needed {
                    self.believed = false;
                    return Verdict::Lost;
                }
            }
            _ => {
                self.said = scarce.then_some((remaining, now));
                self.in_a_row = 0;
                self.believed = true;
            }
        }
        match self.believed {
            true => Verdict::Believed,
            false => Verdict::Disbelieved,
        }
    }

    /// A request was refused for want of this: the count may be right.
    pub(super) fn refused(&mut self) {
        if !self.believed {
            self.needed = self.needed.saturating_mul(2).min(MOST);
        }
        self.said = None;
        self.in_a_row = 0;
        self.believed = true;
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(second: u64) -> Moment {
        Moment::default() + Duration::from_secs(second)
    }

    /// How many answers in a row, one a second, it takes until `remaining` is
    /// not believed.
    fn lost_after(belief: &mut Belief, remaining: u64, cost: u64) -> Option<u64> {
        (1..200).find(|second| {
            let told = belief.admitted(remaining, cost, at(*second), at(*second));
            told == Verdict::Lost
        })
    }

    #[test]
    fn what_is_contradicted_again_and_again_is_not_believed() {
        let mut belief = Belief::default();
        assert_eq!(lost_after(&mut belief, 0, 100), Some(6));
        let later = belief.admitted(0, 100, at(300), at(300));
        assert_eq!(later, Verdict::Disbelieved);
        let counts = belief.admitted(7, 100, at(301), at(301));
        assert_eq!(counts, Verdict::Believed, "it counts after all");
    }

    #[test]
    fn a_refusal_makes_it_believed_and_harder_to_contradict() {
        let mut belief = Belief::default();
        for needed in [6, 11, 21, 41, 81, 81] {
            assert_eq!(lost_after(&mut belief, 0, 1), Some(needed));
            belief.refused();
        }
    }

    #[test]
    fn what_may_be_true_is_believed() {
        let mut belief = Belief::default();
        assert_eq!(lost_after(&mut belief, 100, 100), None, "one more fits");
        for second in 0..100 {
            let told = belief.admitted(second % 2, 100, at(second), at(second));
            assert_eq!(told, Verdict::Believed, "it counts");
        }
    }

    #[test]
    fn answers_that_come_together_contradict_nothing() {
        let mut belief = Belief::default();
        for second in 10..30 {
            let told = belief.admitted(0, 100, at(5), at(second));
            assert_eq!(told, Verdict::Believed);
        }
    }
}
