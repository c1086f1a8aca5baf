//! A grant as `exchange.lua` answers it.

use redis::Value;
use tollhouse::shared::{Grant, MeterTerms, PoolGrant, PoolReport, Report, Stamp};

use super::{all, amounts, count, int, list, per, time, unit};

/// `None` where it is not one.
pub(crate) fn grant(answer: &Value, report: &Report) -> Option<Grant> {
    let [life, answered, taken, at, lease, processes, learning, pools] = list(answer)? else {
        return None;
    };
    // In the order of the report's, or none at all.
    let pools = list(pools)?.iter().zip(&report.pools);
    Some(Grant {
        life: count(life)?,
        answered: count(answered)?,
        taken: int(taken)? == 1,
        at: Stamp(count(at)?),
        lease: time(lease)?,
        processes: u32::try_from(count(processes)?).unwrap_or(u32::MAX),
        learning: time(learning)?,
        pools: pools.map(|(it, of)| pool(it, of)).collect::<Option<_>>()?,
    })
}

fn pool(answer: &Value, of: &PoolReport) -> Option<PoolGrant> {
    let [
        drawn,
        slots,
        launches,
        recalled,
        held,
        marks,
        rooms,
        meters,
        levels,
        max_slots,
        slots_leased,
    ] = list(answer)?
    else {
        return None;
    };
    Some(PoolGrant {
        name: of.name.clone(),
        drawn: amounts(drawn)?,
        slots: count(slots)?,
        launches: all(launches, time)?,
        recalled: int(recalled)? == 1,
        held: Some(time(held)?).filter(|held| !held.is_zero()),
        marks: all(marks, count)?,
        rooms: all(rooms, int)?,
        meters: all(meters, terms)?,
        levels: all(levels, int)?,
        // Below zero: no limit.
        max_slots: u64::try_from(int(max_slots)?).ok(),
        slots_leased: count(slots_leased)?,
    })
}

fn terms(answer: &Value) -> Option<MeterTerms> {
    let [of, period, limit, rate, capacity, windowed] = list(answer)? else {
        return None;
    };
    Some(MeterTerms {
        unit: unit(int(of)?)?,
        per: per(int(period)?)?,
        limit: count(limit)?,
        rate: count(rate)?,
        capacity: count(capacity)?,
        windowed: int(windowed)? == 1,
    })
}
