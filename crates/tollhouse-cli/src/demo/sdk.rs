//! What the official SDKs do about a failed call.
//!
//! openai-python 3.54.0 and openai-node 7.57.0: two retries after 408, 409,
//! 429, any 5xx and broken connections; the delay is that of `retry-after-ms` or
//! `retry-after`, else 0.5 s doubled up to 8 s, less up to a quarter at random.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use tokio::time::{Duration, sleep};
use tower::{Service, ServiceExt, service_fn};

const RETRIES: u32 = 2;
const FIRST: f64 = 0.5;
const LONGEST: f64 = 8.0;

/// A client that retries as the official SDKs do, so many times faster.
pub(super) fn retrying<S, B>(
    client: S,
    speed: f64,
    seed: u64,
) -> impl Service<Request<Bytes>, Response = Response<B>, Error = S::Error, Future: Send>
+ Clone
+ Send
+ 'static
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Send,
    B: Send + 'static,
{
    let random = Arc::new(Mutex::new(fastrand::Rng::with_seed(seed)));
    service_fn(move |request: Request<Bytes>| {
        let (client, random) = (client.clone(), Arc::clone(&random));
        async move {
            for retries in 0..RETRIES {
                let result = client.clone().oneshot(request.clone()).await;
                let told = match &result {
                    Ok(response) if !is_retried(response.status()) => return result,
                    Ok(response) => told(response.headers()),
                    Err(_) => None,
                };
                let share = random.lock().unwrap_or_else(PoisonError::into_inner).f64();
                let own = || backoff(retries, share).div_f64(speed);
                sleep(told.unwrap_or_else(own)).await;
            }
            client.oneshot(request).await
        }
    })
}

fn is_retried(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 429 | 500..)
}

fn backoff(retries: u32, share: f64) -> Duration {
    let longest = (FIRST * f64::from(1 << retries)).min(LONGEST);
    Duration::from_secs_f64(longest * (1.0 - 0.25 * share))
}

/// A provider tells delays in the client's time, whatever its own speed.
fn told(headers: &HeaderMap) -> Option<Duration> {
    let number = |name| headers.get(name)?.to_str().ok()?.parse::<f64>().ok();
    let millis = number("retry-after-ms").map(|millis| millis / 1_000.0);
    let seconds = millis.or_else(|| number("retry-after"))?;
    let delay = Duration::try_from_secs_f64(seconds).ok()?;
    (!delay.is_zero()).then_some(delay)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::sync::atomic::{AtomicU32, Ordering};

    use tokio::time::Instant;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn gives_up_after_two_retries() {
        let calls = Arc::new(AtomicU32::new(0));
        let count = Arc::clone(&calls);
        let busy = service_fn(move |_: Request<Bytes>| {
            count.fetch_add(1, Ordering::Relaxed);
            let response = Response::builder().status(429).body(());
            std::future::ready(Ok::<_, Infallible>(response.expect("a response")))
        });
        let begin = Instant::now();
        let client = retrying(busy, 10.0, 1);
        let response = client.oneshot(Request::default()).await.expect("an answer");
        assert_eq!(response.status(), 429);
        assert_eq!(calls.load(Ordering::Relaxed), 3);
        // 0.5 s and 1 s, each less up to a quarter, ten times faster.
        let took = begin.elapsed().as_secs_f64();
        assert!((0.1125..=0.152).contains(&took), "{took}");
    }

    #[test]
    fn told_delay_goes_first() {
        let headers = |name: &'static str, value: &'static str| {
            HeaderMap::from_iter([(
                name.parse().expect("a name"),
                value.parse().expect("a value"),
            )])
        };
        let seconds = |name, value| told(&headers(name, value)).map(|told| told.as_secs_f64());
        assert_eq!(seconds("retry-after-ms", "250"), Some(0.25));
        assert_eq!(seconds("retry-after", "1.5"), Some(1.5));
        assert_eq!(seconds("retry-after", "0"), None);
        assert_eq!(seconds("retry-after", "-1"), None);
        assert_eq!(seconds("retry-after", "soon"), None);
    }
}
