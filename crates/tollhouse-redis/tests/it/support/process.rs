//! A process that behaves: it draws, takes, lands and gives back, and reports the truth.

use std::time::Duration;

use tokio::time::Instant;
use tollhouse::shared::{
    Amounts, Away, Grant, MeterTerms, PoolReport, Report, Seen, SharedLedger, Stamp,
};

/// On a busy machine an answer may take longer than a ledger waits for it; asked again, the same
/// report counts once.
pub(crate) async fn patiently(ledger: &impl SharedLedger, report: &Report) -> Grant {
    let patience =
        std::env::var("TOLLHOUSE_PATIENCE_MS").map_or(20_000, |ms| ms.parse().expect("ms"));
    let patience = Instant::now() + Duration::from_millis(patience);
    loop {
        match ledger.exchange(report).await {
            Ok(grant) => return grant,
            Err(away) => assert!(Instant::now() < patience, "{away}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// One of a single pool.
pub(crate) struct Process {
    pub(crate) report: Report,
    /// By its own clock, what the ledger's showed then.
    clock: Option<(Instant, Stamp)>,
}

impl Process {
    pub(crate) fn new(number: u128, meters: &[MeterTerms]) -> Self {
        let pool = PoolReport {
            meters: meters.to_vec(),
            weight: 1,
            ..PoolReport::default()
        };
        Process {
            report: Report {
                process: number,
                number: 0,
                received: 0,
                seen: None,
                expires: None,
                leaving: false,
                pools: vec![pool],
            },
            clock: None,
        }
    }

    pub(crate) fn pool(&mut self) -> &mut PoolReport {
        &mut self.report.pools[0]
    }

    /// Its next report, which nobody waits for any more after half a second.
    pub(crate) fn next(&mut self) -> &Report {
        self.report.number += 1;
        self.report.expires = self
            .clock
            .map(|(mine, its)| its.after(mine.elapsed() + Duration::from_millis(500)));
        &self.report
    }

    /// Takes in what it was granted.
    pub(crate) fn take_in(&mut self, grant: &Grant) {
        self.clock = Some((Instant::now(), grant.at));
        self.report.seen = Some(Seen {
            life: grant.life,
            answered: grant.answered,
        });
        if !grant.taken {
            return;
        }
        self.report.received = self.report.number;
        for (pool, granted) in self.report.pools.iter_mut().zip(&grant.pools) {
            pool.idle = pool.idle.plus(&granted.drawn);
            pool.slots_idle += granted.slots;
            pool.launches_idle += granted.launches.len() as u64;
            pool.told.clear();
            pool.unused_rooms.clone_from(&granted.rooms);
        }
    }

    /// One round trip.
    pub(crate) async fn try_exchange(&mut self, ledger: &impl SharedLedger) -> Result<Grant, Away> {
        let report = self.next().clone();
        let grant = ledger.exchange(&report).await?;
        self.take_in(&grant);
        Ok(grant)
    }

    /// One round trip that comes to something.
    pub(crate) async fn exchange(&mut self, ledger: &impl SharedLedger) -> Grant {
        loop {
            let report = self.next().clone();
            let grant = patiently(ledger, &report).await;
            self.take_in(&grant);
            if grant.taken {
                return grant;
            }
        }
    }

    /// Comes to know the clock, and waits until a ledger that has just begun grants something.
    pub(crate) async fn settle(&mut self, ledger: &impl SharedLedger) {
        loop {
            let grant = self.exchange(ledger).await;
            if grant.learning.is_zero() {
                return;
            }
            // Nobody may be silent for long, or it begins anew.
            tokio::time::sleep(grant.learning.min(Duration::from_millis(500))).await;
        }
    }

    /// What it wants beside a line, and nothing else.
    pub(crate) fn want(&mut self, amounts: Amounts) {
        self.pool().wanted = amounts;
        self.pool().line.clear();
    }

    /// Of what is idle it sends so much.
    pub(crate) fn send(&mut self, amounts: Amounts) {
        let pool = self.pool();
        assert!(amounts.fits_into(&pool.idle), "{amounts:?} of {pool:?}");
        pool.idle = pool.idle.minus(&amounts);
        pool.in_transit = pool.in_transit.plus(&amounts);
    }

    /// All that was sent has landed.
    pub(crate) fn land(&mut self) {
        self.pool().in_transit = Amounts::NOTHING;
    }

    /// Gives back what is idle.
    pub(crate) fn give_back(&mut self) {
        let pool = self.pool();
        pool.returned = pool.returned.plus(&pool.idle);
        pool.idle = Amounts::NOTHING;
    }
}
