//! Whatever happens, nothing of what was drawn is lost or made: what the bucket gave is what
//! was spent, and given back, and is held.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tollhouse::shared::{Away, Fallback, Grant, InMemory, Report, SharedLedger, Sharing};
use tollhouse::{TokenBudget, Unit, Window};

use super::{MILLI, SEC};
use crate::support::random::{Random, schedules};

/// What one process drew, and what became of it by its last report.
#[derive(Default)]
struct Process {
    drawn: u64,
    /// What had landed by the last report.
    landed: u64,
    returned: u64,
    idle: u64,
}

/// A ledger behind a bad wire, that keeps count.
#[derive(Clone)]
struct Audited {
    ledger: InMemory,
    random: Arc<Mutex<Random>>,
    processes: Arc<Mutex<BTreeMap<u128, Process>>>,
    /// Whether an answer may take so long that the lease ends.
    hangs: bool,
}

impl Audited {
    fn audit(&self, report: &Report) {
        let mut processes = self.processes.lock().unwrap();
        let process = processes.entry(report.process).or_default();
        for pool in &report.pools {
            let of = |amounts: &tollhouse::shared::Amounts| amounts.get(Unit::Tokens);
            (process.idle, process.returned) = (of(&pool.idle), of(&pool.returned));
            let known = process.idle + process.returned + of(&pool.in_transit);
            assert!(known <= process.drawn, "{known} of {}", process.drawn);
            let landed = process.drawn - known;
            assert!(
                landed >= process.landed,
                "{landed} after {}",
                process.landed
            );
            process.landed = landed;
        }
    }
}

impl SharedLedger for Audited {
    async fn exchange(&self, report: &Report) -> Result<Grant, Away> {
        self.audit(report);
        let (there, back, fate) = {
            let random = &mut self.random.lock().unwrap();
            (
                random.within(0..80),
                random.within(0..80),
                random.within(0..20),
            )
        };
        sleep(there as u32 * MILLI).await;
        match fate {
            0 if self.hangs => sleep(3 * SEC).await,
            1 => return Err(Away::because("it never came")),
            _ => {}
        }
        let grant = self.ledger.exchange(report).await?;
        sleep(back as u32 * MILLI).await;
        if fate == 2 {
            return Err(Away::because("its answer never came"));
        }
        let mut processes = self.processes.lock().unwrap();
        let process = processes.get_mut(&report.process).unwrap();
        for pool in &grant.pools {
            process.drawn += pool.drawn.get(Unit::Tokens);
        }
        Ok(grant)
    }
}

/// One process, as far as it can die.
struct Living {
    budget: TokenBudget,
    agent: JoinHandle<()>,
    calls: Vec<JoinHandle<()>>,
    launched: Arc<AtomicU64>,
}

/// What all calls of an account have in common.
#[derive(Clone, Default)]
struct Flying {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// Over when it is dropped, also where its process died.
struct Flight(Flying);

impl Flying {
    fn begin(&self) -> Flight {
        let now = self.now.fetch_add(1, SeqCst) + 1;
        self.most.fetch_max(now, SeqCst);
        Flight(self.clone())
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, SeqCst);
    }
}

/// One call, whatever becomes of it.
async fn call(budget: TokenBudget, launched: Arc<AtomicU64>, flying: Flying, mut random: Random) {
    let cost = random.within(1..3_000);
    let patience = Duration::from_millis(random.within(10..4_000));
    let Ok(reserved) = timeout(patience, budget.reserve(cost)).await else {
        return;
    };
    let reserved = reserved.unwrap();
    let fate = random.within(0..4);
    if fate == 0 {
        // It gives up before it is launched.
        return sleep(patience / 10).await;
    }
    reserved.launched();
    launched.fetch_add(cost, SeqCst);
    let flight = flying.begin();
    if fate == 1 {
        // It is dropped on its way.
        return;
    }
    sleep(patience).await;
    drop(flight);
    reserved.settle(cost);
}

impl Audited {
    fn process(&self, slots: Option<usize>) -> Living {
        let (sharing, agent) = Sharing::new(self.clone(), Fallback::Closed);
        let budget = TokenBudget::per_minute(60_000).window(Window::Off);
        let budget = match slots {
            Some(slots) => budget.max_concurrency(slots),
            None => budget,
        };
        Living {
            budget: budget.shared(&sharing, "chat").build().unwrap(),
            agent: tokio::spawn(agent),
            calls: Vec::new(),
            launched: Arc::default(),
        }
    }
}

/// With or without a limit of calls in flight. Where there is one, no answer takes longer than a
/// lease, since whoever lost its slots may yet have calls in flight.
async fn play(seed: u64, slots: Option<usize>) {
    let audited = Audited {
        ledger: InMemory::new(),
        random: Arc::new(Mutex::new(Random::seeded(seed))),
        processes: Arc::default(),
        hangs: slots.is_none(),
    };
    let mut random = Random::seeded(seed ^ 0xa5a5);
    let flying = Flying::default();
    let mut living: Vec<_> = (0..3).map(|_| audited.process(slots)).collect();
    let mut dead = Vec::new();
    for _ in 0..400 {
        sleep(Duration::from_millis(random.within(0..200))).await;
        let of = random.within(0..3) as usize;
        if random.within(0..60) == 0 {
            let dies = std::mem::replace(&mut living[of], audited.process(slots));
            dies.agent.abort();
            dies.calls.iter().for_each(JoinHandle::abort);
            dead.push(dies);
        }
        let process = &mut living[of];
        let seed = Random::seeded(random.within(0..u64::MAX));
        let launched = Arc::clone(&process.launched);
        let made = call(process.budget.clone(), launched, flying.clone(), seed);
        process.calls.push(tokio::spawn(made));
    }
    for process in &mut living {
        for call in process.calls.drain(..) {
            call.await.unwrap();
        }
    }
    // Everything lands, and what is idle goes back.
    sleep(70 * SEC).await;
    if let Some(slots) = slots {
        let most = flying.most.load(SeqCst);
        assert!(most <= slots, "{most} of {slots} in flight, seed {seed}");
    }
    let audit = audited.processes.lock().unwrap();
    // What is spent, and of what was idle.
    let had = |process: &Process| {
        let kept = process.drawn - process.returned;
        (kept - process.idle, process.idle)
    };
    let mut had: Vec<_> = audit.values().map(had).collect();
    for process in &living {
        let launched = process.launched.load(SeqCst);
        let known = had.iter().position(|it| *it == (launched, 0));
        let known = known.unwrap_or_else(|| panic!("{launched} in {had:?}, seed {seed}"));
        had.swap_remove(known);
    }
    // What a dead one sent, it had drawn, and what was idle by its last word it may have sent since:
    // the ledger takes all of it for landed.
    let launched: u64 = dead.iter().map(|it| it.launched.load(SeqCst)).sum();
    let drawn: u64 = had.iter().map(|(spent, idle)| spent + idle).sum();
    assert!(launched <= drawn, "{launched} of {drawn}, seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn what_was_drawn_is_spent_or_given_back_or_held() {
    for seed in 0..schedules(8) {
        play(seed, None).await;
    }
}

#[tokio::test(start_paused = true)]
async fn no_slot_is_lost_or_made() {
    for seed in 0..schedules(8) {
        play(seed, Some(4)).await;
    }
}
