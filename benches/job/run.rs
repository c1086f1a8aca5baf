//! One job, through one policy, against one simulated provider.

use std::error::Error as StdError;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use http_body_util::BodyExt;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tollhouse_openai::Policy;
use tower::{Layer, Service, ServiceExt};

/// What the client's side saw.
#[derive(Clone, Debug)]
pub(crate) struct Outcome {
    /// From the first call to the last byte of the last answer.
    pub(crate) time: Duration,
    /// Calls that got a good answer, to its last byte.
    pub(crate) answered: u64,
    /// What the call that was sent last took from then on.
    pub(crate) latency: Duration,
}

/// Makes all calls at once and waits for every answer.
pub(crate) async fn run<S, B>(policy: &Policy, client: S, calls: Vec<Request<Bytes>>) -> Outcome
where
    S: Service<Request<Bytes>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: StdError + Send + Sync + 'static,
    B: http_body::Body<Data = Bytes> + Send + Unpin + 'static,
    B::Error: StdError + Send + Sync + 'static,
{
    let timed = Timed::new(client);
    let client = policy.layer().layer(timed.clone());
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for call in calls {
        let client = client.clone();
        tasks.spawn(async move {
            let Ok(answer) = client.oneshot(call).await else {
                return false;
            };
            let good = answer.status().is_success();
            good && answer.into_body().collect().await.is_ok()
        });
    }
    let answered = tasks.join_all().await.into_iter().filter(|good| *good);
    Outcome {
        answered: answered.count() as u64,
        time: start.elapsed(),
        latency: timed.last(),
    }
}

/// Measures what good answers take, below the gates and so without any
/// waiting for them.
#[derive(Clone)]
struct Timed<S> {
    inner: S,
    /// Of the one that was asked for last: when that was, and what it took.
    last: Arc<Mutex<Option<(Instant, Duration)>>>,
}

impl<S> Timed<S> {
    fn new(inner: S) -> Self {
        Timed {
            inner,
            last: Arc::default(),
        }
    }

    fn last(&self) -> Duration {
        let last = *self.last.lock().expect(NO_PANIC);
        last.map_or(Duration::ZERO, |(_, took)| took)
    }
}

impl<S, B> Service<Request<Bytes>> for Timed<S>
where
    S: Service<Request<Bytes>, Response = Response<B>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = BoxFuture<'static, Result<S::Response, S::Error>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let last = Arc::clone(&self.last);
        let begun = Instant::now();
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await?;
            if answer.status().is_success() {
                let mut last = last.lock().expect(NO_PANIC);
                *last = (*last).max(Some((begun, begun.elapsed())));
            }
            Ok(answer)
        })
    }
}

const NO_PANIC: &str = "nobody panics over two times";
