//! The pools of an account, as a plan reckons with them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use tokio::time::Duration;

use super::limit::{Limit, LimitTime};
use super::limits::Limits;
use super::work::{Parts, Work};
use crate::format::as_seconds;

/// What a plan must know of one request; see [`Plan::read_pools`](super::Plan::read_pools).
#[derive(Clone, Debug)]
pub struct Share {
    /// The pool that it takes from: a name of its own.
    pub pool: Arc<str>,
    /// The limits of that pool; those of its first request count.
    pub limits: Arc<Limits>,
    /// What it costs there, in tokens.
    pub cost: u64,
    /// What of it is limited apart.
    pub parts: Parts,
}

impl Share {
    pub(super) fn takes(&self) -> Work {
        Work {
            requests: 1,
            tokens: self.cost,
            parts: self.parts,
        }
    }
}

/// What one pool of an account has to do.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PoolPlan {
    /// Its name.
    pub pool: String,
    /// Requests that it will be sent.
    pub requests: u64,
    /// What they will cost together.
    pub tokens: u64,
    /// What of them is limited apart, together.
    #[serde(skip)]
    pub parts: Parts,
    /// What each of its limits alone would take.
    pub times: Vec<LimitTime>,
    /// The one that takes longest, if any takes time at all.
    pub binding: Option<Limit>,
    /// How long that one makes it.
    #[serde(rename = "seconds", serialize_with = "as_seconds")]
    pub time: Duration,
}

/// Pools in the making, by their names.
#[derive(Debug, Default)]
pub(super) struct Pools {
    all: BTreeMap<Arc<str>, Load>,
}

#[derive(Debug)]
struct Load {
    limits: Arc<Limits>,
    work: Work,
}

/// What the pools come to.
#[derive(Debug)]
pub(super) struct Reckoned {
    pub(super) pools: Vec<PoolPlan>,
    /// Of what they share.
    pub(super) shared: Vec<LimitTime>,
    /// The limit that takes longest, and whose it is, if it is not shared.
    pub(super) binding: Option<(Limit, Option<String>)>,
    pub(super) time: Duration,
}

impl Pools {
    /// Makes a pool known before its first request.
    pub(super) fn open(&mut self, pool: &Arc<str>, limits: &Arc<Limits>) -> &Limits {
        &self.load(pool, limits).limits
    }

    pub(super) fn add(&mut self, share: &Share) {
        let load = self.load(&share.pool, &share.limits);
        load.work.add(&share.takes());
    }

    fn load(&mut self, pool: &Arc<str>, limits: &Arc<Limits>) -> &mut Load {
        // Found far oftener than made.
        if !self.all.contains_key(pool) {
            let load = Load {
                limits: Arc::clone(limits),
                work: Work::default(),
            };
            self.all.insert(Arc::clone(pool), load);
        }
        self.all.get_mut(pool).expect("it was just put in")
    }

    /// The times of all of them, which go on side by side, and of what they share.
    pub(super) fn reckon(self, shared: &Limits) -> Reckoned {
        let mut all = Work::default();
        self.all.values().for_each(|load| all.add(&load.work));
        let mut pools: Vec<_> = self
            .all
            .iter()
            .map(|(pool, load)| load.plan(pool))
            .collect();
        let mut of_all = shared.times(&all);
        let of_pools = pools.iter().filter_map(|pool| {
            let binding = (pool.binding?, Some(pool.pool.clone()));
            Some((pool.time, binding))
        });
        let of_shared = longest(&of_all).map(|time| (time.time, (time.limit, None)));
        let longest = of_pools.chain(of_shared).max_by_key(|(time, _)| *time);
        let time = longest.as_ref().map_or(Duration::ZERO, |(time, _)| *time);
        if longest.is_some() {
            // All that takes longer than half would have to change.
            for (plan, load) in pools.iter_mut().zip(self.all.values()) {
                load.limits.halve(&mut plan.times, &load.work, time / 2);
            }
            shared.halve(&mut of_all, &all, time / 2);
        }
        Reckoned {
            pools,
            shared: of_all,
            binding: longest.map(|(_, binding)| binding),
            time,
        }
    }
}

impl Load {
    fn plan(&self, pool: &Arc<str>) -> PoolPlan {
        let times = self.limits.times(&self.work);
        let longest = longest(&times).map(|time| (time.limit, time.time));
        PoolPlan {
            pool: pool.to_string(),
            requests: self.work.requests,
            tokens: self.work.tokens,
            parts: self.work.parts,
            binding: longest.map(|(limit, _)| limit),
            time: longest.map_or(Duration::ZERO, |(_, time)| time),
            times,
        }
    }
}

/// The limit that takes longest, if any takes time at all.
fn longest(times: &[LimitTime]) -> Option<&LimitTime> {
    let longest = times.iter().max_by_key(|time| time.time);
    longest.filter(|longest| !longest.time.is_zero())
}
