use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tower::{Layer, Service, ServiceExt, service_fn};

use super::{Backoff, Mark, RetryBudget, RetryLayer};
use crate::answer::{Decision, Scope};
use crate::ask::Arrival;
use crate::error::{BoxError, Error, Refused};

const SEC: Duration = Duration::from_secs(1);

/// What a test's provider says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Fine,
    Down,
    Limited { after: Option<Duration> },
}

fn classify<E>(result: Result<&Said, &E>) -> Decision {
    match result {
        Ok(Said::Fine) | Err(_) => Decision::GiveUp,
        Ok(Said::Down) => Decision::Retry {
            after: None,
            scope: Scope::Overload,
        },
        Ok(Said::Limited { after }) => Decision::Retry {
            after: *after,
            scope: Scope::Tokens,
        },
    }
}

type Seen<Req> = Arc<Mutex<Vec<Req>>>;

/// Says one thing after the other, the last one for ever; notes what it was
/// asked.
fn provider<Req: Send + 'static>(
    says: &[Said],
) -> (
    Seen<Req>,
    impl Service<Req, Response = Said, Error = std::io::Error, Future: Send> + Clone + use<Req>,
) {
    let says = says.to_vec();
    let seen: Seen<Req> = Arc::default();
    let notes = Arc::clone(&seen);
    let service = service_fn(move |request| {
        let mut notes = notes.lock().expect("no panic");
        let said = says[notes.len().min(says.len() - 1)];
        notes.push(request);
        std::future::ready(Ok(said))
    });
    (seen, service)
}

fn count<Req>(seen: &Seen<Req>) -> usize {
    seen.lock().expect("no panic").len()
}

#[tokio::test(start_paused = true)]
async fn a_delay_told_too_long_is_handed_back_at_once_as_it_is() {
    let start = Instant::now();
    let backoff = Backoff::default().max_told_delay(60 * SEC);
    for (told, attempts, waited) in [(60, 2, 60), (61, 1, 0), (u64::MAX, 1, 0)] {
        let after = Some(Duration::from_secs(told));
        let limited = Said::Limited { after };
        let (seen, service) = provider(&[limited, Said::Fine]);
        let client = RetryLayer::new(backoff.clone(), classify).layer(service);
        let before = start.elapsed();
        let said = client.oneshot(()).await.expect("an answer");
        assert_eq!(said == limited, attempts == 1);
        assert_eq!(count(&seen), attempts);
        assert_eq!(start.elapsed() - before, waited * SEC);
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_mark_writes_once_stays_for_all_attempts() {
    let (seen, service) = provider(&[Said::Down, Said::Down, Said::Fine]);
    let client = RetryLayer::new(Backoff::default(), classify)
        .mark(|request: &mut Vec<u32>, attempt: u32| request.push(attempt))
        .layer(service);
    client.oneshot(vec![7]).await.expect("an answer");
    let seen = seen.lock().expect("no panic");
    assert_eq!(*seen, [vec![7, 1], vec![7, 1, 2], vec![7, 1, 2, 3]]);
}

/// Requests that are numbers: as many attempts were made before.
#[derive(Clone, Debug, Default)]
struct Counted(Arc<Mutex<Vec<u32>>>);

impl<Res, E> Mark<u32, Result<Res, E>> for Counted {
    fn spent(&self, request: &u32) -> u32 {
        *request
    }

    fn mark(&self, request: &mut u32, attempt: u32) {
        *request = attempt;
    }

    fn count(&self, _: &mut Result<Res, E>, attempts: u32) {
        self.0.lock().expect("no panic").push(attempts);
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_made_before_are_attempts_spent() {
    for (spent, attempts) in [
        (0, vec![1, 2, 3]),
        (1, vec![2, 3]),
        (2, vec![3]),
        (3, vec![4]),
        (u32::MAX, vec![u32::MAX]),
    ] {
        let (seen, service) = provider(&[Said::Down]);
        let counted = Counted::default();
        let client = RetryLayer::new(Backoff::default().max_attempts(3), classify)
            .mark(counted.clone())
            .layer(service);
        assert_eq!(client.oneshot(spent).await.expect("an answer"), Said::Down);
        assert_eq!(*seen.lock().expect("no panic"), attempts);
        let told = counted.0.lock().expect("no panic");
        assert_eq!(*told, [attempts.len() as u32], "what was made here, once");
    }
}

#[tokio::test(start_paused = true)]
async fn a_broken_service_ends_the_call_and_its_count() {
    #[derive(Clone)]
    struct Broken;
    impl Service<u32> for Broken {
        type Response = Said;
        type Error = BoxError;
        type Future = std::future::Ready<Result<Said, BoxError>>;
        fn poll_ready(
            &mut self,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Result<(), BoxError>> {
            std::task::Poll::Ready(Err("broken".into()))
        }
        fn call(&mut self, _: u32) -> Self::Future {
            unreachable!("it was never ready")
        }
    }
    let counted = Counted::default();
    let client = RetryLayer::new(Backoff::default(), classify).mark(counted.clone());
    let error = client.layer(Broken).oneshot(0).await.unwrap_err();
    assert_eq!(error.to_string(), "broken");
    assert_eq!(*counted.0.lock().expect("no panic"), [1]);
}

/// Calls one after another until so many were made, each with five attempts
/// but for the budget.
async fn calls<S>(client: &S, calls: usize)
where
    S: Service<(), Response = Said, Error: std::fmt::Debug> + Clone,
{
    for _ in 0..calls {
        client.clone().oneshot(()).await.expect("an answer");
    }
}

fn quick() -> Backoff {
    Backoff::new(Duration::from_nanos(1))
}

#[tokio::test(start_paused = true)]
async fn failure_13_in_an_outage_retries_stay_within_the_shared_budget() {
    let (seen, service) = provider(&[Said::Down]);
    let layer = RetryLayer::new(quick(), classify).budget(RetryBudget::new(0.2, 10));
    let first = layer.layer(service.clone());
    let second = layer.clone().layer(service);
    calls(&first, 50).await;
    calls(&second, 50).await;
    assert_eq!(count(&seen), 100 + 20 + 10, "of 500 without a budget");

    // Who comes now fails at once, with the answer that it got.
    let start = Instant::now();
    assert_eq!(first.oneshot(()).await.expect("an answer"), Said::Down);
    assert_eq!(start.elapsed(), Duration::ZERO);
    assert_eq!(count(&seen), 131);
}

#[tokio::test(start_paused = true)]
async fn failure_13_a_retry_budget_fills_again_with_requests_and_time() {
    let (seen, service) = provider(&[Said::Down]);
    let budget = RetryBudget::new(0.5, 2);
    let layer = RetryLayer::new(quick(), classify).budget(budget.clone());
    let client = layer.layer(service);
    calls(&client, 4).await;
    assert_eq!((count(&seen), budget.left()), (4 + 4, 0));
    calls(&client, 2).await;
    assert_eq!(count(&seen), 8 + 3, "two more requests earn one retry");

    tokio::time::advance(70 * SEC).await;
    assert_eq!(budget.left(), 2);
    calls(&client, 1).await;
    assert_eq!(count(&seen), 11 + 3);
}

#[tokio::test(start_paused = true)]
async fn waiting_for_a_limit_draws_on_no_retry_budget() {
    let after = Some(SEC);
    let limited = [
        Said::Limited { after },
        Said::Limited { after: None },
        Said::Limited { after },
    ];
    let (seen, service) = provider(&limited);
    let budget = RetryBudget::new(0.0, 0);
    let layer = RetryLayer::new(quick(), classify).budget(budget.clone());
    calls(&layer.layer(service), 3).await;
    assert_eq!(count(&seen), 15);
    assert_eq!(budget.left(), 0);
}

#[tokio::test(start_paused = true)]
async fn what_never_left_earns_no_retries() {
    let budget = RetryBudget::new(1.0, 0);
    let refuses = service_fn(|(): ()| async {
        let too_large = Refused::TooLarge { cost: 2, limit: 1 };
        Err::<Said, _>(Error::from(too_large))
    });
    let layer = RetryLayer::new(quick(), classify).budget(budget.clone());
    let error = layer.layer(refuses).oneshot(()).await.unwrap_err();
    assert!(error.refused().is_some());
    assert_eq!(budget.left(), 0);

    let (_, fine) = provider(&[Said::Fine]);
    let layer = RetryLayer::new(quick(), classify).budget(budget.clone());
    calls(&layer.layer(fine), 3).await;
    assert_eq!(budget.left(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_asked_before_earns_no_retries() {
    let budget = RetryBudget::new(1.0, 0);
    let (_, fine) = provider(&[Said::Fine]);
    let client = RetryLayer::new(quick(), classify)
        .budget(budget.clone())
        .mark(Counted::default())
        .layer(fine);
    for (spent, left) in [(1, 0), (2, 0), (0, 1)] {
        client.clone().oneshot(spent).await.expect("an answer");
        assert_eq!(budget.left(), left);
    }
}

#[test]
#[should_panic(expected = "a retry budget of NaN retries for each request: 0 to 1000 is allowed")]
fn a_retry_budget_must_be_a_share() {
    let _ = RetryBudget::new(f64::NAN, 0);
}

/// Numbers that are not asked again where they are odd.
#[derive(Clone, Debug)]
struct EvenOnes;

impl<Out> Mark<u32, Out> for EvenOnes {
    fn mark(&self, _: &mut u32, _: u32) {}

    fn repeats(&self, request: &u32) -> bool {
        request.is_multiple_of(2)
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_sent_again_is_not_retried() {
    let start = Instant::now();
    let budget = RetryBudget::new(0.0, 10);
    for (request, attempts) in [(3, 1), (4, 2)] {
        let (seen, service) = provider(&[Said::Down, Said::Fine]);
        let client = RetryLayer::new(Backoff::default(), classify)
            .budget(budget.clone())
            .mark(EvenOnes)
            .layer(service);
        client.oneshot(request).await.expect("an answer");
        assert_eq!(count(&seen), attempts);
        let spent = attempts as u64 - 1;
        assert_eq!(budget.left(), 10 - spent, "what is not sent costs nothing");
        assert_eq!(start.elapsed() > Duration::ZERO, attempts > 1);
    }
}

/// Notes what each attempt is told of the first.
#[derive(Clone, Default)]
struct Came(Arc<Mutex<Vec<(u32, Duration)>>>);

impl<Out> Mark<Instant, Out> for Came {
    const TELLS_ARRIVAL: bool = true;

    fn mark(&self, _: &mut Instant, _: u32) {}

    fn came(&self, request: &mut Instant, first: Arrival) {
        let mut came = self.0.lock().expect("no panic");
        let attempt = u32::try_from(came.len()).expect("few") + 2;
        came.push((attempt, first.instant() - *request));
    }
}

#[tokio::test(start_paused = true)]
async fn attempts_after_the_first_are_told_when_that_was() {
    let wait = Said::Limited {
        after: Some(7 * SEC),
    };
    let (seen, provider) = provider::<Instant>(&[wait, wait, Said::Fine]);
    let came = Came::default();
    let layer = RetryLayer::new(Backoff::default(), classify).mark(came.clone());
    let made = Instant::now();
    tokio::time::sleep(3 * SEC).await;
    let call = layer.layer(provider).oneshot(made);
    assert_eq!(call.await.expect("an answer"), Said::Fine);
    assert_eq!((count(&seen), made.elapsed()), (3, 17 * SEC));
    assert_eq!(
        *came.0.lock().expect("no panic"),
        [(2, 3 * SEC), (3, 3 * SEC)]
    );
}
