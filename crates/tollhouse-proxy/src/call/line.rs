//! What becomes of one call, from its coming to its last byte.

use std::sync::Arc;
use std::time::Duration;

use http::{Request, StatusCode};
use tokio::time::Instant;
use tower_http::request_id::RequestId;

use crate::counts::Tally;
use crate::counts::{Counts, InFlight};
use crate::headers::REQUEST_ID;
use crate::page::{Ended, Page};
use crate::upstream::launches::Launches;

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
    /// Once its request is here.
    pub(crate) launches: Option<Launches>,
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
    /// Takes out of a request what it is called, which each of its attempts would copy. What
    /// stands beside its headers may be the word of a server around this proxy.
    pub(crate) fn begin<B>(request: &mut Request<B>, counts: &Arc<Counts>, page: &Page) -> Self {
        request.extensions_mut().remove::<RequestId>();
        let id = request.headers_mut().remove(REQUEST_ID);
        let id = id.as_ref().and_then(|id| id.to_str().ok());
        Line {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            request_id: id.unwrap_or_default().to_owned(),
            caller: String::new(),
            came: Instant::now(),
            status: None,
            launches: None,
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

    /// How long it waited, if it was launched.
    pub(crate) fn wait(&self) -> Option<Duration> {
        self.launches.as_ref().and_then(Launches::wait)
    }

    /// How many attempts were launched.
    pub(crate) fn attempts(&self) -> u32 {
        self.launches.as_ref().map_or(0, Launches::count)
    }

    /// The same for the page.
    fn told(&mut self, total: Duration) -> Ended {
        let (wait, attempts) = (self.wait(), self.attempts());
        Ended {
            what: std::mem::take(&mut self.path),
            caller: std::mem::take(&mut self.caller),
            pool: self.pool.to_string(),
            status: self.status.map(|status| status.as_u16()),
            wait,
            total: Some(total),
            tokens: (self.charge > 0).then_some(self.charge),
            attempts,
            left: !self.is_whole,
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if let Some(tally) = &self.tally {
            tally.add(self.wait(), self.attempts());
        }
        let now = Instant::now();
        let total = now.saturating_duration_since(self.came);
        // To the microsecond, which a clock of this kind is good for.
        let millis = |time: Option<Duration>| time.map(|time| time.as_micros() as f64 / 1_000.0);
        // What a client chooses is text, which a log for people has in quotes: as a value that
        // only displays, it could look like the fields of another line.
        tracing::info!(
            method = %self.method,
            path = self.path,
            status = self.status.map(|status| status.as_u16()),
            caller = self.caller,
            read_ms = millis(self.read),
            wait_ms = millis(self.wait()),
            head_ms = millis(self.head),
            total_ms = millis(Some(total)),
            attempts = self.attempts(),
            charge_tokens = self.charge,
            pool = &*self.pool,
            gen_ai.request.model = self.model,
            request_id = self.request_id,
            ended = if self.is_whole { "whole" } else { "left" },
            "call"
        );
        let told = self.told(total);
        self.page.ended_at(now, told);
    }
}
