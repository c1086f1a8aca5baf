//! Crowds whose weight can be taken: futures that were polled once and wait.

use std::any::Any;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use tokio::sync::Semaphore;
use tollhouse::gate::{Now, Pass};
use tollhouse::{ConcurrencyLayer, Gate, GateLayer, StaggerLayer, TokenBudget, TpmBudgetLayer};
use tower::buffer::Buffer;
use tower::{Layer, Service};
use tower_resilience::bulkhead::BulkheadLayer;

use super::poll;
use super::stacks::Echo;

pub(crate) struct Crowd {
    pub(crate) name: &'static str,
    /// Whether it is ours, and so has a target.
    pub(crate) ours: bool,
    /// The size of a waiter's future, which is part of its task.
    pub(crate) in_task: usize,
    /// Puts so many in line, as a vector of boxed futures: the tasks.
    pub(crate) gather: Box<dyn Fn(usize) -> Box<dyn Any>>,
}

/// Each makes a crowd with a gate of its own: a line keeps what it once grew
/// to.
pub(crate) const CROWDS: [fn() -> Crowd; 7] =
    [slots, stagger, budget, fused, semaphore, buffer, bulkhead];

fn crowd<F: Future + 'static>(
    name: &'static str,
    ours: bool,
    wait: impl Fn() -> F + 'static,
) -> Crowd {
    Crowd {
        name,
        ours,
        in_task: size_of::<F>(),
        gather: Box::new(move |waiting| {
            let mut cx = Context::from_waker(Waker::noop());
            let mut futures = Vec::with_capacity(waiting);
            for _ in 0..waiting {
                let mut future = Box::pin(wait());
                assert!(future.as_mut().poll(&mut cx).is_pending(), "all wait");
                futures.push(future);
            }
            Box::new(futures)
        }),
    }
}

// ===== ours =====

fn slots() -> Crowd {
    let layer = ConcurrencyLayer::new(1).until_response();
    let held = hold(&layer);
    let service = layer.layer(Echo);
    crowd("ConcurrencyLayer", true, move || {
        let _ = &held;
        service.clone().call(1)
    })
}

fn stagger() -> Crowd {
    let mut service = StaggerLayer::new(Duration::from_secs(3600)).layer(Echo);
    poll::call(&mut service, 1);
    crowd("StaggerLayer", true, move || service.clone().call(1))
}

fn budget() -> Crowd {
    let mut service = layer(spent_by_one()).until_response().layer(Echo);
    poll::call(&mut service, 1);
    crowd("TpmBudgetLayer", true, move || service.clone().call(1))
}

fn fused() -> Crowd {
    let slots = ConcurrencyLayer::new(1);
    let held = hold(&slots);
    let gates = (
        slots,
        layer(spent_by_one()),
        StaggerLayer::new(Duration::ZERO),
    );
    let service = GateLayer::new(gates).until_response().layer(Echo);
    crowd("fused policy", true, move || {
        let _ = &held;
        service.clone().call(1)
    })
}

fn hold<G: Gate<u64, u64>>(gate: &G) -> G::Pass {
    let mut held = gate.pass(&1);
    let mut cx = Context::from_waker(Waker::noop());
    let admitted = held.poll_admitted(&mut cx, &mut Now::unread());
    assert!(admitted.is_ready(), "an empty gate admits");
    held
}

fn spent_by_one() -> TokenBudget {
    TokenBudget::per_minute(1).build().expect("a valid budget")
}

fn layer(budget: TokenBudget) -> TpmBudgetLayer<impl Fn(&u64) -> u64 + Clone> {
    TpmBudgetLayer::new(budget, |cost: &u64| *cost)
}

// ===== peers =====

fn semaphore() -> Crowd {
    let semaphore = Arc::new(Semaphore::new(0));
    crowd("tokio Semaphore::acquire_owned", false, move || {
        Arc::clone(&semaphore).acquire_owned()
    })
}

/// Its worker is never run.
fn buffer() -> Crowd {
    let (buffer, worker) = Buffer::pair(Echo, Semaphore::MAX_PERMITS);
    crowd("tower Buffer", false, move || {
        let _ = &worker;
        let mut buffer = buffer.clone();
        let ready = buffer.poll_ready(&mut Context::from_waker(Waker::noop()));
        assert!(ready.is_ready(), "the buffer has room");
        buffer.call(1)
    })
}

fn bulkhead() -> Crowd {
    let layer = BulkheadLayer::builder().max_concurrent_calls(1);
    let service = layer.build().expect("a valid bulkhead").layer(Stuck);
    let mut first = service.clone().call(1);
    let mut cx = Context::from_waker(Waker::noop());
    assert!(
        first.as_mut().poll(&mut cx).is_pending(),
        "it holds the slot"
    );
    let held = std::sync::Mutex::new(first);
    crowd("tower-resilience Bulkhead", false, move || {
        let _ = &held;
        service.clone().call(1)
    })
}

/// Never answers.
#[derive(Clone)]
struct Stuck;

impl Service<u64> for Stuck {
    type Response = u64;
    type Error = std::convert::Infallible;
    type Future = std::future::Pending<Result<u64, Self::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: u64) -> Self::Future {
        std::future::pending()
    }
}
