//! So much of each unit.

use std::fmt;

use super::{Charge, Unit};

/// An amount of each [`Unit`], zero where none is named.
///
/// Unlike a [`Charge`] it is nobody's request, so it may be nothing at all. All
/// arithmetic saturates.
///
/// # Examples
///
/// ```
/// use tollhouse::shared::Amounts;
/// use tollhouse::{Charge, Unit};
///
/// let drawn = Amounts::from(Charge::tokens(500));
/// assert_eq!((drawn.get(Unit::Tokens), drawn.get(Unit::Requests)), (500, 1));
/// assert!(drawn.minus(&drawn).is_nothing());
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Amounts([u64; 5]);

impl Amounts {
    /// Nothing of any unit.
    pub const NOTHING: Amounts = Amounts([0; 5]);

    /// So much of one unit.
    pub const fn of(unit: Unit, amount: u64) -> Self {
        Amounts::NOTHING.and(unit, amount)
    }

    /// The same, with so much of this unit.
    pub const fn and(mut self, unit: Unit, amount: u64) -> Self {
        self.0[unit as usize] = amount;
        self
    }

    /// How much of a unit.
    #[inline]
    pub const fn get(&self, unit: Unit) -> u64 {
        self.0[unit as usize]
    }

    /// Each unit of which there is something, in the order of [`Unit`].
    pub fn each(&self) -> impl Iterator<Item = (Unit, u64)> {
        let all = Unit::ALL.into_iter().zip(self.0);
        all.filter(|(_, amount)| *amount > 0)
    }

    /// Both together.
    #[must_use]
    pub fn plus(&self, other: &Amounts) -> Self {
        self.with(other, u64::saturating_add)
    }

    /// What is left without the other; of no unit less than nothing.
    #[must_use]
    pub fn minus(&self, other: &Amounts) -> Self {
        self.with(other, u64::saturating_sub)
    }

    /// Of each unit the smaller amount.
    #[must_use]
    pub fn min(&self, other: &Amounts) -> Self {
        self.with(other, u64::min)
    }

    /// Of each unit the larger amount.
    #[must_use]
    pub fn max(&self, other: &Amounts) -> Self {
        self.with(other, u64::max)
    }

    /// Seven parts of this and one of the other, in whole units, rounded up.
    pub(crate) fn mean(&self, other: &Amounts) -> Self {
        self.with(other, |mine, other| {
            let eighths = u128::from(mine) * 7 + u128::from(other);
            u64::try_from(eighths.div_ceil(8)).unwrap_or(u64::MAX)
        })
    }

    /// As much of it as `part` is of `whole`, in whole units, rounded up.
    pub(crate) fn part(&self, part: u64, whole: u64) -> Self {
        let (part, whole) = (u128::from(part), u128::from(whole.max(1)));
        let scale = |amount| (u128::from(amount) * part).div_ceil(whole);
        Amounts(
            self.0
                .map(|amount| u64::try_from(scale(amount)).unwrap_or(u64::MAX)),
        )
    }

    /// Whether the other has at least as much of every unit.
    pub fn fits_into(&self, other: &Amounts) -> bool {
        self.0
            .iter()
            .zip(other.0)
            .all(|(mine, other)| *mine <= other)
    }

    /// Whether there is nothing of any unit.
    pub fn is_nothing(&self) -> bool {
        *self == Amounts::NOTHING
    }

    fn with(&self, other: &Amounts, what: impl Fn(u64, u64) -> u64) -> Self {
        let mut result = *self;
        for (mine, other) in result.0.iter_mut().zip(other.0) {
            *mine = what(*mine, other);
        }
        result
    }
}

impl From<Charge> for Amounts {
    fn from(charge: Charge) -> Self {
        Amounts(Unit::ALL.map(|unit| charge.get(unit)))
    }
}

impl fmt::Debug for Amounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.each()).finish()
    }
}
