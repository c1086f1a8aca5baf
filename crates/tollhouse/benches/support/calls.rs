//! One call with nobody else around.

use std::num::NonZeroU32;
use std::rc::Rc;
use std::sync::Arc;

use governor::{Quota, RateLimiter};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tower::{Service, ServiceExt};

use super::poll::{call, now};
use super::reference::Bucket;
use super::stacks::{self, Echo};

/// What each call costs, in tokens.
const COST: u64 = 100;

/// Something that is called over and over.
pub(crate) struct Subject {
    pub(crate) name: String,
    /// Makes so many calls.
    pub(crate) run: Run,
    /// The most that a call may cost, in calls of the reference, if it is one
    /// of ours. Those must not allocate either; the peers promised nothing.
    pub(crate) at_most: Option<f64>,
}

pub(crate) type Run = Box<dyn FnMut(u32)>;

/// For the peers that need one.
pub(crate) fn runtime() -> Rc<Runtime> {
    let mut runtime = Builder::new_current_thread();
    Rc::new(runtime.enable_time().build().expect("a runtime"))
}

/// F itself; see [`Bucket`].
pub(crate) fn reference() -> Run {
    let bucket = Bucket::per_minute(1e12);
    let mut service = Echo;
    Box::new(move |calls| {
        for _ in 0..calls {
            now(async {
                let reserved = bucket.reserve(COST as f64).await;
                let used = service.call(COST).await.expect("infallible");
                reserved.settle(used as f64);
            });
        }
    })
}

/// Ours first, then the peers; each used again and again, and, where it is a
/// service, cloned for every call, as clients do.
pub(crate) fn subjects(runtime: &Rc<Runtime>) -> Vec<Subject> {
    let mut list = List::default();
    list.service("ConcurrencyLayer", Some(1.3), stacks::concurrency());
    list.service("StaggerLayer, zero interval", Some(1.3), stacks::stagger());
    list.service("TpmBudgetLayer, with window", Some(1.3), stacks::budget());
    list.service("the policy", Some(1.9), stacks::policy());
    list.service("the policy under RetryLayer", Some(2.4), stacks::retried());
    list.service("three gates as a tuple", None, stacks::fused());
    list.peer("tokio Semaphore::acquire", semaphore());
    list.peer("governor until_n_ready", governor());
    list.peer("tower Retry+Limit+Buffer+Rate", tower(runtime, false));
    list.peer(
        "tower Retry+Limit+Buffer+Rate, cloned",
        tower(runtime, true),
    );
    list.service("tower-resilience stack", None, stacks::resilience());
    list.0
}

#[derive(Default)]
struct List(Vec<Subject>);

impl List {
    fn service<S>(&mut self, name: &str, at_most: Option<f64>, service: S)
    where
        S: Service<u64> + Clone + 'static,
    {
        self.add(name.to_owned(), at_most, reused(service.clone()));
        self.add(format!("{name}, cloned"), at_most, cloned(service));
    }

    fn peer(&mut self, name: &str, run: Run) {
        self.add(name.to_owned(), None, run);
    }

    fn add(&mut self, name: String, at_most: Option<f64>, run: Run) {
        self.0.push(Subject { name, run, at_most });
    }
}

fn reused<S: Service<u64> + 'static>(mut service: S) -> Run {
    Box::new(move |calls| {
        for _ in 0..calls {
            call(&mut service, COST);
        }
    })
}

fn cloned<S: Service<u64> + Clone + 'static>(service: S) -> Run {
    Box::new(move |calls| {
        for _ in 0..calls {
            call(&mut service.clone(), COST);
        }
    })
}

fn semaphore() -> Run {
    let semaphore = Arc::new(Semaphore::new(1_000));
    Box::new(move |calls| {
        for _ in 0..calls {
            drop(now(semaphore.acquire()).expect("an open semaphore"));
        }
    })
}

fn governor() -> Run {
    let limiter = RateLimiter::direct(Quota::per_second(NonZeroU32::MAX));
    let cost = NonZeroU32::new(u32::try_from(COST).expect("a small cost")).expect("some cost");
    Box::new(move |calls| {
        for _ in 0..calls {
            now(limiter.until_n_ready(cost)).expect("a cost below the quota");
        }
    })
}

/// The buffer's worker is a task, so this one needs a runtime.
fn tower(runtime: &Rc<Runtime>, clone: bool) -> Run {
    let mut service = {
        let _inside = runtime.enter();
        stacks::tower()
    };
    let runtime = Rc::clone(runtime);
    Box::new(move |calls| {
        runtime.block_on(async {
            for _ in 0..calls {
                let answer = match clone {
                    true => service.clone().oneshot(COST).await,
                    false => match service.ready().await {
                        Ok(ready) => ready.call(COST).await,
                        Err(error) => Err(error),
                    },
                };
                answer.expect("an uncontended call succeeds");
            }
        });
    })
}
