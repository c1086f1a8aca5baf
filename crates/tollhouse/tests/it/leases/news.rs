//! What one process is told reaches the others; and how a process comes and goes.

use std::sync::atomic::Ordering::SeqCst;

use tokio::time::{Instant, sleep, timeout};
use tollhouse::shared::{Fallback, InMemory, Sharing};
use tollhouse::{Refused, TokenBudget};

use super::{MILLI, Play, SEC};

#[tokio::test(start_paused = true)]
async fn a_hold_reaches_the_others_and_ends_for_all() {
    let play = Play::new(300_000, 0.0);
    let processes: Vec<_> = (0..4).map(|_| play.process(Fallback::default())).collect();
    for process in &processes[..3] {
        process.saturate(10, 100..2_000);
    }
    // The last one has a lease and nothing to do: it reports once a second.
    play.until(50).await;
    processes[3].call(100).await.unwrap();
    play.until(70).await;
    // As an answer would tell it.
    processes[0].budget.hold(Instant::now() + 20 * SEC);
    sleep(250 * MILLI).await;
    let held = processes.iter().map(|it| it.budget.snapshot().held_until);
    for until in held {
        let until = until.expect("it was told");
        let late = until - play.at(90);
        // By what the wire takes, once there and once back.
        assert!(late <= 10 * MILLI, "{late:?}");
    }
    play.until(120).await;
    assert_eq!(play.refused(), 0);
    let log = play.provider.log();
    // It is heard at once. What was let in by then may take 150 ms to get there.
    let meanwhile = |at| at > play.at(70) + 200 * MILLI && at < play.at(90);
    assert!(!log.iter().any(|call| meanwhile(call.at)));
    assert!(play.used(92, 120) >= 0.80, "{}", play.used(92, 120));
}

/// A refusal in one process is not met by the others.
#[tokio::test(start_paused = true)]
async fn what_somebody_else_spent_is_known_to_all() {
    let play = Play::new(300_000, 0.0);
    let processes: Vec<_> = (0..4).map(|_| play.process(Fallback::default())).collect();
    for process in &processes {
        process.saturate(10, 100..2_000);
    }
    play.until(70).await;
    // Somebody without a ledger takes twenty seconds' worth.
    play.provider.take(100_000);
    play.until(72).await;
    let before = play.refused();
    play.until(130).await;
    assert!(before <= 40, "{before}");
    assert_eq!(play.refused(), before, "those in flight, and no more");
}

#[tokio::test(start_paused = true)]
async fn a_limit_that_one_process_learned_need_not_be_asked_for_again() {
    let ledger = InMemory::new();
    let processes = [(); 2].map(|()| {
        let (sharing, agent) = Sharing::new(ledger.clone(), Fallback::default());
        tokio::spawn(agent);
        let budget = TokenBudget::per_minute(1_000).learn_tokens(true);
        (budget.shared(&sharing, "chat").build().unwrap(), sharing)
    });
    let [(first, _), (second, _)] = &processes;
    let reserved = first.reserve(100).await.unwrap();
    reserved.launched();
    assert_eq!(second.snapshot().limit, 0, "nobody knows");
    drop(second.reserve(1).await.unwrap());
    // Its answer names none, so it is what is gone on with.
    reserved.settle(100);
    sleep(3 * SEC).await;
    assert_eq!(first.snapshot().limit, 1_000);
    assert_eq!(second.snapshot().limit, 1_000);
}

#[tokio::test(start_paused = true)]
async fn who_leaves_gives_back_at_once() {
    let play = Play::new(300_000, 0.0);
    let [leaves, stays] = [(); 2].map(|()| play.process(Fallback::default()));
    for process in [&leaves, &stays] {
        process.call(100).await.unwrap();
    }
    play.until(70).await;
    // All there is, of which none is launched.
    let all = leaves.budget.reserve(290_000).await.unwrap();
    let waits = stays.budget.reserve(290_000);
    drop(all);
    leaves.sharing.leave().await;
    let asked = Instant::now();
    drop(
        timeout(SEC, waits)
            .await
            .expect("it was given back")
            .unwrap(),
    );
    assert!(asked.elapsed() <= 550 * MILLI, "{:?}", asked.elapsed());
    assert_eq!(leaves.budget.reserve(1).await.unwrap_err(), Refused::Closed);
    sleep(SEC).await;
    assert!(leaves.agent.is_finished());
    assert_eq!(stays.sharing.status().processes, 1);
}

/// Nobody reports any more: the pools go on as where the ledger is away.
#[tokio::test(start_paused = true)]
async fn a_dropped_agent_leaves_a_share() {
    let play = Play::new(300_000, 0.0);
    let processes: Vec<_> = (0..4).map(|_| play.process(Fallback::default())).collect();
    play.until(10).await;
    processes[0].agent.abort();
    sleep(MILLI).await;
    let status = processes[0].sharing.status();
    assert!(!status.is_up);
    let why = status.why.unwrap().to_string();
    assert_eq!(why, "the shared ledger is away: its agent was dropped");
    let asked = Instant::now();
    // A quarter of 5,000 a second, of which nothing is there at first.
    drop(processes[0].budget.reserve(1_250).await.unwrap());
    assert_eq!(asked.elapsed(), SEC - MILLI);
    // With whoever uses it, the agent goes.
    let [.., last] = &processes[..] else { return };
    assert!(!last.agent.is_finished());
}

#[tokio::test(start_paused = true)]
async fn an_agent_ends_with_the_last_who_needs_it() {
    let ledger = InMemory::new();
    let (sharing, agent) = Sharing::new(ledger.clone(), Fallback::default());
    let agent = tokio::spawn(agent);
    let budget = TokenBudget::per_minute(1_000)
        .shared(&sharing, "chat")
        .build()
        .unwrap();
    drop(sharing);
    drop(budget.reserve(100).await.unwrap());
    assert!(!agent.is_finished());
    drop(budget);
    timeout(2 * SEC, agent).await.expect("it ends").unwrap();
}

/// A process that waits for nothing and is asked for nothing reports once a second.
#[tokio::test(start_paused = true)]
async fn an_idle_process_reports_seldom() {
    let play = Play::new(300_000, 0.0);
    let process = play.process(Fallback::default());
    process.call(100).await.unwrap();
    play.until(20).await;
    let before = process.wire.reports.load(SeqCst);
    play.until(50).await;
    let reports = process.wire.reports.load(SeqCst) - before;
    assert!((30..=34).contains(&reports), "{reports}");
    // What it kept is there at once.
    let asked = Instant::now();
    drop(process.budget.reserve(100).await.unwrap());
    assert!(asked.elapsed().is_zero());
}
