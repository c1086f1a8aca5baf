//! N tasks that wait for the same thing, and what letting one in costs.
//!
//! The cost of an admission is everything that happens between one and the
//! next: what the gate decides, the wake-up, the runtime's scheduling, and the
//! admitted task's way to its end.

use std::future::poll_fn;
use std::mem::replace;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use pin_project_lite::pin_project;
use tokio::runtime::Builder;
use tokio::sync::{Notify, Semaphore};
use tokio::task::yield_now;
use tollhouse::gate::{Now, Pass};
use tollhouse::{Ask, Caller, ConcurrencyLayer, Gate, StaggerLayer, TokenBudget, TpmBudgetLayer};
use tower::buffer::Buffer;
use tower::limit::RateLimit;
use tower::util::Oneshot;
use tower::{Layer, Service, ServiceExt};
use tower_resilience::ratelimiter::RateLimiterLayer;

use super::rounds::{nanos_per, wall};
use super::stacks::Echo;

const TICK: Duration = Duration::from_millis(1);
const HOUR: Duration = Duration::from_secs(3600);

/// Measures the nanoseconds of an admission with so many waiting, over so many
/// admissions.
pub(crate) type Contest = fn(waiting: usize, admissions: usize) -> f64;

// ===== one slot, handed from each to the next =====

pub(crate) fn semaphore(waiting: usize, admissions: usize) -> f64 {
    drain(Clock::Real, waiting, admissions, async || {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = Arc::clone(&semaphore).acquire_owned().await.expect("open");
        Scene {
            open: move || drop(held),
            wait: move || Arc::clone(&semaphore).acquire_owned(),
        }
    })
}

pub(crate) fn slots(waiting: usize, admissions: usize) -> f64 {
    drain(Clock::Real, waiting, admissions, async || {
        let layer = ConcurrencyLayer::new(1).until_response();
        let mut held = Gate::<u64, u64>::pass(&layer, &1);
        poll_fn(|cx| held.poll_admitted(cx, &mut Now::unread()))
            .await
            .expect("a free slot");
        // A pass, as the semaphore hands out a permit.
        Scene {
            open: move || drop(held),
            wait: move || {
                let mut pass = Gate::<u64, u64>::pass(&layer, &1);
                poll_fn(move |cx| pass.poll_admitted(cx, &mut Now::unread()))
            },
        }
    })
}

/// One token, reserved and given back.
pub(crate) fn budget(waiting: usize, admissions: usize) -> f64 {
    between(waiting, admissions, vec![Caller::default()])
}

/// The same, all of them one caller's that has a name.
pub(crate) fn one_caller(waiting: usize, admissions: usize) -> f64 {
    between(waiting, admissions, vec![Caller::new("web")])
}

/// The same, a thousand callers' in turn.
pub(crate) fn many_callers(waiting: usize, admissions: usize) -> f64 {
    let callers = (0..1_000).map(|n| Caller::new(n.to_string()));
    between(waiting, admissions, callers.collect())
}

fn between(waiting: usize, admissions: usize, callers: Vec<Caller>) -> f64 {
    drain(Clock::Real, waiting, admissions, async || {
        let budget = TokenBudget::per_minute(1).build().expect("a valid budget");
        let held = budget.reserve(1).await.expect("a full budget");
        let next = AtomicUsize::new(0);
        Scene {
            open: move || drop(held),
            wait: move || {
                let caller = &callers[next.fetch_add(1, Relaxed) % callers.len()];
                budget.reserve(Ask::of(1).caller(caller.clone()))
            },
        }
    })
}

// ===== one a millisecond, by the clock =====

pub(crate) fn timed_budget(waiting: usize, admissions: usize) -> f64 {
    drain(Clock::Paused, waiting, admissions, async || {
        let budget = TokenBudget::per_minute(60_000).burst(1);
        let budget = budget.build().expect("a valid budget");
        let layer = TpmBudgetLayer::new(budget, |cost: &u64| *cost).until_response();
        after_one(layer.layer(Echo)).await
    })
}

pub(crate) fn timed_stagger(waiting: usize, admissions: usize) -> f64 {
    drain(Clock::Paused, waiting, admissions, async || {
        after_one(StaggerLayer::new(TICK).layer(Echo)).await
    })
}

pub(crate) fn timed_tower(waiting: usize, admissions: usize) -> f64 {
    drain(Clock::Paused, waiting, admissions, async || {
        let rate = tower::limit::rate::Rate::new(1, TICK);
        after_one(Buffer::new(RateLimit::new(Echo, rate), waiting)).await
    })
}

pub(crate) fn timed_resilience(waiting: usize, admissions: usize) -> f64 {
    drain(Clock::Paused, waiting, admissions, async || {
        let layer = RateLimiterLayer::builder()
            .limit_for_period(1)
            .refresh_period(TICK)
            .timeout_duration(HOUR);
        after_one(layer.build().expect("a valid rate").layer(Echo)).await
    })
}

/// Uses up what may go at once; from there on it is the clock that opens.
async fn after_one<S>(mut service: S) -> Scene<impl FnOnce(), impl Fn() -> Oneshot<S, u64>>
where
    S: Service<u64> + Clone,
{
    let first = service.ready().await.ok().expect("a ready service");
    assert!(first.call(1).await.is_ok(), "the first call passes");
    Scene {
        open: || {},
        wait: calls(service),
    }
}

// ===== the crowd =====

/// A gate with somebody inside.
struct Scene<O, W> {
    /// Lets the first one of the crowd in.
    open: O,
    /// Waits its turn, and is over as soon as it is in and dropped.
    wait: W,
}

fn calls<S: Service<u64> + Clone>(service: S) -> impl Fn() -> Oneshot<S, u64> {
    move || service.clone().oneshot(1)
}

/// A paused clock jumps to the next timer instead of waiting for it.
#[derive(PartialEq)]
enum Clock {
    Real,
    Paused,
}

fn drain<O, W, F, T, E>(
    clock: Clock,
    waiting: usize,
    admissions: usize,
    stage: impl AsyncFnOnce() -> Scene<O, W>,
) -> f64
where
    O: FnOnce(),
    W: Fn() -> F,
    F: Future<Output = Result<T, E>> + Send + 'static,
{
    let mut runtime = Builder::new_current_thread();
    runtime.enable_time().start_paused(clock == Clock::Paused);
    let runtime = runtime.build().expect("a runtime");
    runtime.block_on(async {
        let Scene { open, wait } = stage().await;
        let tally = Arc::new(Tally::default());
        for _ in 0..waiting {
            tokio::spawn(Waiter {
                wait: wait(),
                tally: Arc::clone(&tally),
                admissions,
                has_arrived: false,
            });
        }
        // The clock stands still until all have come: we are never idle.
        while tally.arrived.load(Relaxed) < waiting {
            yield_now().await;
        }
        assert_eq!(tally.admitted.load(Relaxed), 0, "all wait");
        let start = wall();
        open();
        tally.done.notified().await;
        nanos_per(start.elapsed(), admissions)
    })
}

pin_project! {
    /// A task of the crowd. An async block would keep what it waits for twice, and what is measured
    /// with a million of them would be that.
    struct Waiter<F> {
        #[pin]
        wait: F,
        tally: Arc<Tally>,
        admissions: usize,
        has_arrived: bool,
    }
}

impl<F, T, E> Future for Waiter<F>
where
    F: Future<Output = Result<T, E>>,
{
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.project();
        if !replace(this.has_arrived, true) {
            this.tally.arrived.fetch_add(1, Relaxed);
        }
        let admitted = ready!(this.wait.poll(cx)).is_ok();
        assert!(admitted, "whoever waits is let in");
        if this.tally.admitted.fetch_add(1, Relaxed) + 1 == *this.admissions {
            this.tally.done.notify_one();
        }
        Poll::Ready(())
    }
}

#[derive(Default)]
struct Tally {
    arrived: AtomicUsize,
    admitted: AtomicUsize,
    done: Notify,
}
