//! What becomes of one call, from its coming to its last byte.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use http::{Request, StatusCode};
use tokio::time::Instant;
use tollhouse_openai::RequestBody;

use crate::counts::{Counts, InFlight};
use crate::page::{Ended, Page};
use crate::tally::Tally;

/// When the attempts of a call were launched; kept with its request.
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
    /// Microseconds from when the request was whole to the last launch, and one; 0 before
    /// the first.
    last: AtomicU64,
    /// Who is told of each, with the pool and the tokens that it takes.
    hears: OnceLock<(Page, Arc<str>, u64)>,
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
        let micros = self.launched.last.load(Ordering::Relaxed).checked_sub(1)?;
        Some(Duration::from_micros(micros))
    }

    fn launched(&self) {
        let micros = u64::try_from(self.whole.elapsed().as_micros()).unwrap_or(u64::MAX);
        let micros = micros.saturating_add(1);
        self.launched.last.store(micros, Ordering::Relaxed);
        if let Some((page, pool, tokens)) = self.launched.hears.get() {
            page.launched(pool, *tokens);
        }
    }
}

/// Stands directly around the client, behind all gates.
pub(crate) fn note_launch(request: Request<RequestBody>) -> Request<RequestBody> {
    if let Some(launches) = request.extensions().get::<Launches>() {
        launches.launched();
    }
    request
}

/// One line of the log, written when the call is over.
///
/// It has neither key nor token, nothing of a query, a body or an answer.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) method: http::Method,
    pub(crate) path: String,
    pub(crate) request_id: String,
    pub(crate) caller: String,
    pub(crate) came: Instant,
    pub(crate) status: Option<StatusCode>,
    pub(crate) wait: Option<Duration>,
    pub(crate) attempts: u32,
    pub(crate) charge: u64,
    pub(crate) pool: Arc<str>,
    /// As the request names it, no longer than a line.
    pub(crate) model: String,
    /// Until the request was here.
    pub(crate) read: Option<Duration>,
    /// To the head of the answer.
    pub(crate) head: Option<Duration>,
    /// Whether the answer went out to its end.
    pub(crate) is_whole: bool,
    /// Of the token that was shown.
    pub(crate) tally: Option<Arc<Tally>>,
    page: Page,
    _in_flight: InFlight,
}

impl Line {
    pub(crate) fn begin<B>(request: &Request<B>, counts: &Arc<Counts>, page: &Page) -> Self {
        let id = request.headers().get(crate::headers::REQUEST_ID);
        let id = id.and_then(|id| id.to_str().ok()).unwrap_or_default();
        Line {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            request_id: id.to_owned(),
            caller: String::new(),
            came: Instant::now(),
            status: None,
            wait: None,
            attempts: 0,
            charge: 0,
            pool: Arc::default(),
            model: String::new(),
            read: None,
            head: None,
            is_whole: false,
            tally: None,
            page: page.clone(),
            _in_flight: counts.begin(),
        }
    }

    /// The same for the page.
    fn told(&mut self) -> Ended {
        Ended {
            what: std::mem::take(&mut self.path),
            caller: std::mem::take(&mut self.caller),
            pool: self.pool.to_string(),
            status: self.status.map(|status| status.as_u16()),
            wait: self.wait,
            total: Some(self.came.elapsed()),
            tokens: (self.charge > 0).then_some(self.charge),
            attempts: self.attempts,
            left: !self.is_whole,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(tally) = &self.tally {
            tally.add(self.wait, self.attempts);
        }
        let millis = |time: Option<Duration>| time.map(|time| time.as_secs_f64() * 1_000.0);
        tracing::info!(
            method = %self.method,
            path = %self.path,
            status = self.status.map(|status| status.as_u16()),
            caller = %self.caller,
            read_ms = millis(self.read),
            wait_ms = millis(self.wait),
            head_ms = millis(self.head),
            total_ms = millis(Some(self.came.elapsed())),
            attempts = self.attempts,
            charge_tokens = self.charge,
            pool = %self.pool,
            gen_ai.request.model = %self.model,
            request_id = %self.request_id,
            ended = if self.is_whole { "whole" } else { "left" },
            "call"
        );
        let told = self.told();
        self.page.ended(told);
    }
}
