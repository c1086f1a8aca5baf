use super::wish::YIELDS;
use super::*;
use crate::charge::Per;
use crate::rules::Line;

const ALONE: Limited = Limited {
    taken: 0,
    max_slots: None,
    interval: Duration::ZERO,
};

fn at(millis: u64) -> Moment {
    Moment::default() + Duration::from_millis(millis)
}

fn tokens(amount: u64, requests: u64) -> Amounts {
    Amounts::of(Unit::Tokens, amount).and(Unit::Requests, requests)
}

/// With so much idle until the second second.
fn leased(idle: Amounts) -> Leases {
    let mut leases = Leases::new(at(0));
    leases.renew(at(2_000));
    leases.grant(Granted {
        drawn: idle,
        ..Granted::default()
    });
    leases
}

fn tokens_a_minute(amount: u64) -> Common {
    Common {
        unit: Unit::Tokens,
        per: Per::Minute,
        rate: amount,
        capacity: amount,
        level: 0,
    }
}

fn key(line: &mut Line<()>) -> Key {
    line.insert(())
}

fn waiting(charges: &[u64]) -> Demand {
    Demand {
        line: charges.iter().map(|it| Charge::tokens(*it)).collect(),
        rest: Amounts::NOTHING,
        waiting: charges.len(),
        weight: 1,
    }
}

#[test]
fn one_passes_when_its_whole_charge_is_there_and_the_lease_lasts() {
    let mut leases = leased(tokens(500, 2));
    let when = |leases: &mut Leases, amount, now| leases.when(&Charge::tokens(amount), &ALONE, now);
    assert_eq!(when(&mut leases, 500, at(0)), When::Now);
    assert_eq!(when(&mut leases, 501, at(0)), When::OnRelease);
    assert!(leases.calls() && leases.take_call());
    assert!(!leases.calls());
    assert_eq!(when(&mut leases, 501, at(0)), When::OnRelease);
    assert!(!leases.take_call(), "it was told");
    leases.ask(&waiting(&[501]), &ALONE, at(0));
    assert_eq!(when(&mut leases, 501, at(0)), When::OnRelease);
    assert!(leases.take_call(), "a report is through");
    assert_eq!(when(&mut leases, 500, at(1_999)), When::Now);
    assert_eq!(when(&mut leases, 500, at(2_000)), When::OnRelease);
}

#[test]
fn what_no_process_could_ever_draw_is_refused() {
    let mut leases = leased(tokens(500, 2));
    leases.grant(Granted {
        agreed: Agreed {
            meters: vec![tokens_a_minute(1_000)],
            ..Agreed::default()
        },
        ..Granted::default()
    });
    let when = leases.when(&Charge::tokens(1_001), &ALONE, at(0));
    assert!(matches!(when, When::Never(_)), "{when:?}");
}

#[test]
fn the_next_draw_is_waited_for_and_then_the_refill() {
    let mut leases = leased(tokens(500, 20));
    let wait = |leases: &Leases, amount, now| {
        let charge = Charge::tokens(amount);
        leases.expected_wait(&charge, &Ahead::default(), at(now))
    };
    let millis = Duration::from_millis;
    leases.grant(Granted {
        agreed: Agreed {
            // 100 a second, for four.
            meters: vec![Common {
                level: 300,
                ..tokens_a_minute(6_000)
            }],
            processes: 4,
            ..Agreed::default()
        },
        ..Granted::default()
    });
    assert_eq!(wait(&leases, 500, 0), Duration::ZERO, "it is there");
    assert_eq!(wait(&leases, 800, 0), millis(250), "so is the level");
    assert_eq!(wait(&leases, 800, 100), millis(150));
    leases.ask(&waiting(&[800]), &ALONE, at(100));
    assert_eq!(wait(&leases, 800, 100), millis(250));
    assert_eq!(wait(&leases, 850, 100), millis(2_000), "50 at 25 a second");
    // It has had more lately.
    leases.recent.usual = tokens(200, 1);
    assert_eq!(wait(&leases, 900, 100), millis(500), "100 at 200 a second");
    leases.wait_until(at(5_000));
    assert_eq!(wait(&leases, 900, 1_000), millis(4_000));
    leases.lose(true);
    let alone = wait(&leases, 900, 1_000);
    assert_eq!(alone, Duration::ZERO, "the pool's own rules tell");
}

#[test]
fn what_never_left_is_idle_again_or_given_back() {
    let mut line = Line::new();
    let mut leases = leased(tokens(500, 2));
    let (kept, lost) = (key(&mut line), key(&mut line));
    leases.take(kept, &Charge::tokens(200), &ALONE, at(0));
    leases.take(lost, &Charge::tokens(100), &ALONE, at(0));
    assert_eq!(leases.idle, tokens(200, 0));
    leases.refund(kept);
    assert_eq!(leases.idle, tokens(400, 1));
    assert!(!leases.has_lapsed(lost, at(1_999)));
    assert!(leases.has_lapsed(lost, at(2_000)));

    leases.lose(true);
    assert_eq!(
        (leases.idle, leases.returned),
        (Amounts::NOTHING, tokens(400, 1))
    );
    assert_eq!(
        leases.owes(lost, at(2_000)),
        Some(tokens(100, 1)),
        "would it leave now"
    );
    leases.refund(lost);
    assert_eq!(leases.returned, tokens(500, 2));
}

#[test]
fn what_leaves_without_a_lease_is_owed() {
    let mut line = Line::new();
    let mut leases = leased(tokens(500, 2));
    leases.lose(true);
    let (leaves, stays) = (key(&mut line), key(&mut line));
    for key in [leaves, stays] {
        leases.take(key, &Charge::tokens(300), &ALONE, at(2_000));
    }
    assert_eq!(leases.owes(leaves, at(2_000)), Some(tokens(300, 1)));
    leases.renew(at(5_000));
    assert!(
        leases.has_lapsed(stays, at(3_000)),
        "it was let in by another right"
    );
    leases.refund(stays);
    assert_eq!(leases.returned, tokens(500, 2), "nothing was drawn for it");
}

#[test]
fn launches_are_booked_and_not_kept() {
    let mut line = Line::new();
    let mut leases = leased(tokens(500, 5));
    let spaced = Limited {
        interval: Duration::from_millis(300),
        ..ALONE
    };
    let charge = Charge::tokens(10);
    assert_eq!(leases.when(&charge, &spaced, at(0)), When::OnRelease);
    leases.grant(Granted {
        launches: vec![at(100), at(400)],
        ..Granted::default()
    });
    assert_eq!(leases.when(&charge, &spaced, at(0)), When::At(at(100)));
    assert_eq!(leases.when(&charge, &spaced, at(100)), When::Now);
    let first = key(&mut line);
    leases.take(first, &charge, &spaced, at(100));
    assert_eq!(leases.when(&charge, &spaced, at(100)), When::At(at(400)));
    leases.refund(first);
    assert_eq!(leases.when(&charge, &spaced, at(399)), When::Now);
    // By now it is the turn of whoever has the next one.
    assert_eq!(leases.when(&charge, &spaced, at(700)), When::OnRelease);
    let wish = leases.ask(&waiting(&[10; 9]), &spaced, at(700));
    assert_eq!((wish.launches_idle, wish.launches_wanted), (0, 4));
}

#[test]
fn a_slot_is_a_number_that_moves() {
    let mut leases = leased(tokens(500, 5));
    let taken = |taken| Limited {
        taken,
        max_slots: Some(10),
        ..ALONE
    };
    let wish = leases.ask(&waiting(&[10; 3]), &taken(0), at(0));
    assert_eq!((wish.slots_idle, wish.slots_wanted), (0, 3));
    leases.grant(Granted {
        slots: 2,
        ..Granted::default()
    });
    let charge = Charge::tokens(10);
    assert_eq!(leases.when(&charge, &taken(1), at(0)), When::Now);
    assert_eq!(leases.when(&charge, &taken(2), at(0)), When::OnRelease);
    // One is over, and nobody waits.
    let wish = leases.ask(&waiting(&[]), &taken(1), at(0));
    assert_eq!((wish.slots_idle, wish.slots_wanted), (0, 0));
    assert_eq!(leases.when(&charge, &taken(1), at(0)), When::OnRelease);
}

#[test]
fn what_is_missing_of_each_in_line_is_wanted() {
    let mut leases = leased(tokens(500, 2));
    let wish = leases.ask(&waiting(&[300, 300, 700]), &ALONE, at(0));
    assert_eq!(wish.line, [tokens(100, 0), tokens(700, 1)]);
    assert_eq!(wish.wanted, Amounts::NOTHING);
    let many = Demand {
        rest: tokens(9_000, 9),
        waiting: 12,
        ..waiting(&[300, 300, 700])
    };
    assert_eq!(leases.ask(&many, &ALONE, at(0)).wanted, tokens(9_000, 9));
    // Three slots are all there are: the others could not launch yet.
    leases.grant(Granted {
        agreed: Agreed {
            max_slots: Some(3),
            has_free_slots: false,
            ..Agreed::default()
        },
        ..Granted::default()
    });
    let wish = leases.ask(&many, &ALONE, at(0));
    assert_eq!((wish.line, wish.wanted), (vec![], Amounts::NOTHING));
}

#[test]
fn what_nobody_used_for_two_seconds_goes_back_but_for_one_request() {
    let mut line = Line::new();
    let mut leases = leased(tokens(5_000, 50));
    leases.take(key(&mut line), &Charge::tokens(200), &ALONE, at(0));
    let mut idle = Vec::new();
    for second in 0..5 {
        leases.renew(at(second * 1_000 + 2_000));
        let wish = leases.ask(&waiting(&[]), &ALONE, at(second * 1_000));
        idle.push(wish.idle);
    }
    let all = tokens(4_800, 49);
    assert_eq!(idle, [all, all, all, tokens(200, 1), tokens(200, 1)]);
    assert_eq!(leases.returned, tokens(4_600, 48));
    let wish = leases.ask(&waiting(&[]), &ALONE, at(61_000));
    assert_eq!(wish.idle, Amounts::NOTHING, "nobody comes any more");
}

#[test]
fn what_is_called_back_goes_but_for_those_who_wait() {
    let mut leases = leased(tokens(5_000, 50));
    leases.grant(Granted {
        recalled: true,
        ..Granted::default()
    });
    let wish = leases.ask(&waiting(&[300]), &ALONE, at(0));
    assert_eq!(
        (wish.idle, wish.returned),
        (tokens(300, 1), tokens(4_700, 49))
    );
}

#[test]
fn a_second_ahead_is_wanted_of_what_is_used() {
    let mut line = Line::new();
    let mut leases = leased(tokens(5_000, 50));
    for tenth in 0..20 {
        leases.renew(at(4_000));
        leases.take(
            key(&mut line),
            &Charge::tokens(100),
            &ALONE,
            at(tenth * 100),
        );
    }
    let wish = leases.ask(&waiting(&[]), &ALONE, at(1_999));
    assert_eq!(wish.idle, tokens(3_000, 30));
    assert_eq!(wish.wanted, Amounts::NOTHING);
    for _ in 0..25 {
        leases.take(key(&mut line), &Charge::tokens(100), &ALONE, at(1_999));
    }
    // 45 in two seconds.
    let wish = leases.ask(&waiting(&[]), &ALONE, at(1_999));
    assert_eq!(wish.wanted, tokens(2_252 - 500, 23 - 5));
}

/// Those that are booked, and all that ever went back.
fn launches(leases: &Leases) -> (usize, u64) {
    (leases.launches.booked.len(), leases.launches.returned)
}

#[test]
fn a_lease_that_is_over_lets_nobody_launch_and_refuses_nobody() {
    let mut leases = leased(tokens(500, 2));
    leases.grant(Granted {
        agreed: Agreed {
            meters: vec![tokens_a_minute(1_000)],
            ..Agreed::default()
        },
        ..Granted::default()
    });
    let mut when = |amount, now| leases.when(&Charge::tokens(amount), &ALONE, at(now));
    assert_eq!(when(1_000, 0), When::OnRelease, "all of it may be drawn");
    assert!(matches!(when(1_001, 0), When::Never(_)));
    assert_eq!(when(1_001, 2_000), When::OnRelease, "nobody knows by then");
    assert_eq!(leases.when_launched(&ALONE, at(1_999)), When::Now);
    assert_eq!(leases.when_launched(&ALONE, at(2_000)), When::OnRelease);
    let wait = |now| leases.expected_wait(&Charge::tokens(500), &Ahead::default(), at(now));
    assert_eq!(wait(1_999), Duration::ZERO);
    assert!(wait(2_000) > Duration::ZERO);
}

#[test]
fn booked_launches_are_of_their_lease() {
    let spaced = Limited {
        interval: SECOND,
        ..ALONE
    };
    let mut leases = leased(Amounts::NOTHING);
    leases.grant(Granted {
        launches: vec![at(1_000), at(0)],
        ..Granted::default()
    });
    assert_eq!(leases.take_slot(&ALONE, at(0)), (1, None), "none is needed");
    assert_eq!(leases.take_slot(&spaced, at(0)), (1, Some(at(0))));
    assert_eq!(leases.take_slot(&spaced, at(0)), (1, None), "not yet");
    assert_eq!(launches(&leases), (1, 0));
    leases.give_launch_back(at(0), 1);
    assert_eq!(launches(&leases), (2, 0));
    leases.give_launch_back(at(0), 7);
    assert_eq!(launches(&leases), (2, 1), "of another lease");
    assert!(!leases.is_nothing());

    leases.lose(true);
    assert_eq!(launches(&leases), (0, 3));
    assert!(leases.is_nothing());
    assert_eq!(leases.take_slot(&spaced, at(0)), (2, None), "on no lease");
    leases.renew(at(4_000));
    leases.grant(Granted {
        launches: vec![at(2_000)],
        ..Granted::default()
    });
    assert_eq!(leases.take_slot(&spaced, at(2_000)), (3, Some(at(2_000))));
    leases.close();
    leases.give_launch_back(at(2_000), 3);
    assert_eq!(launches(&leases), (0, 4), "nobody is let in any more");
    assert!(!leased(tokens(1, 0)).is_nothing());
}

#[test]
fn what_was_had_on_another_lease_goes_back() {
    let mut line = Line::new();
    let mut leases = leased(tokens(500, 5));
    let [first, second, third] = [0; 3].map(|_| key(&mut line));
    leases.take(first, &Charge::tokens(100), &ALONE, at(0));
    leases.take(second, &Charge::tokens(200), &ALONE, at(0));
    leases.lose(false);
    leases.renew(at(4_000));
    leases.refund(first);
    assert_eq!(leases.idle, Amounts::NOTHING);
    assert_eq!(leases.returned, tokens(300, 4));
    leases.close();
    leases.refund(second);
    assert_eq!(
        (leases.idle, leases.returned),
        (Amounts::NOTHING, tokens(500, 5))
    );
    // Let in before anything was shared.
    assert!(leases.has_lapsed(third, at(0)));
    assert_eq!(leases.owes(third, at(0)), Some(Amounts::NOTHING));
}

#[test]
fn no_more_is_wanted_than_can_be_launched() {
    let limited = |taken, interval| Limited {
        taken,
        max_slots: Some(8),
        interval,
    };
    // Slots that nobody has, the interval, and for how many something is wanted.
    for (has_free_slots, interval, reach) in [
        (true, Duration::ZERO, 6),
        (false, Duration::ZERO, 2),
        (true, SECOND / 2, 3),
    ] {
        let mut leases = leased(Amounts::NOTHING);
        leases.grant(Granted {
            slots: 3,
            agreed: Agreed {
                has_free_slots,
                ..Agreed::default()
            },
            ..Granted::default()
        });
        let wish = leases.ask(&waiting(&[100; 6]), &limited(2, interval), at(0));
        assert_eq!(wish.line.len(), reach);
        assert_eq!(
            (wish.slots_idle, leases.slots),
            (1, 3),
            "they are waited for"
        );
        let wanted = tokens(5, 1);
        let calls = Wish { wanted, ..wish }.of_calls();
        assert_eq!(calls.wanted, Amounts::NOTHING);
    }
}

#[test]
fn booked_launches_go_back_where_nobody_waits() {
    let spaced = Limited {
        interval: SECOND,
        ..ALONE
    };
    let mut leases = leased(Amounts::NOTHING);
    let granted = || Granted {
        launches: vec![at(0), at(1_000)],
        ..Granted::default()
    };
    leases.grant(granted());
    let wish = leases.ask(&waiting(&[100]), &spaced, at(0));
    assert_eq!((wish.launches_idle, wish.launches_returned), (2, 0));
    let wish = leases.ask(&waiting(&[]), &spaced, at(0));
    assert_eq!((wish.launches_idle, wish.launches_returned), (0, 2));
    leases.grant(granted());
    let wish = leases.ask(&waiting(&[100]), &ALONE, at(0));
    assert_eq!((wish.launches_idle, wish.launches_returned), (0, 4));
}

#[test]
fn slots_that_calls_hold_are_counted_without_a_lease() {
    let limited = Limited {
        taken: 2,
        max_slots: Some(8),
        interval: Duration::ZERO,
    };
    let mut leases = leased(Amounts::NOTHING);
    leases.lose(true);
    leases.ask(&waiting(&[100]), &limited, at(0));
    assert_eq!(leases.slots, 2);
}

/// Of eight that two processes share, four are an even share.
#[test]
fn slots_above_an_even_share_are_offered_now_and_then() {
    let limited = |max_slots| Limited {
        taken: 8,
        max_slots,
        interval: Duration::ZERO,
    };
    let full = |slots| {
        let mut leases = Leases::new(at(0));
        leases.renew(at(0) + 10 * YIELDS);
        leases.grant(Granted {
            slots,
            agreed: Agreed {
                max_slots: Some(8),
                has_free_slots: false,
                processes: 2,
                ..Agreed::default()
            },
            ..Granted::default()
        });
        leases
    };
    let nanosecond = Duration::from_nanos(1);
    let mut leases = full(8);
    let mut slots = |now, max_slots| {
        leases.ask(&waiting(&[100; 20]), &limited(max_slots), now);
        leases.slots
    };
    assert_eq!(slots(at(0) + YIELDS - nanosecond, None), 8);
    assert_eq!(slots(at(0) + YIELDS, None), 7);
    assert_eq!(slots(at(0) + 2 * YIELDS - nanosecond, None), 7);
    assert_eq!(slots(at(0) + 2 * YIELDS, None), 6);
    // Of two that are allowed here, one.
    assert_eq!(slots(at(0) + 3 * YIELDS, Some(2)), 5);
    // An eighth of what is too much.
    let mut leases = full(24);
    leases.ask(&waiting(&[100; 20]), &limited(None), at(0) + YIELDS);
    assert_eq!(leases.slots, 21);
    // As long as there is nothing to offer, the time does not begin anew.
    let mut leases = full(4);
    leases.ask(&waiting(&[100; 20]), &limited(None), at(0) + YIELDS);
    leases.slots = 8;
    leases.ask(&waiting(&[100; 20]), &limited(None), at(0) + YIELDS);
    assert_eq!(leases.slots, 7);
}

#[test]
fn what_is_used_for_a_moment_is_not_unused() {
    let mut line = Line::new();
    let mut leases = Leases::new(at(0));
    leases.renew(at(60_000));
    leases.grant(Granted {
        drawn: tokens(100, 10),
        ..Granted::default()
    });
    let used = key(&mut line);
    leases.take(used, &Charge::tokens(60), &ALONE, at(0));
    leases.refund(used);
    for second in 1..=2 {
        let wish = leases.ask(&waiting(&[]), &ALONE, at(second * 1_000));
        assert_eq!(wish.returned, Amounts::NOTHING, "{second}");
    }
    let again = key(&mut line);
    leases.take(again, &Charge::tokens(60), &ALONE, at(2_500));
    leases.refund(again);
    for second in 3..=4 {
        let wish = leases.ask(&waiting(&[]), &ALONE, at(second * 1_000));
        assert_eq!(wish.returned.get(Unit::Tokens), 0, "{second}");
    }
    let wish = leases.ask(&waiting(&[]), &ALONE, at(6_000));
    assert_eq!(wish.returned.get(Unit::Tokens), 40, "but for one request");
}
