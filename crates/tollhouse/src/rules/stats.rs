//! What a rule has counted, how it stands, and what it has to say: plain
//! numbers, for whoever watches. A rule does not know whether anybody does.

use std::time::Duration;

use crate::answer::Scope;

/// All that was counted since the rule began; every count saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tokens taken before sending.
    pub(crate) reserved: u64,
    /// Tokens given back by what never reached the provider.
    pub(crate) refunded: u64,
    /// Tokens that calls ended with.
    pub(crate) settled: u64,
    /// Calls handed to the transport.
    pub(crate) launches: u64,
    /// Times that the budget was closed.
    pub(crate) holds: u64,
    /// The provider's refusals, by [`scope_index`].
    pub(crate) denials: [u64; SCOPES.len()],
}

impl Counts {
    /// Those of another rule besides.
    #[inline]
    pub(crate) fn add(&mut self, other: &Counts) {
        self.reserved(other.reserved);
        self.refunded(other.refunded);
        self.settled(other.settled);
        self.launches += other.launches;
        self.holds += other.holds;
        for (mine, theirs) in self.denials.iter_mut().zip(other.denials) {
            *mine += theirs;
        }
    }

    #[inline]
    pub(crate) fn reserved(&mut self, tokens: u64) {
        self.reserved = self.reserved.saturating_add(tokens);
    }

    #[inline]
    pub(crate) fn refunded(&mut self, tokens: u64) {
        self.refunded = self.refunded.saturating_add(tokens);
    }

    #[inline]
    pub(crate) fn settled(&mut self, tokens: u64) {
        self.settled = self.settled.saturating_add(tokens);
    }

    #[inline]
    pub(crate) fn launched(&mut self) {
        self.launches += 1;
    }

    pub(crate) fn held(&mut self) {
        self.holds += 1;
    }

    pub(crate) fn denied(&mut self, scope: Scope) {
        self.denials[scope_index(scope)] += 1;
    }
}

/// What a [queue](crate::queue) shows of itself and its rule whenever its lock
/// is let go of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stats {
    /// Which letting go this was: of two, the one with the larger number is
    /// the later.
    pub(crate) number: u64,
    /// How many stand in line.
    pub(crate) waiting: usize,
    pub(crate) counts: Counts,
    /// What the rule knows nothing of is not there.
    pub(crate) slots: Option<SlotLevels>,
    /// Whether the provider has closed the budget.
    pub(crate) held: Option<bool>,
    pub(crate) budget: Option<BudgetLevels>,
}

/// Every scope, in the order of [`Counts::denials`].
pub(crate) const SCOPES: [Scope; 7] = [
    Scope::Tokens,
    Scope::Requests,
    Scope::TokensPerDay,
    Scope::RequestsPerDay,
    Scope::Quota,
    Scope::Overload,
    Scope::None,
];

pub(crate) const fn scope_index(scope: Scope) -> usize {
    match scope {
        Scope::Tokens => 0,
        Scope::Requests => 1,
        Scope::TokensPerDay => 2,
        Scope::RequestsPerDay => 3,
        Scope::Quota => 4,
        Scope::Overload => 5,
        Scope::None => 6,
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SlotLevels {
    pub(crate) taken: usize,
    pub(crate) max: usize,
}

/// Of tokens by the minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BudgetLevels {
    pub(crate) limit: u64,
    pub(crate) level: i64,
    pub(crate) in_transit: u64,
    pub(crate) outstanding: u64,
}

/// Something that happened in a rule and that somebody may want to read. It is
/// kept until the lock is gone, and then [told](crate::queue).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Note {
    /// Limits were taken over from an answer.
    Learned {
        tokens_per_minute: Option<u64>,
        requests_per_minute: Option<u64>,
    },
    /// An answer that was to name the limit of tokens names none.
    NoTokenLimit { fallback: u64 },
    /// An answer that was to name the limit of requests names none.
    NoRequestLimit,
    /// The pace fell to so many percent.
    Slowed { percent: u8 },
    /// The budget was closed for so long.
    Held { delay: Duration },
    /// An answer told more usage than its request can have cost.
    UsageCapped {
        reserved: u64,
        told: u64,
        believed: u64,
    },
    /// The provider's count of this says that nothing is left, and it goes on
    /// admitting.
    Disbelieved { meter: &'static str },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_scope_has_a_place_of_its_own() {
        for (index, scope) in SCOPES.into_iter().enumerate() {
            assert_eq!(scope_index(scope), index);
        }
    }

    #[test]
    fn counts_of_several_rules_add_up() {
        let mut one = Counts::default();
        one.reserved(50);
        one.refunded(20);
        one.settled(30);
        one.launched();
        one.held();
        one.denied(Scope::Quota);
        let mut both = one;
        both.add(&one);
        let mut denials = [0; SCOPES.len()];
        denials[scope_index(Scope::Quota)] = 2;
        let twice = Counts {
            reserved: 100,
            refunded: 40,
            settled: 60,
            launches: 2,
            holds: 2,
            denials,
        };
        assert_eq!(both, twice);
        both.reserved(u64::MAX);
        assert_eq!(both.reserved, u64::MAX);
    }
}
