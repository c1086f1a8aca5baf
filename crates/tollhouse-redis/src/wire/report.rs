//! A report as `exchange.lua` reads it: JSON, every number an integer below 2^53.

use serde::Serialize;
use tollhouse::shared::{Amounts, MeterTerms, PoolReport, Report, Told};
use tollhouse::{Per, Unit};

use super::{CIRCLE, MOST, UNITS, micros, number_of_per, number_of_unit};

/// Of each unit, in the order of [`UNITS`].
type Five = [u64; 5];

#[derive(Serialize)]
struct ReportWire {
    process: String,
    number: u64,
    received: u64,
    /// The life, and how many reports it had answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<[u64; 2]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    leaving: bool,
    pools: Vec<PoolWire>,
}

#[derive(Serialize)]
struct PoolWire {
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    /// Unit, period, limit, rate, capacity, windowed.
    meters: Vec<[u64; 6]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_slots: Option<u64>,
    interval: u64,
    weight: u64,
    idle: Five,
    transit: Five,
    returned: Five,
    owed: Five,
    unused: Five,
    dominant: Five,
    rooms: Vec<i64>,
    line: Vec<Five>,
    wanted: Five,
    slots_used: u64,
    slots_idle: u64,
    slots_wanted: u64,
    launches_idle: u64,
    launches_returned: u64,
    launches_wanted: u64,
    told: Vec<ToldWire>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<u64>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum ToldWire {
    Remaining {
        unit: u64,
        per: u64,
        remaining: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        mark: Option<u64>,
    },
    After {
        unit: u64,
        per: u64,
        amount: u64,
        delay: u64,
    },
}

/// As the script reads it.
pub(crate) fn report(report: &Report) -> String {
    let wire = ReportWire {
        process: format!("{:032x}", report.process),
        number: report.number,
        received: report.received,
        seen: report.seen.map(|seen| [seen.life, seen.answered]),
        expires: report.expires.map(|at| at.0.min(CIRCLE)),
        leaving: report.leaving,
        pools: report.pools.iter().map(pool).collect(),
    };
    serde_json::to_string(&wire).expect("numbers, names and lists")
}

fn pool(of: &PoolReport) -> PoolWire {
    PoolWire {
        name: of.name.as_deref().map(str::to_owned),
        meters: of.meters.iter().map(terms).collect(),
        max_slots: of.max_slots.map(bounded),
        interval: micros(of.interval),
        weight: bounded(of.weight),
        idle: five(&of.idle),
        transit: five(&of.in_transit),
        returned: sums(&of.returned),
        owed: sums(&of.owed),
        unused: sums(&of.unused),
        dominant: sums(&of.dominant),
        rooms: of.unused_rooms.clone(),
        line: of.line.iter().map(five).collect(),
        wanted: five(&of.wanted),
        slots_used: bounded(of.slots_used),
        slots_idle: bounded(of.slots_idle),
        slots_wanted: bounded(of.slots_wanted),
        launches_idle: bounded(of.launches_idle),
        launches_returned: of.launches_returned % CIRCLE,
        launches_wanted: bounded(of.launches_wanted),
        told: of.told.iter().map(told).collect(),
        held: of.held.map(micros),
    }
}

fn terms(of: &MeterTerms) -> [u64; 6] {
    [
        number_of_unit(of.unit),
        number_of_per(of.per),
        bounded(of.limit),
        bounded(of.rate),
        bounded(of.capacity),
        u64::from(of.windowed),
    ]
}

fn told(of: &Told) -> ToldWire {
    let place = |unit: Unit, per: Per| (number_of_unit(unit), number_of_per(per));
    match *of {
        Told::Remaining {
            unit,
            per,
            remaining,
            mark,
        } => {
            let (unit, per) = place(unit, per);
            ToldWire::Remaining {
                unit,
                per,
                remaining: bounded(remaining),
                mark: mark.map(|mark| mark % CIRCLE),
            }
        }
        Told::After {
            unit,
            per,
            amount,
            delay,
        } => {
            let (unit, per) = place(unit, per);
            ToldWire::After {
                unit,
                per,
                amount: bounded(amount),
                delay: micros(delay),
            }
        }
    }
}

fn bounded(amount: u64) -> u64 {
    amount.min(MOST)
}

fn five(amounts: &Amounts) -> Five {
    UNITS.map(|unit| bounded(amounts.get(unit)))
}

fn sums(amounts: &Amounts) -> Five {
    UNITS.map(|unit| amounts.get(unit) % CIRCLE)
}
