//! What is told of a wait beforehand, and who is refused by it, is what then happens.

use std::task::Poll;
use std::time::Duration;

use crate::support::account::SEC;
use crate::support::counting::Polled;
use tokio::time::{Instant, advance, sleep};
use tollhouse::budget::TokenBudgetBuilder;
use tollhouse::{Ask, Caller, Charge, Deadline, Per, Refused, TokenBudget, Unit, Window};

fn a_token_a_second() -> TokenBudgetBuilder {
    TokenBudget::per_minute(60).window(Window::Off)
}

async fn spend(budget: &TokenBudget, charge: Charge, used: Charge) {
    let all = budget.reserve(charge).await.unwrap();
    all.launched();
    all.settle(used);
}

/// What it waits when it is told nothing.
async fn waits(budget: &TokenBudget, ask: Charge) -> Duration {
    let start = Instant::now();
    drop(budget.reserve(ask).await.unwrap());
    start.elapsed()
}

/// An embedding beside long answers: it takes none of what they owe.
#[tokio::test(start_paused = true)]
async fn nobody_is_expected_to_wait_for_what_he_takes_nothing_of() {
    let in_debt = async |budget: TokenBudgetBuilder| {
        let budget = budget.meter(Unit::Output, Per::Minute, 60).build().unwrap();
        let all = Charge::tokens(60).and(Unit::Output, 60);
        spend(&budget, all, Charge::of(Unit::Output, 600)).await;
        budget
    };
    let ask = Charge::tokens(5);
    let budget = in_debt(a_token_a_second()).await;
    assert_eq!(budget.eta(ask), 5 * SEC);
    let in_time = Ask::of(ask).deadline(Deadline::within(10 * SEC));
    drop(budget.reserve(in_time).await.expect("it can be in time"));
    let budget = in_debt(a_token_a_second().max_wait(10 * SEC)).await;
    assert_eq!(waits(&budget, ask).await, 5 * SEC);
}

/// A second allows one request; who takes five at once waits for one, and then those
/// after him for all five.
#[tokio::test(start_paused = true)]
async fn several_requests_at_once_are_reckoned_as_they_are_let_in() {
    let five = Charge::of(Unit::Requests, 5);
    let by_the_minute = || TokenBudget::unlimited().requests_per_minute(60);
    let budget = by_the_minute().build().unwrap();
    assert_eq!(budget.eta(five), Duration::ZERO);
    spend(&budget, five, Charge::tokens(0)).await;
    let eta = budget.eta(five);
    let in_time = Ask::of(five).deadline(Deadline::within(6 * SEC));
    let start = Instant::now();
    drop(budget.reserve(in_time).await.expect("it can be in time"));
    assert_eq!((start.elapsed(), eta), (5 * SEC, 5 * SEC));
    let budget = by_the_minute().max_wait(6 * SEC).build().unwrap();
    spend(&budget, five, Charge::tokens(0)).await;
    assert_eq!(waits(&budget, five).await, 5 * SEC);
}

/// Slots that came back slowly once are free all the same.
#[tokio::test(start_paused = true)]
async fn nobody_is_expected_to_wait_for_a_slot_that_is_free() {
    let hands_on = async |budget: &TokenBudget| {
        let mut inside: Vec<_> = (0..2).map(|_| budget.try_reserve(1).unwrap()).collect();
        for _ in 0..3 {
            let one = inside.pop().unwrap();
            let leaves = async {
                sleep(100 * SEC).await;
                one.settle(1);
            };
            let (next, ()) = tokio::join!(budget.reserve(1), leaves);
            inside.push(next.unwrap());
        }
        inside
    };
    let two = || a_token_a_second().max_concurrency(2);
    let budget = two().build().unwrap();
    let mut inside = hands_on(&budget).await;
    let waits_for_a_slot = budget.eta(1);
    assert!(waits_for_a_slot >= 50 * SEC, "{waits_for_a_slot:?}");
    drop(inside.pop());
    assert_eq!(budget.eta(1), Duration::ZERO);
    drop(inside);
    sleep(100 * SEC).await;
    budget.set_limits(two().max_wait(10 * SEC)).unwrap();
    spend(&budget, Charge::tokens(60), Charge::tokens(60)).await;
    assert_eq!(waits(&budget, Charge::tokens(1)).await, SEC);
}

/// Who was let in and comes too late is refused like one who was not.
#[tokio::test(start_paused = true)]
async fn a_deadline_holds_for_who_was_let_in_and_came_too_late() {
    let budget = a_token_a_second().build().unwrap();
    spend(&budget, Charge::tokens(60), Charge::tokens(60)).await;
    let ask = Ask::of(10).deadline(Deadline::within(20 * SEC));
    let mut late = Polled::new(budget.reserve(ask));
    assert!(late.poll().is_pending());
    advance(15 * SEC).await;
    // Whoever comes lets him in.
    let mut next = Polled::new(budget.reserve(60));
    assert!(next.poll().is_pending());
    advance(3_600 * SEC).await;
    let refused = late.poll();
    let Poll::Ready(Err(Refused::TooLate { .. })) = refused else {
        panic!("{refused:?}");
    };
    let next = next.poll();
    assert!(next.is_ready());
    assert_eq!(
        (budget.snapshot().in_flight, budget.snapshot().level),
        (1, 0)
    );
}

/// Why he was turned away stays what it was, however late he comes to hear of it.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_no_other_reason_for_who_was_turned_away() {
    let budget = a_token_a_second().build().unwrap();
    spend(&budget, Charge::tokens(60), Charge::tokens(60)).await;
    let ask = Ask::of(10).deadline(Deadline::within(20 * SEC));
    let mut turned_away = Polled::new(budget.reserve(ask));
    assert!(turned_away.poll().is_pending());
    budget.close();
    advance(3_600 * SEC).await;
    let refused = turned_away.poll();
    let Poll::Ready(Err(Refused::Closed)) = refused else {
        panic!("{refused:?}");
    };
}

/// A limit that is set counts what is on its way as no more than would fit into it.
#[tokio::test(start_paused = true)]
async fn a_limit_that_comes_later_owes_no_more_than_it_allows() {
    for cost in [2_000_000, u64::MAX] {
        for landed in [true, false] {
            let budget = TokenBudget::unlimited().build().unwrap();
            let large = budget.reserve(cost).await.unwrap();
            large.launched();
            if landed {
                sleep(3 * SEC).await;
            }
            budget.set_limits(a_token_a_second()).unwrap();
            large.settle(if landed { cost } else { 20 });
            let wait = waits(&budget, Charge::tokens(60)).await;
            assert!(wait <= 62 * SEC, "{cost} {landed}: {wait:?}");
        }
    }
}

/// What one request may cost is said by the limit that allows the least.
#[tokio::test(start_paused = true)]
async fn too_large_is_told_by_the_least_of_all_limits() {
    let budget = TokenBudget::per_minute(30_000)
        .meter(Unit::Tokens, Per::Day, 1_000)
        .build()
        .unwrap();
    for cost in [40_000, 30_000, 1_001] {
        let limit = 1_000;
        assert_eq!(
            budget.try_reserve(cost).unwrap_err(),
            Refused::TooLarge { cost, limit }
        );
    }
}

/// A broken number of images is believed no more than one of tokens is.
#[tokio::test(start_paused = true)]
async fn absurd_usage_of_anything_is_believed_up_to_what_a_request_can_cost() {
    let images = TokenBudget::unlimited().meter(Unit::Images, Per::Minute, 5);
    let budget = images.window(Window::Off).build().unwrap();
    let one = Charge::of(Unit::Images, 1);
    spend(&budget, one, Charge::of(Unit::Images, u64::MAX)).await;
    assert_eq!(budget.snapshot().level, 5 - 16);
}

/// What was over before it was said keeps nobody out.
#[tokio::test(start_paused = true)]
async fn a_hold_that_is_over_holds_nobody() {
    sleep(100 * SEC).await;
    let budget = a_token_a_second().build().unwrap();
    budget.hold(Instant::now() - SEC);
    budget.hold(Instant::now());
    let both = [10, 10].map(|tokens| budget.try_reserve(tokens).unwrap());
    assert_eq!(budget.snapshot().level, 40);
    drop(both);
}

/// Of its own caller all; of another one as many as are over before it.
#[tokio::test(start_paused = true)]
async fn who_would_go_before_is_told() {
    let budget = a_token_a_second().build().unwrap();
    spend(&budget, Charge::tokens(60), Charge::tokens(60)).await;
    let of = |name: &str, tokens: u64| Ask::of(tokens).caller(Caller::new(name));
    assert_eq!(budget.ahead(of("a", 2)), 0);
    let mut waiting: Vec<_> = (0..4)
        .map(|_| Polled::new(budget.reserve(of("a", 2))))
        .collect();
    for one in &mut waiting {
        assert!(one.poll().is_pending());
    }
    assert_eq!(budget.ahead(of("a", 2)), 4);
    assert_eq!(budget.ahead(of("b", 2)), 1);
    assert_eq!(budget.ahead(of("b", 6)), 3);
    waiting.pop();
    assert_eq!(budget.ahead(of("a", 2)), 3);
}

/// Who takes tokens alone waits for whom he stands behind, whatever that one lacks.
#[tokio::test(start_paused = true)]
async fn what_those_ahead_wait_for_is_waited_for() {
    let budget = a_token_a_second().meter(Unit::Output, Per::Minute, 60);
    let budget = budget.build().unwrap();
    let all = Charge::of(Unit::Output, 60);
    spend(&budget, all, all).await;
    let mut ahead = Polled::new(budget.reserve(Charge::of(Unit::Output, 10)));
    assert!(ahead.poll().is_pending());
    assert_eq!(budget.eta(5), 10 * SEC);
    let (waited, ahead) = tokio::join!(waits(&budget, Charge::tokens(5)), ahead.into_future());
    assert!(ahead.is_ok());
    assert_eq!(waited, 10 * SEC);
}
