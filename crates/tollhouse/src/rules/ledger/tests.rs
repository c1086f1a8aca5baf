//! What a ledger keeps to itself, or tells to others than callers.

use tokio::time::{Instant, advance};

use super::terms::Learns;
use super::*;
use crate::answer::{Denial, Observation};
use crate::charge::Amounts;

const SEC: Duration = Duration::from_secs(1);

fn at(second: u32) -> Moment {
    Moment::default() + second * SEC
}

fn by_the_minute(unit: Unit, amount: u64) -> Limit {
    let per = Per::Minute;
    Limit { unit, per, amount }
}

/// Tokens and requests are to be learned, and else these are gone on with.
fn learning(fallback: u64, requests: bool) -> Terms {
    let tokens = Some(fallback);
    Terms {
        learns: Learns { tokens, requests },
        ..Terms::plain(&[])
    }
}

fn ledger(limits: &[Limit]) -> Ledger {
    Ledger::new(Terms::plain(limits), at(0))
}

/// So many tokens a minute.
fn tokens(amount: u64) -> Ledger {
    ledger(&[by_the_minute(Unit::Tokens, amount)])
}

fn told(limit: Option<u64>, remaining: Option<u64>) -> RateLimits {
    RateLimits {
        limit_tokens: limit,
        remaining_tokens: remaining,
        ..RateLimits::default()
    }
}

impl Ledger {
    fn taken_at(&mut self, charge: impl Into<Charge>, second: u32) -> Key {
        self.take(&charge.into(), &mut Now::at(at(second)))
    }

    fn launched_at(&mut self, charge: impl Into<Charge>, second: u32) -> Key {
        let key = self.taken_at(charge, second);
        Rule::launch(self, &key, Launch::ToWire, &mut Now::at(at(second)));
        key
    }

    /// By how much the level grows between two seconds.
    fn grows(&mut self, from: u32, to: u32) -> i64 {
        let before = self.level_at(from);
        self.level_at(to) - before
    }

    fn level_at(&mut self, second: u32) -> i64 {
        self.snapshot(0, at(second)).meters[0].level
    }

    fn shown(&mut self) -> Stats {
        let mut stats = Stats::default();
        self.show(&mut stats);
        stats
    }
}

#[test]
fn what_is_shown_is_of_tokens_wherever_they_stand() {
    let requests = by_the_minute(Unit::Requests, 60);
    let mut ledger = ledger(&[requests, by_the_minute(Unit::Tokens, 600)]);
    let kept = ledger.launched_at(100, 0);
    let given_back = ledger.taken_at(50, 0);
    ledger.abandon(given_back, at(0));
    ledger.close(kept, Some(&Charge::tokens(70)), at(0));
    ledger.launched_at(200, 0);
    ledger.hold(at(10), at(0));
    let stats = ledger.shown();
    let counts = Counts {
        reserved: 350,
        refunded: 50,
        settled: 70,
        launches: 2,
        holds: 1,
        ..Counts::default()
    };
    assert_eq!(stats.counts, counts);
    let levels = BudgetLevels {
        limit: 600,
        level: 300,
        in_transit: 200,
        outstanding: 200,
    };
    assert_eq!((stats.budget, stats.held), (Some(levels), Some(true)));
}

#[test]
fn no_limit_but_that_of_tokens_by_the_minute_is_shown_as_that() {
    let a_day = Limit {
        per: Per::Day,
        ..by_the_minute(Unit::Tokens, 600)
    };
    let mut ledger = ledger(&[a_day, by_the_minute(Unit::Requests, 60)]);
    ledger.hold(at(10), at(0));
    let stats = ledger.shown();
    assert_eq!((stats.budget, stats.held), (None, Some(true)));
}

/// As if it had been told to be as large as it was taken for.
#[test]
fn what_was_bounded_does_not_stand_whole() {
    let unlimited = || ledger(&[]);
    for (asked, stands) in [
        (MOST, Charged::Whole),
        (MOST + 1, Charged::Used(Charge::tokens(MOST))),
    ] {
        let mut ledger = unlimited();
        let key = ledger.launched_at(asked, 0);
        assert_eq!(ledger.close(key, Some(&Charge::tokens(7)), at(0)), stands);
        assert_eq!(ledger.outstanding, 0);
    }
    // What an answer that names no limit bounds.
    for (asked, stands) in [
        (1_000, Charged::Whole),
        (1_001, Charged::Used(Charge::tokens(1_000))),
    ] {
        let mut ledger = Ledger::new(learning(1_000, false), at(0));
        let key = ledger.launched_at(asked, 0);
        assert_eq!(ledger.close(key, Some(&Charge::tokens(500)), at(0)), stands);
        assert_eq!(
            ledger.take_notes(),
            [Note::NoTokenLimit { fallback: 1_000 }]
        );
    }
}

#[test]
fn usage_that_cannot_be_is_settled_as_far_as_it_is_believed() {
    let requests = by_the_minute(Unit::Requests, 60);
    let mut ledger = ledger(&[by_the_minute(Unit::Tokens, 600), requests]);
    let key = ledger.launched_at(100, 0);
    // No usage takes a second request.
    let used = Charge::tokens(1_000_000).and(Unit::Requests, 5);
    ledger.close(key, Some(&used), at(0));
    let believed = 600 + 128_000;
    assert_eq!(ledger.shown().counts.settled, believed);
    let left: Vec<_> = ledger.snapshot(0, at(0)).meters;
    assert_eq!(left[0].level, 600 - 128_600);
    assert_eq!(left[1].level, 59);
}

#[test]
fn the_most_of_a_unit_is_what_its_narrowest_meter_takes() {
    let by_the_day = Limit {
        per: Per::Day,
        ..by_the_minute(Unit::Tokens, 400)
    };
    let requests = by_the_minute(Unit::Requests, 60);
    let mut ledger = ledger(&[requests, by_the_minute(Unit::Tokens, 600), by_the_day]);
    assert_eq!(ledger.most(Unit::Tokens, at(0)), Some(400));
    assert_eq!(ledger.most(Unit::Requests, at(0)), Some(60));
    assert_eq!(ledger.most(Unit::Images, at(0)), None);
}

#[test]
fn limits_that_are_set_again_are_not_waited_for_again() {
    let mut known = Ledger::new(learning(1_000, false), at(0));
    let first = known.launched_at(10, 0);
    known.observe_answer(first, None, at(0));
    assert_eq!(
        (known.unlearned, known.terms.limit(TOKENS)),
        (false, Some(1_000))
    );
    let prices = known.prices();
    known.set_terms(learning(2_000, false), at(0));
    assert_eq!(
        (known.unlearned, known.terms.limit(TOKENS)),
        (false, Some(2_000))
    );
    assert_ne!(known.prices(), prices);

    let mut unknown = Ledger::new(learning(1_000, false), at(0));
    unknown.set_terms(learning(2_000, false), at(0));
    assert_eq!(
        (unknown.unlearned, unknown.terms.limit(TOKENS)),
        (true, None)
    );
    unknown.set_terms(Terms::plain(&[]), at(0));
    assert!(!unknown.unlearned);
}

/// A refusal that names one of two leaves the other to the next answer; a good answer
/// leaves nothing.
#[test]
fn a_first_answer_is_waited_for_until_it_names_all() {
    let refusal = |limits| Observation {
        limits,
        denial: Some(Denial {
            scope: Scope::Tokens,
            after: None,
        }),
    };
    let both = |limit| RateLimits {
        limit_requests: Some(60),
        ..told(limit, None)
    };
    let good = |limits| Observation {
        limits,
        denial: None,
    };
    let learned = |tokens_per_minute, requests_per_minute| Note::Learned {
        tokens_per_minute,
        requests_per_minute,
    };
    let (fallback, nothing) = (1_000, RateLimits::default());
    for (answer, unlearned, notes) in [
        (
            refusal(told(Some(600), None)),
            true,
            vec![learned(Some(600), None)],
        ),
        (
            refusal(both(Some(600))),
            false,
            vec![learned(Some(600), Some(60))],
        ),
        (
            good(both(None)),
            false,
            vec![learned(None, Some(60)), Note::NoTokenLimit { fallback }],
        ),
        (
            good(told(Some(600), None)),
            false,
            vec![learned(Some(600), None), Note::NoRequestLimit],
        ),
        (
            good(nothing),
            false,
            vec![Note::NoTokenLimit { fallback }, Note::NoRequestLimit],
        ),
    ] {
        let mut ledger = Ledger::new(learning(fallback, true), at(0));
        let first = ledger.launched_at(10, 0);
        ledger.observe_answer(first, Some(&answer), at(0));
        assert_eq!(ledger.unlearned, unlearned, "{answer:?}");
        let told = ledger.take_notes().into_iter();
        let told: Vec<_> = told.filter(|it| !matches!(it, Note::Held { .. })).collect();
        assert_eq!(told, notes, "{answer:?}");
    }
    // What is not to be learned is not taken over, nor what is no limit.
    for (mut terms, limits) in [
        (Terms::plain(&[]), both(Some(600))),
        (learning(1_000, false), both(Some(0))),
        (learning(1_000, false), both(Some(MOST + 1))),
    ] {
        assert!(!terms.adopt(&limits));
        assert!(terms.limits.is_empty());
    }
}

/// What others have learned need not be asked for, and what they were told changes nothing
/// that is known.
#[test]
fn what_others_were_told_is_learned_once() {
    let mut ledger = Ledger::new(learning(1_000, false), at(0));
    ledger.learn_from_others(&RateLimits::default(), at(0));
    assert!(ledger.unlearned);
    ledger.learn_from_others(&told(Some(600), None), at(0));
    assert_eq!(
        (ledger.unlearned, ledger.terms.limit(TOKENS)),
        (false, Some(600))
    );
    ledger.learn_from_others(&told(Some(900), None), at(0));
    assert_eq!(ledger.terms.limit(TOKENS), Some(600));
}

#[test]
fn what_others_are_to_be_told_is_collected() {
    let mut ledger = tokens(600);
    assert!(ledger.dealings().is_none());
    ledger.deal();
    assert!(ledger.dealings().is_some());
    let _waits = ledger.taken_at(100, 0);
    let flies = ledger.launched_at(50, 0);
    let landed = ledger.launched_at(70, 0);
    ledger.answered(landed, true, at(0));
    assert_eq!(
        ledger.collect(at(1)).in_transit,
        Amounts::of(Unit::Tokens, 150).and(Unit::Requests, 2)
    );
    assert_eq!(
        ledger.collect(at(2)).in_transit,
        Amounts::of(Unit::Tokens, 100).and(Unit::Requests, 1)
    );
    assert!(!ledger.presses());
    ledger.close(flies, Some(&Charge::tokens(60)), at(2));
    assert!(!ledger.presses(), "that can wait");
    assert_eq!(ledger.collect(at(2)).owed, Amounts::of(Unit::Tokens, 10));

    ledger.hold(at(10), at(2));
    assert!(ledger.presses());
    assert!(ledger.dealings().is_some_and(Dealings::take_press));
    let just_before = at(10) - Duration::from_nanos(1);
    assert_eq!(ledger.collect(just_before).held_until, Some(at(10)));
    assert_eq!(ledger.collect(at(10)).held_until, None);
}

#[test]
fn a_hold_that_others_were_told_counts_once_and_is_not_told_on() {
    let mut ledger = tokens(600);
    ledger.deal();
    for (until, holds) in [(10, 1), (10, 1), (5, 1), (20, 2)] {
        ledger.hold_too(at(until), at(0));
        assert_eq!(ledger.shown().counts.holds, holds, "{until}");
    }
    assert!(!ledger.presses());
    assert_eq!(ledger.trust.held_until(at(0)), Some(at(20)));
}

/// Of a thousand tokens a second others take some, as the provider's count shows, and
/// so much less refills here.
#[test]
fn what_others_take_is_left_to_them() {
    const LIMIT: u64 = 60_000;
    let whole = || tokens(LIMIT);
    // Half of what refills between two counts is missing: with the memory that there
    // is, others are taken for 316 tokens a second.
    let slowed = 6_839;
    let seen = |mut ledger: Ledger, limit, before: fn(&mut Ledger)| {
        ledger.observe(&told(Some(limit), Some(30_000)), at(0));
        before(&mut ledger);
        ledger.observe(&told(Some(limit), Some(35_000)), at(10));
        ledger
    };
    let nothing: fn(&mut Ledger) = |_| {};
    let spends: fn(&mut Ledger) = |ledger| {
        let key = ledger.launched_at(5_000, 1);
        ledger.close(key, None, at(2));
    };
    let gives_back: fn(&mut Ledger) = |ledger| {
        let key = ledger.taken_at(5_000, 1);
        ledger.abandon(key, at(2));
    };
    let never_leaves: fn(&mut Ledger) = |ledger| {
        let key = ledger.launched_at(5_000, 1);
        ledger.unsend(key, &mut Now::at(at(2)));
    };
    let never_left: fn(&mut Ledger) = |ledger| {
        let key = ledger.launched_at(5_000, 1);
        ledger.unsend(key, &mut Now::at(at(4)));
    };
    let windowed = || {
        Ledger::new(
            Terms {
                window: Window::On,
                ..whole().terms
            },
            at(0),
        )
    };
    let drawn = || {
        Ledger::new(
            Terms {
                share: Share::Drawn,
                ..whole().terms
            },
            at(0),
        )
    };
    for (ledger, limit, before, growth) in [
        (whole(), LIMIT, nothing, slowed),
        (whole(), LIMIT, spends, 10_000),
        (whole(), LIMIT, gives_back, slowed),
        (whole(), LIMIT, never_leaves, slowed),
        (whole(), LIMIT, never_left, slowed),
        (whole(), 2 * LIMIT, nothing, 10_000),
        (windowed(), LIMIT, nothing, 10_000),
        (drawn(), LIMIT, nothing, 10_000),
    ] {
        let mut ledger = seen(ledger, limit, before);
        let grown = ledger.grows(10, 20);
        assert!(grown.abs_diff(growth) <= 1, "{grown} of {growth}");
    }
    // Another limit leaves them the same.
    let mut ledger = seen(whole(), LIMIT, nothing);
    ledger.set_terms(tokens(2 * LIMIT).terms, at(10));
    let grown = ledger.grows(10, 20);
    assert!(grown.abs_diff(10_000 + slowed) <= 1, "{grown}");
    // Who shares a ledger with them is told otherwise, and forgets them.
    let mut ledger = seen(whole(), LIMIT, nothing);
    ledger.set_share(Share::Drawn, at(10));
    assert_eq!(ledger.share(), Share::Drawn);
    assert_eq!(ledger.grows(10, 20), 10_000);
    ledger.set_share(Share::Whole, at(20));
    ledger.resize(at(20));
    assert_eq!(ledger.grows(20, 25), 5_000);
}

/// Where nothing depends on it nobody reads the clock on his way in.
#[tokio::test(start_paused = true)]
async fn the_clock_is_read_on_the_way_in_where_that_matters() {
    let limits = [by_the_minute(Unit::Tokens, 600)];
    let now = || Moment::from(Instant::now());
    let plain = || Ledger::new(Terms::plain(&limits), now());
    let auto = Ledger::new(
        Terms {
            window: Window::Auto,
            ..Terms::plain(&limits)
        },
        now(),
    );
    let mut heard = plain();
    heard.observe(&told(None, Some(600)), now());
    let mut slowed = plain();
    slowed.terms.pace.slow(now());
    slowed.resize(now());
    for (mut ledger, reads) in [
        (plain(), false),
        (auto, true),
        (heard, true),
        (slowed, true),
    ] {
        let before = ledger.seen;
        advance(SEC).await;
        assert!(ledger.is_open(&Charge::tokens(1), &mut Now::unread()));
        assert_eq!(ledger.seen > before, reads, "{ledger:?}");
    }
    let mut read = plain();
    advance(SEC).await;
    assert!(read.is_open(&Charge::tokens(1), &mut Now::read()));
    assert_eq!(read.seen, now());
}

/// The count of one that was let in may raise the level that is shared, too; of one that
/// was refused it only lowers it.
#[test]
fn others_are_told_to_whom_a_count_was_told() {
    let denial = Denial {
        scope: Scope::Requests,
        after: None,
    };
    for (denial, reserved) in [(None, Some(at(3))), (Some(denial), None)] {
        let mut ledger = tokens(600);
        ledger.deal();
        let key = ledger.launched_at(100, 3);
        let limits = told(Some(600), Some(400));
        ledger.observe_answer(key, Some(&Observation { limits, denial }), at(4));
        let (unit, per) = TOKENS;
        let heard = Heard::Remaining {
            unit,
            per,
            remaining: 400,
            reserved,
        };
        assert_eq!(ledger.collect(at(4)).heard, [heard]);
    }
}
