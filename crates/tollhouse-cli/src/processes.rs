//! All processes of a shared account, for whoever looks at a page.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use tollhouse_openai::shared::Amounts;
use tollhouse_proxy::page::{Lease, Process};
use tollhouse_redis::{PoolStatus, RedisLedger, Status};

/// An answer is good for so long, however many look.
const GOOD: Duration = Duration::from_millis(900);

/// Asks Redis while somebody looks, and not otherwise.
///
/// # Cloning
///
/// Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Processes {
    ledger: RedisLedger,
    /// This one's number.
    this: Arc<str>,
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    asked: Option<Instant>,
    /// What Redis told then, if it could be asked.
    all: Option<Vec<Process>>,
    /// When each was seen first.
    since: HashMap<String, Instant>,
}

impl Processes {
    pub(crate) fn new(ledger: RedisLedger, this: u128) -> Self {
        Processes {
            ledger,
            this: format!("{this:032x}").into(),
            seen: Arc::default(),
        }
    }

    /// Who is there, this one first; `None` while Redis cannot be asked.
    pub(crate) async fn all(self) -> Option<Vec<Process>> {
        let mut seen = self.seen.lock().await;
        if seen.asked.is_none_or(|asked| asked.elapsed() >= GOOD) {
            let told = self.ledger.status().await;
            let now = Instant::now();
            seen.asked = Some(now);
            seen.all = told.ok().flatten().map(|status| {
                seen.since
                    .retain(|id, _| status.processes.iter().any(|it| it.process == *id));
                self.told(&status, &mut seen.since, now)
            });
        }
        seen.all.clone()
    }

    fn told(
        &self,
        status: &Status,
        since: &mut HashMap<String, Instant>,
        now: Instant,
    ) -> Vec<Process> {
        let one = |told: &tollhouse_redis::ProcessStatus| {
            let known = since.entry(told.process.clone()).or_insert(now);
            let leases = status
                .pools
                .iter()
                .filter_map(|pool| lease(pool, &told.process));
            let mut process = Process::default();
            process.this = told.process == *self.this;
            process.known_seconds = (now - *known).as_secs_f64();
            process.silent_seconds = told.silent.as_secs_f64();
            process.reports = told.reports;
            process.left = told.left;
            process.pools = leases.collect();
            process.process.clone_from(&told.process);
            process
        };
        let mut all: Vec<_> = status.processes.iter().map(one).collect();
        all.sort_by(|one, other| {
            let order = |it: &Process| (it.left, !it.this);
            (order(one), &one.process).cmp(&(order(other), &other.process))
        });
        all
    }
}

/// What a process has of a pool, if it has ever spoken of it.
fn lease(pool: &PoolStatus, process: &str) -> Option<Lease> {
    let mut leases = pool.leases.iter();
    let told = leases.find(|lease| lease.process == process)?;
    let mut lease = Lease::default();
    lease.pool.clone_from(&pool.name);
    lease.weight = told.weight;
    lease.held = by_name(&told.held);
    lease.idle = by_name(&told.idle);
    lease.wanted = by_name(&told.wanted);
    lease.waiting = told.waiting;
    lease.slots = told.slots;
    Some(lease)
}

/// Each amount by the name of its unit, where there is any.
pub(crate) fn by_name(amounts: &Amounts) -> BTreeMap<String, u64> {
    let named = amounts.each();
    named
        .map(|(unit, amount)| (unit.name().to_owned(), amount))
        .collect()
}
