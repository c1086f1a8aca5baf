//! How an account stands at one instant.

use serde::Serialize;
use tokio::time::Instant;
use tollhouse::{AccountSlots, Caller, CallerSnapshot, MeterSnapshot, TokenBudget};

use super::models::Kind;
use super::pools::{Pool, Pools};
use super::shared::SharedSnapshot;

/// An account at one moment; made by [`Account::snapshot`](super::Account::snapshot).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct AccountSnapshot {
    /// The pools that are in use, those of sections first, each kind by name.
    pub pools: Vec<PoolSnapshot>,
    /// Calls that wait, in all pools; also in those that a change has left without a model, and
    /// that are no longer among [`pools`](Self::pools).
    pub waiting: usize,
    /// Calls that were let in and are not over, in the same.
    pub in_flight: usize,
    /// The most that may be in flight over all pools, if limited.
    pub max_concurrency: Option<usize>,
    /// How it stands with the ledger that it shares with other processes, if it does; what
    /// else is told here is this process's.
    pub shared: Option<SharedSnapshot>,
    /// What a dry run let pass, if this is one.
    pub dry_run: Option<DryRunSnapshot>,
}

/// What a dry run let pass so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct DryRunSnapshot {
    /// Calls that would have waited.
    pub would_have_waited: u64,
    /// Calls that would have been refused.
    pub would_have_been_refused: u64,
}

/// One pool at one moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolSnapshot {
    /// Its name: of `[pools]`, of a section of `[models]`, or of a model.
    pub name: String,
    /// The section that made it, as it is written in the file.
    pub section: String,
    /// Whether a section names it; one that was made for a model alone is dropped when
    /// it is at rest.
    pub named: bool,
    /// Its limits; what is not limited, or not known yet, is not here.
    pub meters: Vec<PoolMeter>,
    /// Calls that wait.
    pub waiting: usize,
    /// Calls that were let in and are not over.
    pub in_flight: usize,
    /// The most that may be.
    pub max_concurrency: Option<usize>,
    /// How long the provider's hold goes on, if there is one.
    pub held_for_seconds: Option<f64>,
    /// How long until the next may be launched, if launches are spaced and the time has
    /// not come.
    pub next_launch_in_seconds: Option<f64>,
    /// The share of the limits that is used, in percent; below 100 after refusals that
    /// explained nothing.
    pub pace_percent: u8,
    /// Who asks, those of the largest share first.
    pub callers: Vec<PoolCaller>,
}

/// One caller of a pool at one moment; see [`CallerSnapshot`].
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolCaller {
    /// Its name; `None` for the one that nobody named, and for those who share a lane
    /// because there are too many names at once.
    pub name: Option<String>,
    /// Its weight.
    pub weight: u32,
    /// Its calls that wait.
    pub waiting: usize,
    /// Its calls that were let in and are not over.
    pub in_flight: usize,
    /// Of what was charged since somebody last began to wait, so many thousandths were
    /// its.
    pub share_permille: u16,
    /// The place in line of its first call that waits, 1 being the next of all; told of
    /// the first 32 callers of a pool that wait.
    pub next_place: Option<usize>,
    /// How long that call is expected to wait from now on.
    pub next_wait_seconds: Option<f64>,
}

/// Of so many callers of a pool a snapshot tells the place in line: finding it takes
/// time by the number of them, under the pool's lock.
const PLACES_TOLD: usize = 32;

/// One limit of a pool at one moment; see [`MeterSnapshot`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PoolMeter {
    /// What it counts: `requests`, `tokens`, `input tokens`, `output tokens`, `images`.
    pub unit: &'static str,
    /// Over which time: `second`, `minute`, `day`.
    pub per: String,
    /// What the provider allows in that time.
    pub limit: u64,
    /// What of it is used: after headroom, and slower where refusals say so.
    pub rate: u64,
    /// The most that one request may take: what is used of it, or a smaller burst.
    pub capacity: u64,
    /// What may be spent now; below zero is debt.
    pub level: i64,
    /// Reserved, and not surely counted by the provider yet.
    pub in_transit: u64,
    /// Reserved, and its real usage not known yet.
    pub outstanding: u64,
}

impl AccountSnapshot {
    pub(super) fn of(pools: &Pools) -> Self {
        pools.sweep();
        let now = Instant::now();
        let all = pools.all();
        let left = pools.left();
        let left: Vec<_> = left.iter().map(|pool| pool.budget().snapshot()).collect();
        let shared = pools.shared();
        let slots = shared.slots.as_ref().map(AccountSlots::snapshot);
        let next_launch = slots.and_then(|slots| slots.next_launch);
        let each = all.iter();
        let each: Vec<_> = each
            .map(|pool| PoolSnapshot::of(pool, next_launch, now))
            .collect();
        let dry_run = pools.dry_runs().map(|dry| DryRunSnapshot {
            would_have_waited: dry.waits(),
            would_have_been_refused: dry.refusals(),
        });
        let ledger = shared.ledger.as_ref();
        AccountSnapshot {
            shared: ledger.map(|ledger| SharedSnapshot::of(ledger, now)),
            waiting: (each.iter().map(|pool| pool.waiting))
                .chain(left.iter().map(|left| left.waiting))
                .sum(),
            in_flight: (each.iter().map(|pool| pool.in_flight))
                .chain(left.iter().map(|left| left.in_flight))
                .sum(),
            max_concurrency: shared.max_slots,
            pools: each,
            dry_run,
        }
    }
}

impl PoolSnapshot {
    /// How it stands, where no call of the account may be launched before `next_launch`.
    fn of(pool: &Pool, next_launch: Option<Instant>, now: Instant) -> Self {
        let stands = pool.gate.budget().snapshot();
        let until = |at: Option<Instant>| at.map(|at| (at - now).as_secs_f64());
        PoolSnapshot {
            name: pool.id.name.to_string(),
            section: pool.section.to_string(),
            named: matches!(pool.id.kind, Kind::Named | Kind::Section),
            meters: stands.meters.iter().map(PoolMeter::of).collect(),
            waiting: stands.waiting,
            in_flight: stands.in_flight,
            max_concurrency: stands.max_concurrency,
            held_for_seconds: until(stands.held_until),
            next_launch_in_seconds: until(stands.next_launch.max(next_launch)),
            pace_percent: stands.pace_percent,
            callers: PoolCaller::all(&stands.callers, pool.gate.budget()),
        }
    }
}

impl PoolCaller {
    fn all(callers: &[CallerSnapshot], budget: &TokenBudget) -> Vec<PoolCaller> {
        let one = |caller: &CallerSnapshot| PoolCaller {
            name: caller.name.as_deref().map(str::to_owned),
            weight: caller.weight,
            waiting: caller.waiting,
            in_flight: caller.in_flight,
            share_permille: caller.share_permille,
            next_place: None,
            next_wait_seconds: None,
        };
        let mut all: Vec<_> = callers.iter().map(one).collect();
        all.sort_by(|one, other| {
            let rank = |caller: &PoolCaller| std::cmp::Reverse(caller.share_permille);
            (rank(one), &one.name).cmp(&(rank(other), &other.name))
        });
        // Those who share a lane have no name either, and no place that is one's own.
        let some_share = callers.iter().any(|caller| caller.is_shared);
        let waiting = all.iter_mut().filter(|caller| caller.waiting > 0);
        let known = waiting.filter(|caller| caller.name.is_some() || !some_share);
        for caller in known.take(PLACES_TOLD) {
            caller.find_place(budget);
        }
        all
    }

    /// It may have been let in since the snapshot was taken.
    fn find_place(&mut self, budget: &TokenBudget) {
        let caller = self
            .name
            .as_deref()
            .map_or_else(Caller::default, Caller::new);
        if let Some(next) = budget.next_in_line(&caller) {
            self.next_place = Some(next.place);
            self.next_wait_seconds = Some(next.expected_wait.as_secs_f64());
        }
    }
}

impl PoolMeter {
    fn of(meter: &MeterSnapshot) -> Self {
        PoolMeter {
            unit: meter.unit.name(),
            per: meter.per.to_string(),
            limit: meter.limit,
            rate: meter.rate,
            capacity: meter.capacity,
            level: meter.level,
            in_transit: meter.in_transit,
            outstanding: meter.outstanding,
        }
    }
}
