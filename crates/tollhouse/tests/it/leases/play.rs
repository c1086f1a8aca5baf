//! A provider, processes that call it, and the wire between them and the ledger.

use std::collections::VecDeque;
use std::future::{Future, poll_fn};
use std::io;
use std::ops::Range;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};
use tollhouse::shared::{Agent, Away, Fallback, Grant, InMemory, Report, SharedLedger, Sharing};
use tollhouse::{
    Denial, GateLayer, Observation, RateLimits, Scope, TokenBudget, TokenBudgetBuilder,
    TpmBudgetLayer, Window,
};
use tower::{Layer, ServiceExt, service_fn};

use crate::support::random::Random;

pub(super) const SEC: Duration = Duration::from_secs(1);
pub(super) const MILLI: Duration = Duration::from_millis(1);

/// An account's buckets at the provider, which refill all the time.
pub(super) struct Provider {
    limit: u64,
    state: Mutex<State>,
}

struct State {
    tokens: Level,
    /// Where it limits requests, too.
    requests: Option<Level>,
    /// Whether its answers tell what is left.
    tells: bool,
    /// What the last minute took, where that is what it counts.
    minute: Option<VecDeque<(Instant, u64)>>,
    log: Vec<Call>,
    random: Random,
}

/// What reached the provider.
#[derive(Clone, Copy, Debug)]
pub(super) struct Call {
    pub(super) at: Instant,
    pub(super) process: usize,
    pub(super) cost: u64,
    pub(super) refused: bool,
}

/// So much in a minute, of which a minute's worth may go at once.
struct Level {
    limit: u64,
    left: f64,
    at: Instant,
}

impl Level {
    fn new(limit: u64) -> Self {
        Level {
            limit,
            left: limit as f64,
            at: Instant::now(),
        }
    }

    fn refill(&mut self) {
        let now = Instant::now();
        let refilled = (now - self.at).as_secs_f64() * self.limit as f64 / 60.0;
        self.give(refilled);
        self.at = now;
    }

    fn give(&mut self, amount: f64) {
        self.left = (self.left + amount).min(self.limit as f64);
    }

    /// As the ledger counts in whole microseconds, half a token is no lack.
    fn has(&self, cost: u64) -> bool {
        self.left + 0.5 >= cost as f64
    }

    fn remaining(&self) -> u64 {
        self.left.max(0.0) as u64
    }

    /// How long so much takes to refill.
    fn time_for(&self, amount: f64) -> Duration {
        Duration::from_secs_f64(amount * 60.0 / self.limit as f64)
    }
}

impl Provider {
    fn new(limit: u64) -> Self {
        Provider {
            limit,
            state: Mutex::new(State {
                tokens: Level::new(limit),
                requests: None,
                tells: true,
                minute: None,
                log: Vec::new(),
                random: Random::seeded(limit),
            }),
        }
    }

    fn count(&self, process: usize, cost: u64) -> Observation {
        let mut state = self.state.lock().unwrap();
        let now = Instant::now();
        let State {
            tokens, requests, ..
        } = &mut *state;
        tokens.refill();
        requests.iter_mut().for_each(Level::refill);
        let lacks = match requests {
            Some(requests) if !requests.has(1) => Some((Scope::Requests, requests.time_for(1.0))),
            _ if !tokens.has(cost) => {
                let missing = tokens.time_for(cost as f64 - tokens.left);
                Some((Scope::Tokens, missing))
            }
            _ => None,
        };
        let mut refused = lacks.is_some();
        if let Some(minute) = &mut state.minute {
            while minute.front().is_some_and(|(at, _)| now - *at >= 60 * SEC) {
                minute.pop_front();
            }
            let used: u64 = minute.iter().map(|(_, cost)| cost).sum();
            refused = used + cost > self.limit;
            minute.push_back((now, if refused { 0 } else { cost }));
        }
        if !refused {
            state.tokens.left -= cost as f64;
            if let Some(requests) = &mut state.requests {
                requests.left -= 1.0;
            }
        }
        state.log.push(Call {
            at: now,
            process,
            cost,
            refused,
        });
        let denial = lacks.map(|(scope, after)| Denial {
            scope,
            after: Some(after),
        });
        if !state.tells {
            return Observation {
                denial,
                ..Observation::default()
            };
        }
        let tokens = &state.tokens;
        let requests = state.requests.as_ref();
        let missing = tokens.limit as f64 - tokens.left;
        Observation {
            limits: RateLimits {
                limit_tokens: Some(self.limit),
                remaining_tokens: Some(tokens.remaining()),
                reset_tokens: Some(tokens.time_for(missing)),
                limit_requests: requests.map(|it| it.limit),
                remaining_requests: requests.map(Level::remaining),
                ..RateLimits::default()
            },
            denial,
        }
    }

    /// Somebody else takes so much.
    pub(super) fn take(&self, amount: u64) {
        self.state.lock().unwrap().tokens.left -= amount as f64;
    }

    /// Less was used than was charged.
    fn give_back(&self, unused: u64) {
        self.state.lock().unwrap().tokens.give(unused as f64);
    }

    /// On its way there, and back.
    fn ways(&self) -> (Duration, Duration) {
        let random = &mut self.state.lock().unwrap().random;
        let mut millis = |range| random.within(range) as u32 * MILLI;
        (millis(5..150), millis(200..3_000))
    }

    pub(super) fn log(&self) -> Vec<Call> {
        self.state.lock().unwrap().log.clone()
    }
}

/// What of the ledger's wire is wrong for one process.
#[derive(Default)]
pub(super) struct Wire {
    /// In milliseconds, there and back together.
    pub(super) delay: AtomicU64,
    pub(super) is_cut: AtomicBool,
    /// Whether it is known at once that there is nobody.
    pub(super) is_refused: AtomicBool,
    /// Of a hundred answers, so many never come, although the report did.
    pub(super) lost: AtomicU64,
    pub(super) reports: AtomicU64,
    random: Mutex<Option<Random>>,
    pub(super) pause: Pause,
}

/// Stops a process as a signal does: nothing of it is polled meanwhile.
#[derive(Clone, Default)]
pub(super) struct Pause(Arc<Mutex<(bool, Vec<Waker>)>>);

impl Pause {
    pub(super) fn stop(&self) {
        self.0.lock().unwrap().0 = true;
    }

    pub(super) fn go_on(&self) {
        let wakers = {
            let mut state = self.0.lock().unwrap();
            state.0 = false;
            std::mem::take(&mut state.1)
        };
        wakers.into_iter().for_each(Waker::wake);
    }

    async fn around<T>(self, work: impl Future<Output = T>) -> T {
        let mut work = pin!(work);
        poll_fn(|cx| {
            {
                let mut state = self.0.lock().unwrap();
                if state.0 {
                    state.1.push(cx.waker().clone());
                    return Poll::Pending;
                }
            }
            work.as_mut().poll(cx)
        })
        .await
    }
}

#[derive(Clone)]
pub(super) struct Wired {
    ledger: InMemory,
    wire: Arc<Wire>,
}

impl SharedLedger for Wired {
    async fn exchange(&self, report: &Report) -> Result<Grant, Away> {
        self.wire.reports.fetch_add(1, SeqCst);
        if self.wire.is_refused.load(SeqCst) {
            return Err(Away::because("refused"));
        }
        let half = Duration::from_millis(self.wire.delay.load(SeqCst)) / 2;
        sleep(half).await;
        let is_cut = || self.wire.is_cut.load(SeqCst);
        if is_cut() {
            sleep(100 * MILLI).await;
            return Err(Away::because("cut off"));
        }
        let grant = self.ledger.exchange(report).await?;
        sleep(half).await;
        let chance = {
            let mut random = self.wire.random.lock().unwrap();
            random
                .get_or_insert_with(|| Random::seeded(7))
                .within(0..100)
        };
        if is_cut() || chance < self.wire.lost.load(SeqCst) {
            sleep(100 * MILLI).await;
            return Err(Away::because("the answer is lost"));
        }
        Ok(grant)
    }

    async fn news(&self) {
        self.ledger.news().await;
    }
}

pub(super) struct Process {
    pub(super) number: usize,
    pub(super) budget: TokenBudget,
    pub(super) sharing: Sharing,
    pub(super) wire: Arc<Wire>,
    pub(super) agent: JoinHandle<()>,
    provider: Arc<Provider>,
    callers: Mutex<Vec<JoinHandle<()>>>,
}

/// One account, its provider and its ledger.
pub(super) struct Play {
    pub(super) provider: Arc<Provider>,
    pub(super) ledger: InMemory,
    pub(super) start: Instant,
    limit: u64,
    headroom: f64,
    many: AtomicU64,
}

impl Play {
    pub(super) fn new(limit: u64, headroom: f64) -> Self {
        Play {
            provider: Arc::new(Provider::new(limit)),
            ledger: InMemory::new(),
            start: Instant::now(),
            limit,
            headroom,
            many: AtomicU64::new(0),
        }
    }

    /// Of a provider that counts any minute, and tells nothing.
    pub(super) fn of_sliding_minutes(limit: u64) -> Self {
        let play = Play::new(limit, 0.0);
        play.provider.state.lock().unwrap().minute = Some(VecDeque::new());
        play
    }

    /// Of a provider whose answers do not tell what is left.
    pub(super) fn untold(limit: u64, headroom: f64) -> Self {
        let play = Play::new(limit, headroom);
        play.provider.state.lock().unwrap().tells = false;
        play
    }

    /// Of a provider that allows so many requests a minute, too, and tells of them.
    pub(super) fn of_requests(limit: u64, requests: u64, headroom: f64) -> Self {
        let play = Play::new(limit, headroom);
        play.provider.state.lock().unwrap().requests = Some(Level::new(requests));
        play
    }

    pub(super) fn budget(&self) -> TokenBudgetBuilder {
        TokenBudget::per_minute(self.limit)
            .headroom(self.headroom)
            .window(Window::Off)
    }

    pub(super) fn process(&self, fallback: Fallback) -> Arc<Process> {
        self.process_with(fallback, self.budget())
    }

    pub(super) fn process_with(
        &self,
        fallback: Fallback,
        budget: TokenBudgetBuilder,
    ) -> Arc<Process> {
        let number = self.many.fetch_add(1, SeqCst) as usize;
        let wire = Arc::new(Wire {
            delay: AtomicU64::new(2),
            ..Wire::default()
        });
        let wired = Wired {
            ledger: self.ledger.clone(),
            wire: Arc::clone(&wire),
        };
        let (sharing, agent): (Sharing, Agent) = Sharing::new(wired, fallback);
        Arc::new(Process {
            number,
            budget: budget.shared(&sharing, "chat").build().unwrap(),
            sharing,
            agent: tokio::spawn(wire.pause.clone().around(agent)),
            wire,
            provider: Arc::clone(&self.provider),
            callers: Mutex::default(),
        })
    }

    pub(super) fn at(&self, seconds: u64) -> Instant {
        self.start + Duration::from_secs(seconds)
    }

    pub(super) async fn until(&self, seconds: u64) {
        tokio::time::sleep_until(self.at(seconds)).await;
    }

    pub(super) fn refused(&self) -> usize {
        self.provider
            .log()
            .iter()
            .filter(|call| call.refused)
            .count()
    }

    /// What was used between two seconds of what may be.
    pub(super) fn used(&self, from: u64, to: u64) -> f64 {
        let log = self.provider.log();
        let within = log
            .iter()
            .filter(|call| !call.refused && call.at >= self.at(from) && call.at < self.at(to));
        let spent: u64 = within.map(|call| call.cost).sum();
        let may = self.limit as f64 * (1.0 - self.headroom) / 60.0 * (to - from) as f64;
        spent as f64 / may
    }

    /// How many requests were sent between two seconds, of as many as may be.
    pub(super) fn sent(&self, from: u64, to: u64, requests: u64) -> f64 {
        let log = self.provider.log();
        let within = log
            .iter()
            .filter(|call| !call.refused && call.at >= self.at(from) && call.at < self.at(to));
        let may = requests as f64 * (1.0 - self.headroom) / 60.0 * (to - from) as f64;
        within.count() as f64 / may
    }

    /// The same, of one process.
    pub(super) fn used_by(&self, process: &Process, from: u64, to: u64) -> f64 {
        let log = self.provider.log();
        let within = log.iter().filter(|call| {
            call.process == process.number
                && !call.refused
                && call.at >= self.at(from)
                && call.at < self.at(to)
        });
        let spent: u64 = within.map(|call| call.cost).sum();
        let may = self.limit as f64 * (1.0 - self.headroom) / 60.0 * (to - from) as f64;
        spent as f64 / may
    }
}

impl Process {
    /// One call, from asking to its answer; says when it was launched.
    pub(super) async fn call(&self, cost: u64) -> Result<Instant, tollhouse::Error> {
        let gate = TpmBudgetLayer::new(self.budget.clone(), |cost: &u64| *cost)
            .observe(|answer: &(Instant, Observation)| answer.1);
        let client =
            GateLayer::new(gate)
                .until_response()
                .layer(service_fn(|cost: u64| async move {
                    let launched = Instant::now();
                    let (there, back) = self.provider.ways();
                    let (provider, number) = (Arc::clone(&self.provider), self.number);
                    // It comes there whatever becomes of who sent it.
                    let counted = tokio::spawn(async move {
                        sleep(there).await;
                        provider.count(number, cost)
                    });
                    let told = counted.await.map_err(io::Error::other)?;
                    sleep(back).await;
                    Ok::<_, io::Error>((launched, told))
                }));
        client.oneshot(cost).await.map(|(launched, _)| launched)
    }

    /// Calls without a pause, so many at once, of sizes at random.
    pub(super) fn saturate(self: &Arc<Self>, callers: usize, sizes: Range<u64>) {
        for caller in 0..callers {
            let process = Arc::clone(self);
            let sizes = sizes.clone();
            let mut random = Random::seeded((self.number * 1_000 + caller) as u64);
            let pause = self.wire.pause.clone();
            let task = tokio::spawn(pause.around(async move {
                loop {
                    let cost = random.within(sizes.clone());
                    process.call(cost).await.unwrap();
                }
            }));
            self.callers.lock().unwrap().push(task);
        }
    }

    /// The same, by hand, of which half is used and the rest given back.
    pub(super) fn saturate_and_use_half(self: &Arc<Self>, callers: usize, sizes: Range<u64>) {
        for caller in 0..callers {
            let process = Arc::clone(self);
            let sizes = sizes.clone();
            let mut random = Random::seeded((self.number * 1_000 + caller) as u64);
            let task = tokio::spawn(async move {
                loop {
                    let cost = random.within(sizes.clone());
                    let reserved = process.budget.reserve(cost).await.unwrap();
                    reserved.launched();
                    let (there, back) = process.provider.ways();
                    sleep(there).await;
                    process.provider.count(process.number, cost);
                    sleep(back).await;
                    process.provider.give_back(cost / 2);
                    reserved.settle(cost - cost / 2);
                }
            });
            self.callers.lock().unwrap().push(task);
        }
    }

    /// Ends all calls that `saturate` makes.
    pub(super) fn stop(&self) {
        self.callers
            .lock()
            .unwrap()
            .drain(..)
            .for_each(|task| task.abort());
    }

    /// Dies without a word.
    pub(super) fn die(&self) {
        self.agent.abort();
        self.stop();
    }
}
