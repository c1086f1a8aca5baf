//! Who cannot be launched in time is told so.

use std::time::Duration;

use crate::support::account::{SEC, one_a_second};
use crate::support::counting::Polled;
use tokio::time::{Instant, advance, sleep};
use tollhouse::{AccountSlots, Ask, Caller, Deadline, Refused, Reservation, TokenBudget};

fn until(tokens: u64, time: Duration) -> Ask {
    Ask::of(tokens).deadline(Deadline::within(time))
}

fn too_late(seconds: u32) -> Refused {
    Refused::TooLate {
        expected_wait: seconds * SEC,
    }
}

/// A token a second, and none left.
async fn empty() -> TokenBudget {
    let budget = one_a_second();
    let all = budget.reserve(60).await.unwrap();
    all.launched();
    all.settle(60);
    budget
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_in_time_is_refused_at_once() {
    let budget = empty().await;
    let start = Instant::now();
    let refused = budget.reserve(until(10, 9 * SEC)).await.unwrap_err();
    assert_eq!(refused, too_late(10));
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert!(budget.reserve(until(10, 10 * SEC)).await.is_ok());
    assert_eq!(start.elapsed(), 10 * SEC);
}

/// Another caller's large request stands first, and may be passed.
#[tokio::test(start_paused = true)]
async fn what_may_pass_another_caller_is_not_too_late() {
    let budget = empty().await;
    let start = Instant::now();
    let mut large = Polled::new(budget.reserve(Ask::of(50).caller(Caller::new("batch"))));
    assert!(large.poll().is_pending());
    let small = until(10, 15 * SEC).caller(Caller::new("web"));
    let (small, _) = tokio::join!(budget.reserve(small), async {
        sleep(10 * SEC).await;
        let _ = large.poll();
    });
    assert!(small.is_ok());
    assert_eq!(start.elapsed(), 10 * SEC);
}

/// What cannot be is told with all who are expected to go before it.
#[tokio::test(start_paused = true)]
async fn the_wait_that_is_told_counts_other_callers_too() {
    let budget = empty().await;
    let caller = Caller::new("batch");
    let mut others =
        [5, 5].map(|cost| Polled::new(budget.reserve(Ask::of(cost).caller(caller.clone()))));
    assert!(others.iter_mut().all(|other| other.poll().is_pending()));
    let web = until(10, 9 * SEC).caller(Caller::new("web"));
    assert_eq!(budget.reserve(web).await.unwrap_err(), too_late(20));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_is_one() {
    let budget = one_a_second();
    let ask = until(1, SEC);
    sleep(2 * SEC).await;
    let refused = budget.reserve(ask.clone()).await.unwrap_err();
    assert_eq!(refused, too_late(0));
    let refused = budget.try_reserve(ask).unwrap_err();
    assert_eq!(refused, too_late(0));
    assert_eq!(budget.snapshot().level, 60);
}

/// Others who are ahead in fairness come, and its time runs out in line.
#[tokio::test(start_paused = true)]
async fn one_whose_deadline_comes_leaves_and_the_next_is_told() {
    let budget = empty().await;
    let start = Instant::now();
    let mut late = Polled::new(budget.reserve(until(10, 12 * SEC)));
    let mut next = Polled::new(budget.reserve(3));
    assert!(late.poll().is_pending());
    assert!(next.poll().is_pending());
    // Nobody is served meanwhile.
    budget.hold(start + 11 * SEC);
    advance(11 * SEC).await;
    budget.hold(start + 20 * SEC);
    advance(SEC).await;
    assert_eq!(late.woken(), 1);
    assert_eq!(
        told(late.poll()),
        budget.eta(10),
        "behind the next one, after the hold"
    );
    assert_eq!(start.elapsed(), 12 * SEC);
    assert_eq!(next.woken(), 1, "it has a timer to set");
    assert!(next.poll().is_pending());
    assert_eq!(budget.snapshot().waiting, 1);
    advance(8 * SEC).await;
    assert!(next.poll().is_ready());
}

/// In the middle of a line, too.
#[tokio::test(start_paused = true)]
async fn a_deadline_in_the_middle_of_a_line_is_kept_to_the_instant() {
    let budget = empty().await;
    let start = Instant::now();
    let first = tokio::spawn(budget.reserve(30));
    tokio::task::yield_now().await;
    let in_time = tokio::spawn(budget.reserve(until(5, 36 * SEC)));
    tokio::task::yield_now().await;
    let web = Caller::new("web").weight(1_000);
    let ahead = sleep(SEC);
    let ahead = async {
        ahead.await;
        // It goes before both.
        let ask = Ask::of(10).caller(web);
        budget.reserve(ask).await.unwrap().launched();
        start.elapsed()
    };
    assert_eq!(ahead.await, 10 * SEC);
    let refused = in_time.await.unwrap().unwrap_err();
    assert!(matches!(refused, Refused::TooLate { .. }), "{refused}");
    assert_eq!(start.elapsed(), 36 * SEC);
    assert_eq!(first.await.unwrap().unwrap().cost(), 30);
    assert_eq!(start.elapsed(), 40 * SEC);
    assert_eq!(budget.snapshot().waiting, 0);
}

/// How fast they come back is not known for sure.
#[tokio::test(start_paused = true)]
async fn nobody_is_too_late_for_a_slot_before_his_deadline() {
    let budget = TokenBudget::unlimited().max_concurrency(1).build().unwrap();
    let mut inside = budget.try_reserve(1).unwrap();
    for _ in 0..3 {
        let next = budget.reserve(1);
        let (next, ()) = tokio::join!(next, async {
            sleep(10 * SEC).await;
            inside.settle(1);
        });
        inside = next.unwrap();
    }
    assert_eq!(budget.eta(1), 10 * SEC, "by what is expected");
    let start = Instant::now();
    let (in_time, ()) = tokio::join!(budget.reserve(until(1, 2 * SEC)), async {
        sleep(SEC).await;
        inside.settle(1);
    });
    assert!(in_time.is_ok());
    assert_eq!(start.elapsed(), SEC);
}

/// Behind two of its own, ten seconds apart, it would be launched after thirty.
#[tokio::test(start_paused = true)]
async fn launches_of_ones_own_are_waited_for_in_any_case() {
    let budget = TokenBudget::unlimited().stagger(10 * SEC).build().unwrap();
    assert!(budget.reserve(until(1, Duration::ZERO)).await.is_ok());
    budget.reserve(1).await.unwrap().launched();
    let mut line = [
        Polled::new(budget.reserve(1)),
        Polled::new(budget.reserve(1)),
    ];
    assert!(line.iter_mut().all(|call| call.poll().is_pending()));
    let start = Instant::now();
    let refused = budget.reserve(until(1, 29 * SEC)).await.unwrap_err();
    assert_eq!((refused, start.elapsed()), (too_late(30), Duration::ZERO));
    let mut in_time = Polled::new(budget.reserve(until(1, 30 * SEC)));
    assert!(in_time.poll().is_pending());
    // Of another caller it may yet go first.
    let other = until(1, 10 * SEC).caller(Caller::new("other"));
    assert!(Polled::new(budget.reserve(other)).poll().is_pending());
}

/// What those who were refused at their deadlines were told.
fn told<T: std::fmt::Debug>(result: std::task::Poll<Result<T, Refused>>) -> Duration {
    match result {
        std::task::Poll::Ready(Err(Refused::TooLate { expected_wait })) => expected_wait,
        other => panic!("{other:?}"),
    }
}

/// Ten seconds apart, after one that was launched just now.
async fn ten_seconds_apart() -> TokenBudget {
    let budget = TokenBudget::unlimited().stagger(10 * SEC).build().unwrap();
    budget.reserve(1).await.unwrap().launched();
    budget
}

fn waiting(
    budget: &TokenBudget,
    ask: Ask,
) -> Polled<impl Future<Output = Result<Reservation, Refused>>> {
    let mut call = Polled::new(budget.reserve(ask));
    assert!(call.poll().is_pending());
    call
}

/// As long as one would wait who came now: not for the one who is refused as well.
#[tokio::test(start_paused = true)]
async fn who_is_refused_in_line_is_not_told_to_wait_for_himself() {
    let budget = ten_seconds_apart().await;
    let [a, b] = ["a", "b"].map(Caller::new);
    let mut others = [1, 2].map(|_| waiting(&budget, Ask::of(1).caller(a.clone())));
    let mut late = waiting(&budget, until(1, 15 * SEC).caller(b.clone()));
    advance(10 * SEC).await;
    let std::task::Poll::Ready(Ok(first)) = others[0].poll() else {
        panic!("it is its turn")
    };
    first.launched();
    advance(SEC * 49 / 10).await;
    let next = budget.next_in_line(&b).unwrap();
    assert_eq!((next.place, next.expected_wait), (1, SEC * 51 / 10));
    advance(SEC / 10).await;
    assert_eq!(told(late.poll()), 5 * SEC);
    assert_eq!(budget.snapshot().waiting, 1);
}

/// Nor where launches are spaced for several pools together.
#[tokio::test(start_paused = true)]
async fn who_is_refused_in_an_accounts_pool_is_not_told_to_wait_for_himself() {
    let slots = AccountSlots::new(9);
    slots.set_interval(10 * SEC);
    let [mine, other] = [(); 2].map(|()| {
        let pool = TokenBudget::unlimited().account_slots(&slots).build();
        pool.unwrap()
    });
    other.reserve(1).await.unwrap().launched();
    let mut first = waiting(&other, Ask::of(1));
    let mut late = waiting(&mine, until(1, 15 * SEC));
    let second = waiting(&other, Ask::of(1));
    advance(10 * SEC).await;
    let std::task::Poll::Ready(Ok(first)) = first.poll() else {
        panic!("it is its turn")
    };
    first.launched();
    advance(5 * SEC).await;
    drop(second);
    assert_eq!(told(late.poll()), 5 * SEC);
    assert_eq!(mine.eta(1), 5 * SEC);
}

/// Nor for others whose deadlines come with his.
#[tokio::test(start_paused = true)]
async fn deadlines_of_one_instant_are_told_the_same_wait() {
    let budget = ten_seconds_apart().await;
    let start = Instant::now();
    let [a, b] = ["a", "b"].map(Caller::new);
    let ahead = waiting(&budget, Ask::of(1).caller(a.clone()));
    let mut late = [1, 2, 3].map(|_| waiting(&budget, until(1, 40 * SEC).caller(b.clone())));
    let mut others = [1, 2].map(|_| waiting(&budget, Ask::of(1).caller(a.clone())));
    drop(ahead);
    // Nobody is let in meanwhile.
    budget.hold(start + 41 * SEC);
    advance(40 * SEC).await;
    let told = [2, 0, 1].map(|index: usize| told(late[index].poll()));
    let newcomer = budget.eta(Ask::of(1).caller(b));
    assert_eq!(told, [newcomer; 3]);
    assert!(others.iter_mut().all(|other| other.poll().is_pending()));
    assert_eq!(budget.snapshot().waiting, 2);
}

/// Whoever came to stand in the place of one who left, or was let in, before his deadline.
#[tokio::test(start_paused = true)]
async fn a_deadline_is_nobody_elses() {
    let budget = ten_seconds_apart().await;
    drop(waiting(&budget, until(1, 15 * SEC)));
    let mut goes = waiting(&budget, until(1, 15 * SEC));
    advance(10 * SEC).await;
    let std::task::Poll::Ready(Ok(goes)) = goes.poll() else {
        panic!("it is its turn")
    };
    goes.launched();
    let mut stay = [1, 2].map(|_| waiting(&budget, Ask::of(1)));
    let mut late = waiting(&budget, until(1, 30 * SEC));
    budget.hold(Instant::now() + 100 * SEC);
    advance(30 * SEC).await;
    assert_eq!(told(late.poll()), budget.eta(1));
    assert!(stay.iter_mut().all(|call| call.poll().is_pending()));
}

/// His turn has lapsed, and he waits again.
#[tokio::test(start_paused = true)]
async fn the_deadline_of_one_who_stands_in_line_again_is_kept() {
    let budget = ten_seconds_apart().await;
    let mut late = waiting(&budget, until(1, 25 * SEC));
    advance(10 * SEC).await;
    // Lets in the first one, whose task does not come.
    let mut other = waiting(&budget, Ask::of(1));
    advance(10 * SEC).await;
    let std::task::Poll::Ready(Ok(other)) = other.poll() else {
        panic!("it is its turn")
    };
    other.launched();
    assert!(late.poll().is_pending());
    let woken = late.woken();
    advance(5 * SEC).await;
    assert_eq!(late.woken(), woken + 1, "at its deadline");
    assert_eq!(told(late.poll()), 5 * SEC);
    assert_eq!(budget.snapshot().waiting, 0);
}

/// Who can be launched at the very instant of his deadline is, whoever looks first.
#[tokio::test(start_paused = true)]
async fn the_head_goes_at_its_deadline_though_another_one_is_late_then() {
    let budget = empty().await;
    let b = Caller::new("b");
    let mut head = waiting(&budget, until(10, 10 * SEC));
    let mut late = waiting(&budget, until(10, 10 * SEC).caller(b));
    advance(10 * SEC).await;
    assert_eq!(told(late.poll()), 10 * SEC);
    assert!(matches!(head.poll(), std::task::Poll::Ready(Ok(_))));
}

/// What it held is there again for one who comes now.
#[tokio::test(start_paused = true)]
async fn who_is_let_in_and_comes_too_late_is_not_told_to_wait_for_himself() {
    let budget = empty().await;
    let mut late = waiting(&budget, until(10, 15 * SEC));
    let mut driver = waiting(&budget, Ask::of(5));
    advance(10 * SEC).await;
    // Lets in the first one, whose task does not come.
    assert!(driver.poll().is_pending());
    budget.hold(Instant::now());
    advance(6 * SEC).await;
    assert!(driver.poll().is_ready());
    // 16 are there, less the 5 of that one, which is still on its way.
    assert_eq!(told(late.poll()), Duration::ZERO);
    assert_eq!(budget.eta(10), Duration::ZERO);
}

/// He looks already; whoever is late with him is called by him.
#[tokio::test(start_paused = true)]
async fn whoever_finds_himself_late_is_not_woken_for_it() {
    let budget = ten_seconds_apart().await;
    let mut late = [1, 2].map(|_| waiting(&budget, until(1, 30 * SEC)));
    budget.hold(Instant::now() + 100 * SEC);
    advance(30 * SEC).await;
    let woken = late.each_ref().map(Polled::woken);
    told(late[0].poll());
    assert_eq!(late.each_ref().map(Polled::woken), [woken[0], woken[1] + 1]);
}
