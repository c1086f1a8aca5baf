//! Who finds plenty of everything reads no clock on the way in; it counts from the
//! instant all the same.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::{Ready, join_all, ready as at_once};
use tokio::time::{Instant, Sleep, advance, sleep_until};
use tollhouse::{Error, TokenBudget, TpmBudgetLayer};
use tower::{Layer, Service, ServiceExt};

const MILLI: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Is ready at an instant, and answers at which it was called.
struct ReadyAt {
    at: Instant,
    timer: Option<Pin<Box<Sleep>>>,
}

impl ReadyAt {
    fn new(at: Instant) -> Self {
        ReadyAt { at, timer: None }
    }
}

impl Clone for ReadyAt {
    fn clone(&self) -> Self {
        ReadyAt::new(self.at)
    }
}

impl Service<()> for ReadyAt {
    type Response = Instant;
    type Error = Infallible;
    type Future = Ready<Result<Instant, Infallible>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        if self.at > Instant::now() {
            let timer = self
                .timer
                .get_or_insert_with(|| Box::pin(sleep_until(self.at)));
            ready!(timer.as_mut().poll(cx));
        }
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, (): ()) -> Self::Future {
        at_once(Ok(Instant::now()))
    }
}

/// Two calls may go in a second.
fn budget() -> TokenBudget {
    let budget = TokenBudget::per_minute(1_000_000).requests_per_minute(120);
    budget.build().expect("a valid budget")
}

fn client(
    budget: &TokenBudget,
    ready: Instant,
) -> impl Service<(), Response = Instant, Error = Error, Future: Send> + Clone + use<> {
    TpmBudgetLayer::new(budget.clone(), |(): &()| 1)
        .until_response()
        .layer(ReadyAt::new(ready))
}

#[tokio::test(start_paused = true)]
async fn what_comes_after_an_idle_hour_counts_from_when_it_comes() {
    let start = Instant::now();
    let client = client(&budget(), start);
    assert!(client.clone().oneshot(()).await.is_ok());
    advance(HOUR).await;
    let calls = (0..4).map(|_| client.clone().oneshot(()));
    let launches = join_all(calls).await;
    let after = launches.into_iter().map(|it| it.unwrap() - start - HOUR);
    let millis: Vec<_> = after.map(|after| after.as_millis()).collect();
    assert_eq!(millis, [0, 0, 1_000, 1_000]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_its_service_counts_from_when_it_was_let_in() {
    let (start, budget) = (Instant::now(), budget());
    let mut early = tokio::spawn(client(&budget, start + 400 * MILLI).oneshot(()));
    assert!((&mut early).now_or_never().is_none(), "it is not ready yet");
    tokio::task::yield_now().await;
    let launched = early.await.unwrap().unwrap();
    assert_eq!(launched - start, 400 * MILLI);
    advance(500 * MILLI).await;
    let second = budget.reserve(1).await.unwrap();
    assert_eq!(start.elapsed(), 900 * MILLI);
    let third = budget.reserve(1).await.unwrap();
    assert_eq!(start.elapsed(), 1_000 * MILLI);
    drop((second, third));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_before_the_launch_leaves_no_trace_in_the_pace() {
    let (start, budget) = (Instant::now(), budget());
    assert!(client(&budget, start).oneshot(()).await.is_ok());
    advance(300 * MILLI).await;
    let mut never = Box::pin(client(&budget, start + HOUR).oneshot(()));
    assert!((&mut never).now_or_never().is_none(), "it is not ready yet");
    assert_eq!(budget.snapshot().in_flight, 1);
    advance(200 * MILLI).await;
    drop(never);
    let second = budget.reserve(1).await.unwrap();
    assert_eq!(start.elapsed(), 500 * MILLI);
    // The first leaves the second then.
    let third = budget.reserve(1).await.unwrap();
    assert_eq!(start.elapsed(), 1_000 * MILLI);
    drop((second, third));
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_by_hand_counts_from_when_it_was_taken() {
    let (start, budget) = (Instant::now(), budget());
    let first = budget.reserve(1).await.unwrap();
    advance(900 * MILLI).await;
    let second = budget.reserve(1).await.unwrap();
    // Out of the line, too.
    let third = budget.reserve(1).await.unwrap();
    assert_eq!(start.elapsed(), 1_000 * MILLI);
    advance(400 * MILLI).await;
    let fourth = budget.reserve(1).await.unwrap();
    assert_eq!(start.elapsed(), 1_900 * MILLI);
    let fifth = budget.reserve(1).await.unwrap();
    assert_eq!(start.elapsed(), 2_000 * MILLI);
    drop((first, second, third, fourth, fifth));
}
