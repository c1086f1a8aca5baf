//! Sees what leaves for the provider and what comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::time::{Duration, Instant};
use tollhouse_openai::{Call, Cost, Error, Estimator, OpenAi, ResponseBody};
use tower::{Service, ServiceExt};

/// Into so many parts the last minute is divided.
pub(crate) const RECENT: usize = 20;

/// Counts launches and refusals, directly around the client: behind all gates,
/// once for each attempt.
///
/// # Cloning
///
/// Clones share what was counted.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    estimator: Estimator,
    minute: Duration,
    seen: Arc<Mutex<Counted>>,
}

/// What was seen until now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Attempts that left.
    pub(crate) launches: u64,
    /// What they cost, in tokens.
    pub(crate) tokens: u64,
    /// The same for the last minute alone.
    pub(crate) tokens_this_minute: u64,
    /// The same by the twentieths of that minute, the oldest first.
    pub(crate) recent: [u64; RECENT],
    /// Answers with status 429.
    pub(crate) rejected: u64,
    /// The least time between two launches.
    pub(crate) least_gap: Option<Duration>,
    /// From the first launch to the last.
    pub(crate) span: Duration,
}

#[derive(Debug, Default)]
struct Counted {
    seen: Seen,
    first: Option<Instant>,
    last: Option<Instant>,
    /// The tokens of the last minute by its sixtieths, the oldest first.
    slots: VecDeque<(Instant, u64)>,
}

impl Watch {
    /// Counts tokens as `estimator` does, over minutes of this length.
    pub(crate) fn new(estimator: Estimator, minute: Duration) -> Self {
        Self {
            estimator,
            minute,
            seen: Arc::default(),
        }
    }

    /// A client whose attempts are counted.
    pub(crate) fn around(
        &self,
        client: OpenAi,
    ) -> impl Service<Request<Bytes>, Response = Response<ResponseBody>, Error = Error, Future: Send>
    + Clone
    + Send
    + Sync
    + use<> {
        let (before, after) = (self.clone(), self.clone());
        client
            .map_request(move |request: Request<Bytes>| {
                before.launched(before.estimator.cost(&Call::of(&request)));
                request
            })
            .map_response(move |response: Response<ResponseBody>| {
                after.answered(response.status());
                response
            })
    }

    /// What was seen until now.
    pub(crate) fn seen(&self) -> Seen {
        let mut counted = self.lock();
        let now = Instant::now();
        counted.forget_before(now, self.minute);
        Seen {
            tokens_this_minute: counted.slots.iter().map(|(_, tokens)| tokens).sum(),
            recent: counted.recent(now, self.minute),
            ..counted.seen.clone()
        }
    }

    fn launched(&self, cost: u64) {
        let mut counted = self.lock();
        // Read under the lock, so that it never runs backwards.
        let now = Instant::now();
        counted.launch(cost, now, self.minute);
    }

    fn answered(&self, status: StatusCode) {
        if status == StatusCode::TOO_MANY_REQUESTS {
            self.lock().seen.rejected += 1;
        }
    }

    /// No sum is ever half made, so a panic elsewhere does not matter.
    fn lock(&self) -> MutexGuard<'_, Counted> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counted {
    fn launch(&mut self, cost: u64, now: Instant, minute: Duration) {
        self.seen.launches += 1;
        self.seen.tokens += cost;
        if let Some(last) = self.last.replace(now) {
            let gap = now - last;
            let least = self.seen.least_gap.map_or(gap, |least| least.min(gap));
            self.seen.least_gap = Some(least);
        }
        self.seen.span = now - *self.first.get_or_insert(now);
        self.forget_before(now, minute);
        match self.slots.back_mut() {
            Some((since, tokens)) if now - *since < minute / 60 => *tokens += cost,
            _ => self.slots.push_back((now, cost)),
        }
    }

    fn recent(&self, now: Instant, minute: Duration) -> [u64; RECENT] {
        let mut recent = [0; RECENT];
        for (at, tokens) in &self.slots {
            let ago = (now - *at).as_secs_f64() / minute.as_secs_f64();
            let part = (ago * RECENT as f64) as usize;
            recent[RECENT - 1 - part.min(RECENT - 1)] += tokens;
        }
        recent
    }

    fn forget_before(&mut self, now: Instant, minute: Duration) {
        while self
            .slots
            .front()
            .is_some_and(|(at, _)| now - *at >= minute)
        {
            self.slots.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use tollhouse_openai::ChargeRule;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_minute_forgets_what_is_older() {
        let charge = ChargeRule::Fixed(10).with_est_tokens(1);
        let watch = Watch::new(charge, Duration::from_secs(60));
        watch.launched(10);
        tokio::time::advance(Duration::from_secs(50)).await;
        watch.launched(20);
        watch.answered(StatusCode::TOO_MANY_REQUESTS);
        watch.answered(StatusCode::OK);
        assert_eq!(watch.seen().tokens_this_minute, 30);
        let mut recent = [0; RECENT];
        (recent[RECENT - 1], recent[RECENT - 1 - 16]) = (20, 10);
        assert_eq!(
            watch.seen().recent,
            recent,
            "50 s are 16.7 parts of 3 s ago"
        );

        tokio::time::advance(Duration::from_secs(10)).await;
        let seen = watch.seen();
        assert_eq!(seen.tokens_this_minute, 20);
        assert_eq!((seen.launches, seen.tokens, seen.rejected), (2, 30, 1));
        assert_eq!(seen.least_gap, Some(Duration::from_secs(50)));
        assert_eq!(seen.span, Duration::from_secs(50));
    }
}
