//! What a request costs between processes.

use std::time::Duration;

use super::Limit;
use crate::charge::{Amounts, Unit};
use crate::rules::Cost;

/// The limits of all processes, as far as this one was told of them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prices {
    limits: Vec<Limit>,
    /// Between two launches.
    interval: Duration,
}

impl Prices {
    pub(crate) fn new(limits: Vec<Limit>, interval: Duration) -> Self {
        Prices { limits, interval }
    }

    /// What these cost, and which of them it is that costs so much: those of the scarcest unit.
    pub(super) fn dominant(&self, of: &Amounts) -> (Cost, Amounts) {
        let launch = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        let launches = Cost::nanos(launch).times(of.get(Unit::Requests));
        let costs = self.limits.iter().map(|limit| {
            let cost = Cost::of(of.get(limit.unit), limit.per, limit.amount);
            (cost, limit.unit)
        });
        let first = (launches, Unit::Requests);
        let (cost, unit) = costs.fold(first, |most, it| if it.0 > most.0 { it } else { most });
        match cost {
            Cost::NOTHING => (cost, Amounts::NOTHING),
            _ => (cost, Amounts::of(unit, of.get(unit))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::charge::Per;

    fn limit(unit: Unit, per: Per, amount: u64) -> Limit {
        Limit { unit, per, amount }
    }

    #[test]
    fn the_scarcest_of_several_is_what_costs() {
        let limits = vec![
            limit(Unit::Requests, Per::Day, 86_400),
            limit(Unit::Input, Per::Minute, 60_000),
            limit(Unit::Output, Per::Minute, 6_000),
        ];
        let prices = Prices::new(limits, Duration::from_secs(2));
        let of = |requests, input, output| {
            let amounts = Amounts::of(Unit::Requests, requests);
            amounts.and(Unit::Input, input).and(Unit::Output, output)
        };
        for (amounts, seconds, dominant) in [
            (of(1, 1_000, 100), 2, of(1, 0, 0)),
            (of(1, 3_000, 200), 3, of(0, 3_000, 0)),
            (of(1, 3_000, 400), 4, of(0, 0, 400)),
            (of(0, 0, 0), 0, of(0, 0, 0)),
        ] {
            let cost = Cost::nanos(seconds * 1_000_000_000);
            assert_eq!(prices.dominant(&amounts), (cost, dominant), "{amounts:?}");
        }
    }
}
