//! Stacked and fused, in every place where a service is put.

use std::convert::Infallible;
use std::error::Error as _;
use std::future::Future;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tokio_test::{assert_pending, assert_ready, task};
use tollhouse::{
    Backoff, ConcurrencyLayer, Decision, Denial, Error, GateLayer, Observation, Refused,
    RetryLayer, Scope, StaggerLayer, TokenBudget, TpmBudgetLayer,
};
use tower::load_shed::LoadShedLayer;
use tower::timeout::TimeoutLayer;
use tower::util::{BoxCloneService, BoxCloneSyncService};
use tower::{BoxError, Layer, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_test::mock;

const SEC: Duration = Duration::from_secs(1);

#[expect(clippy::ptr_arg, reason = "a request is a `String` here")]
fn cost(prompt: &String) -> u64 {
    prompt.len() as u64
}

fn give_up<E>(_: Result<&String, &E>) -> Decision {
    Decision::GiveUp
}

fn budget() -> TokenBudget {
    TokenBudget::per_minute(30_000).build().unwrap()
}

async fn echo(prompt: String) -> Result<String, std::io::Error> {
    Ok(prompt)
}

/// Each gate a layer of its own.
fn stacked()
-> impl Service<String, Response = String, Error = Error, Future: Send> + Clone + Send + Sync + 'static
{
    ServiceBuilder::new()
        .layer(RetryLayer::new(Backoff::default(), give_up::<Error>))
        .layer(ConcurrencyLayer::new(3).until_response())
        .layer(TpmBudgetLayer::new(budget(), cost).until_response())
        .layer(StaggerLayer::new(SEC))
        .service(service_fn(echo))
}

/// All gates in one.
fn fused()
-> impl Service<String, Response = String, Error = Error, Future: Send> + Clone + Send + Sync + 'static
{
    let gates = GateLayer::new((
        ConcurrencyLayer::new(3),
        TpmBudgetLayer::new(budget(), cost),
        StaggerLayer::new(SEC),
    ));
    ServiceBuilder::new()
        .layer(RetryLayer::new(Backoff::default(), give_up::<Error>))
        .layer(gates.until_response())
        .service(service_fn(echo))
}

/// Five calls of any kind, and how long they took.
async fn five<F: Future<Output = String>>(mut call: impl FnMut() -> F) -> Duration {
    let start = Instant::now();
    let answers = join_all((0..5).map(|_| call())).await;
    assert!(answers.iter().all(|answer| answer == "hello"));
    start.elapsed()
}

fn hello() -> String {
    "hello".to_owned()
}

#[tokio::test(start_paused = true)]
async fn runs_inside_spawned_tasks() {
    let stack = stacked();
    let spawned = || {
        let stack = stack.clone();
        let task = tokio::spawn(async move { stack.oneshot(hello()).await });
        async { task.await.unwrap().unwrap() }
    };
    assert_eq!(five(spawned).await, 4 * SEC);
    let stack = fused();
    let spawned = || {
        let stack = stack.clone();
        let task = tokio::spawn(async move { stack.oneshot(hello()).await });
        async { task.await.unwrap().unwrap() }
    };
    assert_eq!(five(spawned).await, 4 * SEC);
}

#[tokio::test(start_paused = true)]
async fn runs_behind_boxes() {
    let stack = BoxCloneService::new(stacked());
    let boxed = || {
        let stack = stack.clone();
        let task = tokio::spawn(async move { stack.oneshot(hello()).await });
        async { task.await.unwrap().unwrap() }
    };
    assert_eq!(five(boxed).await, 4 * SEC);
    let stack = BoxCloneSyncService::new(fused());
    let boxed = || {
        let stack = stack.clone();
        let task = tokio::spawn(async move { stack.oneshot(hello()).await });
        async { task.await.unwrap().unwrap() }
    };
    assert_eq!(five(boxed).await, 4 * SEC);
}

#[test]
fn runs_on_a_current_thread_runtime_with_what_is_not_send() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    runtime.block_on(async {
        let count = std::rc::Rc::new(std::cell::Cell::new(0));
        let counted = count.clone();
        let gates = GateLayer::new((ConcurrencyLayer::new(2), StaggerLayer::new(SEC)));
        let client = gates
            .until_response()
            .layer(service_fn(move |prompt: String| {
                counted.set(counted.get() + 1);
                echo(prompt)
            }));
        let call = || {
            let client = client.clone();
            async move { client.oneshot(hello()).await.unwrap() }
        };
        assert_eq!(five(call).await, 4 * SEC);
        assert_eq!(count.get(), 5);
    });
}

/// tower's own layers outside, which speak of a `BoxError`.
#[tokio::test(start_paused = true)]
async fn towers_timeout_and_load_shed_go_outside() {
    let stack = ServiceBuilder::new()
        .layer(LoadShedLayer::new())
        .service(stacked());
    let shed = || {
        let stack = stack.clone();
        async move { stack.oneshot(hello()).await.unwrap() }
    };
    assert_eq!(
        five(shed).await,
        4 * SEC,
        "a gate is always ready: nothing is shed"
    );

    let stack = ServiceBuilder::new()
        .layer(TimeoutLayer::new(2 * SEC))
        .service(fused());
    let calls = join_all((0..5).map(|_| stack.clone().oneshot(hello()))).await;
    let done = calls.iter().filter(|result| result.is_ok()).count();
    assert_eq!(done, 3, "at 0, 1 and 2 s");
    for result in calls {
        if let Err(error) = result {
            assert!(error.is::<tower::timeout::error::Elapsed>());
        }
    }
}

/// And inside, where their error is the gates' inner one.
#[tokio::test(start_paused = true)]
async fn towers_timeout_goes_inside_too() {
    let stack = ServiceBuilder::new()
        .layer(ConcurrencyLayer::new(1).until_response())
        .layer(TimeoutLayer::new(SEC))
        .service(service_fn(|()| {
            std::future::pending::<Result<(), BoxError>>()
        }));
    let error = tokio::spawn(stack.oneshot(())).await.unwrap().unwrap_err();
    assert!(
        error
            .downcast_ref::<tower::timeout::error::Elapsed>()
            .is_some()
    );
}

#[derive(Debug, PartialEq)]
struct OutOfOrder(u16);

impl std::fmt::Display for OutOfOrder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "out of order: {}", self.0)
    }
}

impl std::error::Error for OutOfOrder {}

#[tokio::test(start_paused = true)]
async fn the_inner_error_comes_out_flat() {
    let stack = ServiceBuilder::new()
        .layer(RetryLayer::new(Backoff::default(), give_up::<Error>))
        .layer(ConcurrencyLayer::new(3).until_response())
        .layer(TpmBudgetLayer::new(budget(), cost).until_response())
        .layer(StaggerLayer::new(SEC))
        .service(service_fn(|_| async { Err::<String, _>(OutOfOrder(7)) }));
    let error = stack.oneshot(hello()).await.unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&OutOfOrder(7)));
    assert_eq!(error.refused(), None);
    let source = error.source().expect("one step away");
    assert_eq!(source.downcast_ref(), Some(&OutOfOrder(7)));
    assert!(source.source().is_none());
}

#[tokio::test(start_paused = true)]
async fn a_gates_refusal_comes_out_flat() {
    let error = stacked().oneshot("x".repeat(30_001)).await.unwrap_err();
    let expected = Refused::TooLarge {
        cost: 30_001,
        limit: 30_000,
    };
    assert_eq!(error.refused(), Some(&expected));
    assert_eq!(error.downcast_ref(), Some(&expected));
    assert!(error.source().is_none());
}

// ===== driven by hand =====

/// `tower_test`'s mock forgets its readiness when it is cloned, and panics
/// when it is called without.
#[tokio::test(start_paused = true)]
async fn the_inner_service_is_readied_before_each_call() {
    let (service, mut handle) = mock::pair::<&str, &str>();
    let mut gated = ConcurrencyLayer::new(1).until_response().layer(service);
    handle.allow(0);
    assert_ready!(task::spawn(gated.ready()).poll()).unwrap();
    let mut call = task::spawn(gated.call("one"));
    assert_pending!(call.poll(), "the inner service is not ready");
    assert_pending!(task::spawn(handle.next_request()).poll());

    handle.allow(1);
    assert!(call.is_woken());
    assert_pending!(call.poll());
    let (request, answer) = handle.next_request().await.unwrap();
    assert_eq!(request, "one");
    answer.send_response("1");
    assert_eq!(assert_ready!(call.poll()).unwrap(), "1");
}

#[tokio::test(start_paused = true)]
async fn an_idle_ready_clone_starves_nobody() {
    let (service, mut handle) = mock::pair::<&str, &str>();
    let mut gated = ConcurrencyLayer::new(1).until_response().layer(service);
    let mut idle = gated.clone();
    assert_ready!(task::spawn(idle.ready()).poll()).unwrap();
    let mut call = task::spawn(gated.call("one"));
    assert_pending!(call.poll());
    let (_, answer) = handle.next_request().await.unwrap();
    answer.send_response("1");
    assert_ready!(call.poll()).unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_failing_inner_service_gives_the_slot_back() {
    let (service, mut handle) = mock::pair::<&str, &str>();
    let slots = ConcurrencyLayer::new(1);
    let mut gated = slots.clone().until_response().layer(service);
    let mut call = task::spawn(gated.call("one"));
    assert_pending!(call.poll());
    handle
        .next_request()
        .await
        .unwrap()
        .1
        .send_error(OutOfOrder(1));
    let error = assert_ready!(call.poll()).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&OutOfOrder(1)));
    assert_eq!(slots.in_flight(), 0);

    // One that fails to become ready, likewise, though its future lives on.
    handle.send_error(OutOfOrder(2));
    let mut call = task::spawn(gated.call("two"));
    let error = assert_ready!(call.poll()).unwrap_err();
    assert_eq!(error.downcast_ref(), Some(&OutOfOrder(2)));
    assert_eq!(slots.in_flight(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_service_leaves_its_calls_alone() {
    let (service, mut handle) = mock::pair::<&str, &str>();
    let slots = ConcurrencyLayer::new(1);
    let mut gated = slots.clone().until_response().layer(service);
    let mut first = task::spawn(gated.call("one"));
    let mut second = task::spawn(gated.call("two"));
    assert_pending!(first.poll());
    assert_pending!(second.poll());
    drop(gated);
    handle.next_request().await.expect("the first one's");
    drop(first);
    assert!(second.is_woken());
    assert_pending!(second.poll());
    let (request, answer) = handle.next_request().await.unwrap();
    assert_eq!(request, "two");
    answer.send_response("2");
    assert_eq!(assert_ready!(second.poll()).unwrap(), "2");
}

/// One layer's services share its gate, each layer has its own.
#[tokio::test(start_paused = true)]
async fn services_of_one_layer_share_its_gate() {
    let slow = service_fn(|()| async {
        sleep(SEC).await;
        Ok::<_, std::io::Error>(())
    });
    let layer = ConcurrencyLayer::new(1).until_response();
    let (one, two) = (layer.layer(slow), layer.clone().layer(slow));
    let start = Instant::now();
    let _ = tokio::join!(one.clone().oneshot(()), two.oneshot(()));
    assert_eq!(start.elapsed(), 2 * SEC);

    let other = ConcurrencyLayer::new(1).until_response().layer(slow);
    let start = Instant::now();
    let _ = tokio::join!(one.oneshot(()), other.oneshot(()));
    assert_eq!(start.elapsed(), SEC);
}

/// In the stacked form an outer gate counts a request as launched once the
/// next service was called; the fused form gives everything back.
#[tokio::test(start_paused = true)]
async fn only_the_fused_gates_know_the_true_launch() {
    let held_up = || {
        let turns = StaggerLayer::new(60 * SEC);
        let budget = budget();
        (
            turns,
            budget.clone(),
            TpmBudgetLayer::new(budget, |_: &()| 1_000),
        )
    };
    let ok = service_fn(|()| async { Ok::<_, std::io::Error>(()) });

    let (turns, budget, layer) = held_up();
    let fused = GateLayer::new((layer, turns)).until_response().layer(ok);
    fused.clone().oneshot(()).await.unwrap();
    let before = budget.snapshot();
    let mut call = task::spawn(fused.oneshot(()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(budget.snapshot(), before);

    let (turns, budget, layer) = held_up();
    let stacked = layer.until_response().layer(turns.layer(ok));
    stacked.clone().oneshot(()).await.unwrap();
    let before = budget.snapshot().level;
    let mut call = task::spawn(stacked.oneshot(()));
    assert_pending!(call.poll());
    drop(call);
    assert_eq!(budget.snapshot().level, before - 1_000);
}

/// Nobody stands in line for a slot to be turned away by the budget.
#[tokio::test(start_paused = true)]
async fn what_no_meter_would_let_in_is_refused_while_it_waits_for_a_slot() {
    let budget = TokenBudget::per_minute(1_000)
        .max_concurrency(1)
        .build()
        .expect("allowed");
    let gate =
        TpmBudgetLayer::new(budget.clone(), |cost: &u64| *cost).observe(|told: &Observation| *told);
    let client = gate.until_response().layer(service_fn(async |_: u64| {
        sleep(Duration::from_secs(60)).await;
        // The day's limit: used up with the first answer.
        let denial = Denial {
            scope: Scope::TokensPerDay,
            after: Some(Duration::from_secs(3_600)),
        };
        Ok::<_, Infallible>(Observation {
            denial: Some(denial),
            ..Observation::default()
        })
    }));
    let start = Instant::now();
    let first = tokio::spawn(client.clone().oneshot(10));
    sleep(Duration::from_secs(1)).await;
    assert_eq!(budget.snapshot().in_flight, 1);

    let too_large = client.clone().oneshot(5_000).await.expect_err("never");
    assert!(matches!(
        too_large.refused(),
        Some(Refused::TooLarge {
            cost: 5_000,
            limit: 1_000
        })
    ));
    assert_eq!(start.elapsed(), Duration::from_secs(1));

    // Who was in line by then, and who comes later.
    let waits = tokio::spawn(client.clone().oneshot(10));
    first.await.expect("no panic").expect("an answer");
    for late in [
        waits.await.expect("no panic"),
        client.clone().oneshot(10).await,
    ] {
        let exhausted = late.expect_err("the day is over");
        assert!(matches!(
            exhausted.refused(),
            Some(Refused::Exhausted { .. })
        ));
    }
    assert_eq!(start.elapsed(), Duration::from_secs(60));
    let now = budget.snapshot();
    assert_eq!((now.in_flight, now.waiting), (0, 0));
}
