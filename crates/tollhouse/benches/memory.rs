//! What a call allocates, and what a waiter weighs.
//!
//! `cargo bench -p tollhouse --bench memory` takes seconds. Bytes are those
//! asked of the allocator, without its own overhead.

mod support {
    pub(crate) mod calls;
    pub(crate) mod poll;
    pub(crate) mod reference;
    pub(crate) mod report;
    pub(crate) mod stacks;
    pub(crate) mod weight;
}

use std::alloc::System;
use std::rc::Rc;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, Stats, StatsAlloc};
use support::calls::{self, Run};
use support::report::{self, Targets, section};
use support::weight::{self, Crowd};
use tokio::runtime::Runtime;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let quick = report::quick();
    let mut targets = Targets::default();
    let runtime = calls::runtime();
    a_call(quick, &runtime, &mut targets);
    let _inside = runtime.enter();
    a_waiter(quick, &mut targets);
    targets.print(quick);
}

/// What `work` asked the allocator for.
fn counted<T>(work: impl FnOnce() -> T) -> (T, Stats) {
    let region = Region::new(ALLOCATOR);
    let result = work();
    (result, region.change())
}

fn a_call(quick: bool, runtime: &Rc<Runtime>, targets: &mut Targets) {
    let columns = format!("{:<44}{:>12}{:>10}", "", "allocations", "bytes");
    section("one call, nobody else around", &columns);
    let mut most = 0.0_f64;
    line("F", allocations(calls::reference(), quick));
    for subject in calls::subjects(runtime) {
        let of_a_call = allocations(subject.run, quick);
        line(&subject.name, of_a_call);
        if subject.at_most.is_some() {
            most = most.max(of_a_call.0);
        }
    }
    targets.add("allocations a call, the worst of ours", most, 0.0, "");
}

fn line(name: &str, (allocations, bytes): (f64, f64)) {
    println!("  {name:<44}{allocations:>12.2}{bytes:>10.0}");
}

/// Allocations and bytes a call, once everything has grown to its size: a
/// window's log takes its last step only some milliseconds after its busiest.
fn allocations(mut run: Run, quick: bool) -> (f64, f64) {
    let (before, calls) = if quick {
        (1_000, 100)
    } else {
        (500_000, 20_000)
    };
    run(before);
    let ((), stats) = counted(|| run(calls));
    let allocations = stats.allocations + stats.reallocations;
    let calls = f64::from(calls);
    (
        allocations as f64 / calls,
        stats.bytes_allocated as f64 / calls,
    )
}

fn a_waiter(quick: bool, targets: &mut Targets) {
    let counts: &[usize] = match quick {
        true => &[1_000],
        false => &[1_000, 10_000, 100_000, 1_000_000],
    };
    let columns = format!(
        "{:<44}{:>9}{:>14}{:>14}",
        "", "waiting", "on the heap", "in its task"
    );
    section("one waiter, bytes", &columns);
    let mut most = 0.0_f64;
    for make in weight::CROWDS {
        for &waiting in counts {
            let crowd = make();
            let heap = on_the_heap(&crowd, waiting);
            println!(
                "  {:<44}{waiting:>9}{heap:>14.1}{:>14}",
                crowd.name, crowd.in_task
            );
            if crowd.ours {
                most = most.max(heap);
            }
        }
    }
    targets.add(
        "bytes a waiter beyond its task, worst of ours",
        most,
        128.0,
        "bytes",
    );
}

/// Bytes a waiter, once all wait, less the boxed futures that stand for tasks.
fn on_the_heap(crowd: &Crowd, waiting: usize) -> f64 {
    let (in_line, stats) = counted(|| (crowd.gather)(waiting));
    let live = stats.bytes_allocated - stats.bytes_deallocated;
    let tasks = waiting * (crowd.in_task + size_of::<Box<()>>());
    drop(in_line);
    (live as f64 - tasks as f64) / waiting as f64
}
