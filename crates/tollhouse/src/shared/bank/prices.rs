//! What things cost, by the limits of a pool.

use std::time::Duration;

use super::meter::Meter;
use crate::charge::Unit;
use crate::shared::Amounts;

/// In seconds of the scarcest thing.
#[derive(Clone, Copy)]
pub(super) struct Prices<'m> {
    meters: &'m [Meter],
    interval: Duration,
}

impl<'m> Prices<'m> {
    pub(super) fn new(meters: &'m [Meter], interval: Duration) -> Self {
        Prices { meters, interval }
    }

    /// Of what one takes at once.
    pub(super) fn of(&self, amounts: &Amounts) -> f64 {
        self.scarcest(amounts).0
    }

    /// What of these costs most: so much of one unit, the first of those that cost the same.
    pub(super) fn dominant(&self, amounts: &Amounts) -> Amounts {
        let (_, unit) = self.scarcest(amounts);
        Amounts::of(unit, amounts.get(unit))
    }

    fn scarcest(&self, amounts: &Amounts) -> (f64, Unit) {
        #[expect(clippy::cast_precision_loss, reason = "a share, not a count")]
        let launches = amounts.get(Unit::Requests) as f64;
        let spaced = (launches * self.interval.as_secs_f64(), Unit::Requests);
        let costs = self.meters.iter().map(|meter| {
            let unit = meter.terms.unit;
            (meter.cost(amounts.get(unit)), unit)
        });
        costs.fold(spaced, |most, it| if it.0 > most.0 { it } else { most })
    }

    /// Of each unit by itself, together.
    pub(super) fn sum(&self, amounts: &Amounts) -> f64 {
        let each = amounts.each();
        each.fold(0.0, |sum, (unit, amount)| {
            sum + self.of(&Amounts::of(unit, amount))
        })
    }
}
