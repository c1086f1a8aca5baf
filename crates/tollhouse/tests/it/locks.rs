//! Nothing of a user's runs under a lock: not a subscriber, not a waker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::support::watch::{Watcher, in_time};
use tokio::time::Instant;
use tollhouse::budget::BudgetPass;
use tollhouse::gate::{Launch, Now};
use tollhouse::{Denial, Observation, Pass, PassFor, RateLimits, Scope, TokenBudget, Unmetered};

/// Answers a call of ten tokens with what is told.
async fn answered(budget: &TokenBudget, told: Observation) {
    let observe = move |(): &()| told;
    let mut pass: BudgetPass<_, _, Option<u64>> = BudgetPass::new(budget, 10, Unmetered, observe);
    std::future::poll_fn(|cx| pass.poll_admitted(cx, &mut Now::unread()))
        .await
        .unwrap();
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
