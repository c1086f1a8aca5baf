//! Real threads: ten thousand tasks at one gate.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use crate::support::random::Random;
use tokio::task::{JoinSet, yield_now};
use tokio::time::{Instant, timeout};
use tollhouse::{
    Accounting, Ask, Caller, ConcurrencyLayer, Gate, GateLayer, StaggerLayer, TokenBudget,
    TpmBudgetLayer, Window,
};
use tower::{Layer, Service, ServiceExt, service_fn};

const TASKS: usize = 10_000;

/// In real time: something stalls.
const STALLED: Duration = Duration::from_secs(20);

/// Who was called, how many at once, and how many at most.
#[derive(Default)]
struct Seen {
    order: Mutex<Vec<usize>>,
    running: AtomicUsize,
    peak: AtomicUsize,
}

impl Seen {
    async fn call(self: Arc<Self>, id: usize) -> Result<(), std::io::Error> {
        self.order.lock().unwrap().push(id);
        let guard = Running::new(&self);
        for _ in 0..id % 4 {
            yield_now().await;
        }
        drop(guard);
        Ok(())
    }
}

struct Running<'a>(&'a Seen);

impl<'a> Running<'a> {
    fn new(seen: &'a Seen) -> Self {
        let running = seen.running.fetch_add(1, SeqCst) + 1;
        seen.peak.fetch_max(running, SeqCst);
        Running(seen)
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, SeqCst);
    }
}

fn service(
    seen: &Arc<Seen>,
) -> impl Service<usize, Response = (), Error = std::io::Error, Future: Send> + Clone + Send + 'static
{
    let seen = Arc::clone(seen);
    service_fn(move |id| Arc::clone(&seen).call(id))
}

/// Asks in turn: the first poll of each call, which is what puts it in line,
/// happens under a lock.
struct InTurn<F> {
    arrivals: Arc<Mutex<Vec<usize>>>,
    id: usize,
    arrived: bool,
    call: Pin<Box<F>>,
}

impl<F: Future> Future for InTurn<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        if this.arrived {
            return this.call.as_mut().poll(cx);
        }
        this.arrived = true;
        let mut arrivals = this.arrivals.lock().unwrap();
        arrivals.push(this.id);
        this.call.as_mut().poll(cx)
    }
}

/// Sends ten thousand tasks through `gate` and returns who arrived and what was
/// seen, in order.
async fn crowd<G>(gate: G) -> (Vec<usize>, Arc<Seen>)
where
    G: Gate<usize, ()> + Clone + Send + Sync + 'static,
    G::Pass: Send + Unpin + 'static,
{
    let seen = Arc::new(Seen::default());
    let client = GateLayer::new(gate).until_response().layer(service(&seen));
    let arrivals = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = JoinSet::new();
    for id in 0..TASKS {
        tasks.spawn(InTurn {
            arrivals: Arc::clone(&arrivals),
            id,
            arrived: false,
            call: Box::pin(client.clone().oneshot(id)),
        });
    }
    let all = timeout(STALLED, tasks.join_all())
        .await
        .expect("nothing stalls");
    assert!(all.iter().all(Result::is_ok));
    let arrivals = std::mem::take(&mut *arrivals.lock().unwrap());
    (arrivals, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn one_slot_goes_round_in_the_order_of_arrival() {
    let slots = ConcurrencyLayer::new(1);
    let (arrivals, seen) = crowd(slots.clone()).await;
    assert_eq!(seen.peak.load(SeqCst), 1);
    assert_eq!(*seen.order.lock().unwrap(), arrivals);
    assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn never_more_run_than_there_are_slots() {
    let slots = ConcurrencyLayer::new(7);
    let (arrivals, seen) = crowd(slots.clone()).await;
    assert!((1..=7).contains(&seen.peak.load(SeqCst)));
    assert_eq!(arrivals.len(), TASKS);
    assert_eq!(seen.order.lock().unwrap().len(), TASKS);
    assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));
}

/// Everybody gets through whatever the number of slots, and never more than the most.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failure_26_slots_that_change_all_the_time_lose_nobody() {
    let slots = ConcurrencyLayer::new(1);
    let changing = slots.clone();
    let changes = tokio::spawn(async move {
        for max in (1..=7).cycle() {
            changing.set_max(max);
            yield_now().await;
        }
    });
    let (arrivals, seen) = crowd(slots.clone()).await;
    changes.abort();
    assert!((1..=7).contains(&seen.peak.load(SeqCst)));
    assert_eq!(arrivals.len(), TASKS);
    assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));
}

/// Each caller finds the budget's slots and limits changed, and nothing gets lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn failure_26_a_budget_that_changes_all_the_time_adds_up() {
    let limits = |n: u64| {
        let slots = usize::try_from(n).unwrap();
        TokenBudget::per_minute(200_000_000 + n).max_concurrency(slots)
    };
    let budget = limits(1).build().unwrap();
    let changing = budget.clone();
    let changes = tokio::spawn(async move {
        for n in (1..=7).cycle() {
            changing.set_limits(limits(n)).unwrap();
            yield_now().await;
        }
    });
    let cost = |id: &usize| *id as u64;
    let (_, seen) = crowd(TpmBudgetLayer::new(budget.clone(), cost)).await;
    changes.abort();
    assert!((1..=7).contains(&seen.peak.load(SeqCst)));
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.outstanding, snapshot.in_transit), (0, 0));
    assert_eq!((snapshot.waiting, snapshot.in_flight), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_budget_with_room_admits_all_and_adds_up() {
    let budget = TokenBudget::per_minute(200_000_000).build().unwrap();
    let before = budget.snapshot().level;
    let cost = |id: &usize| *id as u64;
    let (arrivals, seen) = crowd(TpmBudgetLayer::new(budget.clone(), cost)).await;
    assert_eq!(*seen.order.lock().unwrap(), arrivals);
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.outstanding, snapshot.waiting), (0, 0));
    assert_eq!(snapshot.in_transit, 0, "all were answered");
    let total: i64 = (0..TASKS as i64).sum();
    assert!(snapshot.level >= before - total);
}

/// Twenty billion tokens, at a sixtieth of a trillion a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_scarce_budget_keeps_its_pace() {
    let budget = TokenBudget::per_minute(1_000_000_000_000)
        .burst(50_000_000)
        .window(tollhouse::Window::Off)
        .build()
        .unwrap();
    let cost = |_: &usize| 2_000_000;
    let start = Instant::now();
    let (arrivals, _) = crowd(TpmBudgetLayer::new(budget.clone(), cost)).await;
    assert_eq!(arrivals.len(), TASKS);
    assert!(start.elapsed() >= Duration::from_millis(1_197));
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.outstanding, snapshot.waiting), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn spacing_of_zero_lets_all_through() {
    let turns = StaggerLayer::new(Duration::ZERO);
    let (arrivals, seen) = crowd(turns.clone()).await;
    assert_eq!(*seen.order.lock().unwrap(), arrivals);
    assert_eq!(turns.waiting(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn many_who_give_up_leave_nothing_behind() {
    let slots = ConcurrencyLayer::new(5);
    let budget = TokenBudget::per_minute(2_000_000).build().unwrap();
    let gates = GateLayer::new((
        slots.clone(),
        TpmBudgetLayer::new(budget.clone(), |_: &usize| 100),
        StaggerLayer::new(Duration::ZERO),
    ));
    let seen = Arc::new(Seen::default());
    let client = gates.until_response().layer(service(&seen));
    let mut tasks = JoinSet::new();
    for id in 0..TASKS {
        let call = client.clone().oneshot(id);
        let polls = Random::seeded(id as u64).within(0..8);
        tasks.spawn(async move {
            if let Some(result) = poll_at_most(call, polls).await {
                result.unwrap();
            }
        });
    }
    timeout(STALLED, tasks.join_all())
        .await
        .expect("nothing stalls");
    let launched = seen.order.lock().unwrap().len() as u64;
    assert!(launched > 0 && launched < TASKS as u64);
    assert!(seen.peak.load(SeqCst) <= 5, "{:?}", seen.peak);
    assert_eq!(seen.running.load(SeqCst), 0);
    assert_eq!((slots.in_flight(), slots.waiting()), (0, 0));
    let snapshot = budget.snapshot();
    assert_eq!((snapshot.outstanding, snapshot.waiting), (0, 0));
    // Nothing more was taken than what was launched.
    assert!(snapshot.level >= 2_000_000 - 100 * launched as i64);
}

/// Calls until `call` is over, or so many times.
async fn poll_at_most<F: Future>(call: F, mut polls: u64) -> Option<F::Output> {
    let mut call = pin!(call);
    std::future::poll_fn(|cx| {
        if polls == 0 {
            return Poll::Ready(None);
        }
        polls -= 1;
        // Woken or not, it comes back soon and at last gives up.
        cx.waker().wake_by_ref();
        call.as_mut().poll(cx).map(Some)
    })
    .await
}

/// Of thirty callers whose weights change all the time: half of their calls leave, in line
/// or with what they were given, and the others use less than they reserved.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn callers_whose_weights_change_all_the_time_get_all_back() {
    const CALLERS: u64 = 30;
    let budget = TokenBudget::per_minute(20_000_000)
        .window(Window::Off)
        .accounting(Accounting::AsUsed)
        .max_concurrency(20)
        .build()
        .unwrap();
    let caller = |n: u64, weight: u64| {
        let weight = u32::try_from(weight).unwrap();
        Caller::new(format!("{}", n % CALLERS)).weight(weight)
    };
    let changing = budget.clone();
    let changes = tokio::spawn(async move {
        for n in 0.. {
            changing.set_caller(&caller(n, [1, 2, 1_000][n as usize / 7 % 3]));
            yield_now().await;
        }
    });
    let (was_let_in, used) = <(Arc<AtomicUsize>, Arc<AtomicU64>)>::default();
    let mut tasks = JoinSet::new();
    for id in 0..TASKS as u64 {
        let budget = budget.clone();
        let (was_let_in, used) = (Arc::clone(&was_let_in), Arc::clone(&used));
        let mut random = Random::seeded(id);
        tasks.spawn(async move {
            let ask = Ask::of(random.within(1..1_000)).caller(caller(id, 1));
            let reserve = budget.reserve(ask);
            let held = match random.within(0..3) {
                0 => poll_at_most(reserve, random.within(0..8)).await,
                _ => Some(reserve.await),
            };
            let Some(held) = held else {
                return;
            };
            let held = held.unwrap();
            was_let_in.fetch_add(1, SeqCst);
            yield_now().await;
            if random.within(0..4) > 0 {
                held.launched();
                yield_now().await;
                let uses = random.within(0..held.cost() + 1);
                used.fetch_add(uses, SeqCst);
                held.settle(uses);
            }
        });
    }
    timeout(STALLED, tasks.join_all())
        .await
        .expect("nothing stalls");
    changes.abort();
    let was_let_in = was_let_in.load(SeqCst);
    assert!((TASKS / 2..TASKS).contains(&was_let_in), "{was_let_in}");
    let rest = budget.snapshot();
    assert_eq!((rest.waiting, rest.in_flight), (0, 0));
    assert_eq!((rest.outstanding, rest.in_transit), (0, 0));
    let used = i64::try_from(used.load(SeqCst)).unwrap();
    assert!(rest.level >= 20_000_000 - used, "{rest:?}");
    assert_eq!(rest.callers.len(), 1, "all are forgotten: {rest:?}");
}
