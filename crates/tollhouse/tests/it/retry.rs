//! Asking again: how often, when, and what is held meanwhile.

use std::cell::{Cell, RefCell};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::{Instant, sleep, timeout};
use tollhouse::retry::Retry;
use tollhouse::{
    Backoff, ConcurrencyLayer, Deadline, Decision, Error, GateLayer, Mark, RetryBudget, RetryLayer,
    Scope, StaggerLayer, TokenBudget, TpmBudgetLayer,
};
use tower::{Layer, ServiceBuilder, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);

fn retry(after: Option<Duration>) -> Decision {
    Decision::Retry {
        after,
        scope: Scope::Tokens,
    }
}

/// Plays a service that fails every time, and says when it was called, in
/// order.
async fn attempts(backoff: Backoff, after: Option<Duration>) -> Vec<Duration> {
    let start = Instant::now();
    let seen = RefCell::new(Vec::new());
    let failing = service_fn(|()| {
        seen.borrow_mut().push(start.elapsed());
        async { Ok::<_, std::io::Error>(429) }
    });
    let classify = move |_: Result<&u16, &std::io::Error>| retry(after);
    let client = RetryLayer::new(backoff, classify).layer(failing);
    assert_eq!(client.oneshot(()).await.unwrap(), 429, "the last answer");
    seen.take()
}

#[tokio::test(start_paused = true)]
async fn attempts_are_counted_the_first_included() {
    for most in [1, 2, 5] {
        let backoff = Backoff::new(SEC).max_attempts(most);
        assert_eq!(attempts(backoff, None).await.len(), most as usize);
    }
}

#[tokio::test(start_paused = true)]
async fn a_told_delay_takes_the_place_of_the_backoff() {
    let told = attempts(Backoff::new(SEC).max_attempts(3), Some(90 * SEC)).await;
    assert_eq!(told, [Duration::ZERO, 90 * SEC, 180 * SEC]);
    let at_once = attempts(Backoff::new(SEC).max_attempts(3), Some(Duration::ZERO)).await;
    assert_eq!(at_once, [Duration::ZERO; 3]);
}

#[tokio::test(start_paused = true)]
async fn delays_are_drawn_again_from_the_same_seed() {
    let backoff = Backoff::new(2 * SEC).max_attempts(5);
    let drawn = attempts(backoff.clone().seed(7), None).await;
    let millis = |times: &[Duration]| times.iter().map(Duration::as_millis).collect::<Vec<_>>();
    let mut sum = Duration::ZERO;
    for (n, delay) in backoff.clone().seed(7).delays().enumerate() {
        assert!(delay <= 2 * SEC * 2u32.pow(n as u32));
        sum += delay;
        // A timer rounds each delay up to the next millisecond.
        assert!(drawn[n + 1] >= sum && drawn[n + 1] < sum + SEC / 100);
    }
    assert_eq!(
        millis(&drawn),
        millis(&attempts(backoff.clone().seed(7), None).await)
    );
    assert_ne!(
        millis(&drawn),
        millis(&attempts(backoff.seed(8), None).await)
    );
}

#[tokio::test(start_paused = true)]
async fn no_attempt_starts_after_the_deadline() {
    let backoff = Backoff::new(SEC).max_attempts(100).deadline(35 * SEC);
    let start = Instant::now();
    let seen = attempts(backoff, Some(10 * SEC)).await;
    assert_eq!(seen, [0, 10, 20, 30].map(Duration::from_secs));
    assert_eq!(start.elapsed(), 30 * SEC, "nor does it wait in vain");
}

/// Writes down whose next attempt is left to whom.
#[derive(Clone, Default)]
struct Leaves(Rc<RefCell<Vec<&'static str>>>);

type Wanted = (&'static str, Option<Deadline>);

impl<Out> Mark<Wanted, Out> for Leaves {
    fn mark(&self, _: &mut Wanted, _: u32) {}

    fn deadline(&self, (_, until): &Wanted) -> Option<Deadline> {
        *until
    }

    fn leave(&self, (name, _): &Wanted) {
        self.0.borrow_mut().push(*name);
    }
}

/// Not where its next attempt would have come too late for others than its caller, or is not
/// worth making.
#[tokio::test(start_paused = true)]
async fn a_call_whose_next_attempt_would_come_after_its_deadline_is_left_to_its_caller() {
    let left = Leaves::default();
    let backoff = Backoff::new(SEC).max_attempts(3).deadline(35 * SEC);
    let failing = service_fn(|(name, _): Wanted| async move { Err::<(), _>(name) });
    let classify = |result: Result<&(), &&'static str>| match result {
        Err(&"bad") | Ok(()) => Decision::GiveUp,
        Err(&"slow") => retry(Some(40 * SEC)),
        Err(_) => retry(Some(10 * SEC)),
    };
    let client = RetryLayer::new(backoff, classify)
        .mark(left.clone())
        .layer(failing);
    let start = Instant::now();
    for (name, until, seconds) in [
        ("any", None, 20),
        ("bad", Some(5), 20),
        ("slow", Some(5), 20),
        ("in time", Some(20), 40),
        ("left at once", Some(9), 40),
        ("left later", Some(19), 50),
    ] {
        let until = until.map(|seconds| Deadline::within(seconds * SEC));
        let result = client.clone().oneshot((name, until)).await;
        assert_eq!(result, Err(name));
        assert_eq!(start.elapsed(), seconds * SEC, "{name}");
    }
    assert_eq!(*left.0.borrow(), ["left at once", "left later"]);
}

/// Whoever waits makes a last attempt at once, and whoever comes to a wait has its answer.
#[tokio::test(start_paused = true)]
async fn a_closed_layer_waits_for_nothing() {
    let start = Instant::now();
    let seen = RefCell::new(Vec::new());
    let failing = service_fn(|name: &'static str| {
        seen.borrow_mut().push((name, start.elapsed()));
        async {
            sleep(SEC).await;
            Ok::<_, std::io::Error>(429)
        }
    });
    let classify = |_: Result<&u16, &std::io::Error>| retry(Some(60 * SEC));
    let layer = RetryLayer::new(Backoff::new(SEC), classify);
    let apart = layer.clone().name("another");
    let client = layer.layer(failing);
    let call = async |client: &Retry<_, _>, after, name| {
        sleep(after).await;
        let answer = client.clone().oneshot(name).await;
        assert_eq!(answer.unwrap(), 429);
        start.elapsed()
    };
    let others = apart.layer(failing);
    let other = timeout(20 * SEC, call(&others, Duration::ZERO, "other's"));
    let closes = async {
        sleep(10 * SEC).await;
        layer.close();
    };
    let (waits, asks, comes, goes_on, ()) = tokio::join!(
        call(&client, Duration::ZERO, "waits"),
        call(&client, 19 * SEC / 2, "asks"),
        call(&client, 11 * SEC, "comes"),
        other,
        closes,
    );
    assert!(goes_on.is_err(), "it is another layer's");
    assert_eq!((waits, asks, comes), (11 * SEC, 21 * SEC / 2, 12 * SEC));
    let of = |name| seen.borrow().iter().filter(|(who, _)| *who == name).count();
    assert_eq!(
        (of("waits"), of("asks"), of("comes"), of("other's")),
        (2, 1, 1, 1)
    );
}

#[tokio::test(start_paused = true)]
async fn errors_are_asked_again_too_and_the_last_one_comes_out() {
    let calls = Cell::new(0);
    let failing = service_fn(|()| {
        calls.set(calls.get() + 1);
        let error = std::io::Error::other(format!("failure {}", calls.get()));
        async { Err::<(), _>(error) }
    });
    let classify = |result: Result<&(), &std::io::Error>| match result {
        Err(_) => retry(None),
        Ok(()) => Decision::GiveUp,
    };
    let client = RetryLayer::new(Backoff::new(SEC).max_attempts(3), classify).layer(failing);
    let error = client.oneshot(()).await.unwrap_err();
    assert_eq!(error.to_string(), "failure 3");
}

/// While it waits between two attempts it holds no slot, no tokens that were
/// not sent, and no turn; and each attempt passes the gates and pays again.
#[tokio::test(start_paused = true)]
async fn failure_16_nothing_is_held_while_waiting_and_each_attempt_pays_again() {
    let slots = ConcurrencyLayer::new(1);
    let budget = TokenBudget::per_minute(1_000).build().unwrap();
    let gates = GateLayer::new((
        slots.clone(),
        TpmBudgetLayer::new(budget.clone(), |_: &&str| 100),
        StaggerLayer::new(SEC),
    ))
    .until_response();
    let start = Instant::now();
    let log = RefCell::new(Vec::new());
    let provider = service_fn(|name: &'static str| {
        log.borrow_mut().push((name, start.elapsed().as_secs()));
        let busy = name == "patient" && start.elapsed() < 20 * SEC;
        async move { Ok::<_, std::io::Error>(if busy { 429 } else { 200 }) }
    });
    let classify = |result: Result<&u16, &Error>| match result {
        Ok(429) => retry(Some(20 * SEC)),
        _ => Decision::GiveUp,
    };
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(Backoff::default(), classify))
        .layer(gates)
        .service(provider);
    let other = async {
        sleep(2 * SEC).await;
        assert_eq!(slots.in_flight(), 0, "the other one sleeps");
        assert_eq!(budget.snapshot().outstanding, 0);
        assert_eq!(budget.snapshot().in_transit, 0);
        assert_eq!(budget.snapshot().level, 1_000 - 100 + 33, "it was sent");
        client.clone().oneshot("quick").await.unwrap()
    };
    let (patient, quick) = tokio::join!(client.clone().oneshot("patient"), other);
    assert_eq!((patient.unwrap(), quick), (200, 200));
    assert_eq!(log.take(), [("patient", 0), ("quick", 2), ("patient", 20)]);
    sleep(3 * SEC).await;
    // By 20 s all was refilled; what the second attempt paid is half back.
    assert_eq!(budget.snapshot().level, 1_000 - 100 + 50);
}

/// It goes to the end of the line.
#[tokio::test(start_paused = true)]
async fn failure_16_another_attempt_stands_in_line_again() {
    let slots = ConcurrencyLayer::new(1);
    let log = RefCell::new(Vec::new());
    let provider = service_fn(|n: u32| {
        log.borrow_mut().push(n);
        async move {
            sleep(10 * SEC).await;
            Ok::<_, std::io::Error>(n)
        }
    });
    let again = Cell::new(true);
    let classify = |result: Result<&u32, &Error>| match result {
        Ok(0) if again.replace(false) => retry(Some(SEC)),
        _ => Decision::GiveUp,
    };
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(Backoff::default(), &classify))
        .layer(slots.until_response())
        .service(provider);
    futures_util::future::join_all((0..4).map(|n| client.clone().oneshot(n))).await;
    assert_eq!(log.take(), [0, 1, 2, 3, 0]);
}

/// A body that tells when it is gone.
struct Told(Rc<Cell<bool>>);

impl Drop for Told {
    fn drop(&mut self) {
        self.0.set(true);
    }
}

impl Body for Told {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        Poll::Pending
    }
}

#[tokio::test(start_paused = true)]
async fn failure_16_the_refused_answers_body_is_gone_before_the_wait() {
    let slots = ConcurrencyLayer::new(1);
    let gone = Rc::new(Cell::new(false));
    let provider = service_fn(|()| {
        let body = Told(Rc::clone(&gone));
        async { Ok::<_, std::io::Error>(http::Response::new(body)) }
    });
    let client = ServiceBuilder::new()
        .layer(RetryLayer::new(
            Backoff::default(),
            |_: Result<&http::Response<_>, &Error>| retry(Some(60 * SEC)),
        ))
        .layer(slots.clone())
        .service(provider);
    let call = client.oneshot(());
    let _ = timeout(30 * SEC, async {
        tokio::join!(call, async {
            sleep(SEC).await;
            assert!(gone.get());
            assert_eq!(slots.in_flight(), 0);
        })
    })
    .await;
    assert!(gone.get());
}

#[tokio::test(start_paused = true)]
async fn dropped_while_it_waits_makes_no_further_attempt() {
    let calls = Cell::new(0);
    let provider = service_fn(|()| {
        calls.set(calls.get() + 1);
        async { Ok::<_, std::io::Error>(()) }
    });
    let classify = |_: Result<&(), &std::io::Error>| retry(Some(10 * SEC));
    let client = RetryLayer::new(Backoff::default(), classify).layer(provider);
    assert!(timeout(15 * SEC, client.oneshot(())).await.is_err());
    sleep(60 * SEC).await;
    assert_eq!(calls.get(), 2);
}

/// Whoever asks from now on does so by the new numbers, and the call on its way by the old.
#[tokio::test(start_paused = true)]
async fn another_backoff_and_another_budget_hold_from_the_next_call_on() {
    let overloaded = |_: Result<&u16, &std::io::Error>| Decision::Retry {
        after: Some(SEC),
        scope: Scope::Overload,
    };
    let asked = Rc::new(Cell::new(0));
    let counts = Rc::clone(&asked);
    let failing = service_fn(move |()| {
        counts.set(counts.get() + 1);
        async { Ok::<_, std::io::Error>(503) }
    });
    let budget = RetryBudget::new(0.0, 10);
    let layer = RetryLayer::new(Backoff::new(SEC).max_attempts(2), overloaded);
    let layer = layer.budget(budget.clone());
    let client = layer.layer(failing);
    let attempts = async || {
        let before = asked.get();
        client.clone().oneshot(()).await.unwrap();
        asked.get() - before
    };
    assert_eq!((attempts().await, budget.left()), (2, 9));
    layer.set_backoff(Backoff::new(SEC).max_attempts(4));
    assert_eq!((attempts().await, budget.left()), (4, 6));
    // What was retried within the last minute still counts.
    budget.set(0.0, 5);
    assert_eq!((attempts().await, budget.left()), (2, 0));
    layer.set_budget(None);
    assert_eq!(attempts().await, 4);
    assert_eq!(format!("{budget:?}"), "RetryBudget { left: 0, .. }");
}
