//! The rules of a shared ledger, told the time: `docs/decisions/0066-leases.md`, one to
//! eleven. The scripts of `tollhouse-redis` are compared with it, exchange by exchange.

mod advance;
mod deal;
mod meter;
mod passed;
mod pool;
mod prices;
mod share;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::{Grant, PoolReport, Report, Stamp};
use crate::charge::Per;
use meter::Meter;
use pool::{Granted, Pool};

/// How long what is drawn may be spent.
pub(super) const LEASE: Duration = Duration::from_secs(2);

/// How long after its launch a request has surely been counted by the provider.
const TRANSIT: Duration = Duration::from_secs(2);

/// By then every process has noticed that the ledger was lost.
const LEARNING: Duration = Duration::from_secs(4);

/// A process that is silent for so long comes back as another one.
const FORGOTTEN: Duration = Duration::from_secs(60 * 60);

/// See the [module's documentation](self).
#[derive(Debug)]
pub(super) struct Bank {
    life: u64,
    clock: Clock,
    /// When this life began; `None` before the first report.
    began: Option<Stamp>,
    /// Whether there was another life before.
    lost: bool,
    answered: u64,
    /// When somebody came last.
    came: Stamp,
    /// Nothing is granted before.
    learning: Stamp,
    /// Counts what the other processes should hear at once.
    news: u64,
    processes: BTreeMap<u128, Process>,
    pools: BTreeMap<Option<Arc<str>>, Pool>,
}

#[derive(Debug)]
struct Process {
    came: Stamp,
    number: u64,
    left: bool,
    grant: Grant,
}

/// How a level begins.
#[derive(Clone, Copy, Debug)]
struct Opening {
    /// Since when it can have refilled from nothing; `None`: it is full.
    lost: Option<Stamp>,
}

impl Opening {
    /// Of a meter at nothing.
    fn begin(self, meter: &mut Meter, now: Stamp) {
        let Some(began) = self.lost else {
            return meter.fill(now);
        };
        let terms = meter.terms;
        let refilled = u128::from(terms.rate) * now.since(began).as_micros()
            / terms.per.duration().as_micros();
        let refilled = u64::try_from(refilled).unwrap_or(u64::MAX);
        // A day's refill is not waited for.
        let least = match terms.per {
            Per::Day => terms.capacity / 10,
            _ => 0,
        };
        meter.raise_to(refilled.max(least), now);
    }
}

/// The machine's clock, which may be set back.
#[derive(Debug, Default)]
struct Clock {
    last: u64,
    offset: u64,
}

impl Clock {
    fn read(&mut self, machine: Stamp) -> Stamp {
        let now = machine.0.saturating_add(self.offset);
        self.offset += self.last.saturating_sub(now);
        self.last = self.last.max(now);
        Stamp(self.last)
    }
}

impl Bank {
    /// One that knows nothing.
    pub(super) fn new(life: u64) -> Self {
        Bank {
            life,
            clock: Clock::default(),
            began: None,
            lost: false,
            answered: 0,
            came: Stamp(0),
            learning: Stamp(0),
            news: 0,
            processes: BTreeMap::new(),
            pools: BTreeMap::new(),
        }
    }

    /// One report against one grant, while the machine's clock shows this.
    pub(super) fn exchange(&mut self, report: &Report, machine: Stamp) -> Grant {
        let now = self.clock.read(machine);
        let last = self.processes.get(&report.process);
        if let Some(process) = last.filter(|it| it.number == report.number) {
            return process.grant.clone();
        }
        let is_old = last.is_some_and(|it| it.number > report.number);
        if is_old || report.expires.is_some_and(|expires| expires < now) {
            return self.grant(false, now, Vec::new());
        }
        self.notice_what_was_lost(report, now);
        self.forget(now);
        self.answered += 1;
        self.came = now;
        let is_learning = now < self.learning;
        let pools: Vec<_> = report
            .pools
            .iter()
            .map(|it| self.settle(it, report, now))
            .collect();
        let may_draw = report.expires.is_some() && !is_learning && !report.leaving;
        self.processes.insert(
            report.process,
            Process {
                came: now,
                number: report.number,
                left: report.leaving,
                grant: self.grant(true, now, Vec::new()),
            },
        );
        let mut told = Vec::new();
        for (of, name) in report.pools.iter().zip(pools) {
            let pool = self.pools.get_mut(&name).expect("it was settled");
            let granted = match may_draw {
                true => pool.grant(report.process, report.number, now),
                false => Granted::default(),
            };
            told.push(pool.tell(of, report.process, granted, now));
        }
        let grant = self.grant(true, now, told);
        let process = self.processes.get_mut(&report.process);
        process.expect("it was inserted").grant = grant.clone();
        grant
    }

    /// How much was ever told that the other processes should hear at once.
    pub(super) fn news(&self) -> u64 {
        self.news
    }

    /// Takes in how a process stands in a pool.
    fn settle(&mut self, of: &PoolReport, report: &Report, now: Stamp) -> Option<Arc<str>> {
        let opening = self.opening();
        let is_learning = now < self.learning;
        let pool = self
            .pools
            .entry(of.name.clone())
            .or_insert_with(|| match is_learning {
                true => Pool::opening(),
                false => Pool::default(),
            });
        pool.bury(now);
        pool.take_in((report.process, report.received), of, opening, now);
        self.news += u64::from(pool.take_news());
        if is_learning {
            pool.rest_until(now, self.learning);
        } else {
            pool.open(opening, now);
        }
        of.name.clone()
    }

    fn opening(&self) -> Opening {
        Opening {
            lost: self.began.filter(|_| self.lost),
        }
    }

    /// Rule 11.
    fn notice_what_was_lost(&mut self, report: &Report, now: Stamp) {
        let Some(began) = self.began else {
            self.began = Some(now);
            self.lost = report.seen.is_some();
            return self.learn(now, now);
        };
        let seen = report.seen;
        let knew_another = seen.is_some_and(|seen| seen.life != self.life);
        if knew_another && now < began.after(LEARNING) {
            self.lost = true;
        }
        let of_this_life = seen.filter(|seen| seen.life == self.life);
        if let Some(seen) = of_this_life.filter(|seen| seen.answered > self.answered) {
            self.answered = seen.answered;
            (self.lost, self.began) = (true, Some(now));
            return self.learn(now, now);
        }
        let is_gap = now.since(self.came) > LEASE + TRANSIT;
        if is_gap && self.processes.values().any(|process| !process.left) {
            self.learn(self.came, now);
        }
    }

    /// Grants nothing for a while, and credits nothing for the time since `known`.
    fn learn(&mut self, known: Stamp, now: Stamp) {
        self.learning = now.after(LEARNING);
        for pool in self.pools.values_mut() {
            pool.rest_until(known, self.learning);
        }
    }

    fn forget(&mut self, now: Stamp) {
        let is_gone = |process: &Process| now.since(process.came) > FORGOTTEN;
        let gone = self
            .processes
            .iter()
            .filter(|(_, process)| is_gone(process));
        let gone: Vec<u128> = gone.map(|(id, _)| *id).collect();
        for id in gone {
            self.processes.remove(&id);
            for pool in self.pools.values_mut() {
                pool.forget(id, now);
            }
        }
    }

    #[cfg(test)]
    fn level(&mut self, pool: &Option<Arc<str>>, terms: &super::MeterTerms) -> i64 {
        let now = Stamp(self.clock.last);
        let pool = self.pools.get_mut(pool);
        pool.map_or(0, |pool| pool.level(terms, now))
    }

    fn grant(&self, taken: bool, now: Stamp, pools: Vec<super::PoolGrant>) -> Grant {
        let there = self
            .processes
            .values()
            .filter(|it| !it.left && now.since(it.came) <= LEASE);
        Grant {
            life: self.life,
            answered: self.answered,
            taken,
            at: now,
            lease: LEASE,
            processes: u32::try_from(there.count()).unwrap_or(u32::MAX).max(1),
            learning: self.learning.since(now),
            pools,
        }
    }
}
