//! Who gets what: rules 8 and 9.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use super::share::Share;
use crate::charge::Unit;
use crate::shared::Amounts;

/// How often its own cost may pass the head.
const PASSES: f64 = 4.0;

/// Of that so many seconds are kept for its own ways to the ledger, and for what the provider's
/// word takes from the level meanwhile: with all that it is launched within five times its
/// refill.
const SPARE: f64 = 4.0;

/// For one that takes so many seconds to refill, idle leases are called back.
const LARGE: f64 = 1.0;

/// What a deal comes to for the process that asks.
#[derive(Debug, Default)]
pub(super) struct Dealt {
    pub(super) drawn: Amounts,
    /// How many steps of its line.
    pub(super) steps: usize,
    /// Its tag afterwards.
    pub(super) tag: f64,
    /// The largest start tag of a step that it was granted.
    pub(super) virtual_time: f64,
    /// Who collects, if another one does, and what it was passed by.
    pub(super) passed: Option<(u128, f64)>,
    /// Another one collects.
    pub(super) recalled: bool,
}

/// One who wants something.
struct Hand<'s> {
    process: u128,
    tag: f64,
    weight: f64,
    line: VecDeque<&'s Amounts>,
    beside: Amounts,
}

impl Hand<'_> {
    fn order(&self, other: &Self) -> Ordering {
        let tags = self.tag.total_cmp(&other.tag);
        tags.then(self.process.cmp(&other.process))
    }
}

/// One that collects.
struct Head {
    process: u128,
    finish: f64,
    /// What may yet pass it.
    allowance: f64,
    price: f64,
}

impl Head {
    fn is_large(&self) -> bool {
        self.price > LARGE
    }
}

/// How much may pass one of this price, that much having passed it.
fn allowance(price: f64, passed: f64) -> f64 {
    PASSES * price - price.min(SPARE) - passed
}

/// Deals `left` out, on paper, and says what falls to `process`.
pub(super) fn deal(
    process: u128,
    shares: &BTreeMap<u128, Share>,
    is_there: impl Fn(&Share) -> bool,
    mut left: Amounts,
    cost: impl Fn(&Amounts) -> f64,
) -> Dealt {
    let mut dealt = Dealt::default();
    let mut hands: Vec<Hand> = Vec::new();
    for (id, share) in shares {
        if *id == process {
            dealt.tag = share.tag;
        }
        if is_there(share) && !share.wants.is_nothing() {
            hands.push(Hand {
                process: *id,
                tag: share.tag,
                weight: share.weight,
                line: share.wants.line.iter().collect(),
                beside: share.wants.beside,
            });
        }
    }
    let mut head: Option<Head> = None;
    // What it is granted in all, and of that what it is granted past a head.
    let (mut granted, mut past) = (0.0, 0.0);
    while let Some(first) = least(&hands) {
        let hand = &mut hands[first];
        let (step, is_whole) = match hand.line.front() {
            Some(step) => (**step, true),
            None => (portion(&hand.beside, &left), false),
        };
        let price = cost(&step);
        let finish = hand.tag + price / hand.weight;
        let is_passing = head.is_some();
        let may_pass = head
            .as_ref()
            .is_none_or(|head| finish < head.finish && price <= head.allowance);
        if is_whole && !step.fits_into(&left) {
            if head.is_none() {
                let passed = shares[&hand.process].passed;
                head = Some(Head {
                    process: hand.process,
                    finish,
                    allowance: allowance(price, passed),
                    price,
                });
            }
            hands.swap_remove(first);
            continue;
        }
        if !may_pass || step.is_nothing() {
            hands.swap_remove(first);
            continue;
        }
        left = left.minus(&step);
        if let Some(head) = &mut head {
            head.allowance -= price;
        }
        if hand.process == process {
            dealt.drawn = dealt.drawn.plus(&step);
            dealt.virtual_time = dealt.virtual_time.max(hand.tag);
            dealt.tag = finish;
            dealt.steps += usize::from(is_whole);
            granted += price;
            if is_passing {
                past += price;
            }
        }
        hand.tag = finish;
        if is_whole {
            hand.line.pop_front();
        } else {
            hands.swap_remove(first);
        }
    }
    if let Some(head) = head.filter(|head| head.process != process) {
        // A large one counts who was first, too.
        let passed = if head.is_large() { granted } else { past };
        dealt.passed = Some((head.process, passed)).filter(|(_, passed)| *passed > 0.0);
        dealt.recalled = head.is_large();
    }
    dealt
}

/// As much of all units alike as there is.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rounded down, and no more than what is left"
)]
fn portion(wanted: &Amounts, left: &Amounts) -> Amounts {
    if wanted.fits_into(left) {
        return *wanted;
    }
    let some = Unit::ALL.into_iter().filter(|unit| wanted.get(*unit) > 0);
    let shares = some.map(|unit| left.get(unit) as f64 / wanted.get(unit) as f64);
    let share = shares.fold(1.0, f64::min);
    let of = |unit| ((wanted.get(unit) as f64 * share).floor() as u64).min(left.get(unit));
    let parts = Unit::ALL.into_iter();
    parts.fold(Amounts::NOTHING, |sum, unit| sum.and(unit, of(unit)))
}

fn least(hands: &[Hand]) -> Option<usize> {
    let all = hands.iter().enumerate();
    all.min_by(|(_, one), (_, other)| one.order(other))
        .map(|(at, _)| at)
}
