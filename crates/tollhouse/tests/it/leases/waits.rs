//! How long one waits on leases: what is told beforehand, and that who finds a lease waits for nothing.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;

use tokio::time::{Instant, sleep};
use tollhouse::Refused;
use tollhouse::shared::Fallback;

use super::play::Process;
use super::{MILLI, Play, SEC};

/// Four processes want more than there is: each one's line moves at a quarter of the pace.
#[tokio::test(start_paused = true)]
async fn an_expected_wait_is_told_by_the_share_of_the_refill() {
    let play = Play::new(300_000, 0.0);
    let processes: Vec<_> = (0..4).map(|_| play.process(Fallback::default())).collect();
    for process in &processes {
        process.saturate(40, 100..2_000);
    }
    play.until(70).await;
    for cost in [500, 5_000, 20_000] {
        let (expected, asked) = (processes[0].budget.eta(cost), Instant::now());
        drop(processes[0].budget.reserve(cost).await.unwrap());
        let ratio = asked.elapsed().as_secs_f64() / expected.as_secs_f64();
        assert!(
            (0.7..1.4).contains(&ratio),
            "{ratio} of {expected:?} for {cost}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn who_would_wait_too_long_for_its_share_is_turned_away() {
    let play = Play::new(300_000, 0.0);
    let others: Vec<_> = (0..3).map(|_| play.process(Fallback::default())).collect();
    for process in &others {
        process.saturate(40, 100..2_000);
    }
    let process = play.process_with(Fallback::default(), play.budget().max_wait(8 * SEC));
    play.until(70).await;
    // The account could launch it within two seconds, and this process's share in seven.
    drop(process.budget.reserve(9_000).await.unwrap());
    // In five, and in twenty; or in somewhat less, since it had more than its share just now.
    let refused = process.budget.reserve(25_000).await.unwrap_err();
    let Refused::Overloaded { expected_wait, .. } = refused else {
        panic!("{refused}");
    };
    assert!(expected_wait >= 10 * SEC, "{expected_wait:?}");
}

/// A ledger that has just begun grants nothing for four seconds: so much is told.
#[tokio::test(start_paused = true)]
async fn who_comes_first_is_told_how_long_the_ledger_learns() {
    let play = Play::new(300_000, 0.0);
    let process = play.process(Fallback::default());
    sleep(SEC).await;
    let expected = process.budget.eta(1_000);
    assert!(
        expected > 2_900 * MILLI && expected <= 3_010 * MILLI,
        "{expected:?}"
    );
    drop(process.budget.reserve(1_000).await.unwrap());
    assert!(
        play.start.elapsed() <= 4_500 * MILLI,
        "{:?}",
        play.start.elapsed()
    );
    assert!(process.budget.eta(1_000).is_zero(), "it is there");
}

/// Says whether it was let in without waiting.
async fn at_once(process: &Process) -> bool {
    let mut asked = pin!(process.budget.reserve(1_000));
    let first = poll_fn(|cx| Poll::Ready(asked.as_mut().poll(cx))).await;
    let (is_at_once, reserved) = match first {
        Poll::Ready(reserved) => (true, reserved),
        Poll::Pending => (false, asked.await),
    };
    let reserved = reserved.unwrap();
    reserved.launched();
    reserved.settle(1_000);
    is_at_once
}

/// A hundred processes, each of which has need of some a second: who finds a lease waits for nothing
/// at all, not even for its turn on the runtime, however many there are.
#[tokio::test(start_paused = true)]
async fn who_finds_a_lease_is_let_in_at_the_first_poll() {
    let play = Play::new(60_000_000, 0.0);
    let processes = (0..100).map(|_| play.process(Fallback::default()));
    let calls = processes.map(|process| {
        tokio::spawn(async move {
            for call in 0..200 {
                let is_at_once = at_once(&process).await;
                // It needs to be known first, and what it needs.
                assert!(is_at_once || call < 100, "{} of {}", call, process.number);
                sleep(200 * MILLI).await;
            }
        })
    });
    for calls in calls.collect::<Vec<_>>() {
        calls.await.unwrap();
    }
}
