//! Amounts of money, exact enough for the price of one token.

use std::fmt;
use std::iter::Sum;
use std::ops::{Add, Sub};

use serde::{Serialize, Serializer};

/// Trillionths.
const PER_UNIT: f64 = 1e12;
const PER_MILLION_TOKENS: f64 = PER_UNIT / 1e6;

/// An amount in whatever currency the prices are, in whole trillionths of its unit;
/// as JSON a number. Sums saturate, at about 18 million.
///
/// # Examples
///
/// ```
/// use tollhouse_batch::Money;
///
/// // 2.50 for a million tokens.
/// let answer = Money::of_tokens(1_200, 2.50);
/// assert_eq!(answer, Money::new(0.003).unwrap());
/// assert_eq!((answer + answer).to_string(), "0.0060");
/// assert_eq!(Money::new(12.5).unwrap().to_string(), "12.50");
/// assert_eq!(Money::new(-1.0), None);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Money {
    trillionths: u64,
}

impl Money {
    /// Nothing.
    pub const ZERO: Self = Self { trillionths: 0 };

    /// So many units; `None` where it is negative or no number.
    pub fn new(units: f64) -> Option<Self> {
        let trillionths = (units * PER_UNIT).round();
        // The cast saturates.
        (trillionths >= 0.0).then_some(Self {
            trillionths: trillionths as u64,
        })
    }

    /// What so many tokens cost, at a price for a million of them. A price that is
    /// negative or no number is none.
    pub fn of_tokens(tokens: u64, per_million: f64) -> Self {
        Self {
            trillionths: (tokens as f64 * per_million * PER_MILLION_TOKENS).round() as u64,
        }
    }

    /// In units.
    pub fn as_units(self) -> f64 {
        self.trillionths as f64 / PER_UNIT
    }
}

impl Add for Money {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            trillionths: self.trillionths.saturating_add(other.trillionths),
        }
    }
}

/// Never below nothing.
impl Sub for Money {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            trillionths: self.trillionths.saturating_sub(other.trillionths),
        }
    }
}

impl Sum for Money {
    fn sum<I: Iterator<Item = Self>>(amounts: I) -> Self {
        amounts.fold(Self::ZERO, Add::add)
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let units = self.as_units();
        let digits = if units == 0.0 || units >= 1.0 { 2 } else { 4 };
        write!(f, "{units:.digits$}")
    }
}

impl Serialize for Money {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(self.as_units())
    }
}
