//! What one request takes from the meters, by unit.

mod amounts;

use std::fmt;

pub use amounts::Amounts;

/// What a limit counts.
///
/// # Examples
///
/// ```
/// use tollhouse::Unit;
///
/// assert_eq!(Unit::Output.to_string(), "output tokens");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Unit {
    /// Calls.
    Requests,
    /// Tokens, those of the prompt and of the answer together.
    Tokens,
    /// Tokens of the prompt.
    Input,
    /// Tokens of the answer.
    Output,
    /// Pictures.
    Images,
}

impl Unit {
    /// All there are, in the order in which they are told.
    #[doc(hidden)]
    pub const ALL: [Unit; 5] = [
        Unit::Requests,
        Unit::Tokens,
        Unit::Input,
        Unit::Output,
        Unit::Images,
    ];

    /// Whether a request's real usage may differ from what was reserved. A
    /// request is a request.
    pub(crate) const fn is_settled(self) -> bool {
        !matches!(self, Unit::Requests)
    }

    /// The plural, as people say it.
    pub const fn name(self) -> &'static str {
        match self {
            Unit::Requests => "requests",
            Unit::Tokens => "tokens",
            Unit::Input => "input tokens",
            Unit::Output => "output tokens",
            Unit::Images => "images",
        }
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What one request takes from the limits: an amount of each [`Unit`], decided
/// before it is sent.
///
/// One request is always among them. Tokens that are not named are those that go in
/// and come out, if both are named; any other unit that is not named is 0. Where a
/// charge tells what was really used, a unit that it does not name is as it was
/// reserved.
///
/// # Examples
///
/// A provider that limits what goes in and what comes out apart:
///
/// ```
/// use tollhouse::{Charge, Unit};
///
/// let charge = Charge::of(Unit::Input, 1_200).and(Unit::Output, 400);
/// assert_eq!(charge.get(Unit::Input), 1_200);
/// assert_eq!(charge.get(Unit::Tokens), 1_600);
/// assert_eq!(charge.get(Unit::Requests), 1);
/// assert_eq!(charge.get(Unit::Images), 0);
///
/// // A number alone is tokens.
/// assert_eq!(Charge::from(500), Charge::tokens(500));
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Charge {
    /// By unit, requests left out.
    amounts: [u64; 4],
    requests: u32,
    /// A bit for each unit that was named.
    named: u8,
}

impl Charge {
    const REQUEST: Charge = Charge {
        amounts: [0; 4],
        requests: 1,
        named: 0,
    };

    /// What is named where tokens alone are.
    const TOKENS: u8 = Charge::bit(Unit::Tokens);

    /// So many tokens, and one request.
    #[inline]
    pub const fn tokens(amount: u64) -> Self {
        Charge::REQUEST.and(Unit::Tokens, amount)
    }

    /// So much of a unit, and one request.
    #[inline]
    pub const fn of(unit: Unit, amount: u64) -> Self {
        Charge::REQUEST.and(unit, amount)
    }

    /// So much of another unit; of one that was named already, instead of that.
    /// There is never less than one request.
    #[inline]
    pub const fn and(mut self, unit: Unit, amount: u64) -> Self {
        self.named |= Charge::bit(unit);
        match Charge::place(unit) {
            Some(place) => self.amounts[place] = amount,
            None => {
                self.requests = match amount {
                    0 => 1,
                    amount if amount > u32::MAX as u64 => u32::MAX,
                    amount => amount as u32,
                }
            }
        }
        if !self.names(Unit::Tokens) && self.names(Unit::Input) && self.names(Unit::Output) {
            self.amounts[0] = self.amounts[1].saturating_add(self.amounts[2]);
        }
        self
    }

    #[inline]
    const fn bit(unit: Unit) -> u8 {
        1 << unit as u8
    }

    #[inline]
    const fn names(&self, unit: Unit) -> bool {
        self.named & Charge::bit(unit) != 0
    }

    /// How much of a unit.
    #[inline]
    pub const fn get(&self, unit: Unit) -> u64 {
        match Charge::place(unit) {
            Some(place) => self.amounts[place],
            None => self.requests as u64,
        }
    }

    /// How much of a unit, if it was named.
    #[inline]
    pub(crate) const fn named(&self, unit: Unit) -> Option<u64> {
        let follows =
            matches!(unit, Unit::Tokens) && self.names(Unit::Input) && self.names(Unit::Output);
        if self.names(unit) || follows {
            return Some(self.get(unit));
        }
        None
    }

    /// Whether it is no more than `most` of anything.
    #[inline]
    pub(crate) fn is_at_most(&self, most: u64) -> bool {
        self.amounts.iter().all(|amount| *amount <= most)
    }

    /// Whether it is no more than the other of anything that is settled.
    #[inline]
    pub(crate) fn is_within(&self, other: &Charge) -> bool {
        let mut both = self.amounts.iter().zip(&other.amounts);
        both.all(|(mine, other)| mine <= other)
    }

    /// No more than `most` of anything.
    pub(crate) fn at_most(mut self, most: u64) -> Charge {
        for amount in &mut self.amounts {
            *amount = (*amount).min(most);
        }
        self
    }

    /// No more than `most` of this unit.
    pub(crate) fn bounded(mut self, unit: Unit, most: u64) -> Charge {
        if let Some(place) = Charge::place(unit) {
            self.amounts[place] = self.amounts[place].min(most);
        }
        self
    }

    #[inline]
    const fn place(unit: Unit) -> Option<usize> {
        // In the order of the units, of which the first is kept apart.
        (unit as usize).checked_sub(1)
    }
}

/// A charge in less room, for those who wait: in sixteen bytes, if it is one of the
/// usual.
#[derive(Clone, Debug)]
pub(crate) enum Kept {
    /// One request and nothing else.
    Request,
    /// So many, as [`Charge::tokens`].
    Tokens(u64),
    /// So many that go in and come out, and as many tokens as both.
    Both { input: u32, output: u32 },
    /// Anything else.
    Other(Box<Charge>),
}

impl Kept {
    #[inline]
    pub(crate) fn new(charge: &Charge) -> Self {
        let usual = match charge.named {
            0 => Kept::Request,
            Charge::TOKENS => Kept::Tokens(charge.get(Unit::Tokens)),
            _ => Kept::both(charge),
        };
        match usual.get() == *charge {
            true => usual,
            false => Kept::Other(Box::new(*charge)),
        }
    }

    /// Where they are too many for it, some others: that is no charge of this kind.
    fn both(charge: &Charge) -> Kept {
        let part = |unit| u32::try_from(charge.get(unit)).unwrap_or_default();
        Kept::Both {
            input: part(Unit::Input),
            output: part(Unit::Output),
        }
    }

    #[inline]
    pub(crate) fn get(&self) -> Charge {
        match self {
            Kept::Request => Charge::REQUEST,
            Kept::Tokens(tokens) => Charge::tokens(*tokens),
            Kept::Both { input, output } => {
                let (input, output) = (u64::from(*input), u64::from(*output));
                let tokens = Charge::tokens(input + output);
                tokens.and(Unit::Input, input).and(Unit::Output, output)
            }
            Kept::Other(charge) => **charge,
        }
    }
}

/// What many charges come to, exactly, so that what was added can be taken off
/// again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Total {
    amounts: [u128; 4],
    requests: u64,
}

impl Total {
    #[inline]
    pub(crate) fn add(&mut self, charge: &Charge) {
        for (sum, amount) in self.amounts.iter_mut().zip(charge.amounts) {
            *sum += u128::from(amount);
        }
        self.requests += u64::from(charge.requests);
    }

    #[inline]
    pub(crate) fn subtract(&mut self, charge: &Charge) {
        for (sum, amount) in self.amounts.iter_mut().zip(charge.amounts) {
            *sum -= u128::from(amount);
        }
        self.requests -= u64::from(charge.requests);
    }

    /// So much less of one unit.
    pub(crate) fn subtract_of(&mut self, unit: Unit, amount: u64) {
        match Charge::place(unit) {
            Some(place) => self.amounts[place] -= u128::from(amount),
            None => self.requests -= amount,
        }
    }

    /// By how much more was used than was reserved.
    #[inline]
    pub(crate) fn add_excess(&mut self, used: &Charge, reserved: &Charge) {
        if used.amounts == reserved.amounts {
            return;
        }
        let both = used.amounts.iter().zip(reserved.amounts);
        for (sum, (used, reserved)) in self.amounts.iter_mut().zip(both) {
            *sum += u128::from(used.saturating_sub(reserved));
        }
    }

    /// A part of many more.
    pub(crate) fn add_part(&mut self, other: &Total, part: impl Fn(u128) -> u128) {
        for (sum, amount) in self.amounts.iter_mut().zip(other.amounts) {
            *sum = sum.saturating_add(part(amount));
        }
        let requests = part(u128::from(other.requests));
        let requests = u64::try_from(requests).unwrap_or(u64::MAX);
        self.requests = self.requests.saturating_add(requests);
    }

    /// As if they were one; no more of anything than the largest number.
    pub(crate) fn as_charge(&self) -> Charge {
        let amount = |amount: u128| u64::try_from(amount).unwrap_or(u64::MAX);
        Charge {
            amounts: self.amounts.map(amount),
            requests: u32::try_from(self.requests).unwrap_or(u32::MAX),
            named: u8::MAX,
        }
    }

    /// How much of a unit; no more than the largest number.
    pub(crate) fn get(&self, unit: Unit) -> u64 {
        match Charge::place(unit) {
            Some(place) => u64::try_from(self.amounts[place]).unwrap_or(u64::MAX),
            None => self.requests,
        }
    }
}

/// One request and nothing else.
impl Default for Charge {
    fn default() -> Self {
        Charge::REQUEST
    }
}

/// Tokens.
impl From<u64> for Charge {
    #[inline]
    fn from(tokens: u64) -> Self {
        Charge::tokens(tokens)
    }
}

impl fmt::Debug for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Unit::ALL.into_iter().filter(|unit| self.get(*unit) > 0);
        f.debug_map()
            .entries(named.map(|unit| (unit, self.get(unit))))
            .finish()
    }
}

/// `1200 tokens`; `700 input tokens and 300 output tokens`; `one request`.
impl fmt::Display for Charge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = Unit::ALL.into_iter().filter(|unit| self.names(*unit));
        let mut first = true;
        for unit in named {
            let and = if first { "" } else { " and " };
            first = false;
            write!(f, "{and}{} {unit}", self.get(unit))?;
        }
        match first {
            true => f.write_str("one request"),
            false => Ok(()),
        }
    }
}

/// Over which time a limit counts.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tollhouse::Per;
///
/// assert_eq!(Per::Day.duration(), Duration::from_secs(86_400));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Per {
    /// One second.
    Second,
    /// Sixty seconds.
    Minute,
    /// Twenty-four hours, whenever they begin.
    Day,
}

impl Per {
    /// How long it is.
    pub const fn duration(self) -> std::time::Duration {
        std::time::Duration::from_secs(match self {
            Per::Second => 1,
            Per::Minute => 60,
            Per::Day => 86_400,
        })
    }

    /// The same in nanoseconds.
    pub(crate) const fn nanos(self) -> u64 {
        self.duration().as_secs() * 1_000_000_000
    }
}

impl fmt::Display for Per {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Per::Second => "second",
            Per::Minute => "minute",
            Per::Day => "day",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_request_is_always_there() {
        for charge in [
            Charge::default(),
            Charge::tokens(7),
            Charge::of(Unit::Requests, 0),
            Charge::of(Unit::Images, 2).and(Unit::Requests, 0),
        ] {
            assert_eq!(charge.get(Unit::Requests), 1, "{charge}");
        }
        assert_eq!(Charge::of(Unit::Requests, 3).get(Unit::Requests), 3);
        let most = Charge::of(Unit::Requests, u64::MAX);
        assert_eq!(most.get(Unit::Requests), u64::from(u32::MAX));
    }

    #[test]
    fn what_is_named_is_told_from_what_is_nothing() {
        let charge = Charge::of(Unit::Output, 0);
        assert_eq!(charge.named(Unit::Output), Some(0));
        assert_eq!(charge.named(Unit::Input), None);
        assert_eq!(charge.named(Unit::Requests), None);
        assert_eq!(charge.named(Unit::Tokens), None);
    }

    #[test]
    fn tokens_are_what_goes_in_and_comes_out_unless_they_are_named() {
        let both = Charge::of(Unit::Output, 30).and(Unit::Input, 70);
        assert_eq!(both.get(Unit::Tokens), 100);
        assert_eq!(both.named(Unit::Tokens), Some(100));
        assert_eq!(both.and(Unit::Tokens, 80).get(Unit::Tokens), 80);
        assert_eq!(Charge::tokens(80).and(Unit::Input, 1).get(Unit::Tokens), 80);
        assert_eq!(Charge::of(Unit::Input, 70).get(Unit::Tokens), 0);
    }

    #[test]
    fn what_was_added_can_be_taken_off_again() {
        let most = Charge::tokens(u64::MAX).and(Unit::Requests, u64::MAX);
        let mut total = Total::default();
        total.add(&Charge::tokens(5).and(Unit::Images, 2));
        total.add(&most);
        total.add(&most);
        assert_eq!(total.get(Unit::Tokens), u64::MAX);
        assert_eq!(total.get(Unit::Requests), 2 * u64::from(u32::MAX) + 1);
        total.subtract(&most);
        total.subtract(&most);
        assert_eq!(total.get(Unit::Tokens), 5);
        assert_eq!(total.get(Unit::Images), 2);
    }

    #[test]
    fn a_charge_reads_as_people_say_it() {
        let both = Charge::of(Unit::Input, 700).and(Unit::Output, 300);
        assert_eq!(both.to_string(), "700 input tokens and 300 output tokens");
        assert_eq!(Charge::from(1_200).to_string(), "1200 tokens");
        assert_eq!(Charge::default().to_string(), "one request");
    }

    #[test]
    fn a_charge_is_small() {
        assert_eq!(size_of::<Charge>(), 40);
        assert_eq!(size_of::<Kept>(), 16);
    }

    #[test]
    fn a_kept_charge_is_the_same() {
        let tokens = Charge::tokens(7);
        let both = Charge::of(Unit::Input, 3).and(Unit::Output, 4);
        let large = u64::from(u32::MAX) + 1;
        let table = [
            (tokens, true),
            (Charge::tokens(u64::MAX), true),
            (tokens.and(Unit::Input, 3).and(Unit::Output, 4), true),
            // Their tokens are not named.
            (both, false),
            (tokens.and(Unit::Input, 3).and(Unit::Output, 5), false),
            (tokens.and(Unit::Input, large).and(Unit::Output, 4), false),
            (tokens.and(Unit::Input, 7), false),
            (tokens.and(Unit::Images, 2), false),
            (tokens.and(Unit::Requests, 2), false),
            (Charge::of(Unit::Output, 0), false),
            (Charge::of(Unit::Requests, 2), false),
            (Charge::default(), true),
        ];
        for (charge, is_small) in table {
            let kept = Kept::new(&charge);
            assert_eq!(kept.get(), charge, "{charge}");
            assert_eq!(!matches!(kept, Kept::Other(_)), is_small, "{charge}");
        }
    }
}
