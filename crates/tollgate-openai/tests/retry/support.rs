//! A provider that says what a test wants, and notes what it was asked.

use std::fmt;
use std::future::{Ready, ready};
use std::io;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Request, Response};
use http_body_util::Full;
use tokio::time::Instant;
use tollgate_openai::Policy;
use tollgate_openai::policy::LimitedBody;
use tower::Service;

/// What a caller reads through a policy.
pub(crate) type Body = LimitedBody<Full<Bytes>>;

type Answer = io::Result<Response<Full<Bytes>>>;

/// Answers the n-th request, from 0, as its script says.
#[derive(Clone)]
pub(crate) struct Provider {
    script: Arc<dyn Fn(usize) -> Answer + Send + Sync>,
    asked: Arc<Mutex<Vec<(Instant, HeaderMap)>>>,
}

impl Provider {
    pub(crate) fn new(
        script: impl Fn(usize) -> Response<Full<Bytes>> + Send + Sync + 'static,
    ) -> Self {
        Provider::failing(move |n| Ok(script(n)))
    }

    /// One that need not answer.
    pub(crate) fn failing(script: impl Fn(usize) -> Answer + Send + Sync + 'static) -> Self {
        Provider {
            script: Arc::new(script),
            asked: Arc::default(),
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.asked.lock().expect("no panic").len()
    }

    pub(crate) fn arrivals(&self) -> Vec<Instant> {
        let asked = self.asked.lock().expect("no panic");
        asked.iter().map(|(at, _)| *at).collect()
    }

    /// A header of every request so far.
    pub(crate) fn headers(&self, name: &str) -> Vec<String> {
        let asked = self.asked.lock().expect("no panic");
        let text = |headers: &HeaderMap| headers[name].to_str().expect("ascii").to_owned();
        asked.iter().map(|(_, headers)| text(headers)).collect()
    }
}

impl Service<Request<Bytes>> for Provider {
    type Response = Response<Full<Bytes>>;
    type Error = io::Error;
    type Future = Ready<Answer>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let mut asked = self.asked.lock().expect("no panic");
        let answer = (self.script)(asked.len());
        asked.push((Instant::now(), request.headers().clone()));
        ready(answer)
    }
}

impl fmt::Debug for Provider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Provider").finish_non_exhaustive()
    }
}

/// Gates that do not bind; retries as a policy has them unless changed.
pub(crate) fn policy() -> Policy {
    Policy::default()
        .stagger(Duration::ZERO)
        .max_concurrency(1_000)
        .headroom(0.0)
        .cautious_start(false)
}

pub(crate) fn chat(max_tokens: u64) -> Request<Bytes> {
    let body = format!(
        r#"{{"model":"gpt-4o","max_tokens":{max_tokens},"messages":[{{"role":"user","content":"1234"}}]}}"#
    );
    Request::post("/v1/chat/completions")
        .body(Bytes::from(body))
        .expect("a valid request")
}

pub(crate) fn answer(status: u16, body: &'static str) -> Response<Full<Bytes>> {
    Response::builder()
        .status(status)
        .header("content-type", "application/json")
        .body(Full::from(body))
        .expect("a valid response")
}
