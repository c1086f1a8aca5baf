//! Nothing of a user's runs under a lock: not a subscriber, not a waker.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::Duration;

use crate::support::watch::{Watcher, in_time};
use tokio::time::Instant;
use tollhouse::budget::BudgetPass;
use tollhouse::gate::{Launch, Now};
use tollhouse::{
    ConcurrencyLayer, Denial, End, Gate, Observation, Pass, PassFor, RateLimits, Scope,
    TokenBudget, Unmetered,
};

/// Answers a call of ten tokens with what is told.
async fn answered(budget: &TokenBudget, told: Observation) {
    let observe = move |(): &()| told;
    let mut pass: BudgetPass<_, _, Option<u64>> = BudgetPass::new(budget, 10, Unmetered, observe);
    pass.admitted().await.unwrap();
    pass.launched(Launch::ToWire, &mut Now::unread());
    pass.completed(&(), &mut Now::unread());
}

fn denied() -> Observation {
    Observation {
        denial: Some(Denial {
            scope: Scope::Tokens,
            after: None,
        }),
        ..Observation::default()
    }
}

#[test]
fn a_subscriber_may_look_at_the_budget_from_every_event() {
    in_time(Duration::from_secs(20), || {
        let budget = TokenBudget::per_minute(30_000)
            .learn_tokens(true)
            .learn_requests(true)
            .build()
            .unwrap();
        let looks = Arc::new(AtomicU64::new(0));
        let watcher = Watcher::new({
            let (budget, looks) = (budget.clone(), Arc::clone(&looks));
            move || {
                budget.snapshot();
                looks.fetch_add(1, Ordering::Relaxed);
            }
        });
        let _guard = tracing::subscriber::set_default(watcher.clone());
        let story = async {
            budget.hold(Instant::now() + Duration::from_secs(1));
            let told = RateLimits {
                limit_tokens: Some(60_000),
                ..RateLimits::default()
            };
            let told = Observation {
                limits: told,
                denial: None,
            };
            answered(&budget, told).await;
            answered(&budget, Observation::default()).await;
            answered(&budget, denied()).await;
            budget.reserve(1_000_000).await.unwrap_err();
        };
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(story);
        let told = watcher.told();
        for event in [
            "held",
            "limits learned",
            "slowed",
            "waiting",
            "admitted",
            "refused",
        ] {
            assert!(told.iter().any(|told| told == event), "{event} in {told:?}");
        }
        assert!(looks.load(Ordering::Relaxed) as usize >= told.len());
    });
}

/// Counts how often it was woken; runs something each time.
struct Alarm<F> {
    woken: AtomicU64,
    then: F,
}

impl<F: Fn() + Send + Sync> Wake for Alarm<F> {
    fn wake(self: Arc<Self>) {
        self.woken.fetch_add(1, Ordering::Relaxed);
        (self.then)();
    }
}

fn alarm<F: Fn() + Send + Sync + 'static>(then: F) -> (Arc<Alarm<F>>, Waker) {
    let woken = AtomicU64::new(0);
    let alarm = Arc::new(Alarm { woken, then });
    let waker = Waker::from(Arc::clone(&alarm));
    (alarm, waker)
}

fn stands<F: Future + Unpin>(waiting: &mut F, waker: &Waker) {
    let polled = Pin::new(waiting).poll(&mut Context::from_waker(waker));
    assert!(polled.is_pending());
}

#[tokio::test(start_paused = true)]
async fn a_waker_that_panics_costs_nobody_else_the_wake_up() {
    let budget = TokenBudget::per_minute(600).build().unwrap();
    let all = budget.try_reserve(600).unwrap();
    let (bad, bad_waker) = alarm(|| panic!("a broken executor"));
    let (good, good_waker) = alarm(|| {});
    let mut waiting: Vec<_> = (0..4).map(|_| budget.reserve(100)).collect();
    for (n, reserve) in waiting.iter_mut().enumerate() {
        stands(reserve, if n % 2 == 0 { &bad_waker } else { &good_waker });
    }
    let freed = std::panic::catch_unwind(AssertUnwindSafe(|| drop(all)));
    assert!(freed.is_err(), "the panic is not hidden");
    assert_eq!(bad.woken.load(Ordering::Relaxed), 2);
    assert_eq!(good.woken.load(Ordering::Relaxed), 2);
    for mut reserve in waiting {
        let polled = Pin::new(&mut reserve).poll(&mut Context::from_waker(Waker::noop()));
        assert!(matches!(polled, Poll::Ready(Ok(_))), "all were let in");
    }
}

#[test]
fn a_waker_may_look_at_the_budget_and_so_may_its_drop() {
    struct LooksLast(TokenBudget);
    impl Drop for LooksLast {
        fn drop(&mut self) {
            self.0.snapshot();
        }
    }
    in_time(Duration::from_secs(20), || {
        let budget = TokenBudget::per_minute(600).max_waiting(1).build().unwrap();
        let waker = || {
            let looks = LooksLast(budget.clone());
            alarm(move || {
                looks.0.snapshot();
            })
            .1
        };
        let all = budget.try_reserve(600).unwrap();
        let mut reserve = budget.reserve(100);
        stands(&mut reserve, &waker());
        // Another task takes it over, and another is turned away.
        stands(&mut reserve, &waker());
        let mut refused = budget.reserve(100);
        let polled = Pin::new(&mut refused).poll(&mut Context::from_waker(&waker()));
        assert!(polled.is_ready());
        drop(all);
        drop(reserve);
    });
}

/// What is written down goes through a user's writer.
#[test]
fn a_writer_may_look_at_the_budget_while_that_is_written_to_it() {
    struct Looks(TokenBudget);
    impl std::fmt::Write for Looks {
        fn write_str(&mut self, _: &str) -> std::fmt::Result {
            self.0.snapshot();
            Ok(())
        }
    }
    in_time(Duration::from_secs(20), || {
        let budget = TokenBudget::per_minute(600).build().unwrap();
        std::fmt::write(
            &mut Looks(budget.clone()),
            format_args!("{budget:?} {budget:#?}"),
        )
        .unwrap();
    });
}

#[tokio::test(start_paused = true)]
async fn who_stops_waiting_for_idle_leaves_no_waker_behind() {
    let slots = ConcurrencyLayer::new(1);
    let mut pass = Gate::<(), ()>::pass(&slots, &());
    pass.admitted().await.unwrap();
    let (alarm, waker) = alarm(|| {});
    for _ in 0..100 {
        let mut idle = Box::pin(slots.idle());
        stands(&mut idle, &waker);
    }
    drop(waker);
    assert_eq!(Arc::strong_count(&alarm), 1);

    let waker = Waker::from(Arc::clone(&alarm));
    let mut idle = [Box::pin(slots.idle()), Box::pin(slots.idle())];
    idle.iter_mut().for_each(|idle| stands(idle, &waker));
    pass.ended(End::Complete, &mut Now::unread());
    assert_eq!(alarm.woken.load(Ordering::Relaxed), 2, "each is woken");
    for mut idle in idle {
        let polled = idle.as_mut().poll(&mut Context::from_waker(&waker));
        assert!(polled.is_ready());
    }
}
