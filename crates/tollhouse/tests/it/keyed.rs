//! A gate for each key: apart, bounded, and never two for one key.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, sleep};
use tollhouse::gate::{Launch, Now};
use tollhouse::{
    Caller, ConcurrencyLayer, End, Gate, GateLayer, Keyed, Observation, Pass, PassFor, RateLimits,
    Refused, StaggerLayer, TokenBudget, TpmBudgetLayer, UntilResponse,
};
use tower::{Layer, ServiceExt, service_fn};

const SEC: Duration = Duration::from_secs(1);

type Slots = ConcurrencyLayer<UntilResponse>;
type OneAtOnce = Keyed<fn(&u64) -> u64, fn(&u64) -> Slots, u64, Slots>;

/// One slot for each key.
fn one_at_once(at_most: usize) -> OneAtOnce {
    let key: fn(&u64) -> u64 = |key| *key;
    let slot: fn(&u64) -> Slots = |_| ConcurrencyLayer::new(1).until_response();
    Keyed::new(key, slot).at_most(at_most)
}

#[tokio::test(start_paused = true)]
async fn keys_do_not_wait_for_each_other() {
    let gates = Keyed::new(
        |(key, _): &(&'static str, u64)| *key,
        |_: &&str| StaggerLayer::new(SEC),
    );
    let start = Instant::now();
    let client = GateLayer::new(gates.clone())
        .by(|(key, _): &(&'static str, u64)| Caller::new(*key))
        .until_response()
        .layer(service_fn(move |_: (&str, u64)| async move {
            Ok::<_, Infallible>(start.elapsed().as_secs())
        }));
    let calls = [("a", 0), ("a", 1), ("b", 0), ("a", 2), ("b", 1)];
    let calls = calls.map(|call| (call.1, tokio::spawn(client.clone().oneshot(call))));
    for (at, call) in calls {
        assert_eq!(call.await.expect("no panic").expect("an answer"), at);
    }
    assert_eq!(gates.keys(), 2);
    assert_eq!(gates.get(&"a").expect("its own").waiting(), 0);
    assert!(gates.get(&"c").is_none());
}

/// What can never pass one key's gate is refused there; others are not asked.
#[tokio::test(start_paused = true)]
async fn a_keys_own_gate_refuses() {
    let gates = Keyed::new(
        |&(limit, _): &(u64, u64)| limit,
        |limit: &u64| {
            let budget = TokenBudget::per_minute(*limit).build().expect("valid");
            TpmBudgetLayer::new(budget, |&(_, cost): &(u64, u64)| cost)
        },
    );
    // A tuple that begins with slots of which none is free.
    let slots = ConcurrencyLayer::new(1);
    let client = GateLayer::new((slots.clone(), gates))
        .until_response()
        .layer(service_fn(async |_: (u64, u64)| {
            sleep(SEC).await;
            Ok::<_, Infallible>(())
        }));
    let first = tokio::spawn(client.clone().oneshot((100, 10)));
    tokio::task::yield_now().await;
    let start = Instant::now();
    let error = client.oneshot((50, 60)).await.expect_err("too large");
    let too_large = Refused::TooLarge {
        cost: 60,
        limit: 50,
    };
    assert_eq!(error.refused(), Some(&too_large));
    assert_eq!(start.elapsed(), Duration::ZERO, "it waits for no slot");
    first.await.expect("no panic").expect("an answer");
}

#[tokio::test(start_paused = true)]
async fn further_keys_share_one_gate_until_one_is_at_rest() {
    let gates = one_at_once(2);
    let start = Instant::now();
    let client = GateLayer::new(gates.clone())
        .until_response()
        .layer(service_fn(move |seconds: u64| async move {
            sleep(Duration::from_secs(seconds)).await;
            Ok::<_, Infallible>(start.elapsed().as_secs())
        }));
    let call = |seconds| tokio::spawn(client.clone().oneshot(seconds));
    // 10 and 20 have gates of their own, 3, 4 and 5 share one.
    let calls = [10, 20, 3, 4, 5].map(call);
    let mut ended = Vec::new();
    for call in calls {
        ended.push(call.await.expect("no panic").expect("an answer"));
    }
    assert_eq!(ended, [10, 20, 3, 7, 12]);
    assert_eq!(gates.keys(), 2);

    // All are at rest, so there is room again.
    call(1).await.expect("no panic").expect("an answer");
    assert_eq!(gates.keys(), 1);
    assert!(gates.get(&10).is_none());
}

/// A minute's tokens are not given anew to who is forgotten and comes again.
#[tokio::test(start_paused = true)]
async fn what_is_not_refilled_is_not_forgotten() {
    let gates = Keyed::new(
        |key: &u64| *key,
        |_: &u64| {
            let budget = TokenBudget::per_minute(60).build().expect("valid");
            TpmBudgetLayer::new(budget, |_: &u64| 60)
        },
    )
    .at_most(1);
    let start = Instant::now();
    let client = GateLayer::new(gates.clone())
        .until_response()
        .layer(service_fn(move |_: u64| async move {
            Ok::<_, Infallible>(start.elapsed())
        }));
    let call = async |key| client.clone().oneshot(key).await.expect("an answer");
    assert_eq!(call(1).await, Duration::ZERO);
    assert_eq!(call(2).await, Duration::ZERO, "by the gate of the rest");
    assert_eq!(call(3).await, 60 * SEC, "by the same");
    assert_eq!(call(4).await, 60 * SEC, "in place of 1, whose is at rest");
    assert_eq!(call(1).await, 120 * SEC, "by that of the rest");
    assert!(gates.get(&1).is_none() && gates.get(&4).is_some());
}

/// Neither function runs under a lock.
#[tokio::test(start_paused = true)]
async fn making_a_gate_may_ask_for_gates() {
    type Make = &'static dyn Fn(&u64) -> ConcurrencyLayer;
    type Gates = Keyed<fn(&u64) -> u64, Make, u64, ConcurrencyLayer>;
    let known: Arc<Mutex<Option<Gates>>> = Arc::default();
    let inner = Arc::clone(&known);
    let make: Make = Box::leak(Box::new(move |key: &u64| {
        let gates = inner.lock().expect("no panic").clone().expect("gates");
        match key.checked_sub(1) {
            // Those of a family share the slots of the first.
            Some(before) => {
                drop(Gate::<u64, ()>::pass(&gates, &before));
                gates.get(&before).expect("made just now")
            }
            None => ConcurrencyLayer::new(3),
        }
    }));
    let gates: Gates = Keyed::new((|key| *key) as fn(&u64) -> u64, make);
    *known.lock().expect("no panic") = Some(gates.clone());
    let mut pass = Gate::<u64, ()>::pass(&gates, &5);
    pass.admitted().await.expect("a slot");
    assert_eq!(gates.keys(), 6);
    assert_eq!(gates.get(&0).expect("the first").in_flight(), 1);
}

/// Gives passes that write down what they are told.
#[derive(Clone, Default)]
struct Listens(Arc<Mutex<Vec<String>>>);

impl Listens {
    fn hear(&self, what: String) {
        self.0.lock().expect("no panic").push(what);
    }
}

impl Gate<u64, u64> for Listens {
    type Pass = Listens;

    fn pass(&self, request: &u64) -> Listens {
        self.hear(format!("asked {request}"));
        self.clone()
    }
}

impl Pass for Listens {
    fn poll_admitted(&mut self, _: &mut Context<'_>, _: &mut Now) -> Poll<Result<(), Refused>> {
        self.hear("polled".into());
        Poll::Ready(Ok(()))
    }

    fn never(&mut self, _: &mut Now) -> Option<Refused> {
        self.hear("never?".into());
        None
    }

    fn launched(&mut self, to: Launch, _: &mut Now) {
        self.hear(format!("launched {to:?}"));
    }

    fn chunk(&mut self, data: &[u8]) {
        self.hear(format!("chunk {data:?}"));
    }

    fn ended(&mut self, end: End, _: &mut Now) {
        self.hear(format!("ended {end:?}"));
    }
}

impl PassFor<u64> for Listens {
    fn answered(&mut self, response: &u64, _: &mut Now) {
        self.hear(format!("answered {response}"));
    }

    fn completed(&mut self, response: &u64, _: &mut Now) {
        self.hear(format!("completed {response}"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_keys_own_gate_is_told_all() {
    let heard = Listens::default();
    let gates = Keyed::new(|key: &u64| *key, |_: &u64| heard.clone());
    let now = &mut Now::unread();
    let mut pass = Gate::<u64, u64>::pass(&gates, &7);
    assert!(pass.never(now).is_none());
    pass.admitted().await.expect("no refusal");
    pass.launched(Launch::ToWire, now);
    pass.answered(&200, now);
    pass.chunk(b"a");
    pass.ended(End::Complete, now);
    pass.completed(&204, now);
    let heard = heard.0.lock().expect("no panic");
    assert_eq!(
        *heard,
        [
            "asked 7",
            "never?",
            "polled",
            "launched ToWire",
            "answered 200",
            "chunk [97]",
            "ended Complete",
            "completed 204"
        ]
    );
}

/// It would let one request at a time through until an answer names the limit again.
#[tokio::test(start_paused = true)]
async fn a_gate_that_has_learned_its_limit_is_not_forgotten() {
    let gates = Keyed::new(
        |_: &u64| (),
        |(): &()| {
            let budget = TokenBudget::per_minute(60).learn_tokens(true);
            let budget = budget.build().expect("valid");
            TpmBudgetLayer::new(budget, |_: &u64| 10).observe(|limit: &u64| {
                let limits = RateLimits {
                    limit_tokens: Some(*limit).filter(|limit| *limit > 0),
                    ..RateLimits::default()
                };
                let denial = None;
                Observation { limits, denial }
            })
        },
    );
    let is_at_rest_after = async |limit: u64| {
        let client = GateLayer::new(gates.clone())
            .until_response()
            .layer(service_fn(move |_: u64| async move {
                Ok::<_, Infallible>(limit)
            }));
        client.oneshot(1).await.expect("an answer");
        sleep(60 * SEC).await;
        Gate::<u64, u64>::is_at_rest(&gates)
    };
    assert!(is_at_rest_after(0).await, "none was named");
    assert!(!is_at_rest_after(600).await);
}

/// Whether somebody is on his way, or what he took has not refilled.
#[tokio::test(start_paused = true)]
async fn gates_are_at_rest_when_each_of_them_is() {
    let gates = Keyed::new(
        |key: &u64| *key,
        |_: &u64| {
            let budget = TokenBudget::per_minute(60).build().expect("valid");
            TpmBudgetLayer::new(budget, |_: &u64| 60)
        },
    )
    .at_most(1);
    let is_at_rest = || Gate::<u64, ()>::is_at_rest(&gates);
    assert!(is_at_rest());
    // A gate of its own, and that of the rest.
    for key in [1, 2] {
        let first = Gate::<u64, ()>::pass(&gates, &1);
        let mut pass = Gate::<u64, ()>::pass(&gates, &key);
        assert!(!is_at_rest(), "a way through is begun");
        pass.admitted().await.expect("a minute's worth");
        pass.completed(&(), &mut Now::unread());
        drop((pass, first));
        assert!(!is_at_rest(), "all is spent");
        sleep(59 * SEC).await;
        assert!(!is_at_rest(), "the minute's window still counts it");
        sleep(SEC).await;
        assert!(is_at_rest());
    }
    assert_eq!(gates.keys(), 1);
}

/// Who asks is nothing that a gate would have to be kept for.
#[tokio::test(start_paused = true)]
async fn a_gate_that_is_told_who_asks_is_forgotten_as_any_other() {
    let gates = Keyed::new(
        |key: &u64| *key,
        |_: &u64| ConcurrencyLayer::new(1).by(|_: &u64| Caller::new("a")),
    )
    .at_most(1);
    let mut first = Gate::<u64, ()>::pass(&gates, &1);
    first.admitted().await.expect("a slot");
    let own = gates.get(&1).expect("its own");
    assert!(!Gate::<u64, ()>::is_at_rest(&own), "one is inside");
    drop(first);
    drop(own);
    drop(Gate::<u64, ()>::pass(&gates, &2));
    assert!(gates.get(&1).is_none() && gates.get(&2).is_some());
}

type Hook = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A slot, and something that happens once while somebody asks whether it is at rest.
#[derive(Clone)]
struct Meanwhile(Slots, Hook);

impl Meanwhile {
    fn happens(&self) {
        let hook = self.1.lock().expect("no panic").take();
        if let Some(hook) = hook {
            hook();
        }
    }
}

impl Gate<u64, ()> for Meanwhile {
    type Pass = <Slots as Gate<u64, ()>>::Pass;

    fn pass(&self, request: &u64) -> Self::Pass {
        Gate::<u64, ()>::pass(&self.0, request)
    }

    fn is_at_rest(&self) -> bool {
        let rests = Gate::<u64, ()>::is_at_rest(&self.0);
        self.happens();
        rests
    }
}

/// Somebody comes for a gate just when it was found at rest.
#[tokio::test(start_paused = true)]
async fn a_gate_that_is_asked_meanwhile_is_not_forgotten() {
    let hook = Hook::default();
    let for_gates = Arc::clone(&hook);
    let gates = Keyed::new(
        |key: &u64| *key,
        move |_: &u64| {
            Meanwhile(
                ConcurrencyLayer::new(1).until_response(),
                Arc::clone(&for_gates),
            )
        },
    )
    .at_most(1);
    drop(Gate::<u64, ()>::pass(&gates, &1));
    let kept = Arc::new(Mutex::new(None));
    *hook.lock().expect("no panic") = Some(Box::new({
        let (gates, kept) = (gates.clone(), Arc::clone(&kept));
        move || *kept.lock().expect("no panic") = Some(Gate::<u64, ()>::pass(&gates, &1))
    }));
    let of_another = Gate::<u64, ()>::pass(&gates, &2);
    assert!(gates.get(&1).is_some() && gates.get(&2).is_none());
    drop((kept, of_another));
}

/// A key comes again while its gate is made.
#[tokio::test(start_paused = true)]
async fn of_two_gates_that_are_made_for_a_key_one_is_kept() {
    let hook = Hook::default();
    let for_gates = Arc::clone(&hook);
    let gates = Keyed::new(
        |key: &u64| *key,
        move |_: &u64| {
            let made = ConcurrencyLayer::new(1).until_response();
            Meanwhile(made.clone(), Arc::clone(&for_gates)).happens();
            made
        },
    );
    let meanwhile = Arc::new(Mutex::new(None));
    *hook.lock().expect("no panic") = Some(Box::new({
        let (gates, meanwhile) = (gates.clone(), Arc::clone(&meanwhile));
        move || *meanwhile.lock().expect("no panic") = Some(Gate::<u64, ()>::pass(&gates, &1))
    }));
    let mut first = Gate::<u64, ()>::pass(&gates, &1);
    first.admitted().await.expect("a slot");
    let second = meanwhile.lock().expect("no panic").take();
    let mut second = second.expect("it came meanwhile");
    let mut second = tokio_test::task::spawn(second.admitted());
    tokio_test::assert_pending!(second.poll());
}

/// However many come at once and however often gates are forgotten: of each key, one at a
/// time.
#[test]
fn no_key_ever_has_two_gates() {
    const THREADS: u64 = 4;
    const CALLS: u64 = 3_000;
    let gates = one_at_once(3);
    let busy: Vec<AtomicUsize> = (0..8).map(|_| AtomicUsize::new(0)).collect();
    let passed: HashMap<u64, u64> = std::thread::scope(|threads| {
        let threads = (0..THREADS).map(|thread| {
            let (gates, busy) = (&gates, &busy);
            threads.spawn(move || {
                let mut random = fastrand::Rng::with_seed(thread);
                let mut passed: HashMap<u64, u64> = HashMap::new();
                for _ in 0..CALLS {
                    let key = random.u64(..8);
                    let mut pass = Gate::<u64, ()>::pass(gates, &key);
                    let admitted = tokio_test::block_on(pass.admitted());
                    admitted.expect("nobody closes it");
                    let at_once = busy[key as usize].fetch_add(1, Ordering::SeqCst);
                    assert_eq!(at_once, 0, "{key}");
                    std::thread::yield_now();
                    busy[key as usize].fetch_sub(1, Ordering::SeqCst);
                    drop(pass);
                    *passed.entry(key).or_default() += 1;
                }
                passed
            })
        });
        let threads: Vec<_> = threads.collect();
        let all = threads
            .into_iter()
            .flat_map(|thread| thread.join().expect("no panic"));
        all.fold(HashMap::new(), |mut sum, (key, count)| {
            *sum.entry(key).or_default() += count;
            sum
        })
    });
    assert_eq!(passed.values().sum::<u64>(), THREADS * CALLS);
    assert!(gates.keys() <= 3);
    assert!(Gate::<u64, ()>::is_at_rest(&gates));
}

/// Who came by the gate of the rest has no other one beside it.
#[tokio::test(start_paused = true)]
async fn a_key_of_the_rest_gets_no_gate_of_its_own_beside_it() {
    let gates = one_at_once(1);
    let pass = |key| Gate::<u64, ()>::pass(&gates, &key);
    let mut own = pass(1);
    own.admitted().await.expect("a slot");
    let mut shared = pass(2);
    shared.admitted().await.expect("the slot of the rest");
    drop(own);
    let mut again = pass(2);
    let mut again = tokio_test::task::spawn(again.admitted());
    tokio_test::assert_pending!(again.poll(), "two of one key");
    // Another one may have what is free.
    pass(3).admitted().await.expect("a slot");
    drop(shared);
    assert!(again.is_woken());
}

/// Somebody asks to see a gate just when it was found at rest.
#[tokio::test(start_paused = true)]
async fn a_gate_that_somebody_got_meanwhile_is_not_forgotten() {
    let hook = Hook::default();
    let for_gates = Arc::clone(&hook);
    let gates = Keyed::new(
        |key: &u64| *key,
        move |_: &u64| {
            Meanwhile(
                ConcurrencyLayer::new(1).until_response(),
                Arc::clone(&for_gates),
            )
        },
    )
    .at_most(1);
    drop(Gate::<u64, ()>::pass(&gates, &1));
    let kept = Arc::new(Mutex::new(None));
    *hook.lock().expect("no panic") = Some(Box::new({
        let (gates, kept) = (gates.clone(), Arc::clone(&kept));
        move || *kept.lock().expect("no panic") = gates.get(&1)
    }));
    let of_another = Gate::<u64, ()>::pass(&gates, &2);
    assert!(gates.get(&1).is_some() && gates.get(&2).is_none());
    drop((kept, of_another));
}

/// Keys within keys: whoever has a clone may begin a way through it.
#[test]
fn a_clone_keeps_gates_within_gates_from_being_forgotten() {
    let inner = one_at_once(1);
    assert!(Gate::<u64, ()>::is_at_rest(&inner));
    let clone = inner.clone();
    assert!(!Gate::<u64, ()>::is_at_rest(&inner));
    drop(clone);
    assert!(Gate::<u64, ()>::is_at_rest(&inner));
}

/// A key that is let in no more is not let in for having been forgotten.
#[tokio::test(start_paused = true)]
async fn a_gate_that_is_closed_is_not_forgotten() {
    let gates = Keyed::new(
        |key: &u64| *key,
        |_: &u64| {
            let budget = TokenBudget::per_minute(60).build().expect("valid");
            (
                ConcurrencyLayer::new(1),
                StaggerLayer::new(SEC),
                TpmBudgetLayer::new(budget, |_: &u64| 1),
            )
        },
    )
    .at_most(3);
    let pass = |key| Gate::<u64, ()>::pass(&gates, &key);
    (0..3).for_each(|key| drop(pass(key)));
    gates.get(&0).expect("its own").0.close();
    gates.get(&1).expect("its own").1.close();
    gates.get(&2).expect("its own").2.budget().close();
    pass(3).admitted().await.expect("whose is not closed");
    for key in 0..3 {
        assert_eq!(pass(key).admitted().await, Err(Refused::Closed), "{key}");
    }
}
