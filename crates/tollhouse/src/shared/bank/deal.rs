//! Who gets what: rules 8 and 9.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use super::passed::{Passed, Served};
use super::prices::Prices;
use super::share::Share;
use crate::charge::Unit;
use crate::shared::Amounts;

/// For one that takes so many seconds to refill, idle leases are called back.
const LARGE: f64 = 1.0;

/// What a deal comes to for the process that asks.
#[derive(Debug, Default)]
pub(super) struct Dealt {
    pub(super) drawn: Amounts,
    /// Of each step what its price is.
    pub(super) dominant: Amounts,
    /// How many steps of its line.
    pub(super) steps: usize,
    pub(super) served: Served,
    /// Its tag afterwards.
    pub(super) tag: f64,
    /// The largest start tag of a step that it was granted.
    pub(super) virtual_time: f64,
    /// Whom it passes.
    pub(super) passed: Vec<Passing>,
    /// Another one collects.
    pub(super) recalled: bool,
}

impl Dealt {
    /// One more step of its line, of this price.
    fn take_step(&mut self, price: f64) {
        self.steps += 1;
        self.served.all += price;
        self.served.largest = self.served.largest.max(price);
    }
}

/// Another process, and what is granted past its head of this price.
#[derive(Debug)]
pub(super) struct Passing {
    pub(super) process: u128,
    pub(super) cost: f64,
    pub(super) price: f64,
}

/// One who wants something.
struct Hand<'s> {
    process: u128,
    tag: f64,
    weight: f64,
    passed: Passed,
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
    /// What passes it and falls to who asks.
    past: f64,
}

/// The head, and behind it those who were passed as the head before another one came to stand
/// before them: they are passed on their own account, too.
#[derive(Default)]
struct Heads(Vec<Head>);

impl Heads {
    /// There is not enough for this one's next step, which is of this price.
    fn note(&mut self, hand: &Hand, price: f64) {
        if self.0.is_empty() || !hand.passed.is_nothing() {
            self.0.push(Head {
                process: hand.process,
                finish: hand.tag + price / hand.weight,
                allowance: hand.passed.allowance(price),
                price,
                past: 0.0,
            });
        }
    }

    fn may_be_passed(&self, price: f64, finish: f64) -> bool {
        let is_sooner = self.0.first().is_none_or(|head| finish < head.finish);
        is_sooner && self.0.iter().all(|head| price <= head.allowance)
    }

    /// A step of this price is granted.
    fn pass(&mut self, price: f64, is_asking: bool) {
        for head in &mut self.0 {
            head.allowance -= price;
            if is_asking {
                head.past += price;
            }
        }
    }

    /// Whether leases are called back for another one's head.
    fn is_large(&self, process: u128) -> bool {
        let first = self.0.first();
        first.is_some_and(|head| head.process != process && head.price > LARGE)
    }

    /// Whom this one passes that is granted so much in all.
    fn passed_by(mut self, process: u128, granted: f64) -> Vec<Passing> {
        if let Some(first) = self.0.first_mut().filter(|head| head.price > LARGE) {
            // A large one counts who was first, too.
            first.past = granted;
        }
        let heads = self.0.into_iter();
        let passed = heads.filter(|head| head.process != process && head.past > 0.0);
        passed
            .map(|head| Passing {
                process: head.process,
                cost: head.past,
                price: head.price,
            })
            .collect()
    }
}

/// Deals `left` out, on paper, and says what falls to `process`. What `most` does not cover, no
/// level ever will.
pub(super) fn deal(
    process: u128,
    shares: &BTreeMap<u128, Share>,
    is_there: impl Fn(&Share) -> bool,
    (mut left, most): (Amounts, &Amounts),
    prices: Prices<'_>,
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
                passed: share.passed,
                line: share.wants.line.iter().collect(),
                beside: share.wants.beside,
            });
        }
    }
    let mut heads = Heads::default();
    // What it is granted in all.
    let mut granted = 0.0;
    while let Some(first) = least(&hands) {
        let hand = &mut hands[first];
        let (step, is_whole) = match hand.line.front() {
            Some(step) => (**step, true),
            None => (portion(&hand.beside, &left), false),
        };
        let price = prices.of(&step);
        let finish = hand.tag + price / hand.weight;
        if is_whole && !step.fits_into(&left) {
            if step.fits_into(most) {
                heads.note(hand, price);
            }
            hands.swap_remove(first);
            continue;
        }
        if step.is_nothing() || !heads.may_be_passed(price, finish) {
            hands.swap_remove(first);
            continue;
        }
        left = left.minus(&step);
        heads.pass(price, hand.process == process);
        if hand.process == process {
            dealt.drawn = dealt.drawn.plus(&step);
            dealt.dominant = dealt.dominant.plus(&prices.dominant(&step));
            dealt.virtual_time = dealt.virtual_time.max(hand.tag);
            dealt.tag = finish;
            granted += price;
            if is_whole {
                dealt.take_step(price);
            }
        }
        hand.tag = finish;
        if is_whole {
            hand.line.pop_front();
        } else {
            hands.swap_remove(first);
        }
    }
    dealt.recalled = heads.is_large(process);
    dealt.passed = heads.passed_by(process, granted);
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
