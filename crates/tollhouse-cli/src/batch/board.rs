//! Where a batch stands, by its events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::time::{Duration, Instant};
use tollhouse_batch::Event;

/// Hears a batch's events.
///
/// # Cloning
///
/// Clones are one board.
#[derive(Clone, Debug, Default)]
pub(crate) struct Board {
    standing: Arc<Mutex<Standing>>,
}

/// Where it stands now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Standing {
    /// Lines that need no more work: answered, failed, or no requests.
    pub(crate) done: u64,
    /// Requests that are done.
    pub(crate) ended: u64,
    pub(crate) failed: u64,
    pub(crate) skipped: u64,
    pub(crate) bad_lines: u64,
    /// Requests handed to the gates that have not ended.
    pub(crate) open: u64,
    /// Attempts after the first.
    pub(crate) retries: u64,
    /// When each open request was sent last, by its line; `None` where it came
    /// back and waits to be sent again.
    sent: HashMap<u64, Option<Instant>>,
    in_flight: u64,
    /// Since when the provider is away, and why.
    pub(crate) outage: Option<(Instant, Arc<str>)>,
    /// How long the answers that came have taken together.
    answering: Duration,
    answers: u32,
}

impl Board {
    /// Takes an event in.
    pub(crate) fn hear(&self, event: &Event) {
        self.with(|standing| standing.take(event));
    }

    /// Where it stands now.
    pub(crate) fn standing(&self) -> Standing {
        self.with(|standing| standing.clone())
    }

    fn with<T>(&self, work: impl FnOnce(&mut Standing) -> T) -> T {
        // No sum is ever half made, so a panic elsewhere does not matter.
        work(&mut self.standing.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Standing {
    /// Requests whose answer is under way, or that are to be asked again.
    pub(crate) fn in_flight(&self) -> u64 {
        self.in_flight
    }

    /// Requests that wait at the gates.
    pub(crate) fn waiting(&self) -> u64 {
        self.open.saturating_sub(self.in_flight())
    }

    /// Requests that have left at least once.
    pub(crate) fn launched(&self) -> u64 {
        self.ended + self.in_flight()
    }

    /// How long an answer takes from its launch, if one has come.
    pub(crate) fn answers_take(&self) -> Option<Duration> {
        (self.answers > 0).then(|| self.answering / self.answers)
    }

    fn take(&mut self, event: &Event) {
        match event {
            Event::Started(_) => self.open += 1,
            Event::Sent(request) => {
                let before = self.sent.insert(request.line, Some(Instant::now()));
                self.retries += u64::from(before.is_some());
                self.in_flight += u64::from(before.flatten().is_none());
            }
            Event::PutBack(request) => {
                if let Some(sent) = self.sent.get_mut(&request.line) {
                    self.in_flight -= u64::from(sent.take().is_some());
                }
            }
            Event::Outage { since, reason } => self.outage = Some((*since, reason.clone())),
            Event::Recovered { .. } => self.outage = None,
            Event::Finished { request, .. } => self.end(request.line, true),
            Event::Failed { request, .. } => {
                self.failed += 1;
                self.end(request.line, false);
            }
            Event::Withdrawn(request) | Event::Unwritten(request) => {
                self.open -= 1;
                self.forget(request.line);
            }
            Event::Skipped(_) => {
                self.skipped += 1;
                self.done += 1;
            }
            Event::BadLine(_) => {
                self.bad_lines += 1;
                self.done += 1;
            }
            _ => {}
        }
    }

    /// When it was sent last, where it is still under way.
    fn forget(&mut self, line: u64) -> Option<Instant> {
        let sent = self.sent.remove(&line).flatten();
        self.in_flight -= u64::from(sent.is_some());
        sent
    }

    fn end(&mut self, line: u64, answered: bool) {
        self.open -= 1;
        self.ended += 1;
        self.done += 1;
        let sent = self.forget(line);
        if let Some(sent) = sent.filter(|_| answered) {
            self.answering += sent.elapsed();
            self.answers += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use http::StatusCode;
    use tollhouse_batch::Request;

    use super::*;

    fn request(line: u64) -> Request {
        Request {
            line,
            custom_id: line.to_string().into(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_that_came_back_waits() {
        let board = Board::default();
        board.hear(&Event::Started(request(1)));
        board.hear(&Event::Sent(request(1)));
        board.hear(&Event::PutBack(request(1)));
        let now = board.standing();
        assert_eq!((now.in_flight(), now.waiting()), (0, 1));
        board.hear(&Event::Sent(request(1)));
        let now = board.standing();
        assert_eq!((now.in_flight(), now.waiting(), now.retries), (1, 0, 1));
        board.hear(&Event::Withdrawn(request(1)));
        let now = board.standing();
        assert_eq!((now.in_flight(), now.waiting()), (0, 0));
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_waits_then_flies_then_is_done() {
        let board = Board::default();
        let counts = || {
            let now = board.standing();
            (now.waiting(), now.in_flight(), now.launched(), now.done)
        };
        for line in [1, 2] {
            board.hear(&Event::Started(request(line)));
        }
        assert_eq!(counts(), (2, 0, 0, 0));
        board.hear(&Event::Sent(request(1)));
        tokio::time::advance(Duration::from_secs(3)).await;
        board.hear(&Event::Sent(request(1)));
        assert_eq!(counts(), (1, 1, 1, 0));
        tokio::time::advance(Duration::from_secs(2)).await;
        board.hear(&Event::Finished {
            request: request(1),
            status: StatusCode::OK,
            tokens: None,
            elapsed: Duration::from_secs(5),
        });
        assert_eq!(counts(), (1, 0, 1, 1));
        board.hear(&Event::Withdrawn(request(2)));
        assert_eq!(counts(), (0, 0, 1, 1));

        let standing = board.standing();
        assert_eq!(standing.retries, 1);
        assert_eq!(standing.answers_take(), Some(Duration::from_secs(2)));
    }
}
