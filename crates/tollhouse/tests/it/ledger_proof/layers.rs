//! The same promise through the fused layers, with a task for every call.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollhouse::{ConcurrencyLayer, GateLayer, StaggerLayer, TokenBudget, TpmBudgetLayer, Window};
use tower::{Layer, ServiceExt, service_fn};

use super::provider::{Arrival, Counting, Provider, What};
use super::schedule::{self, Fate, Plan, Shape, Uses};
use super::{ALL, for_seeds};
use crate::support::random::Random;

const SHAPE: Shape = Shape {
    limit: 30_000,
    largest: 9_000,
    load: 150,
    uses: Uses::Exact,
};

/// Plays `plans` through slots, budget and spacing, and returns when each was
/// launched, with its arrival at the provider.
async fn launches(plans: Vec<Plan>, interval: Duration, window: Window) -> Vec<(u64, Arrival)> {
    let budget = TokenBudget::per_minute(SHAPE.limit)
        .window(window)
        .build()
        .unwrap();
    let layer = GateLayer::new((
        ConcurrencyLayer::new(6),
        TpmBudgetLayer::new(budget, |call: &(usize, Plan)| call.1.cost),
        StaggerLayer::new(interval),
    ))
    .until_response();

    let start = Instant::now();
    let seen = Rc::new(RefCell::new(Vec::new()));
    let provider = service_fn(|(id, plan): (usize, Plan)| {
        let launched = start.elapsed().as_millis() as u64;
        let arrival = Arrival {
            at: launched + plan.travels,
            id,
            what: What::Request(plan.cost),
        };
        seen.borrow_mut().push((launched, arrival));
        let there_and_back = plan.travels + plan.works + plan.returns;
        async move {
            sleep(Duration::from_millis(there_and_back)).await;
            Ok::<_, std::io::Error>(())
        }
    });
    let client = layer.layer(provider);
    let calls = plans.into_iter().enumerate().map(|(id, plan)| {
        let client = client.clone();
        async move {
            sleep(Duration::from_millis(plan.asks)).await;
            let call = client.oneshot((id, plan));
            match plan.fate {
                Fate::Settled => drop(call.await),
                Fate::LeavesQueue(after) | Fate::LeavesUnsent(after) | Fate::LeavesSent(after) => {
                    drop(tokio::time::timeout(Duration::from_millis(after), call).await);
                }
            }
        }
    });
    futures_util::future::join_all(calls).await;
    seen.take()
}

fn prove(seeds: u64, window: Window, providers: &[Counting]) {
    for_seeds(seeds, async |mut random: Random| {
        let plans = schedule::draw(&mut random, SHAPE, 60);
        let interval = Duration::from_millis(schedule::pick(&mut random, &[0, 0, 100, 15_000]));
        let launches = launches(plans, interval, window).await;
        assert!(launches.len() > 15, "{}", launches.len());
        let spaced =
            |pair: &[(u64, Arrival)]| Duration::from_millis(pair[1].0 - pair[0].0) >= interval;
        assert!(
            launches.windows(2).all(spaced),
            "{interval:?}: {launches:?}"
        );
        let arrivals: Vec<_> = launches.into_iter().map(|launch| launch.1).collect();
        for &counting in providers {
            let rejected = Provider::new(counting, SHAPE.limit, None).rejections(arrivals.clone());
            assert!(
                rejected.is_empty(),
                "{counting:?} {interval:?}: {rejected:?}"
            );
        }
    });
}

#[test]
fn no_provider_rejects_what_comes_through_the_layers() {
    prove(50, Window::On, &ALL);
}

#[test]
fn a_continuous_provider_rejects_nothing_without_the_window() {
    prove(50, Window::Off, &[Counting::Continuous]);
}
