//! Everybody wants more than there is, or one does.

use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use tollhouse::shared::Fallback;

use super::{Play, SEC};

/// Eight processes, all saturated, of mixed sizes, for three minutes.
#[tokio::test(start_paused = true)]
async fn eight_processes_use_all_of_one_account() {
    for headroom in [0.15, 0.0] {
        let play = Play::new(300_000, headroom);
        let processes: Vec<_> = (0..8).map(|_| play.process(Fallback::default())).collect();
        for process in &processes {
            process.saturate(10, 100..4_000);
        }
        play.until(190).await;
        assert_eq!(play.refused(), 0);
        assert!(play.used(10, 190) >= 0.97, "{}", play.used(10, 190));
        for process in &processes {
            let share = play.used_by(process, 70, 190) / play.used(70, 190);
            assert!((0.11..0.14).contains(&share), "{share}");
            let reports = process.wire.reports.load(SeqCst);
            assert!(reports <= 4 * 190 + 2, "{reports}");
        }
    }
}

/// The same where requests are scarcer than tokens, however few they are.
#[tokio::test(start_paused = true)]
async fn eight_processes_use_all_of_the_requests_of_one_account() {
    for (requests, headroom) in [(60, 0.0), (100, 0.0), (500, 0.15), (3_000, 0.0)] {
        let play = Play::of_requests(30_000_000, requests, headroom);
        for _ in 0..8 {
            let budget = play.budget().requests_per_minute(requests);
            let process = play.process_with(Fallback::default(), budget);
            process.saturate(16, 100..4_000);
        }
        play.until(130).await;
        assert_eq!(play.refused(), 0);
        let sent = play.sent(10, 130, requests);
        assert!(sent >= 0.97, "{sent} of {requests} at {headroom}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_busy_process_has_all_and_then_each_has_its_share() {
    let play = Play::new(300_000, 0.15);
    let processes: Vec<_> = (0..8).map(|_| play.process(Fallback::default())).collect();
    processes[0].saturate(20, 100..4_000);
    play.until(130).await;
    assert_eq!(play.refused(), 0);
    assert!(play.used_by(&processes[0], 10, 130) >= 0.97);

    for process in &processes[1..] {
        process.saturate(10, 100..4_000);
    }
    play.until(192).await;
    assert_eq!(play.refused(), 0);
    assert!(play.used(130, 192) >= 0.97);
    for process in &processes {
        let share = play.used_by(process, 132, 192) / play.used(132, 192);
        assert!((0.10..0.15).contains(&share), "{share}");
    }
}

/// One process asks for much at once, beside seven that saturate the account with small
/// requests.
async fn a_large_one_waits(cost: u64) -> Duration {
    let play = Play::new(300_000, 0.0);
    let processes: Vec<_> = (0..8).map(|_| play.process(Fallback::default())).collect();
    for process in &processes[1..] {
        process.saturate(10, 100..2_000);
    }
    play.until(70).await;
    let launched = processes[0].call(cost).await.unwrap();
    assert_eq!(play.refused(), 0);
    launched - play.at(70)
}

#[tokio::test(start_paused = true)]
async fn a_request_of_half_the_limit_is_launched_within_five_times_its_refill() {
    let waited = a_large_one_waits(150_000).await;
    assert!(waited <= 5 * 30 * SEC, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_request_of_nearly_all_of_it_is_launched_within_five_times_its_refill() {
    let waited = a_large_one_waits(285_000).await;
    assert!(waited <= 5 * 57 * SEC, "{waited:?}");
}

#[tokio::test(start_paused = true)]
async fn a_hundred_processes_come_to_a_ledger_in_turn_and_ask_it_half_as_often() {
    let play = Play::new(3_000_000, 0.15);
    let processes: Vec<_> = (0..100)
        .map(|_| play.process(Fallback::default()))
        .collect();
    for process in &processes {
        process.saturate(4, 100..4_000);
    }
    let reports = || {
        processes
            .iter()
            .map(|it| it.wire.reports.load(SeqCst))
            .sum::<u64>()
    };
    play.until(10).await;
    let before = reports();
    play.until(20).await;
    assert_eq!(play.refused(), 0);
    assert!(play.used(10, 20) >= 0.97, "{}", play.used(10, 20));
    let reports = reports() - before;
    assert!(reports <= 200 * 10 + 100, "{reports}");
}

#[tokio::test(start_paused = true)]
async fn a_slow_ledger_is_waited_for() {
    let play = Play::new(300_000, 0.15);
    let processes: Vec<_> = (0..8).map(|_| play.process(Fallback::default())).collect();
    for process in &processes {
        process.wire.delay.store(500, SeqCst);
        process.saturate(10, 100..4_000);
    }
    play.until(130).await;
    assert_eq!(play.refused(), 0);
    assert!(play.used(10, 130) >= 0.97, "{}", play.used(10, 130));
    for process in &processes {
        assert!(process.sharing.status().is_up);
    }
}
