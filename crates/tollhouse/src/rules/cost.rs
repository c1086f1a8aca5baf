//! What requests cost, in one coin, whatever they take.

use crate::charge::{Charge, Per};

/// What a request takes of the scarcest thing, in picoseconds of it: a request that
/// costs a second takes as much as the provider allows in a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Cost(u64);

/// A nanosecond has so many picoseconds.
const PICOS: u64 = 1_000;

impl Cost {
    pub(crate) const NOTHING: Cost = Cost(0);

    /// Nothing costs more.
    pub(crate) const MOST: Cost = Cost(u64::MAX);

    /// What a request costs where nothing measures it: requests are counted then.
    pub(crate) const LEAST: Cost = Cost(PICOS);

    /// So many nanoseconds.
    #[inline]
    pub(crate) const fn nanos(nanos: u64) -> Cost {
        Cost(nanos.saturating_mul(PICOS))
    }

    /// `amount` of what there is `limit` of in a period.
    #[inline]
    pub(crate) fn of(amount: u64, per: Per, limit: u64) -> Cost {
        let (period, limit) = (per.nanos() * PICOS, limit.max(1));
        if let Some(picos) = amount.checked_mul(period) {
            // Mostly that is enough, and a longer division takes as long as a lock.
            return Cost(picos / limit);
        }
        let picos = u128::from(amount) * u128::from(period) / u128::from(limit);
        Cost(u64::try_from(picos).unwrap_or(u64::MAX))
    }

    #[inline]
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    #[inline]
    pub(crate) fn plus(self, other: Cost) -> Cost {
        Cost(self.0.saturating_add(other.0))
    }

    pub(crate) fn minus(self, other: Cost) -> Cost {
        Cost(self.0.saturating_sub(other.0))
    }

    #[inline]
    pub(crate) fn times(self, times: u64) -> Cost {
        Cost(self.0.saturating_mul(times))
    }

    /// As much more or less as `part` is of `whole`.
    pub(crate) fn scaled(self, part: Cost, whole: Cost) -> Cost {
        let scaled = u128::from(self.0) * u128::from(part.0) / u128::from(whole.0.max(1));
        Cost(u64::try_from(scaled).unwrap_or(u64::MAX))
    }
}

/// What finally stands of a charge, as its request ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Charged {
    /// All of it.
    Whole,
    /// Nothing: it was refused, or never sent.
    Nothing,
    /// What was really used.
    Used(Charge),
}

impl Charged {
    /// What stands where two rules know of it: most of it.
    #[inline]
    pub(crate) fn or(self, other: Charged) -> Charged {
        match (self, other) {
            (Charged::Nothing, known) | (known, Charged::Nothing) => known,
            (Charged::Used(used), _) | (_, Charged::Used(used)) => Charged::Used(used),
            (Charged::Whole, Charged::Whole) => Charged::Whole,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_exact_in_picoseconds_and_saturate() {
        let table = [
            (1, Per::Minute, 60, 1_000_000_000_000),
            (1_000, Per::Minute, 30_000, 2_000_000_000_000),
            (1, Per::Minute, 1_000_000_000_000, 60),
            (10, Per::Day, 10, 86_400_000_000_000_000),
            (u64::MAX, Per::Day, 1, u64::MAX),
            (7, Per::Second, 0, 7_000_000_000_000),
        ];
        for (amount, per, limit, picos) in table {
            assert_eq!(
                Cost::of(amount, per, limit).get(),
                picos,
                "{amount} of {limit}"
            );
        }
        assert_eq!(Cost::nanos(u64::MAX), Cost(u64::MAX));
        assert_eq!(Cost(u64::MAX).times(4), Cost(u64::MAX));
        assert_eq!(Cost(7).scaled(Cost(3), Cost(2)), Cost(10));
        assert_eq!(
            Cost(u64::MAX).scaled(Cost(3), Cost::NOTHING),
            Cost(u64::MAX)
        );
    }

    #[test]
    fn a_cost_is_given_back_as_far_as_it_was_taken() {
        assert_eq!(Cost(7).plus(Cost(3)).minus(Cost(4)), Cost(6));
        assert_eq!(Cost(u64::MAX).plus(Cost(1)), Cost(u64::MAX));
        assert_eq!(Cost(3).minus(Cost(4)), Cost::NOTHING);
    }
}
