//! Whose turn it is where a request takes of several meters: the ledger in Redis against the one in
//! memory, while requests cost more or less than they were charged, and not everybody tells the truth of
//! it.

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
const LIMIT: u64 = 10_000;

fn of(input: u64, output: u64) -> Amounts {
    let request = Amounts::of(Unit::Requests, 1);
    request.and(Unit::Input, input).and(Unit::Output, output)
}

/// One that always wants more, and reports what became of what it had.
struct Caller {
    process: u128,
    number: u64,
    received: u64,
    seen: Option<Seen>,
    pool: PoolReport,
    /// Of a hundred reports so many tell anything at all.
    lies: u8,
    /// It is silent until then.
    back: u64,
}

impl Caller {
    fn new(rng: &mut Rng) -> Self {
        Caller {
            process: rng.u128(..),
            number: 0,
            received: 0,
            seen: None,
            pool: PoolReport::default(),
            lies: *rng.choice(&[0, 0, 10, 100]).expect("some"),
            back: 0,
        }
    }

    /// One unit of what a request takes; mostly the one that costs most.
    fn dominant(rng: &mut Rng, amounts: &Amounts) -> Amounts {
        let unit = match amounts.get(Unit::Input) >= amounts.get(Unit::Output) {
            _ if rng.u8(..) < 20 => Unit::Requests,
            true => Unit::Input,
            false => Unit::Output,
        };
        Amounts::of(unit, amounts.get(unit))
    }

    fn some(rng: &mut Rng) -> Amounts {
        let most = *rng.choice(&[50, 500, 2_000]).expect("some");
        of(rng.u64(0..most), rng.u64(0..most))
    }

    /// Takes, settles, comes back to what it took, and gives back what it has.
    fn act(&mut self, rng: &mut Rng, meters: &[MeterTerms], interval: std::time::Duration) {
        let pool = &mut self.pool;
        pool.meters = meters.to_vec();
        pool.interval = interval;
        if rng.u8(..) < 30 {
            pool.weight = rng.u64(1..20);
        }
        for _ in 0..rng.u8(..4) {
            let taken = Caller::some(rng).min(&pool.idle);
            pool.idle = pool.idle.minus(&taken);
            pool.in_transit = pool.in_transit.plus(&taken);
            let dominant = Caller::dominant(rng, &taken);
            pool.dominant = pool.dominant.plus(&dominant);
        }
        let some = pool.in_transit.min(&Caller::some(rng));
        let dominant = Caller::dominant(rng, &some);
        match rng.u8(..10) {
            0..5 => pool.in_transit = pool.in_transit.minus(&some),
            5 => {
                pool.unused = pool.unused.plus(&some);
                pool.dominant = pool.dominant.minus(&dominant);
            }
            6 => {
                pool.owed = pool.owed.plus(&some);
                pool.dominant = pool.dominant.plus(&dominant);
            }
            7 => {
                // It never left.
                pool.in_transit = pool.in_transit.minus(&some);
                pool.idle = pool.idle.plus(&some);
                pool.dominant = pool.dominant.minus(&dominant);
            }
            8 => {
                let some = pool.idle.min(&some);
                pool.idle = pool.idle.minus(&some);
                pool.returned = pool.returned.plus(&some);
            }
            _ => {}
        }
        pool.line = (0..rng.u8(..6)).map(|_| Caller::some(rng)).collect();
        pool.wanted = match rng.bool() {
            true => Caller::some(rng),
            false => Amounts::NOTHING,
        };
        if rng.u8(..100) < self.lies {
            let some = |rng: &mut Rng| of(rng.u64(..1 << 40), rng.u64(..1 << 40));
            match rng.u8(..4) {
                0 => pool.dominant = Amounts::NOTHING,
                1 => pool.dominant = some(rng),
                2 => pool.unused = pool.unused.plus(&some(rng)),
                _ => pool.idle = pool.idle.plus(&Caller::some(rng)),
            }
        }
    }

    fn report(&mut self, now: u64) -> Report {
        self.number += 1;
        Report {
            number: self.number,
            received: self.received,
            seen: self.seen,
            expires: self.seen.map(|_| Stamp(now + 500 * MILLI)),
            pools: vec![self.pool.clone()],
            ..Report::first(self.process)
        }
    }
}

#[tokio::test]
async fn whose_turn_it_is_is_whose_it_is_in_memory() {
    let folder = TempDir::new().expect("a folder");
    let Some((clock, server)) = Clock::with_server(folder.path(), BEGIN).await else {
        return;
    };
    for seed in 0..schedules(12) {
        let mut rng = Rng::with_seed(seed);
        let ledger = RedisLedger::open(&server.url(), &format!("tags {seed}"));
        let mut twins = Twins::of(ledger.expect("an address"));
        let mut callers: Vec<_> = (0..4).map(|_| Caller::new(&mut rng)).collect();
        let mut meters = vec![
            terms(Unit::Requests, Per::Minute, 1_200),
            terms(Unit::Input, Per::Minute, LIMIT),
            terms(Unit::Input, Per::Day, 200 * LIMIT),
            terms(Unit::Output, Per::Minute, LIMIT),
        ];
        let interval = std::time::Duration::from_millis(*rng.choice(&[0, 50]).expect("one"));
        let mut now = BEGIN;
        for _ in 0..600 {
            now += rng.u64(20 * MILLI..150 * MILLI);
            clock.set(now);
            if rng.u8(..) < 3 {
                let limit = rng.u64(LIMIT / 2..2 * LIMIT);
                let meter = rng.usize(1..4);
                meters[meter] = terms(meters[meter].unit, meters[meter].per, limit);
            }
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
            caller.act(&mut rng, &meters, interval);
            let grant = twins.exchange(&caller.report(now)).await;
            if rng.u8(..) < 20 && caller.received > 0 {
                // Its answer is lost.
                continue;
            }
            caller.received = caller.number;
            caller.seen = Some(Seen {
                life: grant.life,
                answered: grant.answered,
            });
            let granted = &grant.pools[0];
            caller.pool.idle = caller.pool.idle.plus(&granted.drawn);
            caller.pool.unused_rooms.clone_from(&granted.rooms);
        }
    }
}
