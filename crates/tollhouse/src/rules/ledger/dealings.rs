//! What a ledger that is shared with other processes is to be told of this one.

use std::time::Duration;

use super::prices::Prices;
use super::{Ledger, Share, Stage};
use crate::answer::RateLimits;
use crate::charge::{Amounts, Charge, Per, Unit};
use crate::rules::{Allowed, Beside, Key};
use crate::time::Moment;

/// So much that answers told is remembered one by one until it is collected; beyond that it
/// is not told, nor is what the provider gave back claimed.
const MANY: usize = 4_096;

/// All that happened to what was drawn, since it was last collected or ever.
#[derive(Debug, Default)]
#[cfg_attr(test, derive(Clone))]
pub(crate) struct Dealings {
    /// All that was ever used beyond what was reserved.
    owed: Amounts,
    unused: Vec<Unused>,
    prices: Prices,
    /// Of each request in flight, what of it costs most.
    priced: Beside<Amounts>,
    /// The same of all that there ever were, but for what `unused` changes.
    dominant: Amounts,
    heard: Vec<Heard>,
    /// Until when the provider has closed the pool, as it told this process.
    held_until: Option<Moment>,
    /// Whether the one that ended last came back, because it never left.
    came_back: bool,
    /// Whether there is something that cannot wait.
    presses: bool,
}

/// What the provider gave back because less was used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Unused {
    /// When its request had landed.
    pub(crate) landed: Moment,
    pub(crate) amounts: Amounts,
    /// What of the request costs most, with it and without.
    pub(crate) before: Amounts,
    pub(crate) after: Amounts,
}

/// What an answer told of a meter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Remaining {
        unit: Unit,
        per: Per,
        remaining: u64,
        /// When the request was let in; `None` where its count may only lower the level.
        reserved: Option<Moment>,
    },
    After {
        unit: Unit,
        per: Per,
        amount: u64,
        delay: Duration,
    },
}

/// See [`Dealings`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Collected {
    pub(crate) owed: Amounts,
    pub(crate) unused: Vec<Unused>,
    pub(crate) dominant: Amounts,
    pub(crate) heard: Vec<Heard>,
    pub(crate) held_until: Option<Moment>,
    pub(crate) in_transit: Amounts,
}

impl Dealings {
    /// Used, and neither reserved nor drawn.
    pub(crate) fn owe(&mut self, amounts: &Amounts) {
        self.owed = self.owed.plus(amounts);
    }

    /// From now on requests are priced by these.
    pub(crate) fn set_prices(&mut self, prices: Prices) {
        self.prices = prices;
    }

    /// A request took so much, of what was drawn or beyond it; once.
    pub(crate) fn price(&mut self, key: Key, amounts: &Amounts) {
        let priced = self.priced.of(key);
        if priced.is_nothing() {
            (_, *priced) = self.prices.dominant(amounts);
            self.dominant = self.dominant.plus(priced);
        }
    }

    /// It never left, and what it took is there again.
    pub(crate) fn unprice(&mut self, key: Key) {
        let priced = std::mem::take(self.priced.of(key));
        self.dominant = self.dominant.minus(&priced);
    }

    /// It is over, and costs what it did.
    pub(crate) fn forget(&mut self, key: Key) {
        *self.priced.of(key) = Amounts::NOTHING;
    }

    /// Nothing of a request that had landed stands.
    pub(super) fn give_back(&mut self, key: Key, landed: Moment, amounts: Amounts) {
        let before = *self.priced.of(key);
        self.note_unused(Unused {
            landed,
            amounts,
            before,
            after: Amounts::NOTHING,
        });
    }

    fn note_unused(&mut self, unused: Unused) {
        if !unused.amounts.is_nothing() && self.unused.len() < MANY {
            self.unused.push(unused);
        }
    }

    /// A reservation ended: what of its charge was used.
    pub(super) fn settled(
        &mut self,
        key: Key,
        (charge, used): (&Charge, &Charge),
        landed: Moment,
        as_used: bool,
    ) {
        let (mut owed, mut amounts) = (Amounts::NOTHING, Amounts::NOTHING);
        for unit in Unit::ALL.into_iter().filter(|unit| unit.is_settled()) {
            let Some(used) = used.named(unit) else {
                continue;
            };
            let reserved = charge.get(unit);
            owed = owed.and(unit, used.saturating_sub(reserved));
            if as_used {
                amounts = amounts.and(unit, reserved.saturating_sub(used));
            }
        }
        self.owe(&owed);
        let stands = Amounts::from(*charge).plus(&owed).minus(&amounts);
        let (before, after) = self.reprice(key, &stands);
        self.note_unused(Unused {
            landed,
            amounts,
            before,
            after,
        });
    }

    /// So much of a request stands. What makes it dearer is told with what is owed, at once;
    /// what makes it cheaper, and is returned here, with what comes back.
    fn reprice(&mut self, key: Key, stands: &Amounts) -> (Amounts, Amounts) {
        let before = *self.priced.of(key);
        if before.is_nothing() {
            return Default::default();
        }
        let (cost, _) = self.prices.dominant(&before);
        let (cost_after, after) = self.prices.dominant(stands);
        if cost_after < cost {
            return (before, after);
        }
        self.dominant = self.dominant.plus(&after).minus(&before);
        Default::default()
    }

    pub(super) fn refunded(&mut self) {
        self.came_back = true;
    }

    /// Whether one came back since the last asking, because it never left.
    pub(crate) fn take_refunded(&mut self) -> bool {
        std::mem::take(&mut self.came_back)
    }

    /// Of what is left by the answers of a moment the least counts, and what the request
    /// told that was let in last; a delay is told as it is.
    pub(super) fn hear(&mut self, heard: Heard) {
        let Heard::Remaining {
            unit,
            per,
            remaining,
            reserved,
        } = heard
        else {
            self.presses = true;
            if self.heard.len() < MANY {
                self.heard.push(heard);
            }
            return;
        };
        let mut of_meter = self.heard.iter_mut().filter_map(|it| match it {
            Heard::Remaining {
                unit: its,
                per: by,
                remaining,
                reserved,
            } if (*its, *by) == (unit, per) => Some((remaining, reserved)),
            _ => None,
        });
        let (least, latest) = (of_meter.next(), of_meter.next());
        match (least, latest) {
            (Some((least, since)), Some((last, its))) => {
                if remaining < *least {
                    (*least, *since) = (remaining, reserved);
                }
                if reserved >= *its {
                    (*last, *its) = (remaining, reserved);
                }
            }
            // One alone was both, and the less of two may be it still.
            (Some((least, since)), None) => {
                let (mut count, mut its) = (remaining, reserved);
                if remaining < *least {
                    std::mem::swap(least, &mut count);
                    std::mem::swap(since, &mut its);
                }
                if its > *since {
                    self.heard.push(Heard::Remaining {
                        unit,
                        per,
                        remaining: count,
                        reserved: its,
                    });
                }
            }
            (None, _) => self.heard.push(heard),
        }
    }

    pub(super) fn held(&mut self, until: Moment) {
        self.held_until = self.held_until.max(Some(until));
        self.presses = true;
    }

    /// Whether something cannot wait, once.
    pub(crate) fn take_press(&mut self) -> bool {
        std::mem::take(&mut self.presses)
    }
}

impl Ledger {
    /// Others spend from the same account, and are to be told from now on.
    pub(crate) fn deal(&mut self) {
        let prices = Prices::new(self.terms.limits.clone(), Duration::ZERO);
        self.dealings.get_or_insert_default().set_prices(prices);
    }

    #[inline]
    pub(crate) fn dealings(&mut self) -> Option<&mut Dealings> {
        self.dealings.as_deref_mut()
    }

    /// Whether something is to be told that cannot wait.
    #[inline]
    pub(crate) fn presses(&self) -> bool {
        self.dealings.as_ref().is_some_and(|it| it.presses)
    }

    pub(crate) fn share(&self) -> Share {
        self.terms.share
    }

    /// What is to be told, all of it; what was only kept for that is kept no longer.
    pub(crate) fn collect(&mut self, now: Moment) -> Collected {
        let now = self.catch_up(now);
        let entries = self.transit.entries_mut();
        let open = entries.filter(|(_, entry)| !matches!(entry.stage, Stage::Landed));
        let in_transit = open.fold(Amounts::NOTHING, |sum, (_, entry)| {
            sum.plus(&entry.charge.into())
        });
        let dealings = self.dealings.get_or_insert_default();
        Collected {
            owed: dealings.owed,
            unused: std::mem::take(&mut dealings.unused),
            dominant: dealings.dominant,
            heard: std::mem::take(&mut dealings.heard),
            held_until: dealings.held_until.filter(|until| *until > now),
            in_transit,
        }
    }

    /// What each meter allows to all processes together, and whether it minds a window as
    /// well.
    pub(crate) fn meters(&self) -> impl Iterator<Item = (Allowed, bool)> {
        // Meters are in the order of the limits.
        let meters = self.terms.limits.iter().zip(&self.meters);
        meters.map(|(limit, metered)| {
            let allowed = self.terms.allowed_to_all(limit);
            (allowed, metered.meter.is_windowed())
        })
    }

    /// Another process was told these limits: they need not be asked for any more.
    pub(crate) fn learn_from_others(&mut self, limits: &RateLimits, now: Moment) {
        let now = self.catch_up(now);
        if self.unlearned && *limits != RateLimits::default() {
            self.adopt(limits, true, now);
        }
    }

    /// Another process was told by the provider that the pool is closed.
    pub(crate) fn hold_too(&mut self, until: Moment, now: Moment) {
        let now = self.catch_up(now);
        let known = self.trust.held_until(now);
        if known.is_none_or(|known| until > known) {
            self.close_until(until, now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Limit;
    use super::*;
    use crate::rules::Line;

    fn key() -> Key {
        Line::new().insert(())
    }

    fn left(remaining: u64, second: u64) -> Heard {
        Heard::Remaining {
            unit: Unit::Tokens,
            per: Per::Minute,
            remaining,
            reserved: Some(Moment::default() + Duration::from_secs(second)),
        }
    }

    #[test]
    fn of_many_counts_the_least_and_the_latest_are_told() {
        let mut dealings = Dealings::default();
        for (remaining, second) in [(500, 1), (400, 2), (300, 1), (700, 3), (600, 3), (350, 2)] {
            dealings.hear(left(remaining, second));
        }
        assert_eq!(dealings.heard, [left(300, 1), left(600, 3)]);
        assert!(!dealings.presses);
    }

    /// The least was once lost where the first that was told was neither it nor the latest.
    #[test]
    fn the_least_is_told_in_whatever_order_it_came() {
        for (told, kept) in [
            (
                [(500, 1), (400, 2), (450, 3)],
                vec![left(400, 2), left(450, 3)],
            ),
            (
                [(500, 1), (450, 3), (400, 2)],
                vec![left(400, 2), left(450, 3)],
            ),
            (
                [(400, 2), (500, 1), (450, 3)],
                vec![left(400, 2), left(450, 3)],
            ),
            (
                [(450, 3), (400, 2), (500, 1)],
                vec![left(400, 2), left(450, 3)],
            ),
            ([(500, 1), (450, 2), (400, 3)], vec![left(400, 3)]),
            ([(400, 2), (500, 2), (450, 1)], vec![left(400, 2)]),
            (
                [(400, 1), (400, 2), (400, 2)],
                vec![left(400, 1), left(400, 2)],
            ),
        ] {
            let mut dealings = Dealings::default();
            for (remaining, second) in told {
                dealings.hear(left(remaining, second));
            }
            assert_eq!(dealings.heard, kept, "{told:?}");
        }
    }

    #[test]
    fn so_much_is_remembered_and_no_more() {
        let mut dealings = Dealings::default();
        let delay = Heard::After {
            unit: Unit::Tokens,
            per: Per::Minute,
            amount: 1,
            delay: Duration::from_secs(1),
        };
        let key = key();
        for _ in 0..=MANY {
            dealings.give_back(key, Moment::default(), Amounts::of(Unit::Tokens, 1));
            dealings.give_back(key, Moment::default(), Amounts::NOTHING);
            dealings.hear(delay);
        }
        assert_eq!((dealings.unused.len(), dealings.heard.len()), (MANY, MANY));
        assert!(dealings.take_press(), "a delay cannot wait");
        assert!(!dealings.take_press());
        assert!(!dealings.take_refunded());
        dealings.refunded();
        assert!(dealings.take_refunded());
        assert!(!dealings.take_refunded());
    }

    #[test]
    fn a_unit_that_usage_does_not_name_is_as_it_was_reserved() {
        let mut dealings = Dealings::default();
        let landed = Moment::default();
        let charge = Charge::tokens(100).and(Unit::Images, 2);
        for (used, as_used) in [(130, true), (40, true), (40, false)] {
            dealings.settled(key(), (&charge, &Charge::tokens(used)), landed, as_used);
        }
        assert_eq!(dealings.owed, Amounts::of(Unit::Tokens, 30));
        let unused = Unused {
            landed,
            amounts: Amounts::of(Unit::Tokens, 60),
            ..Unused::default()
        };
        assert_eq!(dealings.unused, [unused]);
    }

    fn amounts(input: u64, output: u64) -> Amounts {
        Amounts::of(Unit::Input, input).and(Unit::Output, output)
    }

    /// Input and output are as scarce as each other.
    #[test]
    fn a_request_is_told_by_what_costs_most_before_and_after() {
        let limits = [Unit::Input, Unit::Output].map(|unit| Limit {
            unit,
            per: Per::Minute,
            amount: 10_000,
        });
        for (uses, at_once, with_what_comes_back) in [
            // Cheaper by nothing.
            (amounts(100, 20), amounts(100, 0), None),
            (
                amounts(60, 50),
                amounts(100, 0),
                Some((amounts(100, 0), amounts(60, 0))),
            ),
            (
                amounts(60, 70),
                amounts(100, 0),
                Some((amounts(100, 0), amounts(0, 70))),
            ),
            // Dearer, though input comes back.
            (amounts(60, 110), amounts(0, 110), None),
            (amounts(120, 80), amounts(120, 0), None),
        ] {
            let mut dealings = Dealings::default();
            dealings.set_prices(Prices::new(limits.to_vec(), Duration::ZERO));
            let (key, charge) = (key(), amounts(100, 80));
            dealings.price(key, &charge);
            dealings.price(key, &charge);
            assert_eq!(dealings.dominant, amounts(100, 0), "once");
            let of = |it: Amounts| {
                Charge::of(Unit::Input, it.get(Unit::Input)).and(Unit::Output, it.get(Unit::Output))
            };
            dealings.settled(key, (&of(charge), &of(uses)), Moment::default(), true);
            dealings.forget(key);
            assert_eq!(dealings.dominant, at_once, "{uses:?}");
            let mut unused = dealings.unused.iter().map(|it| (it.before, it.after));
            let told = unused.next().filter(|it| *it != Default::default());
            assert_eq!(told, with_what_comes_back, "{uses:?}");
        }
    }
}
