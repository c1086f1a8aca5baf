//! A status as `status.lua` answers it.

use redis::Value;
use tollhouse::shared::Stamp;

use super::{all, amounts, count, int, list, per, text, time, unit};
use crate::status::{LeaseStatus, MeterStatus, PoolStatus, ProcessStatus, Status};

/// `Some(None)` where there is no ledger, `None` where it is nothing of ours.
pub(crate) fn status(answer: &Value) -> Option<Option<Status>> {
    if list(answer)?.is_empty() {
        return Some(None);
    }
    let [life, answered, at, learning, processes, pools] = list(answer)? else {
        return None;
    };
    Some(Some(Status {
        life: count(life)?,
        answered: count(answered)?,
        at: Stamp(count(at)?),
        learning: time(learning)?,
        processes: all(processes, process)?,
        pools: all(pools, pool)?,
    }))
}

fn process(answer: &Value) -> Option<ProcessStatus> {
    let [process, silent, reports, left] = list(answer)? else {
        return None;
    };
    Some(ProcessStatus {
        process: text(process)?,
        silent: time(silent)?,
        reports: count(reports)?,
        left: int(left)? == 1,
    })
}

fn pool(answer: &Value) -> Option<PoolStatus> {
    let [name, meters, held, max_slots, leases] = list(answer)? else {
        return None;
    };
    Some(PoolStatus {
        name: text(name),
        meters: all(meters, meter)?,
        held: Some(time(held)?).filter(|held| !held.is_zero()),
        // Below zero: no limit.
        max_slots: u64::try_from(int(max_slots)?).ok(),
        leases: all(leases, lease)?,
    })
}

fn meter(answer: &Value) -> Option<MeterStatus> {
    let [of, period, limit, rate, capacity, level, held] = list(answer)? else {
        return None;
    };
    Some(MeterStatus {
        unit: unit(int(of)?)?,
        per: per(int(period)?)?,
        limit: count(limit)?,
        rate: count(rate)?,
        capacity: count(capacity)?,
        level: int(level)?,
        held: count(held)?,
    })
}

fn lease(answer: &Value) -> Option<LeaseStatus> {
    let [process, silent, weight, held, idle, wanted, waiting, slots] = list(answer)? else {
        return None;
    };
    Some(LeaseStatus {
        process: text(process)?,
        silent: time(silent)?,
        weight: count(weight)?,
        held: amounts(held)?,
        idle: amounts(idle)?,
        wanted: amounts(wanted)?,
        waiting: count(waiting)?,
        slots: count(slots)?,
    })
}
