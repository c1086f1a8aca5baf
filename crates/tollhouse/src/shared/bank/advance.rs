//! What a tag is charged before it is known what that costs: rule 8.

use super::prices::Prices;
use crate::shared::Amounts;

/// What a process was charged in advance, and what its requests have cost so far.
///
/// What is drawn is charged at once, step by step, since the next turn is somebody else's. What
/// becomes of it the next report tells: requests took it, it is idle, or it comes back. A
/// request costs what is scarcest of it, so what comes back of one is not worth what it would cost
/// alone, but the price before less the price after: and those only its process knows.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Advance {
    /// What no request had taken by its last report, and what it was granted then.
    idle: Amounts,
    /// What was charged for that: of each step what was scarcest.
    dominant: Amounts,
    /// What its requests were charged for. No more ever comes back.
    paid: f64,
}

/// What became of it, by the next report.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outcome<'r> {
    /// Taken by no request still, or not any more.
    pub(super) idle: &'r Amounts,
    pub(super) returned: &'r Amounts,
    pub(super) owed: &'r Amounts,
    pub(super) unused: &'r Amounts,
    /// By how much more its requests have cost in all, and by how much less.
    pub(super) more: &'r Amounts,
    pub(super) less: &'r Amounts,
}

impl Advance {
    /// So much is granted, and charged by what was scarcest.
    pub(super) fn draw(&mut self, drawn: &Amounts, dominant: &Amounts) {
        self.idle = self.idle.plus(drawn);
        self.dominant = self.dominant.plus(dominant);
    }

    /// It was granted, and never had.
    pub(super) fn undo(&mut self, drawn: &Amounts) {
        self.idle = self.idle.minus(drawn);
    }

    /// By how much the tag moves, but for the weight.
    ///
    /// What the process tells is believed within bounds that hold for whatever requests there
    /// were: together they cost no less than what they took would at once, and no more than
    /// each unit of it by itself.
    pub(super) fn settle(&mut self, told: &Outcome<'_>, prices: Prices<'_>) -> f64 {
        let there = told.idle.plus(told.returned);
        let (taken, back) = (self.idle.minus(&there), there.minus(&self.idle));
        let least = prices.of(&taken) - prices.sum(&back) - prices.sum(told.unused);
        let most = prices.sum(&taken) + prices.sum(told.owed);
        let cost = prices.sum(told.more) - prices.sum(told.less);
        let believed = cost.min(most).max(least).max(-self.paid);
        self.paid += believed;
        // In amounts as far as they go: what was charged right moves nothing at all.
        let idle = prices.dominant(told.idle);
        let (more, less) = (told.more.plus(&idle), told.less.plus(&self.dominant));
        let moved = prices.sum(&more.minus(&less)) - prices.sum(&less.minus(&more));
        (self.idle, self.dominant) = (*told.idle, idle);
        moved + (believed - cost)
    }

    /// What it is charged for, in seconds.
    pub(super) fn price(&self, prices: Prices<'_>) -> f64 {
        prices.sum(&self.dominant)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::meter::Meter;
    use super::*;
    use crate::charge::{Per, Unit};
    use crate::shared::{MeterTerms, Stamp};

    fn of(input: u64, output: u64) -> Amounts {
        Amounts::of(Unit::Input, input).and(Unit::Output, output)
    }

    /// Of both a thousand are six seconds.
    fn meters() -> [Meter; 2] {
        [Unit::Input, Unit::Output].map(|unit| {
            let terms = MeterTerms {
                unit,
                per: Per::Minute,
                limit: 10_000,
                rate: 10_000,
                capacity: 10_000,
                windowed: false,
            };
            Meter::new(terms, Stamp(0))
        })
    }

    /// In seconds, what the tag moves by where two steps of a thousand of each were drawn, which were
    /// charged twelve, and one of a thousand input and no output besides, which was charged six.
    #[test]
    fn what_was_charged_is_moved_to_what_it_costs() {
        let nothing = of(0, 0);
        for (what, idle, returned, more, seconds) in [
            ("taken as drawn", nothing, nothing, of(3_000, 0), 0.0),
            ("told too little", nothing, nothing, of(0, 2_000), 0.0),
            ("and nothing told", nothing, nothing, nothing, 0.0),
            ("taken apart", nothing, nothing, of(3_000, 2_000), 12.0),
            ("told too much", nothing, nothing, of(9_000, 0), 12.0),
            ("idle", of(3_000, 2_000), nothing, nothing, 0.0),
            ("given back", nothing, of(3_000, 2_000), nothing, -18.0),
            ("a third of it", nothing, of(1_000, 0), of(2_000, 0), -6.0),
            (
                "what was not scarce",
                nothing,
                of(0, 2_000),
                of(3_000, 0),
                0.0,
            ),
            ("silent: all landed", nothing, nothing, of(300, 0), 0.0),
        ] {
            let mut advance = Advance::default();
            for (drawn, dominant) in [
                (of(2_000, 2_000), of(2_000, 0)),
                (of(1_000, 0), of(1_000, 0)),
            ] {
                advance.draw(&drawn, &dominant);
            }
            let told = Outcome {
                idle: &idle,
                returned: &returned,
                owed: &nothing,
                unused: &nothing,
                more: &more,
                less: &nothing,
            };
            let meters = meters();
            let prices = Prices::new(&meters, Duration::ZERO);
            let moved = advance.settle(&told, prices);
            assert!((moved - seconds).abs() < 1e-9, "{what}: {moved}");
            // And not once more.
            let told = Outcome {
                returned: &nothing,
                more: &nothing,
                ..told
            };
            assert_eq!(advance.settle(&told, prices), 0.0, "{what}");
        }
    }

    #[test]
    fn a_grant_that_never_came_costs_nothing() {
        let mut advance = Advance::default();
        let (drawn, dominant) = (of(1_000, 1_000), of(1_000, 1_000));
        advance.draw(&drawn, &dominant);
        advance.undo(&drawn);
        let nothing = of(0, 0);
        let told = Outcome {
            idle: &nothing,
            returned: &nothing,
            owed: &nothing,
            unused: &nothing,
            more: &nothing,
            less: &nothing,
        };
        let meters = meters();
        let prices = Prices::new(&meters, Duration::ZERO);
        assert_eq!(advance.settle(&told, prices), -12.0, "as it was charged");
    }
}
