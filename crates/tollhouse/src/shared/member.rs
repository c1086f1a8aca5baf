//! Who lives on leases: pools, and the account itself.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use super::books::{Books, Exchanged, Standing, granted};
use super::{LINE, MeterTerms, PoolGrant, PoolReport};
use crate::answer::RateLimits;
use crate::charge::{Per, Unit};
use crate::queue::{AccountSlots, Queue, WeakSlots};
use crate::rules::ledger::{Collected, Limit, Prices, Share};
use crate::rules::{Demand, LATELY, Pool};
use crate::time::{Moment, Now};

/// What a pool is to those who report for it.
pub(super) trait Member: Send + Sync + fmt::Debug {
    /// Its name; `None`: the account itself.
    fn name(&self) -> Option<&Arc<str>>;

    /// Whether nobody uses it any more.
    fn is_gone(&self) -> bool;

    /// How it stands. The account itself is asked last: by then it is known how many
    /// wait in all pools.
    fn report(&self, pools: &Pools, now: &mut Now) -> Reported;

    /// A grant came: everything may be spent until then, and more.
    fn renew(&self, grant: Option<&PoolGrant>, when: Exchanged, until: Moment);

    /// The ledger is another one than before.
    fn begin_anew(&self);

    /// The lease is lost: on with this share alone, or with nothing.
    fn go_alone(&self, share: Option<Share>);

    /// Nothing is let in any more.
    fn close(&self);
}

/// How a member stands.
#[derive(Debug, Default)]
pub(super) struct Reported {
    /// What is to be told, if anything.
    pub(super) report: Option<PoolReport>,
    pub(super) is_busy: bool,
    pub(super) pools: Pools,
}

/// Who wants something of the pools of a process.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Pools {
    /// How many calls wait.
    pub(super) waiting: usize,
    /// The weights of who waits or was let in lately.
    pub(super) weight: u64,
}

/// A pool under a shared ledger.
pub(super) struct PoolMember {
    name: Arc<str>,
    queue: Weak<Queue<Pool>>,
    books: Mutex<Books>,
}

impl PoolMember {
    pub(super) fn new(name: Arc<str>, queue: &Arc<Queue<Pool>>) -> Self {
        PoolMember {
            name,
            queue: Arc::downgrade(queue),
            books: Mutex::default(),
        }
    }

    /// Only who reports comes here, so nobody waits.
    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Pool, &mut Now)) {
        if let Some(queue) = self.queue.upgrade() {
            queue.update(&mut Now::unread(), change);
        }
    }
}

impl Member for PoolMember {
    fn name(&self) -> Option<&Arc<str>> {
        Some(&self.name)
    }

    fn is_gone(&self) -> bool {
        self.queue.strong_count() == 0
    }

    fn report(&self, _: &Pools, now: &mut Now) -> Reported {
        let Some(queue) = self.queue.upgrade() else {
            return Reported::default();
        };
        let mut pools = Pools::default();
        let standing = queue.ask(LINE, now, |pool, demand, now| {
            let now = now.get();
            pools.waiting = demand.waiting;
            pools.weight = demand.weight;
            let limited = pool.limited();
            let collected = pool.ledger().collect(now);
            let meters = pool.ledger().meters();
            let meters = meters.map(|(allowed, windowed)| MeterTerms {
                unit: allowed.unit,
                per: allowed.per,
                limit: allowed.limit,
                rate: allowed.rate,
                capacity: allowed.capacity,
                windowed,
            });
            let meters = meters.collect();
            let leases = pool.leases()?;
            Some(Standing {
                meters,
                limited,
                wish: leases.ask(demand, &limited, now),
                collected,
                weight: demand.weight,
                is_busy: demand.waiting > 0 || leases.was_used_within(LATELY, now),
            })
        });
        let Some(standing) = standing else {
            return Reported::default();
        };
        let is_busy = standing.is_busy;
        let report = self.books().report(Some(&self.name), standing, now.get());
        Reported {
            report,
            is_busy,
            pools,
        }
    }

    fn renew(&self, grant: Option<&PoolGrant>, when: Exchanged, until: Moment) {
        if let Some(grant) = grant {
            self.books().note(grant, when);
        }
        self.change(|pool, now| {
            pool.renew(until, now);
            if let Some(leases) = pool.leases() {
                leases.wait_until(when.came + when.learning);
            }
            let Some(grant) = grant else { return };
            if let Some(leases) = pool.leases() {
                leases.grant(granted(grant, &when));
            }
            let interval = pool.limited().interval;
            if let Some(dealings) = pool.ledger().dealings() {
                dealings.set_prices(Prices::new(limits_by(grant), interval));
            }
            pool.ledger()
                .learn_from_others(&limits_of(grant), now.get());
            if let Some(held) = grant.held {
                pool.ledger().hold_too(when.came + held, now.get());
            }
        });
    }

    fn begin_anew(&self) {
        self.books().begin_anew();
    }

    fn go_alone(&self, share: Option<Share>) {
        self.change(|pool, now| pool.go_alone(share, now));
    }

    fn close(&self) {
        self.change(|pool, _| {
            if let Some(leases) = pool.leases() {
                leases.close();
            }
        });
        if let Some(queue) = self.queue.upgrade() {
            queue.close();
        }
    }
}

/// By which it is reckoned what requests cost.
fn limits_by(grant: &PoolGrant) -> Vec<Limit> {
    let meters = grant.meters.iter();
    let limit = |it: &MeterTerms| Limit {
        unit: it.unit,
        per: it.per,
        amount: it.limit,
    };
    meters.map(limit).collect()
}

/// As an answer would tell them.
fn limits_of(grant: &PoolGrant) -> RateLimits {
    let of = |unit| {
        let mut meters = grant.meters.iter();
        let found = meters.find(|it| (it.unit, it.per) == (unit, Per::Minute));
        found.map(|it| it.limit)
    };
    RateLimits {
        limit_tokens: of(Unit::Tokens),
        limit_requests: of(Unit::Requests),
        ..RateLimits::default()
    }
}

impl fmt::Debug for PoolMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PoolMember")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// The account's slots, and the time between its launches.
pub(super) struct SlotsMember {
    slots: WeakSlots,
    books: Mutex<Books>,
}

impl SlotsMember {
    pub(super) fn new(slots: &AccountSlots) -> Self {
        SlotsMember {
            slots: slots.weak(),
            books: Mutex::default(),
        }
    }

    fn books(&self) -> MutexGuard<'_, Books> {
        self.books.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Member for SlotsMember {
    fn name(&self) -> Option<&Arc<str>> {
        None
    }

    fn is_gone(&self) -> bool {
        self.slots.is_gone()
    }

    fn report(&self, pools: &Pools, now: &mut Now) -> Reported {
        let demand = |standing| Demand {
            // Behind the first one of a pool, others may lack nothing but a slot, too.
            waiting: if standing > 0 {
                pools.waiting.max(standing)
            } else {
                0
            },
            weight: pools.weight,
            ..Demand::default()
        };
        let slots = self.slots.upgrade();
        let asked = slots.and_then(|slots| slots.ask(demand, now.get()));
        let Some((limited, wish, is_busy)) = asked else {
            return Reported::default();
        };
        let standing = Standing {
            meters: Vec::new(),
            limited,
            wish: wish.of_calls(),
            collected: Collected::default(),
            weight: pools.weight,
            is_busy,
        };
        Reported {
            report: self.books().report(None, standing, now.get()),
            is_busy,
            pools: Pools::default(),
        }
    }

    fn renew(&self, grant: Option<&PoolGrant>, when: Exchanged, until: Moment) {
        if let Some(grant) = grant {
            self.books().note(grant, when);
        }
        if let Some(slots) = self.slots.upgrade() {
            slots.renew(until, grant.map(|grant| granted(grant, &when)));
        }
    }

    fn begin_anew(&self) {
        self.books().begin_anew();
    }

    fn go_alone(&self, share: Option<Share>) {
        if let Some(slots) = self.slots.upgrade() {
            slots.go_alone(share);
        }
    }

    fn close(&self) {
        if let Some(slots) = self.slots.upgrade() {
            slots.close_leases();
        }
    }
}

impl fmt::Debug for SlotsMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SlotsMember").finish_non_exhaustive()
    }
}
