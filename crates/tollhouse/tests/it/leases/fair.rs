//! What is fair between processes that are charged by several meters.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;

use tollhouse::shared::{Fallback, InMemory, Sharing};
use tollhouse::{Accounting, Charge, Per, TokenBudget, Unit, Window};

use super::{MILLI, SEC};

const LIMIT: u64 = 10_000;

/// What a request of a process reserves, and what it uses of it.
#[derive(Clone, Copy)]
struct Habit {
    reserves: Charge,
    uses: Charge,
}

fn of(input: u64, output: u64) -> Charge {
    Charge::of(Unit::Input, input).and(Unit::Output, output)
}

/// What the requests of each come to that were let in within so many minutes, in input and in output,
/// where all of them always want more.
async fn played(accounting: Accounting, habits: &[Habit], minutes: u32) -> Vec<[u64; 2]> {
    let ledger = InMemory::new();
    let mut used = Vec::new();
    for habit in habits {
        let (sharing, agent) = Sharing::new(ledger.clone(), Fallback::Closed);
        tokio::spawn(agent);
        let budget = TokenBudget::unlimited()
            .meter(Unit::Input, Per::Minute, LIMIT)
            .meter(Unit::Output, Per::Minute, LIMIT)
            .accounting(accounting)
            .headroom(0.0)
            .window(Window::Off);
        let budget = budget.shared(&sharing, "chat").build().unwrap();
        let sums: Arc<[AtomicU64; 2]> = Arc::default();
        for _ in 0..8 {
            let (budget, sums, habit) = (budget.clone(), Arc::clone(&sums), *habit);
            tokio::spawn(async move {
                loop {
                    let reserved = budget.reserve(habit.reserves).await.unwrap();
                    reserved.launched();
                    for (sum, unit) in sums.iter().zip([Unit::Input, Unit::Output]) {
                        sum.fetch_add(habit.uses.get(unit), SeqCst);
                    }
                    tokio::time::sleep(300 * MILLI).await;
                    reserved.settle(habit.uses);
                }
            });
        }
        used.push((sums, sharing));
    }
    tokio::time::sleep(minutes * 60 * SEC).await;
    let sums = used.iter();
    sums.map(|(sums, _)| std::array::from_fn(|at| sums[at].load(SeqCst)))
        .collect()
}

/// Both have the same input, within the requests that are in flight, and together all of it.
fn assert_even(used: &[[u64; 2]], minutes: u64) {
    let [[one, _], [other, _]] = *used else {
        unreachable!("two processes: {used:?}");
    };
    assert!(one.abs_diff(other) <= 2_000, "{used:?}");
    assert!(one + other >= minutes * LIMIT, "{used:?}");
}

/// A request costs its input, whether its output comes back or not: that took as much.
#[tokio::test(start_paused = true)]
async fn what_comes_back_and_was_not_scarce_earns_nothing() {
    let whole = Habit {
        reserves: of(1_000, 1_000),
        uses: of(1_000, 1_000),
    };
    let half = Habit {
        uses: of(1_000, 0),
        ..whole
    };
    let used = played(Accounting::AsUsed, &[half, whole], 60).await;
    assert_even(&used, 60);
}

/// The other way about: it costs its input, however much longer its answer was.
#[tokio::test(start_paused = true)]
async fn what_is_used_beyond_and_is_not_scarce_costs_nothing() {
    for accounting in [Accounting::AsUsed, Accounting::AsRequested] {
        let as_reserved = Habit {
            reserves: of(1_000, 100),
            uses: of(1_000, 100),
        };
        let more = Habit {
            uses: of(1_000, 900),
            ..as_reserved
        };
        let used = played(accounting, &[more, as_reserved], 60).await;
        assert_even(&used, 60);
    }
}
