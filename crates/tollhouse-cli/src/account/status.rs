//! `tollhouse account status`: how all processes stand that share an account.

use std::fmt::{self, Write as _};
use std::time::Duration;

use serde_json::{Value, json};
use tollhouse_redis::{LeaseStatus, MeterStatus, PoolStatus, ProcessStatus, Status};

use crate::failure::{Ended, Exit};
use crate::logging;
use crate::policy_args::Places;
use crate::print::{Count, Counted, Span, to_stdout};
use crate::processes::by_name;
use crate::shared;

/// So many digits of a process's number tell it from the others.
const DIGITS: usize = 8;

/// Look at an account that processes share through Redis: who they are, what each has leased,
/// how the limits stand, holds
///
/// Reads, and changes nothing. Exit code 1 if no process has come to the account within two
/// days.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// One JSON object
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    places: Places,
}

pub(super) async fn run(args: &Args) -> Ended {
    let said = args.places.shared()?.unwrap_or_default();
    let ledger = shared::ledger(&said)?;
    let name = ledger.account();
    let Some(status) = ledger.status().await? else {
        let place = said.place().unwrap_or_default();
        logging::say(format_args!(
            "no process has come to the account {name:?} at {place} within two days"
        ));
        return Ok(Exit::SomeFailed);
    };
    match args.json {
        true => to_stdout(format_args!("{:#}\n", as_json(name, &status)))?,
        false => to_stdout(Shown {
            name,
            status: &status,
        })?,
    }
    Ok(Exit::Done)
}

struct Shown<'s> {
    name: &'s str,
    status: &'s Status,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, status } = self;
        let there = status.processes.iter().filter(|process| !process.left);
        let processes = Counted(there.count() as u64, "process");
        writeln!(f, "account {name}: {processes}")?;
        if !status.learning.is_zero() {
            let left = Span(status.learning);
            writeln!(
                f,
                "nothing is granted for another {left}: until all have told what they hold"
            )?;
        }
        for process in &status.processes {
            writeln!(f, "  {}", InLine(process))?;
        }
        for pool in &status.pools {
            write!(f, "\n{}", OfPool(pool))?;
        }
        Ok(())
    }
}

struct InLine<'p>(&'p ProcessStatus);

impl fmt::Display for InLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let process = self.0;
        let number = short(&process.process);
        let silent = Span(process.silent);
        let reports = Counted(process.reports, "report");
        write!(f, "{number}  {reports}, the last {silent} ago")?;
        match process.left {
            true => f.write_str("; it has left"),
            false => Ok(()),
        }
    }
}

struct OfPool<'p>(&'p PoolStatus);

impl fmt::Display for OfPool<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pool = self.0;
        match &pool.name {
            Some(name) => writeln!(f, "pool {name}")?,
            None => writeln!(f, "all pools")?,
        }
        if let Some(held) = pool.held {
            let held = Span(held);
            writeln!(f, "  the provider holds it for another {held}")?;
        }
        for meter in &pool.meters {
            writeln!(f, "  {}", of_meter(meter))?;
        }
        if let Some(max) = pool.max_slots {
            let leased: u64 = pool.leases.iter().map(|lease| lease.slots).sum();
            writeln!(f, "  {} of {} slots leased", Count(leased), Count(max))?;
        }
        for lease in &pool.leases {
            writeln!(f, "    {}", of_lease(lease))?;
        }
        Ok(())
    }
}

fn of_meter(meter: &MeterStatus) -> String {
    let MeterStatus {
        unit,
        per,
        rate,
        level,
        held,
        ..
    } = meter;
    let debt = if *level < 0 { "-" } else { "" };
    let (level, held, rate) = (Count(level.unsigned_abs()), Count(*held), Count(*rate));
    format!("{unit}: {debt}{level} left and {held} leased or on their way, of {rate} a {per}")
}

fn of_lease(lease: &LeaseStatus) -> String {
    let mut line = short(&lease.process).to_owned();
    let weight = Count(lease.weight);
    let _ = write!(line, "  weight {weight}");
    for (unit, held) in lease.held.each() {
        let (held, idle) = (Count(held), Count(lease.idle.get(unit)));
        let _ = write!(line, ", {held} {unit} ({idle} idle)");
    }
    if lease.slots > 0 {
        let _ = write!(line, ", {}", Counted(lease.slots, "slot"));
    }
    if lease.waiting > 0 {
        let _ = write!(line, ", {} in line", Count(lease.waiting));
    }
    line
}

fn short(process: &str) -> &str {
    process.get(..DIGITS).unwrap_or(process)
}

fn as_json(name: &str, status: &Status) -> Value {
    let seconds = |time: Duration| time.as_secs_f64();
    let processes = status.processes.iter().map(|process| {
        json!({
            "process": process.process,
            "silent_seconds": seconds(process.silent),
            "reports": process.reports,
            "left": process.left,
        })
    });
    json!({
        "account": name,
        "learning_seconds": seconds(status.learning),
        "processes": processes.collect::<Vec<_>>(),
        "pools": status.pools.iter().map(pool_as_json).collect::<Vec<_>>(),
    })
}

fn pool_as_json(pool: &PoolStatus) -> Value {
    let meters = pool.meters.iter().map(|meter| {
        json!({
            "unit": meter.unit.name(),
            "per": meter.per.to_string(),
            "limit": meter.limit,
            "rate": meter.rate,
            "capacity": meter.capacity,
            "level": meter.level,
            "held": meter.held,
        })
    });
    let leases = pool.leases.iter().map(|lease| {
        json!({
            "process": lease.process,
            "silent_seconds": lease.silent.as_secs_f64(),
            "weight": lease.weight,
            "held": by_name(&lease.held),
            "idle": by_name(&lease.idle),
            "wanted": by_name(&lease.wanted),
            "waiting": lease.waiting,
            "slots": lease.slots,
        })
    });
    json!({
        "pool": pool.name,
        "held_for_seconds": pool.held.map(|held| held.as_secs_f64()),
        "max_slots": pool.max_slots,
        "meters": meters.collect::<Vec<_>>(),
        "leases": leases.collect::<Vec<_>>(),
    })
}
