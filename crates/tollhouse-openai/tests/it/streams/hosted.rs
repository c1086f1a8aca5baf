//! Calls that use twenty times what could be foreseen, as hosted tools make
//! them: the provider adds input that nobody sees.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tollhouse_openai::{ChargeRule, Cost, Limit, Policy};
use tower::{Layer, ServiceExt, service_fn};

use super::support::SEC;

const LIMIT: f64 = 30_000.0;

/// Charges 54 tokens when it admits a call and 1,080 when it answers, out of a
/// bucket that refills all the time.
struct Account {
    level: f64,
    seen: Instant,
    refused: u32,
}

impl Account {
    fn take(&mut self, tokens: f64) {
        let now = Instant::now();
        let refilled = (now - self.seen).as_secs_f64() * LIMIT / 60.0;
        self.level = (self.level + refilled).min(LIMIT) - tokens;
        self.seen = now;
    }

    fn admit(&mut self, charge: f64) -> bool {
        self.take(0.0);
        let fits = self.level >= charge;
        if fits {
            self.take(charge);
        } else {
            self.refused += 1;
        }
        fits
    }
}

fn request() -> Request<Bytes> {
    let body = r#"{"model":"gpt-4.1","max_output_tokens":33,"input":"What is new in the world of tower middleware? Search."}"#;
    let request = Request::post("/v1/responses").body(Bytes::from(body));
    request.expect("a request")
}

const CHARGE: f64 = 54.0;
const REAL: f64 = 20.0 * CHARGE;

/// Sixty calls at once through a policy: how many the account refused, and how
/// many seconds all took.
async fn sixty_calls(policy: &Policy) -> (u32, f64) {
    assert_eq!(ChargeRule::Safe.cost(&request()), CHARGE as u64);
    let start = Instant::now();
    let account = Arc::new(Mutex::new(Account {
        level: LIMIT,
        seen: start,
        refused: 0,
    }));
    let shared = Arc::clone(&account);
    let provider = service_fn(move |_: Request<Bytes>| {
        let account = Arc::clone(&shared);
        async move {
            if !account.lock().expect("an account").admit(CHARGE) {
                let busy = Response::builder().status(429).body(Full::default());
                return Ok::<_, Infallible>(busy.expect("a response"));
            }
            sleep(3 * SEC).await;
            account.lock().expect("an account").take(REAL - CHARGE);
            let body = format!(r#"{{"usage":{{"total_tokens":{REAL}}}}}"#);
            Ok(Response::new(Full::new(Bytes::from(body))))
        }
    });
    let client = policy.layer().layer(provider);
    let mut calls = JoinSet::new();
    for _ in 0..60 {
        let client = client.clone();
        calls.spawn(async move {
            let answer = client.oneshot(request()).await.expect("an answer");
            assert_eq!(answer.status(), 200);
            answer.into_body().collect().await.expect("a body");
        });
    }
    calls.join_all().await;
    let refused = account.lock().expect("an account").refused;
    (refused, start.elapsed().as_secs_f64())
}

fn policy() -> Policy {
    Policy::default()
        .tpm_limit(Limit::per_minute(LIMIT as u64))
        .headroom(0.0)
        .stagger(SEC / 10)
        .max_concurrency(8)
}

#[tokio::test(start_paused = true)]
async fn usage_of_twenty_times_the_estimate_is_waited_off_and_never_refused() {
    let policy = policy();
    let (refused, took) = sixty_calls(&policy).await;
    assert_eq!(refused, 0);
    // 64,800 tokens, of which 30,000 were there at once; nobody waits off what
    // the last eight use.
    let waited_off = 60.0 * REAL - LIMIT - 8.0 * REAL;
    assert!(took >= waited_off / LIMIT * 60.0, "{took}");
    assert_eq!(policy.learned(), []);
}

#[tokio::test(start_paused = true)]
async fn what_was_learned_of_them_is_reserved_beforehand() {
    let policy = policy().learn_factor(true);
    let (refused, _) = sixty_calls(&policy).await;
    assert_eq!(refused, 0);
    let known = policy.learned();
    assert_eq!(known.len(), 1);
    assert_eq!(
        (known[0].endpoint, &*known[0].model),
        ("responses", "gpt-4.1")
    );
    assert_eq!((known[0].factor, known[0].calls), (Some(20.0), 60));

    sleep(300 * SEC).await;
    let before = policy.budget().snapshot().level;
    let provider = service_fn(|_: Request<Bytes>| async {
        std::future::pending::<Result<Response<Full<Bytes>>, Infallible>>().await
    });
    let call = policy.layer().layer(provider).oneshot(request());
    assert!(tokio::time::timeout(SEC, call).await.is_err());
    assert_eq!(before - policy.budget().snapshot().level, REAL as i64);
}
