//! The ledger is away, for one or for all, or its answers are lost.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use tokio::time::{Instant, sleep};
use tollhouse::shared::Fallback;
use tollhouse::{Caller, Gate, Pass, Refused, TpmBudgetLayer, Unit};

use super::play::Process;
use super::{MILLI, Play, SEC};

/// Some of eight processes are cut off for a minute; says what share of the calls of that time was
/// refused, and what was used.
async fn cut_off(play: Play, some: usize, fallback: Fallback) -> (f64, f64) {
    let processes: Vec<_> = (0..8).map(|_| play.process(fallback)).collect();
    for process in &processes {
        process.saturate(10, 100..4_000);
    }
    play.until(70).await;
    assert_eq!(play.refused(), 0);
    for process in &processes[..some] {
        process.wire.is_cut.store(true, SeqCst);
    }
    play.until(130).await;
    for process in &processes[..some] {
        assert!(!process.sharing.status().is_up);
        process.wire.is_cut.store(false, SeqCst);
    }
    play.until(200).await;
    for process in &processes {
        assert!(process.sharing.status().is_up);
    }
    let log = play.provider.log();
    let all = log
        .iter()
        .filter(|it| it.at >= play.at(70) && it.at < play.at(130));
    (
        play.refused() as f64 / all.count() as f64,
        play.used(70, 200),
    )
}

#[tokio::test(start_paused = true)]
async fn one_of_eight_goes_on_with_its_share() {
    let play = Play::new(300_000, 0.15);
    let (refused, used) = cut_off(play, 1, Fallback::default()).await;
    assert_eq!(refused, 0.0);
    assert!(used >= 0.97, "{used}");
}

/// Two of eight spend a quarter beside the others' whole, and one an eighth: at most what goes beyond
/// the limit is refused.
#[tokio::test(start_paused = true)]
async fn no_more_is_refused_than_goes_beyond_the_limit() {
    for (some, headroom, most) in [
        (1, 0.15, 0.0),
        (2, 0.15, 0.045),
        (1, 0.0, 0.11),
        (2, 0.0, 0.20),
    ] {
        let play = Play::untold(300_000, headroom);
        let (refused, _) = cut_off(play, some, Fallback::default()).await;
        assert!(refused <= most, "{refused} with {some} at {headroom}");
    }
}

/// Those that are cut off later are told of fewer processes by then, but those before them spend their
/// shares as well: all shares are one limit together, in whatever order they came to them.
#[tokio::test(start_paused = true)]
async fn shares_are_one_limit_though_all_are_cut_off_one_after_another() {
    // So much headroom that nothing is refused before all are.
    let play = Play::untold(300_000, 0.5);
    let processes: Vec<_> = (0..8).map(|_| play.process(Fallback::default())).collect();
    for process in &processes {
        process.saturate(10, 100..1_000);
    }
    for (n, process) in (0..).zip(&processes) {
        play.until(30 + 6 * n).await;
        process.wire.is_cut.store(true, SeqCst);
    }
    play.until(90).await;
    assert!(processes.iter().all(|it| !it.sharing.status().is_up));
    play.until(150).await;
    assert_eq!(play.refused(), 0);
    // By the first instant each may have saved up for one that waits.
    let saved = 8.0 * 1_000.0 / 150_000.0;
    let used = play.used(90, 150);
    assert!((0.97..=1.0 + saved).contains(&used), "{used}");
}

/// Where answers tell what is left, those who are not cut off leave it to those who are. Without
/// any headroom a large one may come when the others have just spent the last of it: one of a
/// hundred and fifty, in a few of a hundred plays.
#[tokio::test(start_paused = true)]
async fn nothing_is_refused_where_answers_tell_what_is_left() {
    for (some, headroom, most) in [(2, 0.15, 0.0), (1, 0.0, 0.02), (2, 0.0, 0.02)] {
        let play = Play::new(300_000, headroom);
        let (refused, _) = cut_off(play, some, Fallback::default()).await;
        assert!(refused <= most, "{refused} with {some} at {headroom}");
    }
}

#[tokio::test(start_paused = true)]
async fn of_those_that_are_closed_nothing_is_refused() {
    for (some, headroom) in [(1, 0.15), (1, 0.0), (2, 0.15), (2, 0.0)] {
        let play = Play::untold(300_000, headroom);
        let (refused, _) = cut_off(play, some, Fallback::Closed).await;
        assert_eq!(refused, 0.0, "{some} at {headroom}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_dead_process_had_comes_back() {
    let play = Play::new(300_000, 0.15);
    let processes: Vec<_> = (0..4).map(|_| play.process(Fallback::default())).collect();
    for process in &processes {
        process.saturate(10, 100..4_000);
    }
    for second in (20..80).step_by(5) {
        play.until(second).await;
        processes[2].stop();
        let dies = play.process(Fallback::default());
        dies.saturate(10, 100..4_000);
        play.until(second + 4).await;
        dies.die();
    }
    play.until(90).await;
    assert_eq!(play.refused(), 0);
    assert!(play.used(20, 80) >= 0.90, "{}", play.used(20, 80));
}

#[tokio::test(start_paused = true)]
async fn a_ledger_that_comes_back_empty_is_not_overspent() {
    let play = Play::new(300_000, 0.15);
    let processes: Vec<_> = (0..8).map(|_| play.process(Fallback::default())).collect();
    for process in &processes {
        process.saturate(10, 100..4_000);
    }
    play.until(70).await;
    for process in &processes {
        process.wire.is_cut.store(true, SeqCst);
    }
    play.until(90).await;
    play.ledger.lose();
    for process in &processes {
        process.wire.is_cut.store(false, SeqCst);
    }
    play.until(180).await;
    assert_eq!(play.refused(), 0);
    assert!(play.used(73, 90) >= 0.84, "{}", play.used(73, 90));
    assert!(play.used(100, 180) >= 0.90, "{}", play.used(100, 180));
}

#[tokio::test(start_paused = true)]
async fn lost_answers_cost_nothing() {
    let play = Play::new(300_000, 0.15);
    let processes: Vec<_> = (0..8).map(|_| play.process(Fallback::default())).collect();
    for process in &processes {
        process.wire.lost.store(30, SeqCst);
        process.saturate(10, 100..4_000);
    }
    play.until(130).await;
    assert_eq!(play.refused(), 0);
    assert!(play.used(10, 130) >= 0.97, "{}", play.used(10, 130));
}

#[tokio::test(start_paused = true)]
async fn a_paused_process_spends_nothing_of_its_old_lease() {
    let play = Play::new(300_000, 0.0);
    let processes: Vec<_> = (0..4).map(|_| play.process(Fallback::default())).collect();
    for process in &processes {
        process.saturate(10, 100..4_000);
    }
    for second in [70, 90, 110] {
        play.until(second).await;
        processes[0].wire.pause.stop();
        play.until(second + 10).await;
        processes[0].wire.pause.go_on();
    }
    play.until(150).await;
    assert_eq!(play.refused(), 0);
    assert!(play.used(70, 150) >= 0.95, "{}", play.used(70, 150));
}

/// Nobody answers from the beginning on: the floor is what there is, and nobody hangs.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_was_never_there_leaves_the_floor() {
    let play = Play::new(300_000, 0.0);
    let process = play.process(Fallback::Share { floor: 0.1 });
    process.wire.is_cut.store(true, SeqCst);
    let launched = process.call(500).await.unwrap();
    // 500 a second; nothing is there of it at first.
    let waited = launched - play.start;
    assert_eq!(waited, SEC + 100 * MILLI);
    let status = process.sharing.status();
    assert!(!status.is_up);
    let why = status.why.unwrap().to_string();
    assert_eq!(why, "the shared ledger is away: cut off");
    // It does not fit into a tenth, and waits: whoever asks what may ever be admitted is told so.
    let told = process.budget.snapshot();
    assert_eq!((told.limit, told.capacity), (30_000, 300_000));
    assert_eq!(
        (told.meters[0].rate, told.meters[0].capacity),
        (30_000, 300_000)
    );
    assert_eq!(process.budget.most(Unit::Tokens), Some(300_000));
    let large = tokio::time::timeout(60 * SEC, process.call(40_000));
    assert!(large.await.is_err());
    process.wire.is_cut.store(false, SeqCst);
    sleep(10 * SEC).await;
    process.call(40_000).await.unwrap();
}

/// One that has a tenth, which is 500 tokens a second and 30,000 at once, and nothing of that yet.
async fn on_a_tenth(play: &Play) -> Arc<Process> {
    let process = play.process(Fallback::Share { floor: 0.1 });
    process.wire.is_cut.store(true, SeqCst);
    sleep(100 * MILLI).await;
    assert!(!process.sharing.status().is_up);
    process
}

/// Reserves by this caller's name.
fn ask(
    process: &Process,
    name: &'static str,
    cost: u64,
) -> impl Future<Output = Result<(), Refused>> + use<> {
    let gate = TpmBudgetLayer::new(process.budget.clone(), move |(): &()| cost)
        .by(move |(): &()| Caller::new(name));
    async move {
        let mut pass = Gate::<(), ()>::pass(&gate, &());
        pass.admitted().await?;
        pass.launched(
            tollhouse::gate::Launch::ToWire,
            &mut tollhouse::gate::Now::unread(),
        );
        Ok(())
    }
}

/// What does not fit into the share waits for the ledger, and nobody waits behind it or passes it, be it
/// of the same caller or of another, for as long as that takes.
#[tokio::test(start_paused = true)]
async fn what_a_share_is_too_small_for_holds_up_nobody() {
    let play = Play::new(300_000, 0.0);
    let process = on_a_tenth(&play).await;
    let large = ["one", "other"].map(|name| tokio::spawn(ask(&process, name, 40_000)));
    let nobodys = tokio::spawn(process.budget.reserve(30_001));
    sleep(SEC).await;
    let begun = Instant::now();
    // More than may pass one that waits for its turn; the first has been refilled by now.
    for n in 0..600_u32 {
        let small = async {
            match n % 3 {
                0 => ask(&process, "one", 500).await.unwrap(),
                1 => ask(&process, "third", 500).await.unwrap(),
                _ => process.budget.reserve(500).await.unwrap().settle(500),
            }
        };
        let had = tokio::time::timeout(2 * SEC, small).await;
        had.expect("nobody is before it");
        assert_eq!(begun.elapsed(), n * SEC);
    }
    assert!(process.budget.try_reserve(500).is_err());
    sleep(SEC).await;
    assert!(process.budget.try_reserve(500).is_ok());
    assert_eq!(process.budget.snapshot().waiting, 3);

    // It is back, and they stand where they stood: before all who come now.
    process.wire.is_cut.store(false, SeqCst);
    sleep(SEC).await;
    assert!(process.sharing.status().is_up);
    let later = tokio::spawn(ask(&process, "one", 500));
    let [one, other] = large;
    one.await.unwrap().unwrap();
    assert!(!later.is_finished());
    other.await.unwrap().unwrap();
    nobodys.await.unwrap().unwrap().settle(30_001);
    later.await.unwrap().unwrap();
    assert_eq!(process.budget.snapshot().waiting, 0);
}

/// They may go at any time, are told when it is closed, and are waited for.
#[tokio::test(start_paused = true)]
async fn who_waits_for_more_than_a_share_may_leave() {
    let play = Play::new(300_000, 0.0);
    let process = on_a_tenth(&play).await;
    let [leaves, stays] = [1, 2].map(|_| tokio::spawn(ask(&process, "large", 40_000)));
    sleep(SEC).await;
    assert_eq!(process.budget.snapshot().waiting, 2);
    leaves.abort();
    assert!(leaves.await.unwrap_err().is_cancelled());
    let snapshot = process.budget.snapshot();
    assert_eq!(snapshot.waiting, 1);
    let large = snapshot
        .callers
        .iter()
        .find(|it| it.name.as_deref() == Some("large"));
    assert_eq!(large.unwrap().waiting, 1);
    process.sharing.leave().await;
    assert_eq!(stays.await.unwrap(), Err(Refused::Closed));
    assert_eq!(process.budget.snapshot().waiting, 0);
}

/// Whoever looks at it, or has much to do, wakes the agent all the time: the lease ends all the same.
#[tokio::test(start_paused = true)]
async fn one_that_is_woken_all_the_time_goes_on_alone_as_soon() {
    let play = Play::new(300_000, 0.0);
    let process = play.process(Fallback::default());
    process.call(500).await.unwrap();
    process.wire.is_refused.store(true, SeqCst);
    let begin = Instant::now();
    while process.sharing.status().is_up {
        // Two seconds of lease, and the time to ask once more.
        assert!(begin.elapsed() < 2 * SEC + 200 * MILLI);
        // It might have been the last one, so the agent looks; on a busy machine it comes to
        // that no sooner than to the end of its lease.
        drop(process.sharing.clone());
        tokio::time::advance(10 * MILLI).await;
    }
}

/// Of what a process spent by its share the ledger is told, whatever the provider tells.
#[tokio::test(start_paused = true)]
async fn what_was_spent_meanwhile_is_owed() {
    let play = Play::new(300_000, 0.0);
    let [alone, other] = [(); 2].map(|()| play.process(Fallback::default()));
    let spend = async |cost| {
        let reserved = alone.budget.reserve(cost).await.unwrap();
        reserved.launched();
        reserved.settle(cost);
    };
    play.until(10).await;
    alone.wire.is_cut.store(true, SeqCst);
    sleep(5 * SEC).await;
    assert!(!alone.sharing.status().is_up);
    for _ in 0..50 {
        spend(2_000).await;
    }
    alone.wire.is_cut.store(false, SeqCst);
    sleep(SEC).await;
    assert!(alone.sharing.status().is_up);
    // 200,000 are left, and 5,000 come in a second.
    let asked = Instant::now();
    drop(other.budget.reserve(290_000).await.unwrap());
    let waited = asked.elapsed();
    assert!(waited >= 15 * SEC && waited <= 19 * SEC, "{waited:?}");
}

/// What it had when it was stopped is others' by now.
#[tokio::test(start_paused = true)]
async fn an_old_lease_is_not_spent_before_anybody_notices() {
    let play = Play::new(300_000, 0.0);
    let [sleeps, other] = [(); 2].map(|()| play.process(Fallback::default()));
    play.until(10).await;
    drop(sleeps.budget.reserve(200_000).await.unwrap());
    assert!(sleeps.budget.try_reserve(100_000).is_ok(), "it has it yet");
    sleeps.wire.pause.stop();
    sleep(12 * SEC).await;
    let reserved = other.budget.reserve(280_000).await.unwrap();
    reserved.launched();
    reserved.settle(280_000);
    // Nothing of the process has run since.
    assert!(sleeps.budget.try_reserve(100_000).is_err());
    sleeps.wire.pause.go_on();
    sleep(SEC).await;
    assert!(sleeps.sharing.status().is_up);
    assert!(sleeps.budget.try_reserve(100_000).is_err());
}
