//! Who may pass a large request, where there is too little for all: the ledger in Redis against the one
//! in memory, while requests join and leave lines, and processes come and go.

use fastrand::Rng;
use tempfile::TempDir;
use tollhouse::shared::{Amounts, MeterTerms, PoolReport, Report, Seen, Stamp};
use tollhouse::{Per, Unit};
use tollhouse_redis::RedisLedger;

use crate::random::schedules;
use crate::support::clock::Clock;
use crate::support::terms;
use crate::support::twins::Twins;

const BEGIN: u64 = 1_800_000_000_000_000;
const MILLI: u64 = 1_000;
const LIMIT: u64 = 60_000;

fn tokens(amount: u64) -> Amounts {
    Amounts::of(Unit::Tokens, amount)
}

/// Some take more requests at once than half a second has.
fn step(cost: u64) -> Amounts {
    let requests = if cost.is_multiple_of(20) { 5 } else { 1 };
    tokens(cost).and(Unit::Requests, requests)
}

/// One whose line stays what it is, but for who joins and leaves.
struct Caller {
    process: u128,
    number: u64,
    seen: Option<Seen>,
    weight: u64,
    line: Vec<u64>,
    unused: u64,
    /// It is silent until then.
    back: u64,
}

impl Caller {
    fn new(rng: &mut Rng) -> Self {
        Caller {
            process: rng.u128(..),
            number: 0,
            seen: None,
            weight: *rng.choice(&[1, 1, 10, 50]).expect("some"),
            line: Vec::new(),
            unused: 0,
            back: 0,
        }
    }

    /// Some join, at the front or the back, and some leave.
    fn change(&mut self, rng: &mut Rng) {
        match rng.u8(..100) {
            0..15 => self.line.insert(0, rng.u64(1..2_000)),
            15..19 => self.line.insert(0, rng.u64(3_000..50_000)),
            19..21 => self.line.push(rng.u64(10_000..50_000)),
            21 => self.line.push(LIMIT + 1),
            22..28 if !self.line.is_empty() => drop(self.line.remove(0)),
            28..30 => self.line.clear(),
            30..70 => self.line.push(rng.u64(1..3_000)),
            _ => {}
        }
        self.line.retain(|cost| *cost <= LIMIT || rng.u8(..) > 20);
        self.line.truncate(16);
    }

    /// All that was drawn before was sent, and has landed.
    fn report(&mut self, rng: &mut Rng, meters: &[MeterTerms], now: u64) -> Report {
        self.number += 1;
        let pool = PoolReport {
            meters: meters.to_vec(),
            weight: self.weight,
            line: self.line.iter().copied().map(step).collect(),
            wanted: tokens(if rng.u8(..) < 60 {
                rng.u64(1..4_000)
            } else {
                0
            }),
            unused: tokens(self.unused),
            ..PoolReport::default()
        };
        Report {
            number: self.number,
            received: self.number - 1,
            seen: self.seen,
            expires: self.seen.map(|_| Stamp(now + 500 * MILLI)),
            pools: vec![pool],
            ..Report::first(self.process)
        }
    }

    fn take(&mut self, mut drawn: u64, rng: &mut Rng) {
        while let Some(step) = self.line.first().copied().filter(|step| *step <= drawn) {
            drawn -= step;
            self.line.remove(0);
            if rng.u8(..) < 60 {
                self.unused += step;
            }
        }
    }
}

#[tokio::test]
async fn what_passes_a_large_request_is_what_passes_it_in_memory() {
    let folder = TempDir::new().expect("a folder");
    let Some((clock, server)) = Clock::with_server(folder.path(), BEGIN).await else {
        return;
    };
    let tokens = terms(Unit::Tokens, Per::Minute, LIMIT);
    let requests = terms(Unit::Requests, Per::Minute, 120);
    for seed in 0..schedules(12) {
        let mut rng = Rng::with_seed(seed);
        let ledger = RedisLedger::open(&server.url(), &format!("passing {seed}"));
        let mut twins = Twins::of(ledger.expect("an address"));
        let mut callers: Vec<_> = (0..4).map(|_| Caller::new(&mut rng)).collect();
        let meters = [tokens, requests];
        let meters = &meters[..1 + usize::from(rng.bool())];
        let mut now = BEGIN;
        for _ in 0..600 {
            now += rng.u64(20 * MILLI..150 * MILLI);
            clock.set(now);
            let who = rng.usize(..callers.len());
            let caller = &mut callers[who];
            if now < caller.back {
                continue;
            }
            match rng.u8(..200) {
                0..2 => caller.back = now + rng.u64(2_000 * MILLI..6_000 * MILLI),
                2 => *caller = Caller::new(&mut rng),
                _ => {}
            }
            caller.change(&mut rng);
            let report = caller.report(&mut rng, meters, now);
            let grant = twins.exchange(&report).await;
            caller.seen = Some(Seen {
                life: grant.life,
                answered: grant.answered,
            });
            caller.take(grant.pools[0].drawn.get(Unit::Tokens), &mut rng);
        }
    }
}
