//! Two threads on one thing, both at it without a pause.

use std::sync::Barrier;
use std::thread;

use tower::Service;

use super::poll::{call, now};
use super::reference::Bucket;
use super::rounds::{nanos_per, wall};
use super::stacks::Echo;

/// As many as every machine has; with more, what is measured is the scheduler.
const THREADS: usize = 2;

/// What each call costs, in tokens.
const COST: u64 = 100;

/// Makes so many calls on each thread; nanoseconds from one to the next, of both.
pub(crate) type Race = Box<dyn Fn(u32) -> f64>;

/// F itself.
pub(crate) fn reference() -> Race {
    let bucket = Bucket::per_minute(1e12);
    Box::new(move |calls| {
        race(calls, || {
            let (bucket, mut service) = (bucket.clone(), Echo);
            move || {
                now(async {
                    let reserved = bucket.reserve(COST as f64).await;
                    let used = service.call(COST).await.expect("infallible");
                    reserved.settle(used as f64);
                });
            }
        })
    })
}

/// A service of which each thread has a clone.
pub(crate) fn service<S: Service<u64> + Clone + Send + 'static>(service: S) -> Race {
    Box::new(move |calls| {
        race(calls, || {
            let mut service = service.clone();
            move || {
                call(&mut service, COST);
            }
        })
    })
}

fn race<C: FnMut() + Send>(calls: u32, caller: impl Fn() -> C) -> f64 {
    let gate = Barrier::new(THREADS);
    let times = thread::scope(|scope| {
        let threads = [(); THREADS].map(|()| {
            let (mut call, gate) = (caller(), &gate);
            scope.spawn(move || {
                gate.wait();
                let start = wall();
                for _ in 0..calls {
                    call();
                }
                (start, wall())
            })
        });
        threads.map(|thread| thread.join().expect("no call panics"))
    });
    // Of the machine's threads this one may be the last to run, so they say it themselves.
    let start = times.iter().map(|time| time.0).min().expect("some threads");
    let end = times.iter().map(|time| time.1).max().expect("some threads");
    nanos_per(end - start, calls as usize * THREADS)
}
