//! Whatever happens, nothing of what was drawn is lost or made: what the bucket gave is what
//! was spent, and given back, and is held.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

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
            // Now and then for so long that the lease ends.
            0 => sleep(3 * SEC).await,
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

/// One call, whatever becomes of it; says what was launched.
async fn call(budget: TokenBudget, mut random: Random) -> u64 {
    let cost = random.within(1..3_000);
    let patience = Duration::from_millis(random.within(10..4_000));
    let Ok(reserved) = timeout(patience, budget.reserve(cost)).await else {
        return 0;
    };
    let reserved = reserved.unwrap();
    match random.within(0..4) {
        // It gives up before it is launched.
        0 => {
            sleep(patience / 10).await;
            0
        }
        // It is dropped on its way.
        1 => {
            reserved.launched();
            cost
        }
        _ => {
            reserved.launched();
            sleep(patience).await;
            reserved.settle(cost);
            cost
        }
    }
}

async fn play(seed: u64) {
    let audited = Audited {
        ledger: InMemory::new(),
        random: Arc::new(Mutex::new(Random::seeded(seed))),
        processes: Arc::default(),
    };
    let mut random = Random::seeded(seed ^ 0xa5a5);
    let mut processes = Vec::new();
    for _ in 0..3 {
        let (sharing, agent) = Sharing::new(audited.clone(), Fallback::Closed);
        tokio::spawn(agent);
        let budget = TokenBudget::per_minute(60_000).window(Window::Off);
        processes.push((budget.shared(&sharing, "chat").build().unwrap(), sharing));
    }
    let mut calls = Vec::new();
    for _ in 0..400 {
        sleep(Duration::from_millis(random.within(0..200))).await;
        let process = random.within(0..3) as usize;
        let (budget, seed) = (processes[process].0.clone(), random.within(0..u64::MAX));
        let made = tokio::spawn(call(budget, Random::seeded(seed)));
        calls.push((process, made));
    }
    let mut launched = [0; 3];
    for (process, call) in calls {
        launched[process] += call.await.unwrap();
    }
    // Everything lands, and what is idle goes back.
    sleep(70 * SEC).await;
    let audit = audited.processes.lock().unwrap();
    let mut landed: Vec<_> = audit
        .values()
        .map(|it| it.drawn - it.idle - it.returned)
        .collect();
    landed.sort_unstable();
    launched.sort_unstable();
    assert_eq!(landed, launched, "seed {seed}");
    assert!(audit.values().all(|it| it.idle == 0), "seed {seed}");
}

#[tokio::test(start_paused = true)]
async fn what_was_drawn_is_spent_or_given_back_or_held() {
    for seed in 0..schedules(8) {
        play(seed).await;
    }
}
