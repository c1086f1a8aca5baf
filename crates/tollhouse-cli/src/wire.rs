//! Sees what leaves for the provider and what comes back.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use tokio::time::{Duration, Instant};
use tollhouse_openai::error::NeverSent;
use tollhouse_openai::{Call, Error, OpenAi, ResponseBody};
use tollhouse_proxy::page::Page;
use tower::{Service, ServiceExt, service_fn};

use crate::pools::{Pool, Pools};

/// Into so many parts the last minute is divided.
pub(crate) const RECENT: usize = 20;

/// Counts launches and refusals by pool, directly around the client: behind all gates,
/// once for each attempt.
///
/// # Cloning
///
/// Clones share what was counted.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    pools: Pools,
    minute: Duration,
    seen: Arc<Mutex<Counted>>,
    page: Option<Page>,
}

/// What was seen until now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Attempts that left.
    pub(crate) launches: u64,
    /// What they cost, in tokens.
    pub(crate) tokens: u64,
    /// Answers with status 429.
    pub(crate) rejected: u64,
    /// The least time between two launches.
    pub(crate) least_gap: Option<Duration>,
    /// What each pool sent, by its number.
    pub(crate) pools: Vec<PoolSeen>,
}

/// What was seen of one pool until now.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct PoolSeen {
    /// Attempts that left, the first of a call alone.
    pub(crate) first_attempts: u64,
    /// Attempts that left.
    pub(crate) launches: u64,
    /// What they cost, in tokens.
    pub(crate) tokens: u64,
    /// The same for the last minute alone.
    pub(crate) tokens_this_minute: u64,
    /// The same by the twentieths of that minute, the oldest first.
    pub(crate) recent: [u64; RECENT],
    /// From its first launch to its last.
    pub(crate) span: Duration,
}

#[derive(Debug, Default)]
struct Counted {
    seen: Seen,
    last: Option<Instant>,
    pools: Vec<OfPool>,
}

#[derive(Debug, Default)]
struct OfPool {
    seen: PoolSeen,
    first: Option<Instant>,
    /// The tokens of the last minute by its sixtieths, the oldest first.
    slots: VecDeque<(Instant, u64)>,
}

/// One attempt that leaves.
#[derive(Clone, Copy, Debug)]
struct Launch {
    pool: usize,
    cost: u64,
    is_first: bool,
}

impl Watch {
    /// Counts tokens as these pools do, over minutes of this length.
    pub(crate) fn new(pools: Pools, minute: Duration) -> Self {
        Self {
            pools,
            minute,
            seen: Arc::default(),
            page: None,
        }
    }

    /// Tells this page of each launch.
    pub(crate) fn telling(mut self, page: Option<Page>) -> Self {
        self.page = page;
        self
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
        let watch = self.clone();
        service_fn(move |request: Request<Bytes>| {
            let (watch, client) = (watch.clone(), client.clone());
            async move {
                let (launch, pool) = watch.launch(&request);
                let at = watch.launched(launch);
                if let Some(page) = &watch.page {
                    page.launched(pool.account_name(), launch.cost);
                }
                let ended = client.oneshot(request).await;
                match &ended {
                    Ok(response) => watch.answered(response.status()),
                    // The gates have given back what it took.
                    Err(error) if NeverSent::is_behind(error) => {
                        watch.never_left(launch, at);
                        if let Some(page) = &watch.page {
                            page.never_left(pool.account_name(), launch.cost);
                        }
                    }
                    Err(_) => {}
                }
                ended
            }
        })
    }

    /// What was seen until now.
    pub(crate) fn seen(&self) -> Seen {
        let mut counted = self.lock();
        let now = Instant::now();
        let pools = counted.pools.iter_mut();
        let pools = pools.map(|pool| pool.seen(now, self.minute)).collect();
        Seen {
            pools,
            ..counted.seen.clone()
        }
    }

    fn launch(&self, request: &Request<Bytes>) -> (Launch, Arc<Pool>) {
        let call = Call::of(request);
        let pool = self.pools.of(&call);
        let attempt = request.headers().get("x-stainless-retry-count");
        let launch = Launch {
            pool: self.pools.number_of(&call),
            cost: pool.cost(&call),
            is_first: attempt.is_none_or(|attempt| attempt == "0"),
        };
        (launch, pool)
    }

    fn launched(&self, launch: Launch) -> Instant {
        let mut counted = self.lock();
        // Read under the lock, so that it never runs backwards.
        let now = Instant::now();
        counted.launch(launch, now, self.minute);
        now
    }

    /// What was launched then did not reach the provider, and took nothing.
    fn never_left(&self, launch: Launch, at: Instant) {
        self.lock().take_back(launch, at);
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
    fn launch(&mut self, launch: Launch, now: Instant, minute: Duration) {
        self.seen.launches += 1;
        self.seen.tokens += launch.cost;
        if let Some(last) = self.last.replace(now) {
            let gap = now - last;
            let least = self.seen.least_gap.map_or(gap, |least| least.min(gap));
            self.seen.least_gap = Some(least);
        }
        if self.pools.len() <= launch.pool {
            self.pools.resize_with(launch.pool + 1, OfPool::default);
        }
        self.pools[launch.pool].launch(launch, now, minute);
    }

    fn take_back(&mut self, launch: Launch, at: Instant) {
        self.seen.launches -= 1;
        self.seen.tokens -= launch.cost;
        if let Some(pool) = self.pools.get_mut(launch.pool) {
            pool.take_back(launch, at);
        }
    }
}

impl OfPool {
    fn launch(&mut self, launch: Launch, now: Instant, minute: Duration) {
        self.seen.launches += 1;
        self.seen.first_attempts += u64::from(launch.is_first);
        self.seen.tokens += launch.cost;
        self.seen.span = now - *self.first.get_or_insert(now);
        self.forget_before(now, minute);
        match self.slots.back_mut() {
            Some((since, tokens)) if now - *since < minute / 60 => *tokens += launch.cost,
            _ => self.slots.push_back((now, launch.cost)),
        }
    }

    fn take_back(&mut self, launch: Launch, at: Instant) {
        self.seen.launches -= 1;
        self.seen.tokens -= launch.cost;
        // It is among those of the last slot that had begun by then, unless that is forgotten.
        let mut slots = self.slots.iter_mut().rev();
        if let Some((_, tokens)) = slots.find(|(since, _)| *since <= at) {
            *tokens -= launch.cost;
        }
    }

    fn seen(&mut self, now: Instant, minute: Duration) -> PoolSeen {
        self.forget_before(now, minute);
        PoolSeen {
            tokens_this_minute: self.slots.iter().map(|(_, tokens)| tokens).sum(),
            recent: self.recent(now, minute),
            ..self.seen.clone()
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
    use tollhouse_openai::{Account, Policy};

    use super::*;

    fn launch(cost: u64) -> Launch {
        Launch {
            pool: 1,
            cost,
            is_first: true,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_minute_forgets_what_is_older() {
        let pools = Pools::new(Account::new(Policy::default()));
        let watch = Watch::new(pools, Duration::from_secs(60));
        watch.launched(launch(10));
        tokio::time::advance(Duration::from_secs(50)).await;
        watch.launched(launch(20));
        watch.answered(StatusCode::TOO_MANY_REQUESTS);
        watch.answered(StatusCode::OK);
        let seen = watch.seen();
        assert_eq!(seen.pools[0], PoolSeen::default(), "it sent nothing");
        assert_eq!(seen.pools[1].tokens_this_minute, 30);
        let mut recent = [0; RECENT];
        (recent[RECENT - 1], recent[RECENT - 1 - 16]) = (20, 10);
        let why = "50 s are 16.7 parts of 3 s ago";
        assert_eq!(seen.pools[1].recent, recent, "{why}");

        tokio::time::advance(Duration::from_secs(10)).await;
        let seen = watch.seen();
        assert_eq!(seen.pools[1].tokens_this_minute, 20);
        assert_eq!((seen.launches, seen.tokens, seen.rejected), (2, 30, 1));
        assert_eq!(seen.least_gap, Some(Duration::from_secs(50)));
        assert_eq!(seen.pools[1].span, Duration::from_secs(50));
    }

    #[tokio::test(start_paused = true)]
    async fn what_never_left_has_taken_nothing() {
        let pools = Pools::new(Account::new(Policy::default()));
        let watch = Watch::new(pools, Duration::from_secs(60));
        let long_ago = watch.launched(launch(1));
        tokio::time::advance(Duration::from_secs(50)).await;
        let at = watch.launched(launch(10));
        watch.launched(launch(20));
        tokio::time::advance(Duration::from_secs(5)).await;
        watch.launched(launch(30));
        watch.never_left(launch(10), at);
        let seen = watch.seen();
        assert_eq!((seen.launches, seen.tokens), (3, 51));
        assert_eq!(seen.pools[1].tokens_this_minute, 51);
        assert_eq!(seen.pools[1].recent[RECENT - 1 - 1], 20);

        // Nothing is left of its minute by now.
        tokio::time::advance(Duration::from_secs(10)).await;
        watch.never_left(launch(1), long_ago);
        let seen = watch.seen();
        assert_eq!((seen.launches, seen.tokens), (2, 50));
        assert_eq!(seen.pools[1].tokens_this_minute, 50);
    }
}
