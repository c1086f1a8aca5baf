//! How long a call takes that need not wait, beside how many others.

use std::hint::black_box;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollhouse::TokenBudget;
use tollhouse::shared::{Fallback, Sharing};

use crate::support::server::Server;

/// More than all take together.
const A_MINUTE: u64 = 1_000_000_000;

/// What a call takes.
const COST: u64 = 100;

/// So many calls at once, then a millisecond without any: some thousand a second, whoever else is
/// there.
const AT_ONCE: usize = 8;

/// What is timed, of each round, and how many rounds: the quietest counts.
const CALLS: usize = 16_000;
const ROUNDS: usize = 5;

/// A process's part, in this one.
struct Process {
    sharing: Sharing,
    budget: TokenBudget,
}

impl Process {
    /// One that has a lease in hand.
    async fn start(server: &Server) -> Self {
        let (sharing, agent) = Sharing::new(server.ledger(), Fallback::Closed);
        tokio::spawn(agent);
        let budget = TokenBudget::per_minute(A_MINUTE).shared(&sharing, "chat");
        let budget = budget.build().expect("allowed settings");
        Process { sharing, budget }
    }

    /// A call that waits if it must.
    async fn call(&self) {
        let reserved = self.budget.reserve(COST).await.expect("it is open");
        reserved.launched();
        reserved.settle(COST);
    }

    /// How long it is until a call is let in and on its way, in nanoseconds; `None` where it would have
    /// to wait.
    fn timed(&self) -> Option<u64> {
        let begin = Instant::now();
        let reserved = black_box(self.budget.try_reserve(COST)).ok()?;
        reserved.launched();
        let took = begin.elapsed();
        reserved.settle(COST);
        Some(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX))
    }
}

/// What was measured, in nanoseconds.
#[derive(Clone, Copy)]
struct Times {
    p50: u64,
    p99: u64,
    /// Calls that found too little, of a thousand.
    waited: usize,
}

/// Prints both; says how much longer the p99 is beside the hundred, in microseconds.
pub(crate) async fn measure() -> f64 {
    let [alone, beside] = [among(1).await, among(100).await];
    println!("| processes in one | a call that need not wait, p50 | p99 | others, of a thousand |");
    println!("|---|---|---|---|");
    for (processes, times) in [(1, alone), (100, beside)] {
        let [p50, p99] = [times.p50, times.p99].map(micros);
        println!(
            "| {processes} | {p50:.2} µs | {p99:.2} µs | {} |",
            times.waited
        );
    }
    micros(beside.p99) - micros(alone.p99)
}

#[expect(clippy::cast_precision_loss, reason = "it is shown")]
fn micros(nanos: u64) -> f64 {
    nanos as f64 / 1_000.0
}

/// Of the first of so many processes, all of which draw.
async fn among(many: usize) -> Times {
    let server = Server::start().await;
    let mut processes = Vec::new();
    for _ in 0..many {
        processes.push(Process::start(&server).await);
    }
    let first = processes.swap_remove(0);
    let others: Vec<_> = processes.into_iter().map(keeps_calling).collect();
    // Until it has what it needs in a second, and all others, too.
    let warm = Instant::now();
    while warm.elapsed() < Duration::from_secs(12) {
        first.call().await;
        pause().await;
    }
    let told_of = first.sharing.status().processes;
    assert_eq!(told_of as usize, many, "all are there");
    let mut best: Option<Times> = None;
    for _ in 0..ROUNDS {
        let times = round(&first).await;
        let is_better = best.is_none_or(|best| times.p99 < best.p99);
        best = if is_better { Some(times) } else { best };
    }
    others.iter().for_each(|it| it.abort());
    best.expect("there were rounds")
}

/// Twenty calls a second.
fn keeps_calling(process: Process) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        loop {
            process.call().await;
            sleep(Duration::from_millis(50)).await;
        }
    })
}

async fn pause() {
    sleep(Duration::from_millis(1)).await;
}

async fn round(process: &Process) -> Times {
    let (mut took, mut waited) = (Vec::with_capacity(CALLS), 0);
    while took.len() < CALLS {
        for _ in 0..AT_ONCE {
            match process.timed() {
                Some(nanos) => took.push(nanos),
                None => {
                    waited += 1;
                    process.call().await;
                }
            }
        }
        pause().await;
    }
    took.sort_unstable();
    Times {
        p50: took[took.len() / 2],
        p99: took[took.len() * 99 / 100],
        waited: waited * 1_000 / CALLS,
    }
}
