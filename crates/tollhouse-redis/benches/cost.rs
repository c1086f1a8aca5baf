//! What sharing costs.
//!
//! *Redis*, with so many processes that all want more than there is, and with so many that have
//! enough: the server's processor time a run of the script, with reading and answering, and the share of
//! one core at four runs a second of each process, or two hundred of all.
//!
//! *A call* that finds what it needs leased: alone, and beside a hundred processes of its account,
//! here all in one, each with something to do.
//!
//! Fails where eight processes take more than a fifth of a core, or where the hundred make a call's p99
//! longer by more than 0.1 ms.
//!
//! `cargo bench -p tollhouse-redis`

mod calls;

#[path = "../tests/it/support/mod.rs"]
#[allow(dead_code, reason = "the tests need more of it")]
mod support;

use redis::{FromRedisValue, Value};
use tollhouse::shared::Amounts;
use tollhouse::{Charge, Per, Unit};

use support::process::Process;
use support::server::Server;
use support::terms;

/// Of so many batches the cheapest counts: what else the machine does makes the others dearer.
const BATCHES: u32 = 5;
const ROUNDS: u32 = 10;

/// How often each process asks in a second, and all together.
const ASKS: f64 = 4.0;
const ASKS_IN_ALL: f64 = 200.0;

/// Microseconds that the server's one thread was busy, whoever else was on the machine.
async fn busy(server: &Server) -> f64 {
    let told = server.run(&["INFO", "cpu"]).await;
    let told = match told {
        Value::VerbatimString { text, .. } => text,
        other => String::from_redis_value(other).expect("text"),
    };
    let of = |name: &str| {
        let line = told.lines().find_map(|line| line.strip_prefix(name));
        line.expect("a line").parse::<f64>().expect("seconds")
    };
    let seconds = of("used_cpu_user_main_thread:") + of("used_cpu_sys_main_thread:");
    seconds * 1_000_000.0
}

/// Microseconds a run.
async fn measure(processes: u32, limit: u64) -> f64 {
    let server = Server::start().await;
    let ledger = server.ledger();
    let meters = [
        terms(Unit::Tokens, Per::Minute, limit),
        terms(Unit::Requests, Per::Minute, limit / 100),
    ];
    let mut all: Vec<_> = (0..processes)
        .map(|id| Process::new(id.into(), &meters))
        .collect();
    let line = vec![Amounts::from(Charge::tokens(1_500)); 16];
    for process in &mut all {
        let pool = process.pool();
        pool.line = line.clone();
        pool.wanted = Amounts::from(Charge::tokens(20_000));
        pool.max_slots = Some(1_000);
        pool.slots_wanted = 8;
    }
    for _ in 0..10 {
        for process in &mut all {
            process.exchange(&ledger).await;
        }
        tokio::time::sleep(support::ms(500)).await;
    }
    // One process alone takes more rounds, or the server's own clockwork is most of it.
    let rounds = ROUNDS.max(400 / processes);
    let mut least = f64::INFINITY;
    for _ in 0..BATCHES {
        let before = busy(&server).await;
        for _ in 0..rounds {
            for process in &mut all {
                process.exchange(&ledger).await;
                // All that was drawn is on its way, and what was drawn the time before has landed.
                process.land();
                let idle = process.pool().idle;
                process.send(idle);
            }
        }
        let runs = f64::from(rounds) * f64::from(processes);
        least = least.min((busy(&server).await - before) / runs);
    }
    least
}

/// Prints what Redis has to do; says what share of a core eight processes take at most.
async fn of_redis() -> f64 {
    println!("| processes | all that they want | a run | of one core |");
    println!("|---|---|---|---|");
    let mut most = 0.0_f64;
    for processes in [1_u32, 8, 100] {
        for (told, limit) in [("is there", 1_000_000_000_000), ("is not there", 1_000_000)] {
            let micros = measure(processes, limit).await;
            let asks = (f64::from(processes) * ASKS).min(ASKS_IN_ALL);
            let share = micros * asks / 10_000.0;
            println!("| {processes} | {told} | {micros:.0} µs | {share:.1} % |");
            if processes <= 8 {
                most = most.max(share);
            }
        }
    }
    most
}

fn main() {
    let runtime = |threads| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        let runtime = builder.worker_threads(threads).enable_all().build();
        runtime.expect("a runtime")
    };
    let share = runtime(1).block_on(of_redis());
    println!();
    let longer = runtime(2).block_on(calls::measure());
    println!();
    let rows = [
        ("eight processes, of one of Redis's cores, %", share, 20.0),
        ("a hundred processes, longer at p99, µs", longer, 100.0),
    ];
    for (what, measured, most) in rows {
        let verdict = if measured <= most { "met" } else { "MISSED" };
        println!("{what}: {measured:.1}, at most {most:.0}: {verdict}");
    }
    assert!(rows.iter().all(|(_, measured, most)| measured <= most));
}
