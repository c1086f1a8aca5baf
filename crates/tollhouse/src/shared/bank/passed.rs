//! What was granted past a process's head: rule 9.

/// How often its own cost may pass the head.
const PASSES: f64 = 4.0;

/// Of that so many seconds are kept for its own ways to the ledger, and for what the provider's
/// word takes from the level meanwhile: with all that it is launched within five times its
/// refill.
const SPARE: f64 = 4.0;

/// In seconds of the scarcest thing; of a large head also what others were granted before it in
/// their turn.
///
/// It is the head's that was counted for, however often another one stands before that in its
/// process's line, is granted and comes again: otherwise it would be passed anew each time. A
/// line has no names in it, so the head is known by its price.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    cost: f64,
    /// The price of the largest head that it was counted for.
    head: f64,
}

/// What a process is granted of its line, and what it has left there.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Served {
    /// The prices of the steps that it is granted, together.
    pub(super) all: f64,
    /// The largest of them.
    pub(super) largest: f64,
    /// The largest of those that wait on.
    pub(super) rest: f64,
}

impl Passed {
    pub(super) fn is_nothing(&self) -> bool {
        self.cost == 0.0
    }

    /// How much more may pass a head of this price.
    pub(super) fn allowance(&self, price: f64) -> f64 {
        PASSES * price - price.min(SPARE) - self.cost
    }

    /// So much is granted past a head of this price.
    pub(super) fn count(&mut self, cost: f64, price: f64) {
        self.head = self.head.max(price);
        self.cost = (self.cost + cost).min(PASSES * self.head);
    }

    /// Ends with the head. Where that waits no more and was not granted either, the others of its
    /// line pay it off by what they are granted, as if each had been passed as often as it may.
    pub(super) fn serve(&mut self, served: &Served) {
        if served.largest >= self.head {
            *self = Passed::default();
        } else if served.rest < self.head {
            self.cost = (self.cost - PASSES * served.all).max(0.0);
        }
    }
}
