//! What never reached the provider costs nothing: a connection that could not
//! be made gives back the slot, the turn and the tokens, stacked or fused.

use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support::account::SEC;
use futures_util::future::join_all;
use tokio::time::{Instant, sleep};
use tollhouse::error::NeverSent;
use tollhouse::{
    Accounting, Backoff, ConcurrencyLayer, Decision, Error, GateLayer, RetryLayer, Scope,
    StaggerLayer, TokenBudget, TpmBudgetLayer, Window,
};
use tower::util::BoxCloneService;
use tower::{Layer, Service, ServiceBuilder, ServiceExt, service_fn};

type Client = BoxCloneService<Duration, (), Error>;

fn refused() -> io::Error {
    io::Error::from(io::ErrorKind::ConnectionRefused)
}

/// A transport that takes so long to say that there is no connection.
async fn unreachable(takes: Duration) -> Result<(), NeverSent> {
    if takes > Duration::ZERO {
        sleep(takes).await;
    }
    Err(NeverSent::new(refused()))
}

/// A transport whose connection breaks under the request.
async fn breaks(takes: Duration) -> Result<(), io::Error> {
    sleep(takes).await;
    Err(io::Error::from(io::ErrorKind::ConnectionReset))
}

#[derive(Clone)]
struct Gates {
    slots: ConcurrencyLayer<tollhouse::UntilResponse>,
    budget: TokenBudget,
    spacing: StaggerLayer,
}

impl Gates {
    fn new(accounting: Accounting, window: Window) -> Self {
        let budget = TokenBudget::per_minute(30_000)
            .requests_per_minute(600)
            .accounting(accounting)
            .window(window);
        Gates {
            slots: ConcurrencyLayer::new(3).until_response(),
            budget: budget.build().unwrap(),
            spacing: StaggerLayer::new(15 * SEC),
        }
    }

    fn tokens(&self) -> TpmBudgetLayer<fn(&Duration) -> u64> {
        TpmBudgetLayer::new(self.budget.clone(), |_| 7_000)
    }

    fn stacked<S>(&self, transport: S) -> Client
    where
        S: Service<Duration, Response = (), Error: Into<tower::BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        let stack = ServiceBuilder::new()
            .layer(self.slots.clone())
            .layer(self.tokens().until_response())
            .layer(self.spacing.clone());
        BoxCloneService::new(stack.service(transport))
    }

    fn fused<S>(&self, transport: S) -> Client
    where
        S: Service<Duration, Response = (), Error: Into<tower::BoxError>, Future: Send>
            + Clone
            + Send
            + 'static,
    {
        let gates = (self.slots.clone(), self.tokens(), self.spacing.clone());
        let gates = GateLayer::new(gates).until_response();
        BoxCloneService::new(gates.layer(transport))
    }

    fn is_untouched(&self) {
        let now = self.budget.snapshot();
        assert_eq!((now.level, now.in_transit, now.outstanding), (30_000, 0, 0));
        assert_eq!(self.slots.in_flight(), 0);
        assert_eq!(self.budget.eta(30_000), Duration::ZERO);
    }
}

/// Both ways to put the three gates before a transport, for every kind of
/// budget.
fn each<S>(transport: S) -> Vec<(Gates, Client)>
where
    S: Service<Duration, Response = (), Error: Into<tower::BoxError>, Future: Send>
        + Clone
        + Send
        + 'static,
{
    let mut all = Vec::new();
    for accounting in [Accounting::AsRequested, Accounting::AsUsed] {
        for window in [Window::On, Window::Off] {
            let gates = Gates::new(accounting, window);
            let client = gates.stacked(transport.clone());
            all.push((gates, client));
            let gates = Gates::new(accounting, window);
            let client = gates.fused(transport.clone());
            all.push((gates, client));
        }
    }
    all
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_cannot_be_made_costs_nothing() {
    // At once, while it is in transit, and after it has landed by the clock.
    for takes in [Duration::ZERO, SEC, 10 * SEC] {
        for (gates, client) in each(service_fn(unreachable)) {
            let start = Instant::now();
            for _ in 0..6 {
                let error = client.clone().oneshot(takes).await.unwrap_err();
                assert!(error.is_never_sent());
                gates.is_untouched();
            }
            assert_eq!(start.elapsed(), 6 * takes, "no turn was used up");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn many_at_once_that_cannot_be_made_cost_nothing() {
    for (gates, client) in each(service_fn(unreachable)) {
        let calls = (0..6).map(|_| client.clone().oneshot(10 * SEC));
        let start = Instant::now();
        let errors = join_all(calls).await;
        assert!(
            errors
                .into_iter()
                .all(|error| error.unwrap_err().is_never_sent())
        );
        // Each was launched on its own turn.
        assert!(start.elapsed() >= 10 * SEC);
        gates.is_untouched();
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_that_was_written_in_part_stays_charged() {
    for (gates, client) in each(service_fn(breaks)) {
        let start = Instant::now();
        let error = client.clone().oneshot(SEC).await.unwrap_err();
        assert!(!error.is_never_sent());
        assert!(gates.budget.snapshot().level <= 30_000 - 7_000 + 500);
        assert_eq!(gates.slots.in_flight(), 0);
        client.oneshot(SEC).await.unwrap_err();
        assert_eq!(start.elapsed(), 16 * SEC, "the turn was used");
    }
}

/// Once ready, broken: the request is never called.
#[derive(Clone)]
struct Broken;

impl Service<Duration> for Broken {
    type Response = ();
    type Error = io::Error;
    type Future = std::future::Ready<Result<(), io::Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), io::Error>> {
        Poll::Ready(Err(io::Error::other("worn out")))
    }

    fn call(&mut self, _: Duration) -> Self::Future {
        unreachable!("it is never ready")
    }
}

#[tokio::test(start_paused = true)]
async fn a_service_that_breaks_before_it_is_called_costs_nothing() {
    for (gates, client) in each(Broken) {
        let start = Instant::now();
        for _ in 0..6 {
            let error = client.clone().oneshot(SEC).await.unwrap_err();
            assert_eq!(error.to_string(), "worn out");
            gates.is_untouched();
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_by_a_gate_within_costs_nothing_without() {
    let gates = Gates::new(Accounting::AsRequested, Window::On);
    let closed = ConcurrencyLayer::new(1).until_response();
    closed.close();
    let never = service_fn(async |_: Duration| Ok::<_, io::Error>(()));
    let client = gates.stacked(closed.layer(never));
    client.oneshot(SEC).await.unwrap_err();
    gates.is_untouched();
}

/// A later launch is spaced by itself; taking back an earlier one must not
/// undo that.
#[tokio::test(start_paused = true)]
async fn only_the_latest_turn_is_taken_back() {
    let spacing = StaggerLayer::new(15 * SEC);
    let client = spacing.layer(service_fn(async |takes: Duration| match takes {
        Duration::ZERO => Ok(Instant::now()),
        takes => unreachable(takes).await.map(|()| Instant::now()),
    }));
    let start = Instant::now();
    let failing = tokio::spawn(client.clone().oneshot(20 * SEC));
    sleep(SEC).await;
    let second = client.clone().oneshot(Duration::ZERO).await.unwrap();
    assert_eq!(second - start, 15 * SEC);
    failing.await.unwrap().unwrap_err();
    let third = client.oneshot(Duration::ZERO).await.unwrap();
    assert_eq!(third - start, 30 * SEC);
}

/// What has refilled meanwhile has nothing to give back: the provider's level
/// was as full.
#[tokio::test(start_paused = true)]
async fn what_comes_back_late_is_no_more_than_would_be_there() {
    let gates = Gates::new(Accounting::AsRequested, Window::Off);
    let client = gates.fused(service_fn(unreachable));
    let failing = tokio::spawn(client.oneshot(60 * SEC));
    sleep(30 * SEC).await;
    // It has landed at 2 s and refilled by 16 s.
    let spent = gates.budget.reserve(20_000).await.unwrap();
    spent.launched();
    spent.settle(20_000);
    assert_eq!(gates.budget.snapshot().level, 10_000);
    sleep(30 * SEC).await;
    failing.await.unwrap().unwrap_err();
    assert_eq!(gates.budget.snapshot().level, 25_000);
}

#[tokio::test(start_paused = true)]
async fn a_call_whose_earlier_attempt_left_stays_charged() {
    let budget = TokenBudget::per_minute(30_000).build().unwrap();
    let attempts = std::sync::atomic::AtomicUsize::new(0);
    let attempts = std::sync::Arc::new(attempts);
    let transport = service_fn(move |(): ()| {
        let first = attempts.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        async move {
            match first {
                true => Err::<(), _>(Error::inner(refused())),
                false => Err(Error::never_sent(refused())),
            }
        }
    });
    let again = |_: Result<&(), &Error>| Decision::Retry {
        after: None,
        scope: Scope::Overload,
    };
    // The wrong way round, on purpose: the retry within the gate.
    let retry = RetryLayer::new(Backoff::default().max_attempts(2), again).mark(Counting);
    let client = TpmBudgetLayer::new(budget.clone(), |(): &()| 7_000)
        .until_response()
        .layer(retry.layer(transport));
    let error = client.oneshot(()).await.unwrap_err();
    assert_eq!(error.attempts(), 2);
    assert_eq!(budget.snapshot().outstanding, 0);
    assert!(budget.snapshot().level < 30_000);
}

/// Its first call fails as one that may have been sent, and then it is out of order.
#[derive(Clone)]
struct Breaks(std::sync::Arc<std::sync::atomic::AtomicBool>);

impl Service<()> for Breaks {
    type Response = ();
    type Error = Error;
    type Future = std::future::Ready<Result<(), Error>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(match self.0.load(std::sync::atomic::Ordering::Relaxed) {
            true => Err(Error::never_sent(refused())),
            false => Ok(()),
        })
    }

    fn call(&mut self, (): ()) -> Self::Future {
        self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        std::future::ready(Err(Error::inner(refused())))
    }
}

/// An attempt that fails for want of a ready service is one; and what went before may have
/// left.
#[tokio::test(start_paused = true)]
async fn an_attempt_whose_service_is_not_ready_is_counted() {
    let again = |_: Result<&(), &Error>| Decision::Retry {
        after: None,
        scope: Scope::Overload,
    };
    let retry = RetryLayer::new(Backoff::default(), again).mark(Counting);
    for (is_broken, attempts) in [(false, 2), (true, 1)] {
        let client = retry.layer(Breaks(std::sync::Arc::new(is_broken.into())));
        let error = client.oneshot(()).await.unwrap_err();
        assert_eq!(error.attempts(), attempts);
        assert_eq!(error.is_never_sent(), is_broken);
    }
}

/// Tells an error how many attempts it took.
#[derive(Clone)]
struct Counting;

impl tollhouse::Mark<(), Result<(), Error>> for Counting {
    fn mark(&self, (): &mut (), _: u32) {}

    fn count(&self, outcome: &mut Result<(), Error>, attempts: u32) {
        if let Err(error) = outcome {
            error.set_attempts(attempts);
        }
    }
}

/// The request may have been written before the connection broke.
#[tokio::test(start_paused = true)]
async fn a_call_that_fails_at_once_stays_charged() {
    for (gates, client) in each(service_fn(|_| async {
        Err::<(), _>(io::Error::from(io::ErrorKind::ConnectionReset))
    })) {
        let error = client.oneshot(SEC).await.unwrap_err();
        assert!(!error.is_never_sent());
        let now = gates.budget.snapshot();
        assert_eq!((now.level, now.in_transit), (23_000, 7_000));
    }
}
