//! Everything that is measured: our layers, and the peers.
//!
//! All have limits that are never reached, and the same service behind them.

use std::convert::Infallible;
use std::future::{Ready, ready};
use std::task::{Context, Poll};
use std::time::Duration;

use tollhouse::{
    Backoff, ConcurrencyLayer, Decision, Error, GateLayer, RetryLayer, StaggerLayer, TokenBudget,
    TpmBudgetLayer,
};
use tower::buffer::BufferLayer;
use tower::retry::Policy;
use tower::{BoxError, Layer, Service, ServiceBuilder};
use tower_resilience::bulkhead::BulkheadLayer;
use tower_resilience::ratelimiter::RateLimiterLayer;
use tower_resilience::retry::RetryLayer as ResilientRetry;

/// More slots than are ever taken.
const SLOTS: usize = 1_000;

/// The most that a budget takes; the bench runs for hours before it is spent.
const LIMIT: u64 = 1_000_000_000_000;

const SECOND: Duration = Duration::from_secs(1);

/// Answers at once, with the tokens used: what was asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Echo;

impl Service<u64> for Echo {
    type Response = u64;
    type Error = Infallible;
    type Future = Ready<Result<u64, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, cost: u64) -> Self::Future {
        ready(Ok(cost))
    }
}

// ===== ours =====

pub(crate) fn concurrency() -> impl Service<u64, Error = Error> + Clone {
    ConcurrencyLayer::new(SLOTS).until_response().layer(Echo)
}

pub(crate) fn stagger() -> impl Service<u64, Error = Error> + Clone {
    StaggerLayer::new(Duration::ZERO).layer(Echo)
}

/// Tokens a minute and the sliding window.
pub(crate) fn budget() -> impl Service<u64, Error = Error> + Clone {
    let budget = TokenBudget::per_minute(LIMIT).build();
    TpmBudgetLayer::new(budget.expect("a valid budget"), |cost: &u64| *cost)
        .usage(|used: &u64| Some(*used))
        .until_response()
        .layer(Echo)
}

/// The policy: one queue over slots, tokens, requests, both with their window; its
/// spacing is off.
pub(crate) fn policy() -> impl Service<u64, Response = u64, Error = Error, Future: Send> + Clone {
    let budget = TokenBudget::per_minute(LIMIT)
        .requests_per_minute(LIMIT)
        .max_concurrency(SLOTS)
        .build();
    TpmBudgetLayer::new(budget.expect("a valid budget"), |cost: &u64| *cost)
        .usage(|used: &u64| Some(*used))
        .until_response()
        .layer(Echo)
}

/// The same as three gates of one's own would be, each with a queue.
pub(crate) fn fused() -> impl Service<u64, Response = u64, Error = Error, Future: Send> + Clone {
    let budget = TokenBudget::per_minute(LIMIT).requests_per_minute(LIMIT);
    let budget = budget.build().expect("a valid budget");
    GateLayer::new((
        ConcurrencyLayer::new(SLOTS),
        TpmBudgetLayer::new(budget, |cost: &u64| *cost).usage(|used: &u64| Some(*used)),
        StaggerLayer::new(Duration::ZERO),
    ))
    .until_response()
    .layer(Echo)
}

pub(crate) fn retried() -> impl Service<u64, Error = Error> + Clone {
    let classify = |result: Result<&u64, &Error>| match result {
        Ok(_) => Decision::GiveUp,
        Err(error) => panic!("nothing fails here: {error}"),
    };
    RetryLayer::new(Backoff::default(), classify).layer(policy())
}

// ===== tower =====

/// Must be made inside a runtime, where the buffer's worker runs.
pub(crate) fn tower() -> impl Service<u64, Response = u64, Error = BoxError> + Clone {
    ServiceBuilder::new()
        .retry(NeverAgain)
        .concurrency_limit(SLOTS)
        .layer(BufferLayer::new(SLOTS))
        .rate_limit(u64::MAX, SECOND)
        .service(Echo)
}

#[derive(Clone)]
struct NeverAgain;

impl<Req: Clone, Res, E> Policy<Req, Res, E> for NeverAgain {
    type Future = Ready<()>;

    fn retry(&mut self, _: &mut Req, _: &mut Result<Res, E>) -> Option<Ready<()>> {
        None
    }

    fn clone_request(&mut self, request: &Req) -> Option<Req> {
        Some(request.clone())
    }
}

// ===== tower-resilience =====

pub(crate) fn resilience() -> impl Service<u64> + Clone {
    let bulkhead = BulkheadLayer::builder().max_concurrent_calls(SLOTS);
    let rate = RateLimiterLayer::builder()
        .limit_for_period(usize::MAX)
        .refresh_period(SECOND);
    ServiceBuilder::new()
        .layer(ResilientRetry::builder().build())
        .layer(bulkhead.build().expect("a valid bulkhead"))
        .layer(rate.build().expect("a valid rate"))
        .service(Echo)
}
