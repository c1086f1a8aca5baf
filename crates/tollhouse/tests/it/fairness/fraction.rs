//! Numbers that are never rounded.

use std::cmp::Ordering;
use std::ops::{Add, Mul, Sub};

/// A fraction in its lowest terms; the denominator is above zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fraction {
    over: i128,
    under: i128,
}

impl Fraction {
    pub(super) const ZERO: Fraction = Fraction { over: 0, under: 1 };

    pub(super) fn of(over: i128, under: i128) -> Self {
        assert!(under > 0, "{over}/{under}");
        let common = common_divisor(over.abs(), under);
        Fraction {
            over: over / common,
            under: under / common,
        }
    }

    pub(super) fn abs(self) -> Self {
        Fraction::of(self.over.abs(), self.under)
    }

    /// One over a fraction above zero.
    pub(super) fn inverse(self) -> Self {
        Fraction::of(self.under, self.over)
    }

    pub(super) fn over(self, divisor: u64) -> Self {
        self * Fraction::of(1, divisor.into())
    }
}

fn common_divisor(mut a: i128, mut b: i128) -> i128 {
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Nothing here may wrap.
fn product(a: i128, b: i128) -> i128 {
    a.checked_mul(b).expect("small enough")
}

impl Add for Fraction {
    type Output = Fraction;

    fn add(self, other: Fraction) -> Fraction {
        let over = product(self.over, other.under) + product(other.over, self.under);
        Fraction::of(over, product(self.under, other.under))
    }
}

impl Sub for Fraction {
    type Output = Fraction;

    fn sub(self, other: Fraction) -> Fraction {
        self + other * Fraction::of(-1, 1)
    }
}

impl Mul for Fraction {
    type Output = Fraction;

    fn mul(self, other: Fraction) -> Fraction {
        let over = product(self.over, other.over);
        Fraction::of(over, product(self.under, other.under))
    }
}

impl PartialOrd for Fraction {
    fn partial_cmp(&self, other: &Fraction) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Fraction {
    fn cmp(&self, other: &Fraction) -> Ordering {
        product(self.over, other.under).cmp(&product(other.over, self.under))
    }
}
