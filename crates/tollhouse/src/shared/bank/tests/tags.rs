//! What a process's tag is charged, where a request takes of several meters.

use super::*;
use crate::shared::PoolGrant;

/// Of input and of output, a minute.
const LIMIT: u64 = 10_000;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;

fn of(input: u64, output: u64) -> Amounts {
    Amounts::of(Unit::Input, input).and(Unit::Output, output)
}

/// The scarcest of a request, input where both are.
fn dominant(amounts: &Amounts) -> Amounts {
    let (input, output) = (amounts.get(Unit::Input), amounts.get(Unit::Output));
    match input >= output {
        true => of(input, 0),
        false => of(0, output),
    }
}

fn meters() -> Vec<MeterTerms> {
    let meter = |unit| MeterTerms {
        unit,
        ..by_the_minute(LIMIT, LIMIT)
    };
    vec![meter(Unit::Input), meter(Unit::Output)]
}

/// A process that always wants more of the same requests, one after another.
struct Spender {
    id: u128,
    number: u64,
    received: u64,
    rooms: Vec<i64>,
    /// What stands as it will be reported.
    pool: PoolReport,
    reserves: Vec<Amounts>,
    uses: fn(&Amounts) -> Amounts,
    /// Taken since the last report, and landed by then.
    taken: Vec<Amounts>,
    landed: Vec<Amounts>,
    spent: Amounts,
    loses_grants: bool,
    /// What it tells beside or instead of the truth.
    lies: fn(&mut PoolReport),
}

impl Spender {
    fn new(id: u128, reserves: &[Amounts], uses: fn(&Amounts) -> Amounts) -> Self {
        Spender {
            id,
            number: 0,
            received: 0,
            rooms: Vec::new(),
            pool: PoolReport {
                meters: meters(),
                weight: 1,
                ..PoolReport::default()
            },
            reserves: reserves.to_vec(),
            uses,
            taken: Vec::new(),
            landed: Vec::new(),
            spent: Amounts::NOTHING,
            loses_grants: false,
            lies: |_| {},
        }
    }

    /// Its requests land within a report, and are settled within another one.
    fn report(&mut self, now: u64) -> Report {
        let pool = &mut self.pool;
        for reserved in std::mem::replace(&mut self.landed, std::mem::take(&mut self.taken)) {
            let used = (self.uses)(&reserved);
            pool.owed = pool.owed.plus(&used.minus(&reserved));
            pool.unused = pool.unused.plus(&reserved.minus(&used));
            let (before, after) = (dominant(&reserved), dominant(&used));
            pool.dominant = pool.dominant.plus(&after).minus(&before);
        }
        let landed = self.landed.iter();
        pool.in_transit = landed.fold(Amounts::NOTHING, |sum, it| sum.plus(it));
        pool.line = self.reserves.iter().copied().cycle().take(16).collect();
        pool.unused_rooms.clone_from(&self.rooms);
        self.number += 1;
        let mut pool = pool.clone();
        (self.lies)(&mut pool);
        Report {
            received: self.received,
            ..asking(self.id, self.number, now, pool)
        }
    }

    /// Takes as many requests as it has been granted.
    fn take(&mut self, grant: &PoolGrant) {
        if self.loses_grants && self.number.is_multiple_of(2) {
            return;
        }
        self.received = self.number;
        self.rooms.clone_from(&grant.rooms);
        let mut there = self.pool.idle.plus(&grant.drawn);
        while self.reserves[0].fits_into(&there) {
            let reserved = self.reserves[0];
            there = there.minus(&reserved);
            self.pool.dominant = self.pool.dominant.plus(&dominant(&reserved));
            self.taken.push(reserved);
            self.spent = self.spent.plus(&reserved);
            self.reserves.rotate_left(1);
        }
        self.pool.idle = there;
    }
}

/// What each spent in an hour, once the first minute's burst is spent.
fn play(spenders: &mut [Spender]) -> Vec<[u64; 2]> {
    let mut bank = Bank::new(1);
    play_on(&mut bank, spenders, 0..MINUTE);
    play_on(&mut bank, spenders, MINUTE..HOUR + MINUTE)
}

/// Lets them report in turn, four times a second, and says what each spent, in the order of [`of`].
fn play_on(
    bank: &mut Bank,
    spenders: &mut [Spender],
    seconds: std::ops::Range<u64>,
) -> Vec<[u64; 2]> {
    let before: Vec<_> = spenders.iter().map(|it| it.spent).collect();
    for tick in seconds.start * 4..seconds.end * 4 {
        for (at, spender) in (0..).zip(&mut *spenders) {
            let now = 1_000 * SEC + tick * SEC / 4 + at * 1_000;
            let report = spender.report(now);
            let grant = bank.exchange(&report, Stamp(now));
            spender.take(&grant.pools[0]);
        }
    }
    let spent = spenders.iter().zip(before);
    let spent = spent.map(|(spender, before)| spender.spent.minus(&before));
    spent
        .map(|spent| [spent.get(Unit::Input), spent.get(Unit::Output)])
        .collect()
}

fn whole(reserved: &Amounts) -> Amounts {
    *reserved
}

fn no_output(reserved: &Amounts) -> Amounts {
    of(reserved.get(Unit::Input), 0)
}

/// Both have the same of what is scarce, up to one request.
fn assert_even(spent: &[[u64; 2]], request: u64) {
    let [[one, _], [other, _]] = *spent else {
        panic!("two of them: {spent:?}");
    };
    assert!(one.abs_diff(other) <= request, "{spent:?}");
    assert!(
        one + other >= 60 * LIMIT - 2 * request,
        "all of it: {spent:?}"
    );
}

#[test]
fn what_comes_back_and_was_not_scarce_earns_nothing() {
    let request = of(1_000, 1_000);
    let spent = play(&mut [
        Spender::new(1, &[request], no_output),
        Spender::new(2, &[request], whole),
    ]);
    assert_even(&spent, 1_000);
}

#[test]
fn what_is_used_beyond_and_is_not_scarce_costs_nothing() {
    let request = of(1_000, 100);
    let uses_more = |reserved: &Amounts| reserved.and(Unit::Output, 900);
    let spent = play(&mut [
        Spender::new(1, &[request], uses_more),
        Spender::new(2, &[request], whole),
    ]);
    assert_even(&spent, 1_000);
}

/// The one pays for its output until that comes back, and then for its input.
#[test]
fn what_comes_back_earns_what_it_made_dearer() {
    let request = of(500, 1_000);
    let spent = play(&mut [
        Spender::new(1, &[request], no_output),
        Spender::new(2, &[of(500, 0)], whole),
    ]);
    assert_even(&spent, 1_000);
}

/// Nothing is paid for a grant that never came, of however many steps it was.
#[test]
fn a_lost_grant_costs_nothing() {
    let requests = [of(10, 0), of(0, 10)];
    let mut loses = Spender::new(1, &requests, whole);
    loses.loses_grants = true;
    let spent = play(&mut [loses, Spender::new(2, &requests, whole)]);
    assert_even(&spent, 100);
}

/// Draws both, takes the one and gives the other back.
#[test]
fn what_is_given_back_idle_and_was_not_scarce_earns_nothing() {
    let mut bank = Bank::new(1);
    let mut other = Spender::new(2, &[of(500, 0)], whole);
    let mut pool = PoolReport {
        meters: meters(),
        weight: 1,
        wanted: of(500, 500),
        ..PoolReport::default()
    };
    let mut drew = Amounts::NOTHING;
    let mut spent = [[0; 2]; 2];
    for tick in 0..(MINUTE + HOUR) * 4 {
        if tick == MINUTE * 4 {
            // The burst is spent.
            (drew, other.spent) = Default::default();
        }
        let now = 1_000 * SEC + tick * SEC / 4;
        let report = asking(1, tick + 1, now, pool.clone());
        let grant = bank.exchange(&report, Stamp(now));
        let drawn = grant.pools[0].drawn;
        // The output is kept for one report longer.
        pool.returned = pool.returned.plus(&pool.idle);
        pool.idle = of(0, drawn.get(Unit::Output));
        pool.dominant = pool.dominant.plus(&of(drawn.get(Unit::Input), 0));
        drew = drew.plus(&drawn);
        let report = other.report(now + 1_000);
        let grant = bank.exchange(&report, Stamp(now + 1_000));
        other.take(&grant.pools[0]);
    }
    for (spent, of) in spent.iter_mut().zip([drew, other.spent]) {
        spent[0] = of.get(Unit::Input);
    }
    assert_even(&spent, 1_000);
}

/// Whoever tells nothing of what its requests cost pays for what it drew; and whoever tells
/// that they cost ever less, or ever more, for no less and no more.
#[test]
fn what_is_told_is_believed_within_what_was_drawn() {
    type Lies = fn(&mut PoolReport);
    let cheaper: [Lies; 3] = [
        |pool| pool.dominant = Amounts::NOTHING,
        |pool| pool.dominant = of(u64::MAX, u64::MAX).minus(&pool.dominant),
        |pool| pool.dominant = pool.dominant.part(1, 2),
    ];
    let dearer: Lies = |pool| pool.dominant = pool.dominant.plus(&pool.dominant);
    let cheaper = cheaper.map(|lies| (of(500, 500), lies));
    for (request, lies) in cheaper.into_iter().chain([(of(500, 0), dearer)]) {
        let mut liar = Spender::new(1, &[request], whole);
        liar.lies = lies;
        let spent = play(&mut [liar, Spender::new(2, &[request], whole)]);
        assert_even(&spent, 1_000);
    }
}

/// A tag never falls below where it began: what was claimed for nothing is worth nothing later.
#[test]
fn nothing_comes_back_that_was_not_paid() {
    let request = of(500, 500);
    let mut bank = Bank::new(1);
    let mut spenders = [
        Spender::new(1, &[request], whole),
        Spender::new(2, &[request], whole),
    ];
    spenders[0].pool.dominant = of(1 << 40, 0);
    play_on(&mut bank, &mut spenders, 0..MINUTE);
    // All that it ever had, and a thousand times that, and it gave it back to nobody.
    for _ in 0..1_000 {
        let pool = &mut spenders[0].pool;
        pool.unused = pool.unused.plus(&of(LIMIT, LIMIT));
        pool.dominant = pool.dominant.minus(&of(LIMIT, 0));
    }
    spenders[0].rooms.clear();
    let spent = play_on(&mut bank, &mut spenders, MINUTE..HOUR);
    let [[liar, _], [other, _]] = spent[..] else {
        unreachable!("two of them");
    };
    // What it had paid by then, its half of the burst and of a minute, and no more.
    assert!(liar.saturating_sub(other) <= LIMIT + 1_000, "{spent:?}");
}
