//! One look at what the page shows, and what of it is kept.

use std::collections::BTreeMap;

use serde::Serialize;
use tollhouse_openai::account::{
    AccountSnapshot, DryRunSnapshot, PoolCaller, PoolMeter, PoolSnapshot, SharedSnapshot,
};

/// Callers of one pool that are named.
const CALLERS: usize = 24;

/// Letters of a name that are kept. Names come from outside.
pub(super) const LETTERS: usize = 80;

/// How all stands at one moment.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct Look {
    /// The accounts; pools of one name are shown as one.
    pub accounts: Vec<AccountSnapshot>,
    /// Connections that are open, of a proxy.
    pub connections: Option<usize>,
    /// How far it has come, of a batch.
    pub progress: Option<Progress>,
}

/// How far a batch has come.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Progress {
    /// Lines that need no more work.
    pub done: u64,
    /// Of so many.
    pub total: u64,
    /// Those of them that failed.
    pub failed: u64,
    /// Attempts after the first.
    pub retries: u64,
    /// Answers with status 429.
    pub rejected: u64,
    /// How long the rest is expected to take.
    pub left_seconds: Option<f64>,
    /// Why nothing is sent, where the provider is away.
    pub outage: Option<String>,
}

/// What is kept of the last look, beside the pools.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct Overview {
    pub(super) waiting: usize,
    pub(super) in_flight: usize,
    /// Slots of the account, if they are limited.
    pub(super) slots: Option<usize>,
    /// How many accounts there are.
    pub(super) accounts: usize,
    pub(super) connections: Option<usize>,
    pub(super) dry_run: Option<DryRunSnapshot>,
    /// With how many processes the account is shared, if it is.
    pub(super) shared: Option<SharedSnapshot>,
    pub(super) progress: Option<Progress>,
}

/// A pool at one moment, of all accounts together.
#[derive(Clone, Debug, Default, Serialize)]
pub(super) struct PoolNow {
    pub(super) name: String,
    pub(super) meters: Vec<MeterNow>,
    pub(super) waiting: usize,
    pub(super) in_flight: usize,
    pub(super) max_concurrency: Option<usize>,
    pub(super) held_for_seconds: Option<f64>,
    pub(super) next_launch_in_seconds: Option<f64>,
    pub(super) pace_percent: u8,
    pub(super) callers: Vec<CallerNow>,
    pub(super) more_callers: usize,
}

/// One limit of a pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct MeterNow {
    pub(super) unit: &'static str,
    pub(super) per: String,
    /// What the provider allows.
    pub(super) limit: u64,
    /// What may be used of it at once.
    pub(super) allowed: u64,
    /// What is left of that now; below zero is debt.
    pub(super) left: i64,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct CallerNow {
    pub(super) name: Option<String>,
    pub(super) weight: u32,
    pub(super) waiting: usize,
    pub(super) in_flight: usize,
    pub(super) share_permille: u16,
    pub(super) place: Option<usize>,
    pub(super) wait_seconds: Option<f64>,
}

impl Look {
    /// Of these accounts.
    pub fn of(accounts: Vec<AccountSnapshot>) -> Self {
        Look {
            accounts,
            ..Look::default()
        }
    }

    pub(super) fn overview(&mut self) -> Overview {
        let accounts = &self.accounts;
        let slots = accounts.iter().map(|account| account.max_concurrency);
        Overview {
            waiting: accounts.iter().map(|account| account.waiting).sum(),
            in_flight: accounts.iter().map(|account| account.in_flight).sum(),
            slots: slots.sum(),
            accounts: accounts.len(),
            connections: self.connections,
            dry_run: accounts.first().and_then(|account| account.dry_run),
            shared: accounts.first().and_then(|account| account.shared.clone()),
            progress: self.progress.take(),
        }
    }

    /// Its pools, those of one name together.
    pub(super) fn pools(&self) -> Vec<PoolNow> {
        let mut by_name: BTreeMap<String, PoolNow> = BTreeMap::new();
        let pools = self.accounts.iter().flat_map(|account| &account.pools);
        for pool in pools {
            let name = short(&pool.name);
            match by_name.get_mut(&name) {
                Some(known) => known.add(pool),
                None => _ = by_name.insert(name.clone(), PoolNow::of(name, pool)),
            }
        }
        let mut pools: Vec<_> = by_name.into_values().collect();
        pools.iter_mut().for_each(PoolNow::bound_callers);
        pools
    }
}

impl PoolNow {
    fn of(name: String, pool: &PoolSnapshot) -> Self {
        PoolNow {
            name,
            meters: pool.meters.iter().map(MeterNow::of).collect(),
            waiting: pool.waiting,
            in_flight: pool.in_flight,
            max_concurrency: pool.max_concurrency,
            held_for_seconds: pool.held_for_seconds,
            next_launch_in_seconds: pool.next_launch_in_seconds,
            pace_percent: pool.pace_percent,
            callers: pool.callers.iter().filter_map(CallerNow::of).collect(),
            more_callers: 0,
        }
    }

    /// The same pool of another account.
    fn add(&mut self, pool: &PoolSnapshot) {
        let other = PoolNow::of(String::new(), pool);
        for meter in other.meters {
            let mut mine = self.meters.iter_mut();
            match mine.find(|mine| (mine.unit, &mine.per) == (meter.unit, &meter.per)) {
                Some(mine) => mine.add(&meter),
                None => self.meters.push(meter),
            }
        }
        self.waiting += other.waiting;
        self.in_flight += other.in_flight;
        let both = self.max_concurrency.zip(other.max_concurrency);
        self.max_concurrency = both.map(|(one, other)| one.saturating_add(other));
        self.held_for_seconds = longer(self.held_for_seconds, other.held_for_seconds);
        self.next_launch_in_seconds =
            longer(self.next_launch_in_seconds, other.next_launch_in_seconds);
        self.pace_percent = self.pace_percent.min(other.pace_percent);
        self.callers.extend(other.callers);
    }

    /// The limit that its graph is about, of tokens or else of requests by the minute:
    /// those are counted as they are launched.
    pub(super) fn main_meter(&self) -> Option<&MeterNow> {
        let by_minute = |unit| {
            let mut meters = self.meters.iter();
            meters.find(|meter| (meter.unit, &*meter.per) == (unit, "minute"))
        };
        by_minute("tokens").or_else(|| by_minute("requests"))
    }

    /// Those whose turn comes first, then those of the largest share.
    fn bound_callers(&mut self) {
        self.callers.sort_by_key(|caller| {
            let place = caller.place.unwrap_or(usize::MAX);
            let idle = caller.waiting == 0;
            (idle, place, std::cmp::Reverse(caller.share_permille))
        });
        self.more_callers = self.callers.len().saturating_sub(CALLERS);
        self.callers.truncate(CALLERS);
    }
}

impl MeterNow {
    fn of(meter: &PoolMeter) -> Self {
        MeterNow {
            unit: meter.unit,
            per: meter.per.clone(),
            limit: meter.limit,
            allowed: meter.rate,
            left: meter.level,
        }
    }

    fn add(&mut self, other: &MeterNow) {
        self.limit = self.limit.saturating_add(other.limit);
        self.allowed = self.allowed.saturating_add(other.allowed);
        self.left = self.left.saturating_add(other.left);
    }
}

impl CallerNow {
    /// The one that nobody named is there at all times, and is told where it asks.
    fn of(caller: &PoolCaller) -> Option<Self> {
        let asks = caller.waiting + caller.in_flight > 0;
        (asks || caller.name.is_some()).then(|| CallerNow {
            name: caller.name.as_deref().map(short),
            weight: caller.weight,
            waiting: caller.waiting,
            in_flight: caller.in_flight,
            share_permille: caller.share_permille,
            place: caller.next_place,
            wait_seconds: caller.next_wait_seconds,
        })
    }
}

fn longer(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

/// As much of a name as is kept.
pub(super) fn short(name: &str) -> String {
    name.chars().take(LETTERS).collect()
}

pub(super) fn shorten(name: &mut String) {
    // As most are: no letter is less than a byte.
    if name.len() <= LETTERS {
        return;
    }
    if let Some((end, _)) = name.char_indices().nth(LETTERS) {
        name.truncate(end);
        // What was cut off is given back.
        name.shrink_to_fit();
    }
}
