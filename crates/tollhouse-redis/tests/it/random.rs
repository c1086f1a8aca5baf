//! Random schedules of processes that draw, send, land, give back, lose replies, sleep and die,
//! on a clock that is set: the ledger against a model of the provider, and against the ledger in
//! memory, exchange by exchange.

use std::time::Duration;

use fastrand::Rng;
use tempfile::TempDir;
use tollhouse::shared::{Amounts, Grant, MeterTerms, Report, Stamp, Told};
use tollhouse::{Per, Unit};
use tollhouse_redis::RedisLedger;

use crate::support::clock::Clock;
use crate::support::process::Process;
use crate::support::server::Server;
use crate::support::terms;
use crate::support::twins::Twins;

const BEGIN: u64 = 1_800_000_000_000_000;
const LEASE: u64 = 2_000_000;
const TRANSIT: u64 = 2_000_000;

pub(crate) fn schedules(usual: u64) -> u64 {
    let more = std::env::var("TOLLHOUSE_SCHEDULES").ok();
    let more = more.map_or(1, |times| times.parse::<u64>().expect("a number"));
    usual * more
}

/// Refills all the time, up to a minute's worth, in parts of which a minute's microseconds make
/// one.
struct Provider {
    limit: u64,
    level: i128,
    at: u64,
}

const MINUTE: i128 = 60_000_000;

impl Provider {
    fn new(limit: u64) -> Self {
        Provider {
            limit,
            level: i128::from(limit) * MINUTE,
            at: BEGIN,
        }
    }

    fn until(&mut self, now: u64) {
        let refilled = i128::from(now - self.at) * i128::from(self.limit);
        self.level = (self.level + refilled).min(i128::from(self.limit) * MINUTE);
        self.at = now;
    }
}

/// One process, and what of it is on its way to the provider.
struct Actor {
    process: Process,
    /// How much, and when it arrives.
    under_way: Vec<(u64, u64)>,
    /// Sent, arrived, and not told to the ledger yet.
    arrived: u64,
    /// When the report was sent whose grant came last.
    leased: u64,
    is_dead: bool,
    /// What the ledger believes that it holds, and since when.
    believed: u64,
    came: u64,
    /// What the last grant gave, for as long as it is not known to have come.
    unheard: u64,
    /// What it said to have given back.
    returned: u64,
}

struct World {
    rng: Rng,
    now: u64,
    clock: Clock,
    twins: Twins,
    provider: Provider,
    actors: Vec<Actor>,
    meters: Vec<MeterTerms>,
    /// What the bucket gave, less what came back to it.
    given: u64,
    landed: u64,
    /// Whether processes tell more than there is a provider for here.
    is_wild: bool,
}

fn tokens(amount: u64) -> Amounts {
    Amounts::of(Unit::Tokens, amount)
}

impl World {
    fn pass(&mut self, time: u64) {
        self.now += time;
        self.clock.set(self.now);
        self.arrive();
    }

    /// Everything arrives in the order of its time.
    fn arrive(&mut self) {
        loop {
            let all = self.actors.iter().enumerate();
            let all = all.flat_map(|(of, actor)| {
                actor
                    .under_way
                    .iter()
                    .map(move |(amount, at)| (*at, of, *amount))
            });
            let Some((at, of, amount)) = all.min().filter(|(at, ..)| *at <= self.now) else {
                break;
            };
            let actor = &mut self.actors[of];
            let index = actor.under_way.iter().position(|it| *it == (amount, at));
            actor.under_way.swap_remove(index.expect("it is there"));
            actor.arrived += amount;
            self.provider.until(at);
            self.provider.level -= i128::from(amount) * MINUTE;
            assert!(
                self.is_wild || self.provider.level >= 0,
                "a 429 for {amount}"
            );
        }
        self.provider.until(self.now);
    }

    /// No process could do harm, whatever it does next.
    fn must_hold(&mut self, grant: &Grant) {
        let pool = &grant.pools[0];
        let sendable: u64 = self
            .actors
            .iter_mut()
            .map(|actor| {
                let under_way: u64 = actor.under_way.iter().map(|(amount, _)| amount).sum();
                let may_send = !actor.is_dead && self.now <= actor.leased + LEASE;
                let idle = actor.process.pool().idle.get(Unit::Tokens);
                under_way + if may_send { idle } else { 0 }
            })
            .sum();
        let level = i128::from(pool.levels[0]);
        let all = (level + i128::from(sendable)) * MINUTE;
        assert!(
            all <= self.provider.level,
            "{level} and {sendable} above {}",
            self.provider.level / MINUTE
        );
    }

    /// What the bucket gave is what landed, and what is held.
    async fn is_conserved(&mut self) {
        let status = loop {
            if let Ok(status) = self.twins.ledger.status().await {
                break status.expect("a ledger");
            }
        };
        let held: u64 = self.actors.iter().map(|actor| actor.believed).sum();
        let told: Vec<_> = status.pools[0].leases.iter().map(|it| it.held).collect();
        assert_eq!(status.pools[0].meters[0].held, held, "{told:?}");
        assert_eq!(self.given, self.landed + held);
    }

    /// Sends, lands and gives back what it may.
    fn act(&mut self, who: usize) {
        let (now, rng) = (self.now, &mut self.rng);
        let actor = &mut self.actors[who];
        if now > actor.leased + LEASE || rng.u8(..) < 20 {
            actor.process.give_back();
        }
        while rng.bool() {
            let idle = actor.process.pool().idle.get(Unit::Tokens);
            if idle == 0 {
                break;
            }
            let amount = rng.u64(1..=idle);
            actor.process.send(tokens(amount));
            actor.under_way.push((amount, now + rng.u64(0..=TRANSIT)));
        }
        if rng.bool() {
            let landed = tokens(std::mem::take(&mut actor.arrived));
            let pool = actor.process.pool();
            pool.in_transit = pool.in_transit.minus(&landed);
        }
        let limit = self.provider.limit;
        let pool = actor.process.pool();
        let some = |rng: &mut Rng| tokens(rng.u64(1..=limit / 20 + 1));
        pool.weight = rng.u64(1..4);
        pool.line = (0..rng.usize(0..4)).map(|_| some(rng)).collect();
        if rng.u8(..) < 20 {
            pool.line
                .insert(0, tokens(rng.u64(limit / 4..=limit * 9 / 10)));
        }
        pool.wanted = if rng.bool() {
            some(rng)
        } else {
            Amounts::NOTHING
        };
        pool.slots_wanted = rng.u64(0..5);
        let used = pool.slots_idle.min(rng.u64(0..3));
        pool.slots_idle -= used;
        pool.slots_used += used;
        pool.slots_used -= rng.u64(0..=pool.slots_used);
        if self.is_wild {
            be_wild(pool, rng, limit);
        }
    }

    /// One report, whose reply may be lost.
    async fn report(&mut self, who: usize) {
        let sent = self.now;
        let actor = &mut self.actors[who];
        let report = {
            let at = Stamp(self.now);
            let next = actor.process.next();
            let mut report = next.clone();
            let is_known = report.seen.is_some();
            report.expires = is_known.then(|| at.after(Duration::from_millis(500)));
            report
        };
        actor.process.report.expires = report.expires;
        // Whoever has been silent for long: what it held has landed.
        for actor in &mut self.actors {
            if self.now - actor.came > LEASE + TRANSIT {
                self.landed += std::mem::take(&mut actor.believed);
            }
        }
        let grant = self.twins.exchange(&report).await;
        assert!(grant.taken);
        self.believe(who, &report, &grant);
        if !self.is_wild {
            self.must_hold(&grant);
        }
        match self.rng.u8(..) {
            // Lost; sent again as it is.
            0..20 => {
                self.pass(50_000);
                let again = self.twins.exchange(&report).await;
                assert_eq!(again, grant, "the same answer");
                self.heard(who, &again, sent);
            }
            // Lost, and given up: what it gave is never had.
            20..40 => {}
            _ => self.heard(who, &grant, sent),
        }
    }

    fn heard(&mut self, who: usize, grant: &Grant, sent: u64) {
        let actor = &mut self.actors[who];
        actor.process.take_in(grant);
        actor.unheard = 0;
        actor.leased = sent;
    }

    /// What the ledger knows now of one that reported.
    fn believe(&mut self, who: usize, report: &Report, grant: &Grant) {
        let pool = &report.pools[0];
        let actor = &mut self.actors[who];
        let returned = pool.returned.get(Unit::Tokens);
        let undone = std::mem::take(&mut actor.unheard).min(actor.believed);
        let rest = actor.believed - undone;
        let back = (returned - actor.returned).min(rest);
        actor.returned = returned;
        let rest = rest - back;
        self.given -= undone + back;
        let holds = pool.idle.plus(&pool.in_transit).get(Unit::Tokens);
        self.landed += rest.saturating_sub(holds);
        // Held after it was taken for landed: it counts once more.
        self.given += holds.saturating_sub(rest);
        let drawn = grant.pools[0].drawn.get(Unit::Tokens);
        self.given += drawn;
        actor.believed = holds + drawn;
        actor.unheard = drawn;
        actor.came = self.now;
    }

    /// Lets time pass, acts, reports, dies.
    async fn step(&mut self) {
        let time = match self.rng.u8(..) {
            0..200 => self.rng.u64(0..300_000),
            200..250 => self.rng.u64(0..2_500_000),
            _ => self.rng.u64(0..8_000_000),
        };
        self.pass(time);
        let who = self.rng.usize(..self.actors.len());
        if self.actors[who].is_dead {
            // Another one takes its place when all it had is forgotten here.
            if self.now > self.actors[who].came + LEASE + TRANSIT {
                self.be_born(Some(who));
            }
            return;
        }
        self.act(who);
        self.report(who).await;
        if !self.is_wild {
            self.is_conserved().await;
        }
        if self.rng.u8(..) < 4 {
            self.die(who);
        }
    }

    /// Killed; what it had drawn may have been sent until its lease ended.
    fn die(&mut self, who: usize) {
        let actor = &mut self.actors[who];
        actor.is_dead = true;
        let idle = actor.process.pool().idle.get(Unit::Tokens);
        let last = actor.leased + LEASE + TRANSIT;
        if idle > 0 && last > self.now {
            actor.under_way.push((idle, self.rng.u64(self.now..=last)));
        }
    }

    fn be_born(&mut self, place: Option<usize>) {
        let process = Process::new(self.rng.u128(..), &self.meters);
        let mut actor = Actor {
            process,
            under_way: Vec::new(),
            arrived: 0,
            leased: 0,
            is_dead: false,
            believed: 0,
            came: self.now,
            unheard: 0,
            returned: 0,
        };
        actor.process.pool().max_slots = Some(self.rng.u64(1..20));
        match place {
            Some(place) => {
                let former = std::mem::replace(&mut self.actors[place], actor);
                self.landed += former.believed;
            }
            None => self.actors.push(actor),
        }
    }

    fn new(
        seed: u64,
        server: &Server,
        clock: Clock,
        meters: Vec<MeterTerms>,
        is_wild: bool,
    ) -> Self {
        let mut rng = Rng::with_seed(seed);
        let limit = meters[0].limit;
        let ledger = RedisLedger::open(&server.url(), &format!("schedule {seed}"));
        let processes = rng.usize(1..8);
        clock.set(BEGIN);
        let mut world = World {
            rng,
            now: BEGIN,
            clock,
            twins: Twins::of(ledger.expect("an address")),
            provider: Provider::new(limit),
            actors: Vec::new(),
            meters,
            given: 0,
            landed: 0,
            is_wild,
        };
        for _ in 0..processes {
            world.be_born(None);
        }
        world
    }
}

/// Whatever else may be told.
fn be_wild(pool: &mut tollhouse::shared::PoolReport, rng: &mut Rng, limit: u64) {
    if rng.u8(..) < 30 {
        pool.owed = pool.owed.plus(&tokens(rng.u64(1..limit / 10)));
    }
    if rng.u8(..) < 30 {
        pool.unused = pool.unused.plus(&tokens(rng.u64(1..limit / 10)));
    }
    pool.launches_wanted = rng.u64(0..4);
    pool.launches_idle = rng.u64(0..=pool.launches_idle);
    if rng.u8(..) < 30 && pool.launches_idle > 0 {
        pool.launches_idle -= 1;
        pool.launches_returned += 1;
    }
    let unit = *rng.choice(&[Unit::Tokens, Unit::Requests]).expect("one");
    let per = *rng.choice(&[Per::Minute, Per::Day]).expect("one");
    if rng.u8(..) < 30 {
        pool.told.push(Told::After {
            unit,
            per,
            amount: rng.u64(1..limit),
            delay: Duration::from_millis(rng.u64(1..20_000)),
        });
    }
    if rng.u8(..) < 3 {
        pool.held = Some(Duration::from_millis(rng.u64(1..3_000)));
    } else {
        pool.held = None;
    }
}

async fn play(schedules_: u64, is_wild: bool, meters: impl Fn(&mut Rng) -> Vec<MeterTerms>) {
    let folder = TempDir::new().expect("a folder");
    let Some((clock, server)) = Clock::with_server(folder.path(), BEGIN).await else {
        return;
    };
    let mut clock = Some(clock);
    for seed in 0..schedules(schedules_) {
        let meters = meters(&mut Rng::with_seed(seed));
        let clock_ = clock.take().expect("it is here");
        let mut world = World::new(seed, &server, clock_, meters, is_wild);
        for _ in 0..200 {
            world.step().await;
        }
        clock = Some(world.clock);
    }
}

#[tokio::test]
async fn nothing_is_refused_and_everything_is_accounted_for() {
    play(20, false, |rng| {
        vec![terms(Unit::Tokens, Per::Minute, rng.u64(100..1_000_000))]
    })
    .await;
}

#[tokio::test]
async fn every_grant_is_that_of_the_ledger_in_memory() {
    play(40, true, |rng| {
        let most = 10_u64.pow(rng.u32(4..13));
        let limit = rng.u64(1_000..most);
        let mut meters = vec![terms(Unit::Tokens, Per::Minute, limit)];
        meters[0].rate = limit * 85 / 100;
        meters[0].windowed = rng.bool();
        if rng.bool() {
            meters.push(terms(Unit::Tokens, Per::Day, limit.saturating_mul(200)));
        }
        if rng.bool() {
            meters.push(terms(Unit::Requests, Per::Minute, rng.u64(1..100_000)));
        }
        meters
    })
    .await;
}
