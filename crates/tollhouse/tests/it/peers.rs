//! What `docs/comparison.md` says of other Rust crates, run against them: a
//! release of theirs that changes it fails here.

use std::convert::Infallible;
use std::num::NonZeroU32;
use std::time::Duration;

use bytes::Bytes;
use governor::clock::FakeRelativeClock;
use governor::{Quota, RateLimiter};
use http::{Request, Response};
use http_body_util::Full;
use tokio::time::{Instant, advance, timeout};
use tollhouse::{ConcurrencyLayer, TokenBudget, TpmBudgetLayer};
use tower::limit::{ConcurrencyLimitLayer, RateLimitLayer};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_resilience::ratelimiter::RateLimiterLayer;

async fn answer(_: Request<Bytes>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(Response::new(Full::from("a stream of tokens")))
}

fn request() -> Request<Bytes> {
    Request::new(Bytes::new())
}

/// Whether a second call is let in while the first one's body is unread.
async fn overlaps<S, B>(service: S) -> bool
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone,
    S::Error: std::fmt::Debug,
{
    let first = service.clone().oneshot(request()).await;
    let second = timeout(Duration::from_secs(60), service.oneshot(request())).await;
    drop(first.expect("an answer"));
    second.is_ok()
}

#[tokio::test(start_paused = true)]
async fn tower_frees_a_slot_at_the_head_of_an_answer() {
    assert!(overlaps(ConcurrencyLimitLayer::new(1).layer(service_fn(answer))).await);
    assert!(!overlaps(ConcurrencyLayer::new(1).layer(service_fn(answer))).await);
}

/// One call goes at the beginning of a window whose limit is four; how many are
/// launched in the two seconds around its end, if many want to?
#[tokio::test(start_paused = true)]
async fn tower_lets_two_windows_into_one_minute() {
    let minute = Duration::from_secs(60);
    let mut service = RateLimitLayer::new(4, minute).layer(service_fn(answer));
    let start = Instant::now();
    let first = service.ready().await.expect("it never fails");
    drop(first.call(request()).await);
    advance(Duration::from_secs(59)).await;
    let mut launched = 0;
    while start.elapsed() <= Duration::from_secs(61) {
        let ready = service.ready().await.expect("it never fails");
        drop(ready.call(request()).await);
        launched += 1;
    }
    // The last one waited for a third window.
    assert_eq!(start.elapsed(), 2 * minute);
    assert_eq!(launched - 1, 7, "of four a minute");
}

#[tokio::test(start_paused = true)]
async fn tower_resilience_rejects_after_its_timeout() {
    let layer = RateLimiterLayer::per_minute(1).build().expect("a limit");
    let service = layer.layer(service_fn(answer));
    let start = Instant::now();
    service.clone().oneshot(request()).await.expect("the first");
    let second = service.oneshot(request()).await;
    assert!(second.is_err(), "the second is turned away");
    assert_eq!(start.elapsed(), Duration::from_secs(1));
}

/// Small calls come ten times a second, each a hundredth of the limit; one large
/// call wants half of it.
#[test]
fn governor_starves_the_large() {
    let limit = NonZeroU32::new(6000).expect("a limit");
    let clock = FakeRelativeClock::default();
    let bucket = RateLimiter::direct_with_clock(Quota::per_minute(limit), clock.clone());
    let (small, large) = (NonZeroU32::new(60).unwrap(), NonZeroU32::new(3000).unwrap());
    let all = bucket.check_n(limit).expect("it fits the burst");
    all.expect("it starts full");
    for tenth in 0..36_000 {
        clock.advance(Duration::from_millis(100));
        let let_in = bucket.check_n(large).expect("it fits the burst").is_ok();
        assert!(!let_in, "the large one is let in after {tenth} tenths");
        // Each takes what came in ten tenths; whoever asks first has it.
        let _ = bucket.check_n(small).expect("it fits the burst");
    }
}

/// The same load here: the line is first come, first served.
#[tokio::test(start_paused = true)]
async fn tollhouse_does_not() {
    let budget = TokenBudget::per_minute(6000).headroom(0.0).build();
    let layer = TpmBudgetLayer::new(budget.expect("a limit"), |request: &Request<Bytes>| {
        request.body().len() as u64
    });
    let service = layer.layer(service_fn(answer));
    let sized = |cost: usize| Request::new(Bytes::from(vec![0; cost]));
    let all = service.clone().oneshot(sized(6000)).await;
    drop(all.expect("it starts full"));

    let start = Instant::now();
    let large = tokio::spawn(service.clone().oneshot(sized(3000)));
    let small = tokio::spawn(async move {
        for _ in 0..900 {
            tokio::time::sleep(Duration::from_millis(100)).await;
            tokio::spawn(service.clone().oneshot(sized(60)));
        }
    });
    large.await.expect("a task").expect("an answer");
    // When the first minute's tokens leave the window: nobody came before it.
    assert_eq!(start.elapsed(), Duration::from_secs(60));
    small.abort();
}
