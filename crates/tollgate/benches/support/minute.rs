//! A decision after K requests have passed in the last minute.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{advance, pause, resume};
use tollgate::{TokenBudget, TpmBudgetLayer};
use tower::{Layer, Service};

use super::calls::{Run, runtime};
use super::poll::call;
use super::stacks::Echo;

/// How finely the minute is played: every 6 ms.
const STEPS: u64 = 10_000;

/// Calls that all pass, with the window as full of entries as `K` makes it.
pub(crate) fn admitting(requests: u64) -> Run {
    let runtime = runtime();
    let budget = build(&runtime, TokenBudget::per_minute(1_000_000_000_000));
    let mut service = settled(&budget);
    play(&runtime, requests, &mut service);
    Box::new(move |calls| {
        let _inside = runtime.enter();
        for _ in 0..calls {
            call(&mut service, 1);
        }
    })
}

/// Requests for half the limit that are told to wait: the window must find the
/// instant at which half of a full minute has left it.
pub(crate) fn refusing(requests: u64) -> Run {
    let runtime = runtime();
    let budget = build(&runtime, TokenBudget::per_minute(requests));
    play(&runtime, requests, &mut settled(&budget));
    let half = requests.div_ceil(2);
    Box::new(move |calls| {
        let _inside = runtime.enter();
        for _ in 0..calls {
            let refused = budget.try_reserve(half);
            assert!(refused.is_err(), "the minute is full");
        }
    })
}

fn build(runtime: &Runtime, budget: tollgate::TokenBudgetBuilder) -> TokenBudget {
    let _inside = runtime.enter();
    budget.build().expect("a valid budget")
}

fn settled(budget: &TokenBudget) -> impl Service<u64, Error = tollgate::Error> + use<> {
    TpmBudgetLayer::new(budget.clone(), |cost: &u64| *cost)
        .usage(|used: &u64| Some(*used))
        .until_response()
        .layer(Echo)
}

/// A minute's traffic, evenly spread, in no time.
fn play(runtime: &Runtime, requests: u64, service: &mut impl Service<u64>) {
    runtime.block_on(async {
        pause();
        let steps = requests.min(STEPS);
        for step in 0..steps {
            for _ in requests * step / steps..requests * (step + 1) / steps {
                call(service, 1);
            }
            // The very last instants are left, so that nothing is forgotten
            // while the decisions are timed.
            advance(Duration::from_secs(30) / u32::try_from(steps).expect("few steps")).await;
        }
        resume();
    });
}
