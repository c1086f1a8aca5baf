//! What a call that need not wait allocates on its way through the gates: nothing.
//!
//! A binary of its own and without a harness, since it counts what the whole process
//! asks the allocator for.

use std::alloc::System;
use std::future::ready;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio::runtime::{Builder, Runtime};
use tollhouse::Error;
use tollhouse_openai::policy::AttemptHeaders;
use tollhouse_openai::{
    Account, AccountConfig, AccountSlots, AnswerReader, Ask, Backoff, Call, Caller, Limit, Policy,
    RetryLayer, TokenBudget, VerdictLayer,
};
use tower::{Layer, Service, ServiceExt, service_fn};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Until a window's log and all lines have grown to their size.
const BEFORE: usize = 5_000;
const CALLS: usize = 1_000;

fn main() {
    a_budget_allocates_nothing();
    a_policy_adds_nothing();
    what_is_learned_adds_nothing();
    an_account_adds_nothing();
    println!("test result: ok. A call that need not wait allocates nothing at the gates.");
}

fn runtime() -> Runtime {
    let runtime = Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime")
}

/// Allocations of one call. What is allocated now and then, as a log of the last minute
/// grows with the real one's going by, is no call's.
fn allocations_of_one(mut call: impl FnMut()) -> usize {
    (0..BEFORE).for_each(|_| call());
    let region = Region::new(ALLOCATOR);
    (0..CALLS).for_each(|_| call());
    let counted = region.change();
    (counted.allocations + counted.reallocations) / CALLS
}

/// The core's own: slots of the account, meters and spacing, in one step.
fn a_budget_allocates_nothing() {
    let runtime = runtime();
    let _inside = runtime.enter();
    let slots = AccountSlots::new(1_000);
    for (interval, called) in [(0, None), (1, None), (1, Some(Caller::new("web")))] {
        slots.set_interval(Duration::from_nanos(interval));
        let budget = TokenBudget::per_minute(1_000_000_000)
            .requests_per_minute(1_000_000_000)
            .max_concurrency(1_000)
            .account_slots(&slots)
            .build()
            .expect("valid");
        let allocated = allocations_of_one(|| {
            let mut ask = Ask::of(10);
            if let Some(caller) = &called {
                ask = ask.caller(caller.clone());
            }
            let pass = runtime.block_on(budget.reserve(ask)).expect("let in");
            pass.launched();
            pass.settle(8);
        });
        assert_eq!(allocated, 0, "spaced by {interval} ns, {called:?}");
    }
}

/// Answers at once, with this.
fn says(
    answer: &'static str,
) -> impl Service<Request<Bytes>, Response = Response<Full<Bytes>>, Error = Error, Future: Send> + Clone
{
    service_fn(move |_: Request<Bytes>| ready(Ok(Response::new(Full::from(answer)))))
}

/// Answers at once, with nothing.
fn provider()
-> impl Service<Request<Bytes>, Response = Response<Full<Bytes>>, Error = Error, Future: Send> + Clone
{
    says("")
}

/// A request that has been read, as it is by whoever comes first.
fn request(caller: Option<&Caller>) -> Request<Bytes> {
    let body = r#"{"model":"gpt-4o","input":"Hi","max_output_tokens":1}"#;
    let request = Request::post("/v1/responses").body(Bytes::from(body));
    let mut request = request.expect("a request");
    Call::attach(&mut request);
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller.clone());
    }
    request
}

/// Allocations of a call of this client, what making its request takes not among them.
fn allocations_of<S, B, E>(client: &S, caller: Option<&Caller>) -> usize
where
    S: Service<Request<Bytes>, Response = Response<B>, Error = E> + Clone,
    B: http_body::Body<Data = Bytes>,
    E: std::fmt::Debug,
{
    let runtime = runtime();
    let mut requests: Vec<_> = (0..BEFORE + CALLS).map(|_| request(caller)).collect();
    allocations_of_one(|| {
        let request = requests.pop().expect("one for each call");
        runtime.block_on(async {
            let answer = client.clone().oneshot(request).await.expect("an answer");
            drop(answer.into_body().collect().await);
        });
    })
}

fn policy() -> Policy {
    Policy::default()
        .tpm_limit(Limit::per_minute(1_000_000_000))
        .stagger(Duration::ZERO)
        .max_concurrency(1_000)
}

/// Of the same stack without gates: the attempts are counted and marked, and answers
/// judged.
fn without_gates() -> usize {
    let retry = RetryLayer::new(Backoff::default(), AnswerReader).mark(AttemptHeaders::default());
    let client = retry.layer(VerdictLayer::new().layer(provider()));
    allocations_of(&client, None)
}

fn a_policy_adds_nothing() {
    let gateless = without_gates();
    let policy = allocations_of(&policy().layer().layer(provider()), None);
    assert!(
        policy <= gateless,
        "{policy} with gates, {gateless} without"
    );
}

/// Of answers that used less than was estimated, and of such that used more.
fn what_is_learned_adds_nothing() {
    for answer in [
        r#"{"usage":{"total_tokens":2}}"#,
        r#"{"usage":{"total_tokens":200}}"#,
    ] {
        let unlearned = allocations_of(&policy().layer().layer(says(answer)), None);
        let learning = policy().learn_factor(true);
        let learned = allocations_of(&learning.layer().layer(says(answer)), None);
        let factor = learning.learned()[0].factor;
        assert!(
            learned <= unlearned,
            "{learned} by {factor:?}, {unlearned} unlearned"
        );
    }
}

/// With its pools, slots over all of them, and callers that have weights.
fn an_account_adds_nothing() {
    let web = Caller::new("web");
    for caller in [None, Some(&web)] {
        let bare = allocations_of(&policy().layer().layer(provider()), caller);
        let mut config = AccountConfig::default();
        config.defaults = policy().config().clone();
        config.max_concurrency = Some(1_000);
        config.set_caller("web", 8);
        config.set_model("gpt-4o*", |pool| {
            pool.tokens_per_minute = Limit::per_minute(1_000_000_000);
        });
        let account = Account::from_config(config).expect("valid");
        let account = allocations_of(&account.layer().layer(provider()), caller);
        assert!(account <= bare, "{caller:?}: {account}, {bare} of a policy");
    }
}
