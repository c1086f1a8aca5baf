//! What the whole-stack tests share.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use http::{Request, Response};
use tokio::time::Instant;
use tollhouse_sim::{Sim, SimService};
use tower::Service;

/// The simulated provider, in process, with a note of every arrival.
#[derive(Clone)]
pub(crate) struct Provider {
    sim: Sim,
    service: SimService,
    arrivals: Arc<Mutex<Vec<Instant>>>,
}

impl Provider {
    pub(crate) fn new(sim: Sim) -> Self {
        Provider {
            service: sim.service(),
            sim,
            arrivals: Arc::default(),
        }
    }

    pub(crate) fn sim(&self) -> &Sim {
        &self.sim
    }

    /// When requests arrived, in seconds after `start`.
    pub(crate) fn arrivals_since(&self, start: Instant) -> Vec<f64> {
        let arrivals = self.arrivals.lock().expect("no panic while noting");
        let seconds = |arrival: &Instant| (*arrival - start).as_secs_f64();
        arrivals.iter().map(seconds).collect()
    }
}

impl Service<Request<Bytes>> for Provider {
    type Response = Response<Body>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, std::io::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Service::<Request<Bytes>>::poll_ready(&mut self.service, cx)
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        self.arrivals
            .lock()
            .expect("no panic while noting")
            .push(Instant::now());
        Box::pin(self.service.call(request))
    }
}

/// A chat request that asks for at most `max_tokens`.
pub(crate) fn chat(question: &str, max_tokens: u64) -> Request<Bytes> {
    let body = serde_json::json!({
        "model": "gpt-4o",
        "max_tokens": max_tokens,
        "messages": [{"role": "user", "content": question}],
    });
    Request::post("/v1/chat/completions")
        .body(Bytes::from(body.to_string()))
        .expect("a valid request")
}

/// The same as a line of a batch.
pub(crate) fn line(custom_id: &str, question: &str, max_tokens: u64) -> String {
    let request = chat(question, max_tokens);
    let body = std::str::from_utf8(request.body()).expect("JSON is text");
    let path = request.uri();
    format!(r#"{{"custom_id":"{custom_id}","method":"POST","url":"{path}","body":{body}}}"#) + "\n"
}

/// Whether there is time for all that a test can play, as in `.ci/release`.
pub(crate) fn has_time() -> bool {
    std::env::var_os("TOLLHOUSE_SCHEDULES").is_some()
}

/// How many seeds a test plays: a few, or so many times as many as the variable
/// `TOLLHOUSE_SCHEDULES` says, which `.ci/release` sets.
pub(crate) fn seeds(few: u64, many: u64) -> u64 {
    match std::env::var("TOLLHOUSE_SCHEDULES") {
        Ok(times) => {
            many * times
                .parse::<u64>()
                .expect("TOLLHOUSE_SCHEDULES is a number")
        }
        Err(_) => few,
    }
}
