//! Slots, and the time between launches, over several processes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tollhouse::shared::{Fallback, InMemory, Sharing};
use tollhouse::{AccountSlots, TokenBudget, TokenBudgetBuilder};

use super::{MILLI, SEC};

/// A process of which nothing is known but its budget.
struct Process {
    budget: TokenBudget,
    sharing: Sharing,
    agent: JoinHandle<()>,
}

fn process(
    ledger: &InMemory,
    slots: Option<&AccountSlots>,
    pool: &str,
    budget: TokenBudgetBuilder,
) -> Process {
    let (sharing, agent) = Sharing::new(ledger.clone(), Fallback::Closed);
    let budget = match slots {
        Some(slots) => {
            slots.share(&sharing);
            budget.account_slots(slots)
        }
        None => budget,
    };
    Process {
        budget: budget.shared(&sharing, pool).build().unwrap(),
        sharing,
        agent: tokio::spawn(agent),
    }
}

/// Calls in flight, how many they were at most, and how many there were in all.
#[derive(Clone, Default)]
struct Count(Arc<[AtomicUsize; 3]>);

impl Count {
    /// Calls of so long, one after another and so many at once.
    fn calls(&self, process: &Process, many: usize, takes: Duration) -> Vec<JoinHandle<()>> {
        let calls = (0..many).map(|_| {
            let (count, budget) = (self.clone(), process.budget.clone());
            tokio::spawn(async move {
                loop {
                    let call = budget.reserve(1).await.unwrap();
                    call.launched();
                    let [now, most, all] = &*count.0;
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    all.fetch_add(1, SeqCst);
                    sleep(takes).await;
                    now.fetch_sub(1, SeqCst);
                    call.settle(1);
                }
            })
        });
        calls.collect()
    }

    fn most(&self) -> usize {
        self.0[1].load(SeqCst)
    }

    fn all(&self) -> usize {
        self.0[2].load(SeqCst)
    }
}

/// Slots of a pool, and of an account over pools: never are more calls in flight than there
/// are.
#[tokio::test(start_paused = true)]
async fn no_more_calls_are_in_flight_than_all_processes_may_have() {
    for of_account in [false, true] {
        let ledger = InMemory::new();
        let count = Count::default();
        let mut processes = Vec::new();
        for _ in 0..4 {
            let slots = of_account.then(|| AccountSlots::new(20));
            let budget = TokenBudget::unlimited();
            let budget = match of_account {
                true => budget,
                false => budget.max_concurrency(20),
            };
            let process = process(&ledger, slots.as_ref(), "chat", budget);
            count.calls(&process, 20, 2 * SEC);
            processes.push(process);
        }
        sleep(64 * SEC).await;
        assert_eq!(count.most(), 20);
        // Ten a second from the fifth second on.
        assert!(count.all() >= 570, "{}", count.all());
        for process in &processes {
            assert!(process.sharing.status().is_up);
        }
    }
}

/// One process has all slots, and would use each again for calls that wait; then another one
/// comes.
#[tokio::test(start_paused = true)]
async fn slots_are_left_to_who_has_less() {
    for of_account in [false, true] {
        let ledger = InMemory::new();
        let process = || {
            let slots = of_account.then(|| AccountSlots::new(20));
            let budget = TokenBudget::unlimited();
            let budget = match of_account {
                true => budget,
                false => budget.max_concurrency(20),
            };
            process(&ledger, slots.as_ref(), "chat", budget)
        };
        let (first, idle, second) = (process(), process(), process());
        let (one, other) = (Count::default(), Count::default());
        one.calls(&first, 60, SEC);
        sleep(64 * SEC).await;
        assert_eq!(one.most(), 20);
        let alone = one.all();
        assert!(alone >= 60 * 20 * 95 / 100, "{alone}");

        other.calls(&second, 60, SEC);
        sleep(60 * SEC).await;
        assert!(other.all() >= 60 * 10 * 75 / 100, "{}", other.all());
        assert!(
            one.all() - alone >= 60 * 10 * 9 / 10,
            "{}",
            one.all() - alone
        );
        drop(idle);
    }
}

#[tokio::test(start_paused = true)]
async fn the_slots_of_a_dead_process_come_back() {
    let ledger = InMemory::new();
    let budget = || TokenBudget::unlimited().max_concurrency(8);
    let [dies, lives] = [(); 2].map(|()| process(&ledger, None, "chat", budget()));
    let count = Count::default();
    let calls = count.calls(&dies, 8, 3_600 * SEC);
    sleep(10 * SEC).await;
    assert_eq!(count.most(), 8);

    dies.agent.abort();
    calls.iter().for_each(JoinHandle::abort);
    let start = Instant::now();
    let mut held = Vec::new();
    for _ in 0..8 {
        held.push(lives.budget.reserve(1).await.unwrap());
    }
    assert!(start.elapsed() <= 5 * SEC, "{:?}", start.elapsed());
}

/// Two processes whose account launches one in half a second.
#[tokio::test(start_paused = true)]
async fn launches_are_spaced_over_processes() {
    for of_account in [false, true] {
        let ledger = InMemory::new();
        let mut launches = Vec::new();
        for _ in 0..2 {
            let slots = of_account.then(|| {
                let slots = AccountSlots::new(100);
                slots.set_interval(500 * MILLI);
                slots
            });
            let budget = TokenBudget::unlimited();
            let budget = match of_account {
                true => budget,
                false => budget.stagger(500 * MILLI),
            };
            let process = process(&ledger, slots.as_ref(), "chat", budget);
            for _ in 0..20 {
                let reserve = process.budget.reserve(1);
                launches.push(tokio::spawn(async move {
                    let call = reserve.await.unwrap();
                    call.launched();
                    Instant::now()
                }));
            }
            // Its agent goes on without it.
            std::mem::forget(process);
        }
        let mut instants = Vec::new();
        for launch in launches {
            instants.push(launch.await.unwrap());
        }
        instants.sort();
        let gaps = instants.windows(2).map(|two| two[1] - two[0]);
        let least = gaps.min().unwrap();
        assert!(least >= 499 * MILLI, "{least:?}");
        let all = *instants.last().unwrap() - instants[0];
        assert!(all <= 39 * 500 * MILLI + 2 * SEC, "{all:?}");
    }
}
