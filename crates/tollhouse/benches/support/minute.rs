//! A decision after K requests have passed in the last minute.

use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::time::{advance, pause, resume};
use tollhouse::{TokenBudget, TokenBudgetBuilder, TpmBudgetLayer};
use tower::{Layer, Service};

use super::calls::{Run, runtime};
use super::poll::call;
use super::stacks::Echo;

/// How long the traffic lasts. It all counts for another half minute, in which
/// the decisions are timed.
const TRAFFIC: Duration = Duration::from_secs(30);

/// How many bursts the traffic comes in, at most.
const BURSTS: u32 = 10_000;

/// Calls that all pass, with so many requests in the window.
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

/// Requests for half the limit, which the requests before have used up: the
/// window must find the instant at which half of them have left it.
pub(crate) fn refusing(requests: u64) -> Run {
    let runtime = runtime();
    let budget = build(&runtime, TokenBudget::per_minute(requests));
    play(&runtime, requests, &mut settled(&budget));
    let half = requests.div_ceil(2);
    Box::new(move |calls| {
        let _inside = runtime.enter();
        for _ in 0..calls {
            let refused = budget.try_reserve(half);
            assert!(refused.is_err(), "the limit is used up");
        }
    })
}

fn build(runtime: &Runtime, budget: TokenBudgetBuilder) -> TokenBudget {
    let _inside = runtime.enter();
    budget.build().expect("a valid budget")
}

fn settled(budget: &TokenBudget) -> impl Service<u64, Error = tollhouse::Error> + use<> {
    TpmBudgetLayer::new(budget.clone(), |cost: &u64| *cost)
        .usage(|used: &u64| Some(*used))
        .until_response()
        .layer(Echo)
}

/// Evenly spread traffic, in no time: the clock is paused meanwhile.
fn play(runtime: &Runtime, requests: u64, service: &mut impl Service<u64>) {
    runtime.block_on(async {
        pause();
        let bursts = u32::try_from(requests).map_or(BURSTS, |requests| requests.min(BURSTS));
        for burst in 0..u64::from(bursts) {
            let sent = |bursts_sent| requests * bursts_sent / u64::from(bursts);
            for _ in sent(burst)..sent(burst + 1) {
                call(service, 1);
            }
            advance(TRAFFIC / bursts).await;
        }
        resume();
    });
}
