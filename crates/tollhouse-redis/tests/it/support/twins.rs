//! The ledger in Redis beside the one in memory, exchange by exchange.

use tollhouse::shared::{Grant, InMemory, Report};
use tollhouse_redis::RedisLedger;

use super::process::patiently;

/// What Redis counts in a circle.
const CIRCLE: u64 = 1 << 52;

/// Both are told the same, and must answer the same.
pub(crate) struct Twins {
    pub(crate) ledger: RedisLedger,
    twin: InMemory,
    life: Option<u64>,
}

impl Twins {
    pub(crate) fn of(ledger: RedisLedger) -> Self {
        Twins {
            ledger,
            twin: InMemory::new(),
            life: None,
        }
    }

    /// Redis first, then the ledger in memory by Redis's clock.
    pub(crate) async fn exchange(&mut self, report: &Report) -> Grant {
        let grant = patiently(&self.ledger, report).await;
        let life = *self.life.get_or_insert(grant.life);
        let mut twin_report = report.clone();
        if let Some(seen) = &mut twin_report.seen {
            assert_eq!(seen.life, life, "nothing is ever lost here");
            seen.life = 1;
        }
        let twin = self.twin.exchange_at(&twin_report, grant.at);
        assert_eq!(
            comparable(&grant, life),
            comparable(&twin, 1),
            "{report:#?}"
        );
        grant
    }
}

/// What must be the same, whichever ledger it is: all but the name of its life, and where its
/// circles begin.
fn comparable(grant: &Grant, life: u64) -> Grant {
    assert_eq!(grant.life, life);
    let mut grant = grant.clone();
    grant.life = 0;
    for pool in &mut grant.pools {
        for mark in &mut pool.marks {
            *mark %= CIRCLE;
        }
    }
    grant
}
