//! What happens where the ledger's assumptions do not hold: README's known limits in
//! numbers, and what the sliding minute costs.
//!
//! `TOLLHOUSE_SCHEDULES=1 cargo test -p tollhouse-workspace --test it assumptions --
//! --nocapture` prints what is measured here, in virtual time; the bounds that are asserted
//! are a little wider than the numbers that the pages tell.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use futures_util::future::join_all;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::time::{Instant, sleep};
use tollhouse_openai::{Limit, Policy, TokenBudget, Window};
use tollhouse_sim::{Enforcement, Sim};
use tower::{Layer, Service, ServiceExt};

use crate::support::{Provider, chat, has_time};

const SEC: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Tokens a minute that the provider has.
const LIMIT: u64 = 60_000;

/// What a call is charged, where nothing else is said: the answer, and five of prompt.
const CALL: u64 = 250;

/// What came of a load.
struct Outcome {
    /// Calls that the provider refused, of all that it counted, in percent.
    refused: f64,
    /// Tokens charged, of all that the provider would have allowed, in percent.
    used: f64,
}

impl Outcome {
    fn is_within(&self, what: &str, most_refused: f64, least_used: f64) {
        let Outcome { refused, used } = self;
        println!("{what}: {refused:.1} % refused, {used:.1} % used");
        assert!(*refused <= most_refused, "{what}: {refused} % refused");
        assert!(*used >= least_used, "{what}: {used} % used");
    }
}

/// Callers who ask, read the answer and ask again, and what each call is charged.
#[derive(Clone, Copy)]
struct Load {
    callers: usize,
    minutes: u32,
    call: u64,
}

impl Load {
    /// More than there is to have.
    const HEAVY: Load = Load {
        callers: 120,
        minutes: 5,
        call: CALL,
    };

    async fn run<S>(self, policy: &Policy, provider: S)
    where
        S: Service<Request<Bytes>, Response = Response<Body>, Error = std::io::Error> + Clone,
        S::Future: Send,
    {
        let client = policy.layer().layer(provider);
        let end = Instant::now() + self.minutes * MINUTE;
        let caller = async || {
            while Instant::now() < end {
                let answer = client.clone().oneshot(chat("Why?", self.call - 5)).await;
                // One that was refused on all its attempts is in the provider's count.
                if let Ok(answer) = answer {
                    answer.into_body().collect().await.expect("a whole body");
                }
            }
        };
        join_all((0..self.callers).map(|_| caller())).await;
    }
}

fn policy() -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(500)
        .tpm_limit(Limit::per_minute(LIMIT))
}

fn sim(limit: u64, enforcement: Enforcement) -> Sim {
    let sim = Sim::builder()
        .tokens_per_minute(limit)
        .enforcement(enforcement)
        .latency(Duration::from_millis(800), Duration::from_millis(1));
    sim.build().expect("a valid simulation")
}

/// Of all the accounts together.
fn outcome(sims: &[Sim]) -> Outcome {
    let (mut arrived, mut refused, mut charged, mut allowed) = (0, 0, 0, 0);
    for sim in sims {
        let report = sim.report();
        arrived += report.arrived;
        refused += report.total.rejected.total();
        charged += report.total.tokens_charged;
        allowed += report.total.tokens_allowed.expect("limited");
    }
    Outcome {
        refused: 100.0 * refused as f64 / arrived as f64,
        used: 100.0 * charged as f64 / allowed as f64,
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Response<Body>, std::io::Error>> + Send>>;

/// A provider made of a closure that can be called by many.
#[derive(Clone)]
struct With<F>(F);

impl<F: FnMut(Request<Bytes>) -> Answer> Service<Request<Bytes>> for With<F> {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), std::io::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Answer {
        (self.0)(request)
    }
}

/// The same numbers in every run: from 0 to 1, by a full-period generator.
fn fraction(state: &AtomicU64) -> f64 {
    let step = |n: u64| Some(n.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
    let n = state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
    (n.expect("always some") >> 11) as f64 / (1u64 << 53) as f64
}

/// Requests that are under way for 5 to 30 seconds, each for another time.
async fn late(enforcement: Enforcement, headroom: f64) -> Outcome {
    let sim = sim(LIMIT, enforcement);
    let provider = Provider::new(sim.clone());
    let random = Arc::new(AtomicU64::new(1));
    let late = With(move |request| -> Answer {
        let under_way = SEC * 5 + (25 * SEC).mul_f64(fraction(&random));
        let provider = provider.clone();
        Box::pin(async move {
            sleep(under_way).await;
            provider.oneshot(request).await
        })
    });
    let load = Load {
        callers: 60,
        minutes: 10,
        call: 500,
    };
    load.run(&policy().headroom(headroom), late).await;
    outcome(&[sim])
}

#[tokio::test(start_paused = true)]
async fn requests_that_arrive_late() {
    let by_the_clock = Enforcement::FixedMinute {
        phase: Duration::ZERO,
    };
    for (enforcement, headroom, refused, used) in [
        (Enforcement::Continuous, 0.0, 2.0, 90.0),
        (Enforcement::Continuous, 0.15, 2.0, 90.0),
        (by_the_clock, 0.15, 1.0, 80.0),
        (Enforcement::SlidingMinute, 0.15, 5.0, 25.0),
    ] {
        let what = format!("5 to 30 s late, {enforcement:?}, headroom {headroom}");
        late(enforcement, headroom)
            .await
            .is_within(&what, refused, used);
    }
}

/// A provider that has a sixtieth of its limit for each second, by the clock, and tells
/// only how long to wait.
async fn by_the_second(policy: Policy) -> Outcome {
    let sim = sim(10 * LIMIT, Enforcement::Continuous);
    let provider = Provider::new(sim.clone());
    let second = Arc::new(Mutex::new((0, 0)));
    let refused = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let counted = Arc::clone(&refused);
    let service = With(move |request| -> Answer {
        let mut second = second.lock().expect("no panic");
        let now = start.elapsed().as_secs();
        if second.0 != now {
            *second = (now, 0);
        }
        if second.1 + CALL > LIMIT / 60 {
            counted.fetch_add(1, Ordering::Relaxed);
            return Box::pin(std::future::ready(Ok(refusal())));
        }
        second.1 += CALL;
        let provider = provider.clone();
        Box::pin(async move {
            let mut answer = provider.oneshot(request).await?;
            // The account behind it is larger, and nobody hears of it.
            answer.headers_mut().clear();
            Ok(answer)
        })
    });
    Load::HEAVY.run(&policy, service).await;
    let report = sim.report();
    let (refused, total) = (refused.load(Ordering::Relaxed) as f64, report.total);
    let allowed = report.elapsed_minutes * LIMIT as f64;
    Outcome {
        refused: 100.0 * refused / (refused + report.arrived as f64),
        used: 100.0 * total.tokens_charged as f64 / allowed,
    }
}

fn refusal() -> Response<Body> {
    let said = r#"{"error":{"message":"Rate limit reached on tokens per min (TPM).
        Please try again in 1s.","code":"rate_limit_exceeded","type":"tokens"}}"#;
    Response::builder()
        .status(429)
        .header("retry-after", "1")
        .header("content-type", "application/json")
        .body(Body::from(said.replace('\n', " ")))
        .expect("a valid response")
}

/// A burst of a second's worth is the way out.
#[tokio::test(start_paused = true)]
async fn tokens_counted_by_the_second() {
    let as_it_is = by_the_second(policy()).await;
    as_it_is.is_within("tokens by the second", 25.0, 65.0);
    let burst = by_the_second(policy().burst(LIMIT / 60)).await;
    burst.is_within("tokens by the second, burst of a second", 1.0, 70.0);
}

/// A gateway that gives each request to the next of its accounts, or to any.
async fn accounts(accounts: u64, told: u64, in_turn: bool) -> Outcome {
    let sims: Vec<_> = (0..accounts)
        .map(|_| sim(LIMIT / accounts, Enforcement::Continuous))
        .collect();
    let providers: Vec<_> = sims.iter().cloned().map(Provider::new).collect();
    let (last, random) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicU64::new(1)));
    let gateway = With(move |request| -> Answer {
        let next = match in_turn {
            true => last.fetch_add(1, Ordering::Relaxed) % providers.len(),
            false => (fraction(&random) * providers.len() as f64) as usize,
        };
        Box::pin(providers[next].clone().oneshot(request))
    });
    let policy = policy().tpm_limit(Limit::per_minute(told));
    Load::HEAVY.run(&policy, gateway).await;
    outcome(&sims)
}

#[tokio::test(start_paused = true)]
async fn several_accounts_behind_one_key() {
    for (count, in_turn, refused, used) in [
        (2, true, 1.0, 90.0),
        (4, true, 1.0, 85.0),
        (2, false, 5.0, 90.0),
        (4, false, 8.0, 85.0),
    ] {
        // Told the limit of all of them; and of one, where there is time.
        let all = [LIMIT, LIMIT / count];
        for &told in if has_time() { &all[..] } else { &all[..1] } {
            let how = if in_turn { "in turn" } else { "at random" };
            let what = format!("{count} accounts {how}, told {told} of {LIMIT}");
            accounts(count, told, in_turn)
                .await
                .is_within(&what, refused, used);
        }
    }
}

/// Tokens that one spender gets in so many minutes, in percent of the limit.
async fn spent(window: Window, headroom: f64, minutes: u32) -> f64 {
    let budget = TokenBudget::per_minute(LIMIT)
        .headroom(headroom)
        .window(window);
    let budget = budget.build().expect("valid");
    let end = Instant::now() + minutes * MINUTE;
    let mut spent = 0;
    loop {
        let reservation = budget.reserve(CALL).await.expect("it fits");
        if Instant::now() >= end {
            return 100.0 * spent as f64 / LIMIT as f64;
        }
        reservation.launched();
        spent += CALL;
        // Answered after three seconds; landed after two.
        tokio::spawn(async move {
            sleep(3 * SEC).await;
            reservation.settle(CALL);
        });
    }
}

/// The first minute: the window withholds what would refill beside the first burst. Then
/// two seconds of transit in each minute, and nothing where the headroom is more than that.
#[tokio::test(start_paused = true)]
async fn what_the_window_costs() {
    for (headroom, minutes, on, off) in [
        (0.0, 1, 100.0, 196.5),
        (0.0, 10, 1_000.0, 1_096.5),
        (0.0, 60, 5_900.0, 6_096.5),
        (0.15, 1, 100.0, 167.0),
        (0.15, 10, 932.0, 932.0),
    ] {
        let with = spent(Window::On, headroom, minutes).await;
        let without = spent(Window::Off, headroom, minutes).await;
        println!("headroom {headroom}, {minutes} min: on {with:.1} %, off {without:.1} %");
        assert!(
            (with - on).abs() < 2.0 && (without - off).abs() < 2.0,
            "{with} {without}"
        );
    }
}

/// `Window::Auto` lets go once the headers have shown a continuous refill, and keeps the
/// window for good where they do not tell resets.
#[tokio::test(start_paused = true)]
async fn the_window_goes_only_where_resets_are_told() {
    for tells in [true, false] {
        let provider = Provider::new(sim(LIMIT, Enforcement::Continuous));
        let answers = With(move |request| -> Answer {
            let provider = provider.clone();
            Box::pin(async move {
                let mut answer = provider.oneshot(request).await?;
                if !tells {
                    answer.headers_mut().remove("x-ratelimit-reset-tokens");
                }
                Ok(answer)
            })
        });
        let policy = policy();
        let load = Load {
            callers: 40,
            ..Load::HEAVY
        };
        load.run(&policy, answers).await;
        assert_eq!(policy.budget().snapshot().windowed, !tells);
    }
}
