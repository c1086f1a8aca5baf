//! When the attempts of a call are launched and answered.

use std::error::Error as StdError;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tollhouse_openai::error::NeverSent;
use tollhouse_openai::{RequestBody, ResponseBody};
use tower::Service;

use super::proof::Proof;
use super::session::AnswerBody;
use crate::page::Page;

/// The attempts of a call; kept with its request.
///
/// # Cloning
///
/// Clones are the same call.
#[derive(Clone, Debug)]
pub(crate) struct Launches {
    whole: Instant,
    launched: Arc<Launched>,
}

#[derive(Debug, Default)]
struct Launched {
    /// Microseconds from when the request was whole to the last launch.
    last: AtomicU64,
    /// How many there were.
    count: AtomicU32,
    /// How many came to anything.
    answered: AtomicU32,
    /// Who is told of each launch, with the pool and the tokens that it takes.
    hears: OnceLock<(Page, Arc<str>, u64)>,
}

/// How far a call is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// For its first launch.
    Waits,
    Sent,
    /// So many attempts came to nothing, and there will be another one.
    WaitsAgain(u32),
}

impl Launches {
    /// Of a request that is whole now.
    pub(crate) fn none_yet() -> Self {
        Launches {
            whole: Instant::now(),
            launched: Arc::default(),
        }
    }

    /// How long the request took to come.
    pub(crate) fn read_since(&self, came: Instant) -> Duration {
        self.whole.saturating_duration_since(came)
    }

    /// Has the page told of each launch from now on.
    pub(crate) fn tell(&self, page: &Page, pool: &Arc<str>, tokens: u64) {
        let hears = (page.clone(), Arc::clone(pool), tokens);
        // Whoever was named first is told.
        let _ = self.launched.hears.set(hears);
    }

    /// How long the call waited: until the launch of its last attempt.
    pub(crate) fn wait(&self) -> Option<Duration> {
        let micros = self.launched.last.load(Ordering::Relaxed);
        (self.count() > 0).then_some(Duration::from_micros(micros))
    }

    /// How many attempts were launched.
    pub(crate) fn count(&self) -> u32 {
        self.launched.count.load(Ordering::Acquire)
    }

    /// How far the call is, which is not answered yet.
    pub(crate) fn stage(&self) -> Stage {
        let answered = self.launched.answered.load(Ordering::Relaxed);
        match self.count() {
            0 => Stage::Waits,
            count if count == answered => Stage::WaitsAgain(count),
            _ => Stage::Sent,
        }
    }

    fn launched(&self) {
        let (launched, now) = (&self.launched, Instant::now());
        let waited = now.saturating_duration_since(self.whole);
        let micros = u64::try_from(waited.as_micros()).unwrap_or(u64::MAX);
        launched.last.store(micros, Ordering::Relaxed);
        launched.count.fetch_add(1, Ordering::Release);
        if let Some((page, pool, tokens)) = launched.hears.get() {
            page.launched_at(now, pool, *tokens);
        }
    }

    /// The last attempt did not reach the provider, and the gates have taken nothing for it.
    fn never_left(&self) {
        if let Some((page, pool, tokens)) = self.launched.hears.get() {
            page.never_left(pool, *tokens);
        }
    }

    fn answered(&self) {
        self.launched.answered.fetch_add(1, Ordering::Relaxed);
    }
}

/// Stands directly around the client, behind all gates.
#[derive(Clone, Debug)]
pub(crate) struct Noting<S> {
    client: S,
    proof: Proof,
}

impl<S> Noting<S> {
    pub(crate) fn new(client: S, proof: Proof) -> Self {
        Noting { client, proof }
    }
}

impl<S> Service<Request<RequestBody>> for Noting<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>>,
    S::Error: StdError + 'static,
{
    type Response = Response<AnswerBody>;
    type Error = S::Error;
    // Boxed: else each call that waits would keep room for its attempt.
    type Future = Pin<Box<Noted<S::Future>>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.client.poll_ready(cx)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        let launches = request.extensions().get::<Launches>().cloned();
        if let Some(launches) = &launches {
            launches.launched();
        }
        Box::pin(Noted {
            attempt: self.client.call(request),
            launches,
            proof: self.proof.clone(),
        })
    }
}

pin_project! {
    /// An attempt that is under way.
    pub(crate) struct Noted<F> {
        #[pin]
        attempt: F,
        launches: Option<Launches>,
        proof: Proof,
    }
}

impl<F, E> Future for Noted<F>
where
    F: Future<Output = Result<Response<ResponseBody>, E>>,
    E: StdError + 'static,
{
    type Output = Result<Response<AnswerBody>, E>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.project();
        let result = ready!(this.attempt.poll(cx));
        if let Some(launches) = this.launches {
            launches.answered();
            if result
                .as_ref()
                .is_err_and(|error| NeverSent::is_behind(error))
            {
                launches.never_left();
            }
        }
        if let Ok(answer) = &result {
            this.proof.hear(answer.status());
        }
        Poll::Ready(result.map(AnswerBody::of))
    }
}
